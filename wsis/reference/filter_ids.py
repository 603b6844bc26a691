"""Oracle of :func:`wsis.ops.filter_ids`: one id at a time."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["filter_ids"]


def filter_ids(ids: Tensor, min_area: int = 1, max_area: int | None = None) -> tuple[Tensor, Tensor]:
    """``[B, H, W]`` -> renumbered ``[B, H, W]`` int32 and ``[B]`` int32."""
    kept = torch.zeros(ids.shape, dtype=torch.int32)
    counts = torch.zeros(ids.shape[0], dtype=torch.int32)
    for b in range(ids.shape[0]):
        for name in torch.unique(ids[b]).tolist():
            mask = ids[b] == name
            area = int(mask.sum())
            if not 1 <= name <= ids[b].numel() or area < min_area or (max_area is not None and area > max_area):
                continue
            counts[b] += 1
            kept[b][mask] = counts[b]
    return kept, counts
