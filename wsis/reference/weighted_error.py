"""Oracle of :func:`wsis.ops.weighted_error`: the formula, target by target."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["weighted_error"]


def weighted_error(prediction: Tensor, targets: Sequence[Tensor], weights: Sequence[Tensor], power: int) -> Tensor:
    """``[B, K, H, W]``, the same for each target, ``[B, 1, H, W]`` for each -> scalar float64."""
    total = torch.zeros((), dtype=torch.float64)
    for target, weight in zip(targets, weights):
        error = (prediction.double() - target.double()).abs() ** power * weight.double()
        used = (weight > 0).sum()
        if used > 0:
            total = total + torch.where(weight > 0, error, 0.0).sum() / used
    return total / len(targets)
