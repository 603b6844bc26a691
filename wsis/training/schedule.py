"""Learning rates as a function of the step, and the optimisers they drive."""

from __future__ import annotations

import torch
from torch import nn

from .config import OptimConfig

__all__ = ["build_optimizer", "learning_rate_factor", "set_learning_rates"]


def learning_rate_factor(step: int, steps: int, power: float = 0.9, warmup: int = 0) -> float:
    """``(1 - step / steps) ** power``, times ``(step + 1) / warmup`` during the first ``warmup`` steps."""
    rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rising * max(0.0, 1.0 - step / steps) ** power


def build_optimizer(
    config: OptimConfig, trained_before: list[nn.Parameter], new: list[nn.Parameter]
) -> torch.optim.Optimizer:
    """The optimiser with two groups, ``new`` learning ``new_layers`` times as fast; empty groups are left
    out.
    """
    groups = [
        {"params": trained_before, "lr": config.lr, "base_lr": config.lr},
        {"params": new, "lr": config.lr * config.new_layers, "base_lr": config.lr * config.new_layers},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
    momentum = 0.9 if config.optimizer == "momentum" else 0.0
    return torch.optim.SGD(groups, lr=config.lr, momentum=momentum, weight_decay=config.weight_decay)


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give every group ``factor`` times its base learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["base_lr"]
