"""Id maps to COCO run-length codes and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsis import _host, _library
from wsis.data.rle import packed, to_masks
from wsis.ops._checks import check_device, check_int, check_sizes
from wsis.ops._id_maps import check_id_map, dense_ids

__all__ = ["mask_rle", "rle_to_ids", "rle_to_mask"]

_library.load()

_OP = "mask_rle"
MAX_SIDE = 65536


def mask_rle(ids: Tensor, *, sizes: Tensor | None = None) -> list[dict[str, Any]]:
    """Code every instance of a batch of id maps; the bytes are those of the COCO tools.

    Args:
        ids: ``[B, H, W]`` bool or integers from 0, 0 = no instance; sides up to 65536.
        sizes: ``[B, 2]`` integers (height, width) of padded images: only that part is coded.

    Returns:
        One ``{"image_index": int, "id": int, "size": [height, width], "counts": bytes}`` for every id above 0
        that occurs, by image, then id. The codes leave the device in one copy.

    Raises:
        TypeError, ValueError: an argument is not as described, or an id is negative.
    """
    batch, height, width = check_id_map(_OP, ids)
    if max(height, width) > MAX_SIDE:
        raise ValueError(f"{_OP}: ids must have sides of at most {MAX_SIDE}, got {[height, width]}")
    sizes = check_sizes(_OP, sizes, batch, height, width)
    check_device(_OP, ids=ids, sizes=sizes)
    dense = dense_ids(_OP, ids)
    image_index, row, offsets, codes = torch.ops.wsis.mask_rle.default(dense.ids, sizes, dense.capacity)
    size_of = ids.new_tensor([height, width], dtype=torch.int64).expand(batch, 2) if sizes is None else sizes
    columns = (image_index, dense.original(row), offsets, codes, size_of.to(torch.int64).reshape(-1))
    return _host.rle_rows(*(column.cpu().numpy() for column in columns))


def rle_to_mask(
    rles: Sequence[Mapping[str, Any]],
    size: tuple[int, int] | None = None,
    *,
    device: torch.device | str | None = None,
) -> Tensor:
    """Run-length codes of one image size to stacked masks.

    Args:
        rles: mappings with ``size`` and ``counts`` (compressed, as bytes or text, or a list of lengths), as
            :func:`mask_rle` and COCO files give; further keys are ignored.
        size: (height, width) all must have; needed only when ``rles`` is empty.
        device: where the result is put; the CPU when left out.

    Returns:
        ``[N, H, W]`` bool.

    Raises:
        TypeError, ValueError: a malformed mask (its index is named), sizes that differ, or no size known.
    """
    try:
        masks = to_masks(rles, size)
    except (TypeError, ValueError) as error:
        raise type(error)(f"rle_to_mask: {str(error).removeprefix('to_masks: ')}") from None
    return torch.from_numpy(masks).to(device or "cpu")


def rle_to_ids(
    rles: Sequence[Mapping[str, Any]],
    batch: int,
    size: tuple[int, int] | None = None,
    *,
    device: torch.device | str | None = None,
) -> Tensor:
    """The inverse of :func:`mask_rle`: the id maps that the codes came from.

    Args:
        rles: mappings with ``image_index``, ``id`` (1 to ``2**31 - 1``), ``size`` and ``counts``.
        batch: number of images ``B``; image indices are ``0..B-1``.
        size: (height, width) of the result, at least that of every mask; the largest sides when left out.
        device: where the result is put; the CPU when left out.

    Returns:
        ``[B, H, W]`` int32, 0 where no mask lies. Where masks overlap, the last in the list stays.

    Raises:
        TypeError, ValueError: a malformed row (its index is named), or no size known.
    """
    name = "rle_to_ids"
    check_int(name, "batch", batch, 0, 2**31 - 1)
    try:
        items = packed(rles, "rles")
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    if size is None:
        if not items:
            raise ValueError(f"{name}: size must be given for an empty list, got None")
        size = (max(item[0] for item in items), max(item[1] for item in items))
    table = np.array([_row(name, k, rle, batch) for k, rle in enumerate(rles)], dtype=np.int64).reshape(-1, 2)
    ids = np.zeros((batch, *size), dtype=np.int32)
    for k, item in enumerate(items):
        if item[0] > size[0] or item[1] > size[1]:
            raise ValueError(f"{name}: rles[{k}] must be at most {list(size)} large, got {list(item[:2])}")
    try:
        _host.rle_fill_ids(items, table[:, 0].copy(), table[:, 1].copy(), ids, "rles")
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return torch.from_numpy(ids).to(device or "cpu")


def _row(name: str, k: int, rle: Mapping[str, Any], batch: int) -> tuple[int, int]:
    row = []
    for key, low, high in (("image_index", 0, batch - 1), ("id", 1, 2**31 - 1)):
        if key not in rle:
            raise TypeError(f"{name}: rles[{k}] must have {key}, got the keys {sorted(rle)}")
        check_int(name, f"rles[{k}][{key!r}]", rle[key], low, high)
        row.append(int(rle[key]))
    return row[0], row[1]


@torch.library.register_fake("wsis::mask_rle")
def _(ids: Tensor, sizes: Tensor | None, capacity: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    context = torch.library.get_ctx()
    instances, code_bytes = context.new_dynamic_size(), context.new_dynamic_size()
    return (
        ids.new_empty((instances,), dtype=torch.int64),
        ids.new_empty((instances,), dtype=torch.int64),
        ids.new_empty((instances + 1,), dtype=torch.int64),
        ids.new_empty((code_bytes,), dtype=torch.uint8),
    )
