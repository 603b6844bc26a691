"""Oracle of :func:`wsis.ops.trace_displacement`: every pixel makes every step."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["trace_displacement"]


def _trace_image(field: Tensor, num_steps: int) -> Tensor:
    """``[2, h, w] -> [2, h, w]``: positions after ``num_steps`` moves, unrounded."""
    height, width = field.shape[1:]
    last = field.new_tensor([height - 1, width - 1]).view(2, 1, 1)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    position = torch.stack([y, x]).to(field)
    for _ in range(num_steps):
        cell = position.floor()
        fy, fx = position - cell
        y0, x0 = cell.long()
        y1, x1 = (y0 + 1).clamp(max=height - 1), (x0 + 1).clamp(max=width - 1)
        left = (1 - fy) * field[:, y0, x0] + fy * field[:, y1, x0]
        right = (1 - fy) * field[:, y0, x1] + fy * field[:, y1, x1]
        position = (position + ((1 - fx) * left + fx * right)).clamp(min=0).minimum(last)
    return position


def trace_displacement(displacement: Tensor, num_steps: int = 300, *, sizes: Tensor | None = None) -> Tensor:
    """``[B, 2, h, w] -> [B, 2, h, w]`` int32 end cells."""
    batch, _, height, width = displacement.shape
    rows, columns = torch.arange(height, dtype=torch.int32), torch.arange(width, dtype=torch.int32)
    ends = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).repeat(batch, 1, 1, 1)
    for b in range(batch):
        h, w = (height, width) if sizes is None else (int(n) for n in sizes[b])
        if h and w:
            ends[b, :, :h, :w] = _trace_image(displacement[b, :, :h, :w].cpu(), num_steps).round().int()
    return ends.to(displacement.device)
