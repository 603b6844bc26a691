"""Oracle of :func:`wsis.ops.mask_iou`: pair by pair."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["mask_iou"]


def mask_iou(
    masks_a: Tensor, masks_b: Tensor, image_a: Tensor | None = None, image_b: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """``[N, H, W]``, ``[M, H, W]`` -> intersection and union ``[N, M]`` int64, iou ``[N, M]`` float32."""
    count, others = len(masks_a), len(masks_b)
    intersection, union = (torch.zeros((count, others), dtype=torch.int64) for _ in range(2))
    iou = torch.zeros((count, others), dtype=torch.float32)
    for n in range(count):
        for m in range(others):
            a, b = masks_a[n] != 0, masks_b[m] != 0
            apart = image_a is not None and image_b is not None and int(image_a[n]) != int(image_b[m])
            common = 0 if apart else int((a & b).sum())
            total = int(a.sum()) + int(b.sum()) - common
            intersection[n, m], union[n, m] = common, total
            iou[n, m] = common / total if total else 0.0
    return intersection, union, iou
