"""Oracle of :func:`wsis.ops.edge_to_affinity`, in plain differentiable torch."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["edge_to_affinity", "neighbor_offsets", "path"]


def path(dy: int, dx: int) -> list[tuple[int, int]]:
    """Cells from (0, 0) to (dy, dx), those farthest from the start first, as the gradient of a tie wants."""
    cells = [
        (y, x)
        for y in range(min(dy, 0), max(dy, 0) + 1)
        for x in range(min(dx, 0), max(dx, 0) + 1)
        if (dy * x - dx * y) ** 2 < dy * dy + dx * dx
    ]
    return sorted(cells, key=lambda cell: (-abs(cell[0]) - abs(cell[1]), cell))


def neighbor_offsets(radius: int) -> Tensor:
    """``[P, 2]`` offsets of the half disc by path length, ``dy``, ``dx``."""
    offsets = [
        (dy, dx)
        for dy in range(radius)
        for dx in range(1 - radius, radius)
        if (dy > 0 or dx > 0) and dy * dy + dx * dx < radius * radius
    ]
    offsets.sort(key=lambda offset: (len(path(*offset)), offset))
    return torch.tensor(offsets, dtype=torch.int64).reshape(-1, 2)


def edge_to_affinity(boundary: Tensor, radius: int = 5) -> Tensor:
    """``[B, h, w] -> [B, P, h, w]``, one offset at a time."""
    batch, height, width = boundary.shape
    offsets = neighbor_offsets(radius).tolist()
    affinity = boundary.new_zeros(batch, len(offsets), height, width)
    for p, (dy, dx) in enumerate(offsets):
        rows, left, right = height - dy, max(-dx, 0), width - max(dx, 0)
        if rows <= 0 or left >= right:
            continue
        cells = [boundary[:, y : y + rows, left + x : right + x] for y, x in path(dy, dx)]
        stacked = torch.stack(cells)
        first = stacked.detach().argmax(0, keepdim=True)
        affinity[:, p, :rows, left:right] = 1 - stacked.gather(0, first).squeeze(0)
    return affinity
