"""How Mask R-CNN learns from instance labels: samples, ignored regions, a moving average of the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from wsis.data import rle
from wsis.data.artifacts import safe_join
from wsis.data.image_set import ImageSet
from wsis.data.images import read_index_map
from wsis.errors import Code, DataFault
from wsis.evaluation.compare import Found
from wsis.formats.sources import Source
from wsis.models.detector import Detector

from . import augment
from .config import OptimConfig
from .modules import Training

__all__ = ["DetectorSamples", "DetectorTraining", "Filters"]

_SEED_STEP = 0x9E3779B1


@dataclass(frozen=True)
class Filters:
    """Which instances teach.

    Attributes:
        min_score: instances below it do not.
        ignore_score: instances from here up to min_score mark a region that counts neither as object nor as
            background; at min_score or above there are none.
        min_area: smallest area in pixels of the picture.
        top: only the strongest of each class in an image; 0 = all.
    """

    min_score: float = 1e-5
    ignore_score: float = 1.0
    min_area: int = 16
    top: int = 0

    def split(self, found: Found) -> tuple[list[int], list[int]]:
        """Positions of the instances that teach, strongest first, and of those that are ignored."""
        areas = rle.area(found.rles) if found.rles else np.zeros(0, np.int64)
        order = np.argsort(-found.scores, kind="stable").tolist()
        large = [k for k in order if areas[k] >= self.min_area]
        teach, counts, rest = [], {}, []
        for k in large:
            label = int(found.labels[k])
            counts[label] = counts.get(label, 0) + 1
            good = found.scores[k] >= np.float32(self.min_score)
            if good and (not self.top or counts[label] <= self.top):
                teach.append(k)
            elif good or found.scores[k] >= np.float32(self.ignore_score):
                rest.append(k)
        return teach, rest


class DetectorSamples:
    """``(epoch, index)`` to a resized, perhaps mirrored picture and its target.

    Args:
        data: the pictures, and their true masks where ``source`` is ``None``.
        source: the labels; ``None`` = the true masks of the data.
        filters: which instances teach.
        uncertain: folder of index maps whose 255 marks open pixels; empty = none.
        min_side, max_side: size of the pictures, as the network takes them.
        jitter: the short side is drawn from ``min_side * (1 - jitter)`` to ``min_side * (1 + jitter)``.
        seed: of the draws.
    """

    def __init__(
        self,
        data: ImageSet,
        source: Source | None,
        filters: Filters,
        uncertain: str,
        min_side: int,
        max_side: int,
        jitter: float,
        seed: int,
    ) -> None:
        self.data, self.source, self.filters, self.uncertain = data, source, filters, uncertain
        self.min_side, self.max_side, self.jitter, self.seed = min_side, max_side, jitter, seed

    def count(self, index: int) -> tuple[int, int]:
        """How many instances of an image teach, and how many are ignored; reads labels only."""
        record = self.data[index]
        if self.source is None:
            return len(self.data.load_instances(index)), 0
        found = self.source.find(record.id, (0, 0)) if record.id in (self.source.ids or ()) else None
        if found is None or not found.rles:
            return 0, 0
        teach, rest = self.filters.split(found)
        return len(teach), len(rest)

    def __call__(self, epoch: int, index: int) -> dict[str, Any]:
        record, image = self.data[index], self.data.load_image(index)
        try:
            masks, labels, unsure = self._labels(index, image.shape[:2])
        except DataFault as fault:
            raise fault.renamed(record.id) from fault
        rng = augment.draw(self.seed, epoch, index)
        height, width = image.shape[:2]
        short = self.min_side * float(rng.uniform(1 - self.jitter, 1 + self.jitter))
        scale = min(short / min(height, width), self.max_side * (1 + self.jitter) / max(height, width))
        size = (max(16, round(height * scale)), max(16, round(width * scale)))
        pixels = np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
        rows, columns = (((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size, (height, width)))
        masks, unsure = masks[:, rows][:, :, columns], unsure[rows][:, columns]
        if rng.integers(2):
            pixels, masks, unsure = pixels[:, ::-1], masks[:, :, ::-1], unsure[:, ::-1]
        return {"id": record.id, "sample": _sample(pixels, masks, labels, unsure)}

    def _labels(self, index: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``[N, H, W]`` masks, ``[N]`` classes and the ``[H, W]`` open pixels of an image."""
        record = self.data[index]
        unsure = np.zeros(size, dtype=bool)
        if self.source is None:
            truth = self.data.load_instances(index)
            return truth.masks.numpy(), truth.labels.numpy(), self.data.load_semantic(index) == 255
        if self.uncertain:
            path = safe_join(self.uncertain, record.id + ".png")
            unsure = read_index_map(path, len(self.data.categories), size=size) == 255
        found = self.source.find(record.id, size)
        if found is None or not found.rles:
            return np.zeros((0, *size), dtype=bool), np.zeros(0, dtype=np.int64), unsure
        if tuple(found.size) != tuple(size):
            text = f"its labels are for {found.size[0]}x{found.size[1]}, the picture has {size[0]}x{size[1]}"
            raise DataFault(Code.E_SHAPE, record.id, "labels", text)
        teach, rest = self.filters.split(found)
        masks = rle.to_masks([found.rles[k] for k in teach], size)
        if rest:
            unsure = unsure | rle.to_masks([found.rles[k] for k in rest], size).any(0)
            unsure &= ~masks.any(0)
        return masks, found.labels[teach], unsure


def _sample(pixels: np.ndarray, masks: np.ndarray, labels: np.ndarray, unsure: np.ndarray) -> dict[str, Tensor]:
    """Picture and target, without instances that the resizing has made empty."""
    boxes, keep = [], []
    for k, mask in enumerate(masks):
        y, x = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(y) > 1 and len(x) > 1:
            keep.append(k)
            boxes.append([x[0], y[0], x[-1] + 1, y[-1] + 1])
    return {
        "image": torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float() / 255,
        "boxes": torch.tensor(np.array(boxes, np.float32).reshape(-1, 4)),
        "labels": torch.from_numpy(labels[keep].astype(np.int64)) + 1,
        "masks": torch.from_numpy(np.ascontiguousarray(masks[keep]).astype(np.uint8)),
        "open": torch.from_numpy(np.ascontiguousarray(unsure)),
    }


class DetectorTraining(Training):
    """Mask R-CNN's five losses, and a moving average of the weights.

    Args:
        net: the detector.
        optim: optimiser and schedule; new layers are all but the body.
        steps: steps of the whole training.
        seed: of the sampling of anchors and proposals in each step.
        ema: decay of the moving average of the weights, which is what is kept in the end; 0 = none.
        fixed: stages of the body (in order of its layers) that do not learn.
    """

    def __init__(
        self, net: Detector, optim: OptimConfig, steps: int, seed: int, ema: float = 0.0, fixed: Sequence[str] = ()
    ) -> None:
        super().__init__(net, optim, steps)
        self.seed, self.ema, self.fixed = seed, ema, tuple(fixed)
        self.average: dict[str, Tensor] = {}

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        body = {id(parameter) for parameter in self.net.body.parameters()}
        norms = {
            id(parameter)
            for module in self.net.body.modules()
            if isinstance(module, nn.BatchNorm2d) and self.net.frozen_norm
            for parameter in module.parameters()
        }
        fixed = {
            id(parameter) for name, parameter in self.net.body.named_parameters() if name.split(".")[0] in self.fixed
        }
        before = [p for p in self.net.body.parameters() if id(p) not in norms | fixed]
        return before, [p for p in self.net.parameters() if id(p) not in body]

    def loss(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        torch.manual_seed((self.seed * _SEED_STEP + self.step * 64 + self.global_rank) % 2**63)
        samples = batch["sample"]
        targets = [{name: value for name, value in sample.items() if name != "image"} for sample in samples]
        parts = self.net([sample["image"] for sample in samples], targets)
        return {"loss": sum(parts.values()), **{name.removeprefix("loss_"): value for name, value in parts.items()}}

    def optimizer_step(self, *args: Any, **options: Any) -> None:
        """The step, and the average after it: before anything writes a checkpoint."""
        super().optimizer_step(*args, **options)
        if self.ema:
            self._average()

    def _average(self) -> None:
        own = self.net.state_dict()
        if not self.average:
            self.average = {name: value.detach().clone() for name, value in own.items()}
        decay = min(self.ema, (1 + self.step) / (10 + self.step))
        for name, value in own.items():
            if value.is_floating_point():
                self.average[name].lerp_(value.detach(), 1 - decay)
            else:
                self.average[name].copy_(value)

    def extra_state(self) -> dict[str, Any]:
        return {"average": dict(self.average)} if self.average else {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        self.average = dict(state.get("average", {}))

    def on_train_start(self) -> None:
        self.average = {name: value.to(self.device) for name, value in self.average.items()}

    def finish(self) -> None:
        """Put the moving average into the net."""
        if self.average:
            self.net.load_state_dict(self.average)
