"""Every protocol in one pass over the images: VOC AP, ABO, mIoU and COCO AP of one source of predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from wsis.data import rle
from wsis.errors import Code, DataFault
from wsis.evaluation import instance_coco, instance_voc, semantic
from wsis.structures import Instances

__all__ = ["Comparison", "Found", "Truth", "masks_of", "plain"]

_WITHOUT = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Found:
    """What a source says about one image.

    Attributes:
        size: ``(height, width)`` that its masks have.
        rles: run-length masks; ``None`` if the source has no instances at all, only semantic maps.
        labels: ``[N]`` classes from 0.
        scores: ``[N]`` float32.
        semantic: ``[H, W]`` map (0, class + 1, 255); ``None`` = to be painted from the instances.
    """

    size: tuple[int, int]
    rles: Sequence[Mapping[str, Any]] | None = ()
    labels: np.ndarray = field(default_factory=lambda: _WITHOUT)
    scores: np.ndarray = field(default_factory=lambda: _WITHOUT.astype(np.float32))
    semantic: np.ndarray | None = None

    def at_least(self, score: float) -> Found:
        """Without the instances below ``score`` (compared in float32)."""
        if self.rles is None or score <= 0:
            return self
        keep = np.flatnonzero(self.scores >= np.float32(score))
        rles = [self.rles[k] for k in keep]
        return Found(self.size, rles, self.labels[keep], self.scores[keep], self.semantic)

    def painted(self) -> np.ndarray:
        """The semantic map; made of the instances, the highest score on top, where there is no other."""
        if self.semantic is not None:
            return self.semantic
        canvas = np.zeros(self.size, dtype=np.uint8)
        for k in np.argsort(self.scores, kind="stable"):
            canvas[masks_of([self.rles[k]], self.size)[0]] = self.labels[k] + 1
        return canvas


@dataclass(frozen=True)
class Truth:
    """The true objects of one image: ``rles``, ``labels [M]``, the semantic map ``[H, W]``, and the crowds, which only
    COCO's AP knows."""

    rles: Sequence[Mapping[str, Any]]
    labels: np.ndarray
    semantic: np.ndarray
    crowd_rles: Sequence[Mapping[str, Any]] = ()
    crowd_labels: np.ndarray = field(default_factory=lambda: _WITHOUT)

    @classmethod
    def of(cls, instances: Instances, semantic_map: np.ndarray, crowds: Instances | None = None) -> Truth:
        """From masks and a semantic map."""
        rles, labels = rle.encode_masks(instances.masks.numpy()), instances.labels.numpy()
        if crowds is None:
            return cls(rles, labels, semantic_map)
        return cls(rles, labels, semantic_map, rle.encode_masks(crowds.masks.numpy()), crowds.labels.numpy())


def masks_of(rles: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> np.ndarray:
    """Run-length masks of one size -> ``[N, H, W]`` bool."""
    return rle.to_masks(rles, size)


@dataclass(frozen=True)
class Ready:
    """One image measured but not counted: ``iou [N, M]`` (``None`` without instances) and its pixels."""

    found: Found
    iou: np.ndarray | None
    confusion: torch.Tensor
    missing: bool


class Comparison:
    """Adds up all protocols for one source of predictions.

    Args:
        num_classes: ``C``.
        iou_thresholds: of the VOC AP.
        coco: ``auto``, ``pycocotools`` or ``faster-coco-eval``; ``none`` leaves COCO AP out.
        min_score: instances below it are left out.
        ties: see :mod:`wsis.evaluation.instance_voc`.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        iou_thresholds: Sequence[float] = instance_voc.THRESHOLDS,
        coco: str = "auto",
        min_score: float = 0.0,
        ties: Literal["numpy", "stable"] = "numpy",
    ):
        self.min_score = min_score
        self.voc = instance_voc.InstanceAP(iou_thresholds, num_classes=num_classes, ties=ties)
        self.coco = None if coco == "none" else instance_coco.CocoAP(num_classes=num_classes, backend=coco)
        self.semantic = semantic.ConfusionMatrix(num_classes)
        self.has_instances = True
        self.painted = False
        self.missing = 0

    def add(self, found: Found | None, truth: Truth, name: str) -> np.ndarray | None:
        """Count one image: :meth:`prepare`, then :meth:`count`; returns the overlaps."""
        ready = self.prepare(found, truth, name)
        self.count(ready, truth)
        return ready.iou

    def prepare(self, found: Found | None, truth: Truth, name: str) -> Ready:
        """Check and measure one image without counting it.

        Args:
            found: ``None`` where the source does not know the image: nothing was found.
            truth: the true objects.
            name: the image's id, for faults.

        Raises:
            DataFault: masks or maps do not fit the image or the classes.
        """
        size = truth.semantic.shape
        missing = found is None
        found = Found(size) if found is None else found.at_least(self.min_score)
        maps_size = found.size if found.semantic is None else found.semantic.shape
        if not tuple(found.size) == tuple(maps_size) == tuple(size):
            text = f"prediction is {list(found.size)}, its map {list(maps_size)}, ground truth {list(size)}"
            raise DataFault(Code.E_SHAPE, name, "evaluate", text)
        try:
            one = semantic.ConfusionMatrix(self.semantic.num_classes)
            one.add(found.painted(), truth.semantic, name=f"image {name}")
            iou = None if found.rles is None else rle.iou(list(found.rles), list(truth.rles))
        except (ValueError, TypeError) as error:
            raise DataFault(Code.E_RANGE, name, "evaluate", str(error)) from error
        return Ready(found, iou, one.counts, missing)

    def count(self, ready: Ready, truth: Truth) -> None:
        """Count what was prepared."""
        found = ready.found
        self.missing += ready.missing
        self.painted = self.painted or (found.semantic is None and not ready.missing)
        self.semantic.counts += ready.confusion
        if ready.iou is None:
            self.has_instances = False
            return
        self.voc.add(ready.iou, found.labels, found.scores, truth.labels)
        if self.coco is not None:
            true = [*truth.rles, *truth.crowd_rles]
            labels = np.concatenate((truth.labels, truth.crowd_labels))
            crowd = np.arange(len(true)) >= len(truth.rles)
            size = truth.semantic.shape
            self.coco.add(found.rles, found.labels, found.scores, true, labels, crowd, size=size)

    def result(self) -> dict[str, Any]:
        """``voc``, ``semantic`` and ``coco``: what the three protocols return (``None`` where left out)."""
        return {
            "voc": self.voc.result() if self.has_instances else None,
            "semantic": self.semantic.result() | {"source": "instances" if self.painted else "maps"},
            "coco": self.coco.result() if self.coco is not None and self.has_instances else None,
            "missing": self.missing,
        }


def plain(value: Any) -> Any:
    """Results as JSON can hold them: tensors as lists, NaN as ``None``."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
