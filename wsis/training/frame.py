"""What all training steps have in common: the folder, taking up a stopped training, the network in its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback

from wsis import __version__
from wsis.data.categories import Categories

from .batches import BatchPlan, CropData
from .checkpoint import load_network, save_network
from .fit import TrainResult, finished, fit, is_main, open_run
from .modules import Training

__all__ = ["TrainingJob", "train"]


@dataclass(frozen=True)
class TrainingJob:
    """What one training step adds to the frame.

    Attributes:
        training: the module with its network.
        samples: ``(epoch, place)`` to a sample.
        total: places.
        callbacks: of Lightning.
        finish: called by the process that writes once the training is over; gives entries of the network's JSON.
    """

    training: Training
    samples: Callable[[int, int], dict[str, Any]]
    total: int
    callbacks: Sequence[Callback] = ()
    finish: Callable[[], Mapping[str, Any]] = dict


def train(
    step: str,
    config: Any,
    network: str,
    parts: Mapping[str, Any],
    prepare: Callable[[Path], TrainingJob],
    *,
    backbone: str,
    categories: Categories | None = None,
) -> TrainResult:
    """Train, or take up where a stopped training was, or find it done.

    Args:
        step: as on the command line.
        config: of the step, with ``out``, ``seed``, ``optim`` and ``machine``.
        network: name of the network's file.
        parts: what decides the weights.
        prepare: from the folder to the job; called with the generator seeded.
        backbone: what the network's JSON says its backbone is.
        categories: of a network with classes.

    Raises:
        ConfigError: the loss was not finite, or the folder belongs to another run.
        SystemFault: the machine failed; the same call resumes.
    """
    target = Path(config.out) / network
    with open_run(config.out, step.replace("-", "_"), parts) as folder:
        if finished(target, step):
            return TrainResult.kept(target)
        torch.manual_seed(config.seed)
        job = prepare(folder)
        net, steps = job.training.net, job.training.steps
        plan = BatchPlan(job.total, config.optim.batch_size, steps, config.seed)
        samples = CropData(job.samples, job.total)
        figures = fit(job.training, samples, plan, folder, config.machine, callbacks=job.callbacks)
        if not is_main():
            return TrainResult(target, **figures)
        meta = {
            "backbone": backbone,
            **({"categories": list(categories.names)} if categories else {}),
            "version": __version__,
            "training": {**parts, "steps": steps},
            **job.finish(),
        }
        save_network(target, net, meta)
    load_network(target, kind=net.kind, categories=categories)
    return TrainResult(target, **figures)
