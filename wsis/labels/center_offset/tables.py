"""Tables with a fixed number of rows for each image, so that nothing has to be read back from a device.

A row that holds nothing has pixel -1, or the id :data:`NO_ID`, which no pixel has.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from wsis import ops
from wsis.structures import CenterOffsetTarget

__all__ = ["NO_ID", "Regions", "Selected", "find_regions", "first_true", "group", "image_key", "nowhere", "splat"]

NO_ID = 2**31 - 1
_FAR = -(2**24)


class Selected(NamedTuple):
    """Result of :func:`first_true`.

    Attributes:
        index: ``[B, R]`` int64 columns, ascending, -1 in empty rows.
        lost: ``[B]`` int64, how many found no row.
    """

    index: Tensor
    lost: Tensor


class Regions(NamedTuple):
    """Connected pixels of one class.

    Attributes:
        labels: ``[B, H, W]`` int32, 0 = none, class + 1; also of pixels in regions that are too small.
        ids: ``[B, H, W]`` int32, regions from 1 in each image, in raster order of the first pixel.
        room: at least the number of regions of each image.
    """

    labels: Tensor
    ids: Tensor
    room: int


def room_for(counts: Tensor, bound: int) -> int:
    """Rows that a table needs: ``bound``, or what there really is where asking costs nothing (on a CPU)."""
    bound = max(bound, 1)
    if counts.device.type != "cpu" or torch.compiler.is_compiling() or counts.numel() == 0:
        return bound
    return max(1, min(bound, int(counts.max())))


def first_true(mask: Tensor, capacity: int) -> Selected:
    """The columns of the first ``capacity`` true entries of each row of ``mask [B, N]``."""
    capacity = min(capacity, mask.shape[1])
    if mask.device.type == "cpu" and not torch.compiler.is_compiling():
        row, column = places_of(mask)
        counts = torch.bincount(row, minlength=mask.shape[0])
        room = room_for(counts, capacity)
        return Selected(columns_of_list(row, column, mask.shape[0], room), (counts - room).clamp_min(0))
    counts, room = mask.sum(1), max(capacity, 1)
    return Selected(columns_by_count(mask, room), (counts - room).clamp_min(0))


def places_of(mask: Tensor) -> tuple[Tensor, Tensor]:
    """``mask [B, N]``'s true entries in order; where they are few, eight are looked at together."""
    if mask.shape[1] % 8 or not mask.is_contiguous():
        return mask.nonzero(as_tuple=True)
    row, word = mask.view(torch.int64).nonzero(as_tuple=True)
    found, byte = mask.view(mask.shape[0], -1, 8)[row, word].nonzero(as_tuple=True)
    return row[found], 8 * word[found] + byte


def columns_of_list(row: Tensor, column: Tensor, rows: int, room: int) -> Tensor:
    """``[rows, room]`` int64: the first columns of each row of a sorted list of places, -1 after the last."""
    place = torch.arange(row.numel(), device=row.device) - torch.searchsorted(row, row)
    index = torch.full((rows, room + 1), -1, dtype=torch.int64, device=row.device)
    index[row, place.clamp_max(room)] = column
    return index[:, :room]


def columns_by_count(mask: Tensor, room: int) -> Tensor:
    """As :func:`columns_of_list` of the true entries of ``mask``, with shapes that do not depend on the values."""
    place = torch.where(mask, (mask.cumsum(1) - 1).clamp_max(room), room)
    column = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
    index = torch.full((mask.shape[0], room + 1), -1, dtype=torch.int64, device=mask.device)
    return index.scatter_(1, place, column)[:, :room]


def find_regions(labels: Tensor, min_area: int) -> Regions:
    """8-connected regions of equal label with at least ``min_area`` pixels."""
    ids, counts = ops.filter_ids(ops.connected_components(labels, 8).ids, min_area)
    return Regions(labels, ids, room_for(counts, labels.shape[1] * labels.shape[2] // min_area))


def image_key(image: Tensor, id: Tensor) -> Tensor:
    """Sorts by image, then id: what the tables of the kernels are sorted by."""
    return (image << 32) + id


def nowhere(center_yx: Tensor, valid: Tensor) -> Tensor:
    """Centres of rows that hold nothing are moved so far away that they draw nothing."""
    return torch.where(valid[..., None], center_yx, _FAR)


def group(offset: Tensor, foreground: Tensor, center_yx: Tensor, key: Tensor, id: Tensor) -> Tensor:
    """Every pixel to the nearest centre of its own part of the foreground; of equal ones the first row.

    Args:
        offset: ``[B, 2, H, W]``; foreground: ``[B, H, W]`` int32, 0 = none.
        center_yx: ``[N, 2]`` pixels; key: ``[N]``, image and foreground value of each centre; id: ``[N]``.

    Returns:
        ``[B, H, W]`` int32, the id of the pixel's centre, 0 where there is none.
    """
    order = torch.argsort(key, stable=True)
    return torch.ops.wsis.group_pixels.default(
        offset, foreground, center_yx.to(offset.dtype)[order], key[order], id.to(torch.int32)[order]
    )


def splat(
    ids: Tensor, key: Tensor, label: Tensor, score: Tensor, center_yx: Tensor, num_classes: int, sigma: float
) -> CenterOffsetTarget:
    """:func:`wsis.ops.center_target` of rows that are known to be right, without looking at them.

    Args:
        ids: ``[B, H, W]`` int32.
        key: ``[N]``, image and id of each row; label, score: ``[N]``; center_yx: ``[N, 2]`` int64.
    """
    reach = int(3 * sigma + 1)
    distance = torch.arange(2 * reach * reach + 1, dtype=torch.float64, device=ids.device)
    bell = torch.exp(-distance / (2 * sigma * sigma)).to(torch.float32)
    order = torch.argsort(key, stable=True)
    rows = (key[order], label[order], score.to(torch.float32)[order], center_yx[order])
    return CenterOffsetTarget(*torch.ops.wsis.center_target.default(ids, *rows, bell, num_classes, reach))
