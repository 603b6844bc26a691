"""Area, box, centroid and scores of every instance of an id map, in one pass."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from wsis import _library
from wsis.ops._checks import FLOATS, check_device, check_finite, check_int, check_sizes, check_tensor
from wsis.ops._id_maps import DenseIds, check_id_map, dense_ids

__all__ = ["DenseStats", "InstanceStats", "instance_stats", "instance_stats_dense"]

_library.load()

_OP = "instance_stats"
FIRST_CAPACITY, SMALLEST_CAPACITY = 4096, 256
"""Ids an image for which room is made on a GPU before anything is known, so that one read-back suffices; of images
with fewer pixels than the first as many as pixels, but not fewer than the second."""


class InstanceStats(NamedTuple):
    """One row per instance, sorted by image, then id.

    Attributes:
        image_index: ``[M]`` int64.
        id: ``[M]`` int64, the value in the id map.
        area: ``[M]`` int64, pixels.
        box_xyxy: ``[M, 4]`` int64, ``x0, y0, x1, y1``; half-open: the instance covers columns ``x0..x1-1``.
        centroid_yx: ``[M, 2]`` float64, mean pixel coordinate.
        score_max: ``[M]`` in the dtype of the scores; None without scores, like the next two.
        score_mean: ``[M]`` in the dtype of the scores.
        peak_yx: ``[M, 2]`` int64, where ``score_max`` is first reached in raster order.
    """

    image_index: Tensor
    id: Tensor
    area: Tensor
    box_xyxy: Tensor
    centroid_yx: Tensor
    score_max: Tensor | None
    score_mean: Tensor | None
    peak_yx: Tensor | None


class DenseStats(NamedTuple):
    """Table with a row for every possible id; row ``id - 1`` of image ``b``. Absent ids have area 0, peak -1.

    Attributes:
        area: ``[B, capacity]`` int64.
        box: ``[B, capacity, 4]`` int32, half-open ``x0, y0, x1, y1``.
        moment: ``[B, capacity, 2]`` int64, sums of ``y`` and ``x``.
        score_max: ``[B, capacity]`` in the dtype of the scores.
        score_sum: ``[B, capacity]`` float64.
        peak: ``[B, capacity]`` int64, ``y * W + x``.
        outside: ``[B]`` int64, pixels whose id is negative or above the capacity: in no row.
    """

    area: Tensor
    box: Tensor
    moment: Tensor
    score_max: Tensor
    score_sum: Tensor
    peak: Tensor
    outside: Tensor


def instance_stats(
    ids: Tensor, scores: Tensor | None = None, *, sizes: Tensor | None = None
) -> InstanceStats:
    """Measure every instance of a batch of id maps.

    Args:
        ids: ``[B, H, W]`` bool or integers from 0; 0 = no instance. Ids need not be consecutive.
        scores: ``[B, H, W]`` float32 (float64 on the CPU), the score of each pixel for its own instance.
        sizes: ``[B, 2]`` integers (height, width) of padded images; what lies outside is not counted.

    Returns:
        :class:`InstanceStats` with a row for every id above 0 that occurs. Areas and boxes are exact; means
        are summed in float64 in a fixed order. The number of rows is read back from the device once.

    Raises:
        TypeError, ValueError: an argument is not as described, an id is negative or a score is not finite.
    """
    batch, height, width = check_id_map(_OP, ids)
    if scores is not None:
        check_tensor(_OP, "scores", scores, (batch, height, width), FLOATS)
    sizes = check_sizes(_OP, sizes, batch, height, width)
    check_device(_OP, ids=ids, scores=scores, sizes=sizes)
    dense, table, image_index, row = _measure(ids, scores, sizes)
    area = table.area[image_index, row]
    peak = table.peak[image_index, row]
    return InstanceStats(
        image_index=image_index,
        id=dense.original(row + 1),
        area=area,
        box_xyxy=table.box[image_index, row].to(torch.int64),
        centroid_yx=table.moment[image_index, row].to(torch.float64) / area.unsqueeze(1),
        score_max=None if scores is None else table.score_max[image_index, row],
        score_mean=None if scores is None else (table.score_sum[image_index, row] / area).to(scores.dtype),
        peak_yx=None if scores is None else torch.stack((peak // width, peak % width), 1),
    )


def _measure(ids: Tensor, scores: Tensor | None, sizes: Tensor | None) -> tuple[DenseIds, DenseStats, Tensor, Tensor]:
    """The dense table, and (image, column) of its rows in use."""
    found = _measure_at_once(ids, scores, sizes) if ids.is_cuda and ids.numel() > 0 else None
    if found is not None:
        return found
    if scores is not None:
        check_finite(_OP, "scores", scores)
    dense = dense_ids(_OP, ids)
    table = DenseStats(*torch.ops.wsis.instance_stats.default(dense.ids, scores, sizes, dense.capacity))
    return dense, table, *table.area.nonzero(as_tuple=True)


def _measure_at_once(
    ids: Tensor, scores: Tensor | None, sizes: Tensor | None
) -> tuple[DenseIds, DenseStats, Tensor, Tensor] | None:
    """As :func:`_measure`, for a GPU: None where ids are too large, or something must be refused.

    The table is filled before anything about the ids is known, and one read-back then tells whether they were in
    order and how many rows there are; only ids above the first capacity cost a second round.
    """
    capacity = min(FIRST_CAPACITY, max(ids.shape[1] * ids.shape[2], SMALLEST_CAPACITY))
    small = DenseIds(ids.to(torch.int32), capacity, None)
    table = DenseStats(*torch.ops.wsis.instance_stats.default(small.ids, scores, sizes, capacity))
    used = (table.area.reshape(-1) > 0).cumsum(0)
    finite = used.new_ones(()) if scores is None else torch.isfinite(scores).all()
    low, high = torch.aminmax(ids.to(torch.uint8) if ids.dtype == torch.bool else ids)
    facts = torch.stack([value.to(torch.int64) for value in (low, high, finite, used[-1])]).tolist()
    if facts[0] < 0 or facts[1] > capacity or not facts[2]:
        return None
    at = torch.searchsorted(used, torch.arange(1, facts[3] + 1, device=ids.device))
    return small, table, at // capacity, at % capacity


def instance_stats_dense(
    ids: Tensor, scores: Tensor | None = None, *, capacity: int, sizes: Tensor | None = None
) -> DenseStats:
    """As :func:`instance_stats` with room for ids ``1..capacity`` of each image, and no read-back at all.

    For CUDA graphs. ``outside`` counts what did not fit, which the caller must look at. ``ids`` is int32; ids
    and scores are not inspected beforehand.
    """
    check_tensor(_OP, "ids", ids, ("B", "H", "W"), (torch.int32,))
    if scores is not None:
        check_tensor(_OP, "scores", scores, tuple(ids.shape), FLOATS)
    if sizes is not None:
        check_tensor(_OP, "sizes", sizes, (ids.shape[0], 2), (torch.int32,))
    check_device(_OP, ids=ids, scores=scores, sizes=sizes)
    check_int(_OP, "capacity", capacity, 0, 2**31 - 1)
    return DenseStats(*torch.ops.wsis.instance_stats.default(ids, scores, sizes, capacity))


@torch.library.register_fake("wsis::instance_stats")
def _(ids: Tensor, scores: Tensor | None, sizes: Tensor | None, capacity: int) -> tuple[Tensor, ...]:
    batch = ids.shape[0]
    dtype = torch.float32 if scores is None else scores.dtype
    return (
        ids.new_empty((batch, capacity), dtype=torch.int64),
        ids.new_empty((batch, capacity, 4), dtype=torch.int32),
        ids.new_empty((batch, capacity, 2), dtype=torch.int64),
        ids.new_empty((batch, capacity), dtype=dtype),
        ids.new_empty((batch, capacity), dtype=torch.float64),
        ids.new_empty((batch, capacity), dtype=torch.int64),
        ids.new_empty((batch,), dtype=torch.int64),
    )
