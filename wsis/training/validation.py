"""Figures of a network while it trains, and its best state so far."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from torch import nn

from wsis.data.artifacts import Journal, write_json
from wsis.runtime.progress import say

from .checkpoint import read_verified, save_tensors
from .modules import Training

__all__ = ["Validation", "best_state"]

_BEST = "best.safetensors"


class Validation(Callback):
    """Measures every so many steps, keeps the figures in ``validation.jsonl`` and the best state beside it.

    Of equal figures the earlier one counts as better, so a training that was resumed keeps the same state as one
    that was not.

    Args:
        measure: network in eval mode to figures by name.
        key: the figure that decides, larger is better.
        every: steps between measurements; the last step is always measured.
        folder: of the run.
    """

    def __init__(self, measure: Callable[[nn.Module], dict[str, float]], key: str, every: int, folder: Path):
        self.measure, self.key, self.every, self.folder = measure, key, every, folder

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Training, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, last = module.step, trainer.global_step == trainer.max_steps
        if not trainer.is_global_zero or not (last or step % self.every == 0):
            return
        module.net.eval()
        try:
            figures = self.measure(module.net)
        finally:
            module.net.train()
        with Journal(self.folder / "validation.jsonl") as journal:
            journal.append({"step": step, **figures})
        parts = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
        say(f"validation at step {step}: {parts}")
        best = _read(self.folder)
        if best is None or (figures[self.key], -step) > (best["figures"][self.key], -best["step"]):
            sha256 = save_tensors(self.folder / _BEST, module.net.state_dict())
            write_json(_meta(self.folder), {"step": step, "figures": figures, "sha256": sha256})


def best_state(net: nn.Module, folder: Path) -> dict[str, Any] | None:
    """Put the best state into ``net``; its step and figures, or None where nothing was measured."""
    best = _read(folder)
    if best is not None:
        net.load_state_dict(read_verified(folder / _BEST, best["sha256"]))
        return {"step": best["step"], "figures": best["figures"]}
    return None


def _meta(folder: Path) -> Path:
    return (folder / _BEST).with_suffix(".json")


def _read(folder: Path) -> dict[str, Any] | None:
    """The record of the best state; it is written after the tensors, so what it names is there."""
    path = _meta(folder)
    return json.loads(path.read_text()) if path.is_file() else None
