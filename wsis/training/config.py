"""How a network is trained: optimiser, steps, machine, logs. The same fields for every training step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wsis.errors import Problems, did_you_mean
from wsis.runtime.device import device_problems

__all__ = ["OPTIMIZERS", "MachineConfig", "OptimConfig"]

OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw")


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser and schedule; the defaults are the paper's, with the momentum that its code in effect used
    (none).

    Attributes:
        optimizer: sgd (no momentum), momentum (SGD with 0.9), nesterov (the same, Nesterov's), adam or adamw.
        lr: learning rate of what was trained before; new layers take new_layers times as much.
        new_layers: factor of the learning rate of the classifier, or of IRNet's displacement branch.
        weight_decay: weight decay.
        epochs: passes over the training images; the last, incomplete batch of each is dropped.
        steps: optimiser steps; 0 takes them from epochs.
        min_steps: with few images more epochs are made, until there are so many steps.
        batch_size: images per step, over all processes together.
        warmup: steps in which the learning rate rises linearly.
        warmup_from: share of the learning rate with which the rise begins.
        power: the learning rate falls as (1 - step / steps) ** power.
        milestones: shares of all steps at which the learning rate falls to a tenth; replaces power.
    """

    optimizer: str = "sgd"
    lr: float = 0.1
    new_layers: float = 10.0
    weight_decay: float = 1e-4
    epochs: int = 5
    steps: int = 0
    min_steps: int = 0
    batch_size: int = 16
    warmup: int = 0
    warmup_from: float = 0.0
    power: float = 0.9
    milestones: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        problems = Problems()
        if self.optimizer not in OPTIMIZERS:
            hint = did_you_mean(self.optimizer, OPTIMIZERS)
            problems.add("optim.optimizer", f"got {self.optimizer!r}, expected {', '.join(OPTIMIZERS)}", hint)
        for name, low in (("lr", 0.0), ("new_layers", 0.0), ("weight_decay", -1e-300), ("power", -1e-300)):
            value = getattr(self, name)
            if not math.isfinite(value) or value <= low:
                problems.add(f"optim.{name}", f"got {value!r}, expected a positive number")
        for name, low in (("epochs", 1), ("steps", 0), ("min_steps", 0), ("batch_size", 1), ("warmup", 0)):
            if getattr(self, name) < low:
                problems.add(f"optim.{name}", f"got {getattr(self, name)!r}, expected at least {low}")
        if not 0 <= self.warmup_from <= 1:
            problems.add("optim.warmup_from", f"got {self.warmup_from!r}, expected 0 to 1")
        if not all(0 < share < 1 for share in self.milestones):
            problems.add("optim.milestones", f"got {list(self.milestones)}, expected shares between 0 and 1")
        problems.raise_if_any()

    def factor(self, step: int, steps: int) -> float:
        """Factor of the learning rate at ``step`` of ``steps``."""
        if self.milestones:
            falling = 0.1 ** sum(step >= share * steps for share in self.milestones)
        else:
            falling = max(0.0, 1.0 - step / steps) ** self.power
        if step >= self.warmup:
            return falling
        begun = self.warmup_from + (1 - self.warmup_from) * step / self.warmup
        return falling * (begun if self.warmup_from else (step + 1) / self.warmup)

    def total_steps(self, num_images: int) -> int:
        """Optimiser steps of the whole training on ``num_images`` images."""
        return self.steps or max(self.min_steps, self.epochs * (num_images // self.batch_size))


@dataclass(frozen=True)
class MachineConfig:
    """Where and how fast; none of it changes what is computed, except precision.

    Attributes:
        device: auto (cuda where there is one), cpu or cuda.
        devices: GPUs on this machine; under torchrun its processes count instead.
        precision: fp32, or bf16 for mixed precision (faster, a little less exact).
        workers: processes that prepare images; 0 prepares them in the training process.
        threads: CPU threads of the computation; 0 leaves it to torch.
        checkpoint_every: steps between checkpoints; 0 writes none but the last.
        keep: newest checkpoints that are kept.
        log_every: steps between rows of the log.
    """

    device: str = "auto"
    devices: int = 1
    precision: str = "fp32"
    workers: int = 2
    threads: int = 0
    checkpoint_every: int = 500
    keep: int = 2
    log_every: int = 10

    def __post_init__(self) -> None:
        problems = Problems()
        for text in device_problems(self.device, self.precision):
            problems.add("machine", text)
        lows = {"devices": 1, "workers": 0, "threads": 0, "checkpoint_every": 0, "keep": 1, "log_every": 1}
        for name, low in lows.items():
            if getattr(self, name) < low:
                problems.add(f"machine.{name}", f"got {getattr(self, name)!r}, expected at least {low}")
        problems.raise_if_any()
