"""Oracle of :func:`wsis.ops.mask_rle` and its inverse: one mask, one pixel, one number at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["compress", "expand", "mask_rle", "rle_to_ids", "rle_to_mask"]


def compress(lengths: list[int]) -> bytes:
    """Lengths to the code: from the fourth on as differences, groups of 5 bits from the lowest, plus 48."""
    text = bytearray()
    for i, length in enumerate(lengths):
        value = length - lengths[i - 2] if i > 2 else length
        while True:
            group, value = value & 31, value >> 5
            done = value == (-1 if group & 16 else 0)
            text.append(48 + group + (0 if done else 32))
            if done:
                break
    return bytes(text)


def expand(code: bytes) -> list[int]:
    """The inverse of :func:`compress`."""
    lengths: list[int] = []
    value = shift = 0
    for byte in code:
        group = byte - 48
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    return lengths


def mask_rle(ids: Tensor, *, sizes: Tensor | None = None) -> list[dict[str, Any]]:
    """``[B, H, W]`` to one row per instance; its lengths are counted down the columns of its mask."""
    rows = []
    for b in range(ids.shape[0]):
        height, width = ids.shape[1:] if sizes is None else map(int, sizes[b])
        image = ids[b, :height, :width]
        for value in sorted(set(image.reshape(-1).tolist()) - {0}):
            lengths, inside = [0], False
            for pixel in (image == value).T.reshape(-1).tolist():
                if pixel != inside:
                    lengths.append(0)
                    inside = pixel
                lengths[-1] += 1
            counts = compress(lengths)
            rows.append({"image_index": b, "id": int(value), "size": [height, width], "counts": counts})
    return rows


def rle_to_mask(rles: list[dict[str, Any]]) -> Tensor:
    """Rows of one size to ``[N, H, W]`` bool."""
    masks = []
    for rle in rles:
        height, width = rle["size"]
        lengths = expand(rle["counts"])
        flat = [i % 2 == 1 for i, length in enumerate(lengths) for _ in range(length)]
        masks.append(torch.tensor(flat).reshape(width, height).T)
    return torch.stack(masks)


def rle_to_ids(rles: list[dict[str, Any]], batch: int, size: tuple[int, int]) -> Tensor:
    """Rows to the ``[batch, *size]`` int32 id maps they came from."""
    ids = torch.zeros((batch, *size), dtype=torch.int32)
    for rle in rles:
        mask = rle_to_mask([rle])[0]
        ids[rle["image_index"], : mask.shape[0], : mask.shape[1]][mask] = rle["id"]
    return ids
