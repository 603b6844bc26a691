"""The losses by gathering every path: pair labels as tensors, boundary values gathered by an index table, one
max-pooling for each path length. Tables are made once for a grid, labels for every batch."""

from __future__ import annotations

from collections import defaultdict
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["inter_pixel_loss"]

_EPSILON = 1e-5


def _path(dy: int, dx: int) -> list[tuple[int, int]]:
    return [
        (y, x)
        for y in range(dy + 1)
        for x in range(min(dx, 0), max(dx, 0) + 1)
        if (dy * x - dx * y) ** 2 < dy * dy + dx * dx
    ]


@cache
def _tables(height: int, width: int, radius: int) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """Path indices ``[P_L, L, n]`` by length, sources ``[n]``, targets ``[P, n]``, offsets ``[P, 2]``."""
    rows = torch.arange(height - radius + 1)
    columns = torch.arange(radius - 1, width - radius + 1)
    source = (rows[:, None] * width + columns).reshape(-1)
    paths = defaultdict(list)
    for dy in range(radius):
        for dx in range(1 - radius, radius):
            if (dy > 0 or dx > 0) and dy * dy + dx * dx < radius * radius:
                paths[len(_path(dy, dx))].append((dy, dx))
    indices, offsets = [], []
    for length in sorted(paths):
        cells = torch.tensor([_path(dy, dx) for dy, dx in paths[length]])
        indices.append((cells[..., :1] * width + cells[..., 1:]) + source)
        offsets += paths[length]
    offsets = torch.tensor(offsets)
    target = (offsets[:, :1] * width + offsets[:, 1:]) + source
    return indices, source, target, offsets


def inter_pixel_loss(
    boundary_logits: Tensor, displacement: Tensor, seeds: Tensor, *, radius: int = 10
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``[B, h, w]``, ``[B, 2, h, w]``, ``[B, h, w]`` uint8 -> four losses."""
    batch, height, width = boundary_logits.shape
    indices, source, target, offsets = _tables(height, width, radius)

    flat = seeds.flatten(1).long()
    first, second = flat[:, None, source], flat[:, target]
    known = (first < 255) & (second < 255)
    equal = known & (first == second)
    background, foreground = (equal & (first == 0)).float(), (equal & (first > 0)).float()
    different = (known & (first != second)).float()

    boundary = torch.sigmoid(boundary_logits).flatten(1)
    affinities = []
    for table in indices:
        cells = boundary[:, table.flatten()].view(batch, -1, *table.shape[1:])
        affinities.append(1 - F.max_pool2d(cells, (table.shape[1], 1)).squeeze(2))
    affinity = torch.cat(affinities, 1)

    fields = displacement.flatten(2)
    moved = fields[:, :, None, source] - fields[:, :, target]
    residual = (moved - offsets.T[None, :, :, None]).abs()

    positive = -torch.log(affinity + _EPSILON)
    negative = -torch.log(1 + _EPSILON - affinity)
    means = [
        (loss * mask).sum() / (mask.sum() + _EPSILON)
        for loss, mask in ((positive, background), (positive, foreground), (negative, different))
    ]
    return (
        (means[0] + means[1]) / 2,
        means[2],
        (residual * foreground[:, None]).sum() / (2 * foreground.sum() + _EPSILON),
        (moved.abs() * background[:, None]).sum() / (2 * background.sum() + _EPSILON),
    )
