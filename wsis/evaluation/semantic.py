"""Mean intersection over union of semantic maps, and the threshold curve of class activation maps.

Maps hold 0 = background, ``1..C`` = classes, 255 = ignore. Pixels that the ground truth ignores do not count.
255 in a prediction counts as background. A class that occurs neither in the valid ground truth nor in the
prediction there has NaN and is left out of the mean; the background is in the mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsis.evaluation.overlap import paired

__all__ = ["IGNORE", "PROTOCOL", "ConfusionMatrix", "ThresholdSweep", "evaluate", "scores_of"]

PROTOCOL = "semantic-miou-1"
"""Name and version of the protocol, for result files."""

IGNORE = 255


def evaluate(predictions: Iterable[Any], ground_truth: Iterable[Any], num_classes: int) -> dict[str, Any]:
    """Mean IoU of semantic maps.

    Args:
        predictions: ``[H, W]`` integer maps, tensors or arrays, one per image. May be a generator.
        ground_truth: the same, in the same order.
        num_classes: ``C``, without the background.

    Returns:
        What :func:`scores_of` says, on the device of the first prediction.

    Raises:
        ValueError: on unequal lengths or sizes, and on values outside ``{0..C, 255}``.
        TypeError: on maps that are no integers.
    """
    matrix = ConfusionMatrix(num_classes)
    for index, prediction, truth in paired("semantic.evaluate", predictions, ground_truth):
        matrix.add(prediction, truth, name=f"image {index}")
    return matrix.result()


class ConfusionMatrix:
    """Pixels by true and predicted class, added up image by image.

    Attributes:
        counts: ``[C + 1, C + 1]`` int64, true class by predicted class.
    """

    def __init__(self, num_classes: int):
        self.num_classes = _checked_classes("ConfusionMatrix", num_classes)
        self.counts = torch.zeros((num_classes + 1, num_classes + 1), dtype=torch.int64)
        self._device: torch.device | str | None = None

    def add(self, prediction: Any, truth: Any, name: str = "the image") -> None:
        """Count one image of ``[H, W]`` maps; ``name`` is what errors call it."""
        prediction = _checked_map("semantic: prediction", prediction, name)
        truth = _checked_map("semantic: ground truth", truth, name)
        if prediction.shape != truth.shape:
            raise ValueError(
                f"semantic: prediction and ground truth of {name} must have one size, got "
                f"{list(prediction.shape)} and {list(truth.shape)}"
            )
        if self._device is None:
            self._device = prediction.device
        truth = truth.to(prediction.device)
        classes = self.num_classes + 1
        joint = torch.bincount(_code(truth) * 256 + _code(prediction), minlength=65536).reshape(256, 256).cpu()
        for what, totals in (("ground truth", joint.sum(1)), ("prediction", joint.sum(0))):
            _refuse_strangers(what, totals, classes, name)
        joint[:, 0] += joint[:, IGNORE]
        self.counts += joint[:classes, :classes]

    def result(self) -> dict[str, Any]:
        """What :func:`scores_of` says of the images so far."""
        return scores_of(self.counts.to(self._device or "cpu"))


def scores_of(counts: Tensor) -> dict[str, Any]:
    """Scores of a confusion matrix ``[C + 1, C + 1]``, true class by predicted class.

    Returns:
        ``miou`` (float) and ``iou`` (``[C + 1]`` float64); ``false_positive`` and ``false_negative``
        (``[C + 1]``), the shares of a class's union that are wrongly predicted and wrongly left out, so
        that the three add up to 1; ``pixel_accuracy`` (float); ``confusion``, the matrix itself.
    """
    table = counts.double()
    hits, true, found = table.diagonal(), table.sum(1), table.sum(0)
    union = true + found - hits
    union = torch.where(union > 0, union, torch.nan)
    iou = hits / union
    total = table.sum()
    return {
        "miou": float(iou.nanmean()),
        "iou": iou,
        "false_positive": (found - hits) / union,
        "false_negative": (true - hits) / union,
        "pixel_accuracy": float(hits.sum() / total) if total else float("nan"),
        "confusion": counts.clone(),
    }


class ThresholdSweep:
    """mIoU of class activation maps for many background scores, in one pass over the images.

    A pixel is background unless its largest CAM is *above* the threshold (as in an argmax with the
    background first), compared in float32; of equal CAMs the first class wins.
    """

    def __init__(self, num_classes: int, thresholds: Sequence[float]):
        self.num_classes = _checked_classes("ThresholdSweep", num_classes)
        values = torch.tensor([float(t) for t in thresholds], dtype=torch.float32)
        if not len(values) or not torch.isfinite(values).all() or bool((values.diff() <= 0).any()):
            raise ValueError(f"ThresholdSweep: thresholds must be finite and ascending, got {list(thresholds)}")
        self.thresholds = values
        classes = num_classes + 1
        self._counts = torch.zeros((len(values) + 1, classes, classes), dtype=torch.int64)

    def add(self, cams: Tensor, classes: Tensor | Sequence[int], truth: Any, name: str = "the image") -> None:
        """Count one image: ``cams [K, H, W]``, their ``classes [K]`` from 0, ``truth [H, W]``."""
        truth = _checked_map("ThresholdSweep: ground truth", truth, name)
        cams, classes = torch.as_tensor(cams).float(), torch.as_tensor(classes, dtype=torch.int64)
        if cams.dim() != 3 or cams.shape[1:] != truth.shape or classes.shape != cams.shape[:1]:
            raise ValueError(
                f"ThresholdSweep: cams and classes of {name} must be [K, H, W] and [K] with "
                f"[H, W] = {list(truth.shape)}, got {list(cams.shape)} and {list(classes.shape)}"
            )
        if not torch.isfinite(cams).all():
            raise ValueError(f"ThresholdSweep: cams of {name} must be finite")
        if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < self.num_classes:
            raise ValueError(f"ThresholdSweep: classes of {name} must be in 0..{self.num_classes - 1}")
        side = self.num_classes + 1
        _refuse_strangers("ground truth", torch.bincount(_code(truth), minlength=256).cpu(), side, name)
        level = torch.zeros(truth.shape, dtype=torch.int64, device=cams.device)
        best = torch.zeros_like(level)
        if len(classes):
            value, winner = cams.max(0)
            level = torch.bucketize(value, self.thresholds.to(cams.device))
            best = classes.to(cams.device)[winner] + 1
        truth = truth.to(cams.device)
        valid = truth != IGNORE
        code = (level[valid] * side + truth[valid].long()) * side + best[valid]
        self._counts += torch.bincount(code, minlength=self._counts.numel()).view_as(self._counts).cpu()

    def result(self) -> dict[str, Any]:
        """``thresholds [T]``, ``miou [T]`` float64, and ``best``: the threshold and scores of the maximum."""
        tables = [self.confusion(t) for t in range(len(self.thresholds))]
        miou = torch.tensor([scores_of(table)["miou"] for table in tables], dtype=torch.float64)
        top = int(miou.nan_to_num(-1.0).argmax())
        best = {"threshold": float(self.thresholds[top]), **scores_of(tables[top])}
        return {"thresholds": self.thresholds.clone(), "miou": miou, "best": best}

    def confusion(self, index: int) -> Tensor:
        """``[C + 1, C + 1]`` confusion matrix at threshold number ``index``."""
        below, above = self._counts[: index + 1].sum(0), self._counts[index + 1 :].sum(0)
        above[:, 0] += below.sum(1)
        return above


def _checked_classes(owner: str, num_classes: int) -> int:
    if not 1 <= num_classes <= 254:
        raise ValueError(f"{owner}: num_classes must be in 1..254 (255 means ignore), got {num_classes}")
    return num_classes


def _checked_map(owner: str, source: Any, name: str) -> Tensor:
    if isinstance(source, np.ndarray) and source.dtype in (np.uint16, np.uint32):
        source = source.astype(np.int64)
    values = torch.as_tensor(source)
    if values.dtype.is_floating_point or values.dtype.is_complex:
        raise TypeError(f"{owner} of {name} must hold integers, got {values.dtype}")
    if values.dim() != 2:
        raise ValueError(f"{owner} of {name} must be [H, W], got shape {list(values.shape)}")
    if values.dtype != torch.uint8 and values.numel():
        low, high = (int(v) for v in values.aminmax())
        if low < 0 or high > 255:
            raise ValueError(f"{owner} of {name} must hold 0..255, got values from {low} to {high}")
    return values


def _code(values: Tensor) -> Tensor:
    return values.flatten().long()


def _refuse_strangers(what: str, totals: Tensor, classes: int, name: str) -> None:
    """Raise if a value between the classes and 255 occurs; ``totals [256]`` counts the values."""
    strange = (totals[classes:IGNORE].nonzero().flatten() + classes).tolist()
    if strange:
        raise ValueError(f"semantic: {what} of {name} must hold 0..{classes - 1} or {IGNORE}, got {strange[:8]}")
