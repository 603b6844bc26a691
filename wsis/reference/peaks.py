"""Oracle of :func:`wsis.ops.peaks`: every pixel looks at every pixel of its window."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["peaks"]


def _is_peak(heat: Tensor, ids: Tensor | None, y: int, x: int, reach: int, threshold: float) -> bool:
    height = heat[y, x].item()
    if not height > threshold or (ids is not None and ids[y, x] == 0):
        return False
    rows, columns = slice(max(y - reach, 0), y + reach + 1), slice(max(x - reach, 0), x + reach + 1)
    around = heat[rows, columns]
    if ids is not None:
        around = around[ids[rows, columns] == ids[y, x]]
    return not bool((around > height).any())


def peaks(
    heatmap: Tensor, window: int, threshold: float = 0.0, top_k: int | None = None, ids: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """``[B, C, H, W] -> (image_index, label, y, x, score)``, sorted as the operator's table."""
    threshold = torch.tensor(threshold, dtype=heatmap.dtype).item()
    rows = []
    batch, classes, height, width = heatmap.shape
    for b in range(batch):
        for c in range(classes):
            confine = None if ids is None else ids[b]
            found = [
                (-heatmap[b, c, y, x].item(), y, x)
                for y in range(height)
                for x in range(width)
                if _is_peak(heatmap[b, c], confine, y, x, window // 2, threshold)
            ]
            rows += [(b, c, y, x, -score) for score, y, x in sorted(found)[:top_k]]
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)
    return (*(table[:, k].to(torch.int64) for k in range(4)), table[:, 4].to(heatmap.dtype))
