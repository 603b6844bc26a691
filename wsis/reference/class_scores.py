"""Oracle of :func:`wsis.ops.class_scores`: the whole softmax, then one class at a time."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["class_scores"]


def class_scores(semantic: Tensor, center: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """``[B, C + 1, H, W]``, ``[B, C, H, W]``, ``[B, H, W]`` -> two maps ``[B, H, W]``."""
    softmax = semantic.double().softmax(1).to(semantic.dtype)
    probability = torch.zeros(labels.shape, dtype=semantic.dtype)
    heat = torch.zeros(labels.shape, dtype=semantic.dtype)
    for b in range(labels.shape[0]):
        for c in range(center.shape[1]):
            mask = labels[b] == c + 1
            probability[b][mask] = softmax[b, c + 1][mask]
            heat[b][mask] = center[b, c][mask]
    return probability, heat
