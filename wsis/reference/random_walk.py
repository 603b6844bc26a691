"""Oracle of :func:`wsis.ops.random_walk`: the transition matrix built densely and applied step by step."""

from __future__ import annotations

import torch
from torch import Tensor

from wsis.reference.edge_to_affinity import edge_to_affinity, neighbor_offsets

__all__ = ["random_walk", "transition_matrix"]


def transition_matrix(boundary: Tensor, radius: int = 5, beta: float = 10.0) -> Tensor:
    """``[h, w] -> [h w, h w]``: ``T = A D^-1``, each column sums to 1 (IRNet, section 4.2, equation 4)."""
    height, width = boundary.shape
    cells = height * width
    index = torch.arange(cells, device=boundary.device).reshape(height, width)
    affinity = edge_to_affinity(boundary[None], radius)[0]
    matrix = torch.eye(cells, dtype=boundary.dtype, device=boundary.device)
    for plane, (dy, dx) in zip(affinity, neighbor_offsets(radius).tolist()):
        rows, left, right = height - dy, max(-dx, 0), width - max(dx, 0)
        if rows <= 0 or left >= right:
            continue
        source = index[:rows, left:right].flatten()
        target = index[dy:, left + dx : right + dx].flatten()
        weight = plane[:rows, left:right].flatten() ** beta
        matrix = matrix.index_put((source, target), weight).index_put((target, source), weight)
    return matrix / matrix.sum(0, keepdim=True)


def random_walk(
    seeds: Tensor,
    boundary: Tensor,
    image_index: Tensor | None = None,
    *,
    sizes: Tensor | None = None,
    radius: int = 5,
    beta: float = 10.0,
    num_steps: int = 256,
    tol: float = 1e-5,
    method: str = "chebyshev",
) -> Tensor:
    """``[M, h, w], [B, h, w], [M] -> [M, h, w]``: ``x T^num_steps``, whatever ``tol`` and ``method``."""
    channels, height, width = seeds.shape
    batch = boundary.shape[0]
    if image_index is None:
        image_index = (
            torch.arange(channels) if channels == batch else torch.zeros(channels, dtype=torch.int64)
        )
    walked = torch.zeros_like(seeds)
    for b in range(batch):
        mine = image_index == b
        h, w = (height, width) if sizes is None else sizes[b].tolist()
        if not mine.any() or h * w == 0:
            continue
        matrix = transition_matrix(boundary[b, :h, :w], radius, beta)
        rows = seeds[mine, :h, :w].reshape(-1, h * w)
        if num_steps > 1000:
            rows = rows @ torch.linalg.matrix_power(matrix, num_steps)
        else:
            for _ in range(num_steps):
                rows = rows @ matrix
        padded = torch.nn.functional.pad(rows.reshape(-1, h, w), (0, width - w, 0, height - h))
        walked = walked.index_put((mine,), padded)
    return walked
