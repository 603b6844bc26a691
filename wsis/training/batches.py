"""Which images make up which step: a function of seed and step, so that training resumes exactly where it
stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
from torch.utils.data import DataLoader, Dataset

from wsis.errors import ConfigError, DataFault

__all__ = ["BatchPlan", "CropData", "TrainingData"]


class BatchPlan:
    """Batches of ``(epoch, index)`` for the steps from ``start`` to ``steps``.

    Every pass is a new permutation drawn from ``(seed, epoch)``; what does not fill a batch at its end is
    dropped. Process ``rank`` of ``world`` takes every ``world``-th image of a batch.

    Args:
        num_images: images of the data set, at least ``batch_size``.
        batch_size: images per step over all processes.
        steps: the last step, exclusive.
        seed: decides all permutations.
    """

    def __init__(self, num_images: int, batch_size: int, steps: int, seed: int):
        if num_images < batch_size:
            raise ConfigError(
                f"optim.batch_size: got {batch_size}, expected at most the number of training images, {num_images}"
            )
        self.num_images, self.batch_size, self.steps, self.seed = num_images, batch_size, steps, seed
        self.start, self.rank, self.world = 0, 0, 1

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.start, self.steps):
            yield self.batch(step)[self.rank :: self.world]

    def batch(self, step: int) -> list[tuple[int, int]]:
        """``(epoch, index)`` of every image of one step."""
        epoch, position = divmod(step, self.num_images // self.batch_size)
        order = np.random.default_rng((self.seed, epoch)).permutation(self.num_images)
        chosen = order[position * self.batch_size : (position + 1) * self.batch_size]
        return [(epoch, int(index)) for index in chosen]


class CropData(Dataset):
    """A data set addressed by ``(epoch, index)``; an image that cannot be used is replaced by the next one.

    Args:
        make: ``(epoch, index)`` to a sample, a dict of tensors and the image's ``id``; may raise
            ``DataFault``.
        num_images: number of images.
    """

    MAX_REPLACEMENTS = 16

    def __init__(self, make: Callable[[int, int], dict[str, Any]], num_images: int):
        self.make, self.num_images = make, num_images

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        faults: list[str] = []
        for shift in range(min(self.MAX_REPLACEMENTS, self.num_images)):
            try:
                return {**self.make(epoch, (index + shift) % self.num_images), "faults": faults}
            except DataFault as fault:
                faults.append(str(fault))
        raise ConfigError([f"training: {len(faults)} images in a row cannot be used:", *faults])


def _collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack tensors; keep everything else as lists."""
    import torch

    first = samples[0]
    return {
        key: torch.stack([sample[key] for sample in samples])
        if isinstance(first[key], torch.Tensor)
        else [sample[key] for sample in samples]
        for key in first
    }


class TrainingData(pl.LightningDataModule):
    """The training batches from step ``plan.start`` on.

    Args:
        data: samples by ``(epoch, index)``.
        plan: which of them make up which step.
        workers: processes that prepare them.
    """

    def __init__(self, data: CropData, plan: BatchPlan, workers: int):
        super().__init__()
        self.data, self.plan, self.workers = data, plan, workers

    def train_dataloader(self) -> DataLoader:
        """One loader that holds all remaining steps."""
        trainer = self.trainer
        if trainer is not None:
            self.plan.rank, self.plan.world = trainer.global_rank, trainer.world_size
        if self.plan.batch_size % self.plan.world:
            raise ConfigError(
                f"optim.batch_size: got {self.plan.batch_size}, expected a multiple of the {self.plan.world} processes"
            )
        return DataLoader(
            self.data,
            batch_sampler=self.plan,
            num_workers=self.workers,
            collate_fn=_collate,
            pin_memory=False,
        )
