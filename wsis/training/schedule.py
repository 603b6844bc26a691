"""Learning rates as a function of the step, and the optimisers they drive."""

from __future__ import annotations

import torch
from torch import nn

from .config import OptimConfig

__all__ = ["build_optimizer", "make_optimizer", "set_learning_rates"]


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
    return make_optimizer(config, groups)


def make_optimizer(config: OptimConfig, groups: list[dict]) -> torch.optim.Optimizer:
    """The optimiser of groups with ``params``, ``lr`` and ``base_lr``; empty groups are left out."""
    groups = [group for group in groups if group["params"]]
    if config.optimizer in ("adam", "adamw"):
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        return kind(groups, lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        groups,
        lr=config.lr,
        momentum=0.0 if config.optimizer == "sgd" else 0.9,
        nesterov=config.optimizer == "nesterov",
        weight_decay=config.weight_decay,
    )


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give every group ``factor`` times its base learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["base_lr"]
