"""Oracle of :func:`wsis.ops.group_pixels`: every pixel measures its distance to every centre."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["group_pixels"]


def group_pixels(offsets: Tensor, centers, foreground: Tensor) -> Tensor:
    """``[B, 2, H, W]``, table, ``[B, H, W]`` -> ``[B, H, W]`` int32."""
    batch, _, height, width = offsets.shape
    ids = torch.zeros(batch, height, width, dtype=torch.int32)
    for b in range(batch):
        rows = [i for i in range(len(centers.y)) if centers.image_index[i] == b]
        for y in range(height):
            for x in range(width):
                component = foreground[b, y, x]
                target = offsets[b, :, y, x] + torch.tensor([y, x], dtype=offsets.dtype)
                best = None
                for position, i in enumerate(rows):
                    cy, cx = centers.y[i], centers.x[i]
                    if component == 0 or foreground[b, int(cy), int(cx)] != component:
                        continue
                    away = target - torch.stack((cy, cx)).to(offsets.dtype)
                    distance = (away[0] * away[0] + away[1] * away[1]).item()
                    if best is None or distance < best:
                        best = distance
                        ids[b, y, x] = position + 1
    return ids
