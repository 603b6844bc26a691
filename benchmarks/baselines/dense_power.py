"""The random walk as published: the transition matrix is built densely and squared again and again."""

from __future__ import annotations

import torch
from torch import Tensor

from wsis.reference.random_walk import transition_matrix

__all__ = ["random_walk"]


def random_walk(seeds: Tensor, boundary: Tensor, radius: int = 5, beta: float = 10.0, exp_times: int = 8) -> Tensor:
    """``[K, h, w], [h, w] -> [K, h, w]`` after ``2 ** exp_times`` steps; memory grows as ``(h w) ** 2``."""
    transition = transition_matrix(boundary, radius, beta)
    for _ in range(exp_times):
        transition = torch.matmul(transition, transition)
    return torch.matmul(seeds.flatten(1), transition).view_as(seeds)
