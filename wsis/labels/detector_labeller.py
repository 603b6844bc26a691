"""A trained detector as a labeller: pictures to instances that may overlap, and semantic maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wsis.errors import Problems
from wsis.models.detector import Detector
from wsis.structures import Instances

__all__ = ["Config", "Detected", "Detections", "DetectorLabeller"]


@dataclass(frozen=True)
class Config:
    """What counts as a detection.

    Attributes:
        min_score: detections below it are left out.
        nms: of two boxes of one class that overlap by more than this, the weaker is left out.
        semantic_score: detections from here on are painted into semantic maps.
    """

    min_score: float = 0.05
    nms: float = 0.5
    semantic_score: float = 0.5

    def __post_init__(self) -> None:
        problems = Problems()
        for name in ("min_score", "nms", "semantic_score"):
            if not 0 <= getattr(self, name) <= 1:
                problems.add(f"detector.{name}", f"got {getattr(self, name)}, expected 0 to 1")
        problems.raise_if_any()


class Detections(NamedTuple):
    """The detections of ``B`` pictures of one size."""

    found: list[Instances]

    def finite(self) -> Tensor:
        """``[B]`` bool; torchvision leaves out boxes that are not finite."""
        return torch.tensor([bool(one.scores.isfinite().all()) for one in self.found], dtype=torch.bool)

    def select(self, images: Tensor) -> Detections:
        """The images of a ``[B]`` bool mask alone."""
        return Detections([one for one, keep in zip(self.found, images.tolist()) if keep])

    def arrays(self, image: int, made: Detected) -> dict[str, np.ndarray]:
        """A detector has no fields: the classes that it saw."""
        return {"classes": self.found[image].labels.unique().cpu().numpy()}


@dataclass(frozen=True)
class Detected:
    """What one batch became: the form of ``labels.irnet.Propagated`` for masks that overlap.

    Attributes:
        instances: one entry per image, strongest first; None when not asked for.
        semantic: ``[B, H, W]`` int64 (0 background, class + 1), or None when not asked for.
    """

    instances: _Stacked | None
    semantic: Tensor | None


class _Stacked(list):
    """Instances by image, with the door that the id maps have."""

    def to_instances(self) -> list[Instances]:
        return list(self)


class DetectorLabeller:
    """As :class:`wsis.labels.labeller.Labeller`, from a detector.

    Args:
        net: in eval mode.
        config: thresholds.
        use_tags: keep only the classes of the image labels.
        context: makes the context in which the net runs (autocast).
    """

    def __init__(
        self,
        net: Detector,
        config: Config,
        use_tags: bool = False,
        context: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        self.net, self.config, self.needs_tags, self.context = net, config, use_tags, context

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    def to(self, device: torch.device | str) -> DetectorLabeller:
        self.net.to(device)
        return self

    @torch.no_grad()
    def fields(self, images: Sequence[Tensor], classes: Sequence[Sequence[int]]) -> Detections:
        """Run the net on ``B`` times ``[3, H, W]`` uint8, one by one on the CPU."""
        step = 1 if self.device.type == "cpu" else len(images)
        found: list[Instances] = []
        with self.context():
            for start in range(0, len(images), step):
                part = [image.to(self.device) for image in images[start : start + step]]
                found += self.net.detect(part, self.config.min_score, self.config.nms)
        if self.needs_tags:
            found = [_only(one, present) for one, present in zip(found, classes)]
        return Detections(found)

    @torch.no_grad()
    def spread(
        self, fields: Detections, size: tuple[int, int], *, instances: bool = True, semantic: bool = False
    ) -> Detected:
        """Instances, semantic maps or both; in a map the strongest detection lies on top."""
        maps = None
        if semantic:
            maps = torch.zeros((len(fields.found), *size), dtype=torch.int64)
            for canvas, one in zip(maps, fields.found):
                for k in one.scores.argsort(stable=True).tolist():
                    if one.scores[k] >= self.config.semantic_score:
                        canvas[one.masks[k].cpu()] = int(one.labels[k]) + 1
        return Detected(_Stacked(fields.found) if instances else None, maps)


def _only(found: Instances, classes: Sequence[int]) -> Instances:
    keep = torch.isin(found.labels, torch.tensor(list(classes), dtype=torch.int64, device=found.labels.device))
    return Instances(found.masks[keep], found.labels[keep], found.scores[keep])
