"""Instance segmentation AP as VOC papers report it, and average best overlap.

The protocol is the one of Hariharan et al., "Simultaneous Detection and Segmentation" (ECCV 2014), in the
form in which ChainerCV computes it and IRNet and BESTIE publish it:

- Per image and class, predictions go by descending score. Each is matched to the ground truth of *highest*
  IoU (the first of equals). An IoU below the threshold is a false positive; so is a ground truth that is
  taken already (there is no search for the second best).
- Over all images, predictions of a class go by descending score; AP is the area under the monotone
  precision envelope, not the 11-point mean.
- A class with ground truth and no prediction has AP 0; a class without ground truth has NaN, with or
  without predictions. mAP is the mean over the classes that are not NaN.
- IoU and threshold are compared in float32; equality is a match.
- Equal scores stand in the order of NumPy's ``argsort()[::-1]``, in the image and over all images. Beyond
  16 elements that order is a property of NumPy's sort and of the processor; ``ties="stable"`` (the later
  prediction first) is the same everywhere.
- Void pixels belong to no ground truth, but count in the area of a prediction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from wsis.evaluation.overlap import Table, mask_iou, paired

__all__ = ["PROTOCOL", "InstanceAP", "evaluate"]

PROTOCOL = "voc-instance-ap/chainercv-1"
"""Name and version of the protocol, for result files."""

THRESHOLDS = (0.25, 0.5, 0.7, 0.75)


def evaluate(
    predictions: Iterable[Any],
    ground_truth: Iterable[Any],
    iou_thresholds: Sequence[float] = THRESHOLDS,
    *,
    num_classes: int | None = None,
    ties: Literal["numpy", "stable"] = "numpy",
) -> dict[str, Any]:
    """Instance AP and average best overlap of predicted masks.

    Args:
        predictions: one object per image with ``masks [N, H, W]``, ``labels [N]`` (classes from 0) and
            ``scores [N]``, for example :class:`wsis.structures.Instances`. May be a generator.
        ground_truth: the same for the true objects, in the same order; scores are not read.
        iou_thresholds: each in ``[0, 1]``.
        num_classes: length of the per-class results; by default the largest label seen + 1.
        ties: order of equal scores (see the module).

    Returns:
        For a threshold of 0.5, and likewise for each: ``map_50`` (float, NaN if no class has ground truth)
        and ``ap_50`` (``[C]`` float64, on the device of the first prediction). Also ``abo`` (float) and
        ``abo_class`` (``[C]``): per class the mean over its true objects of the best IoU of any prediction
        of the class in that image, and the mean over classes; ``num_truth`` and ``num_predictions``
        (``[C]`` int64); ``num_images``.

    Raises:
        ValueError: on unequal lengths, sizes or shapes, non-finite scores, bad thresholds or labels.
        TypeError: on objects without masks and labels, or labels that are no integers.
    """
    metric = InstanceAP(iou_thresholds, num_classes=num_classes, ties=ties)
    for index, prediction, truth in paired("instance_voc.evaluate", predictions, ground_truth):
        found = Table(prediction, f"instance_voc.evaluate: predictions[{index}]")
        true = Table(truth, f"instance_voc.evaluate: ground_truth[{index}]")
        if index == 0:
            metric.device = found.masks.device
        iou = np.zeros((len(found.labels), len(true.labels)), dtype=np.float32)
        if iou.size:
            iou = _overlap(found.masks, true.masks, index)
        metric.add(iou, found.labels, found.scores, true.labels)
    return metric.result()


def _overlap(found: Tensor, true: Tensor, index: int) -> Tensor:
    if found.shape[1:] != true.shape[1:]:
        raise ValueError(
            f"instance_voc.evaluate: masks of image {index} must have one size, got predictions "
            f"{list(found.shape[1:])} and ground_truth {list(true.shape[1:])}"
        )
    return mask_iou(found, true.to(found.device))


class InstanceAP:
    """The same, one image at a time, from overlaps that were computed elsewhere."""

    def __init__(
        self,
        iou_thresholds: Sequence[float] = THRESHOLDS,
        *,
        num_classes: int | None = None,
        ties: Literal["numpy", "stable"] = "numpy",
    ):
        self.thresholds = _checked_thresholds(iou_thresholds)
        if num_classes is not None and num_classes < 1:
            raise ValueError(f"InstanceAP: num_classes must be at least 1, got {num_classes}")
        if ties not in ("numpy", "stable"):
            raise ValueError(f"InstanceAP: ties must be 'numpy' or 'stable', got {ties!r}")
        self.num_classes = num_classes
        self.device: torch.device | str = "cpu"
        self.num_images = 0
        self._sort_kind = "stable" if ties == "stable" else None
        self._scores: dict[int, list[np.ndarray]] = {}
        self._hits: dict[int, list[np.ndarray]] = {}
        self._best: dict[int, list[np.ndarray]] = {}

    def add(self, iou: Tensor | np.ndarray, labels: np.ndarray, scores: np.ndarray, true_labels: np.ndarray) -> None:
        """Count one image.

        Args:
            iou: ``[N, M]``, predictions by true objects; compared in float32.
            labels, scores: ``[N]``, of the predictions.
            true_labels: ``[M]``.
        """
        iou = np.asarray(iou.cpu() if isinstance(iou, Tensor) else iou, dtype=np.float32)
        labels, scores, true_labels = np.asarray(labels), np.asarray(scores), np.asarray(true_labels)
        if iou.shape != (len(labels), len(true_labels)) or scores.shape != labels.shape:
            raise ValueError(
                f"InstanceAP.add: iou must be [N, M] = [{len(labels)}, {len(true_labels)}] and scores [N], "
                f"got iou {list(iou.shape)} and scores {list(scores.shape)}"
            )
        self.num_images += 1
        for label in np.unique(np.concatenate((labels, true_labels)).astype(np.int64)):
            self._check_label(int(label))
            rows, columns = np.flatnonzero(labels == label), np.flatnonzero(true_labels == label)
            rows = rows[self._descending(scores[rows])]
            overlap = iou[np.ix_(rows, columns)]
            self._scores.setdefault(label, []).append(scores[rows])
            self._hits.setdefault(label, []).append(self._match(overlap))
            best = overlap.max(axis=0) if len(rows) else np.zeros(len(columns), dtype=np.float32)
            self._best.setdefault(label, []).append(best)

    def result(self) -> dict[str, Any]:
        """Everything that :func:`evaluate` returns, for the images so far."""
        count = self.num_classes or max(self._scores, default=-1) + 1
        ap = np.full((len(self.thresholds), count), np.nan)
        abo = np.full(count, np.nan)
        num_truth, num_predictions = np.zeros(count, np.int64), np.zeros(count, np.int64)
        for label, pieces in self._scores.items():
            scores, best = np.concatenate(pieces), np.concatenate(self._best[label])
            hits = np.concatenate(self._hits[label])[self._descending(scores)]
            num_truth[label], num_predictions[label] = len(best), len(scores)
            if len(best):
                abo[label] = best.mean(dtype=np.float64)
                ap[:, label] = [area_under_envelope(hits[:, t], len(best)) for t in range(hits.shape[1])]
        result: dict[str, Any] = {}
        for row, key in zip(ap, self.thresholds):
            result[f"map_{key}"], result[f"ap_{key}"] = _mean(row), self._tensor(row)
        result |= {"abo": _mean(abo), "abo_class": self._tensor(abo)}
        result |= {"num_truth": self._tensor(num_truth), "num_predictions": self._tensor(num_predictions)}
        return result | {"num_images": self.num_images}

    def curves(self, points: int = 101) -> dict[int, np.ndarray]:
        """Precision over recall, by threshold key (50 for IoU 0.5).

        Returns:
            ``[C, points]`` float64 each: the best precision at a recall of at least ``k / (points - 1)``, 0 beyond the
            last one reached; NaN for a class without true objects.
        """
        count = self.num_classes or max(self._scores, default=-1) + 1
        grid = np.linspace(0, 1, points)
        result = {key: np.full((count, points), np.nan) for key in self.thresholds}
        for label, pieces in self._scores.items():
            num_truth = sum(len(best) for best in self._best[label])
            order = self._descending(np.concatenate(pieces))
            if not num_truth:
                continue
            hits = np.cumsum(np.concatenate(self._hits[label])[order], axis=0)
            precision = hits / np.arange(1, len(hits) + 1)[:, None]
            best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
            best = np.concatenate((best, np.zeros((1, best.shape[1]))))
            for column, key in enumerate(self.thresholds):
                recall = hits[:, column] / num_truth
                result[key][label] = best[np.searchsorted(recall, grid - 1e-12), column]
        return result

    def _match(self, overlap: np.ndarray) -> np.ndarray:
        """``[n, m]`` IoU of one class, rows by descending score -> ``[n, T]`` bool, true positives."""
        hits = np.zeros((overlap.shape[0], len(self.thresholds)), dtype=bool)
        if not overlap.size:
            return hits
        target, value = overlap.argmax(axis=1), overlap.max(axis=1)
        for column, threshold in enumerate(self.thresholds.values()):
            candidates = np.flatnonzero(value >= threshold)
            _, first = np.unique(target[candidates], return_index=True)
            hits[candidates[first], column] = True
        return hits

    def _descending(self, scores: np.ndarray) -> np.ndarray:
        return scores.argsort(kind=self._sort_kind)[::-1]

    def _check_label(self, label: int) -> None:
        if label < 0 or (self.num_classes is not None and label >= self.num_classes):
            bound = "" if self.num_classes is None else f" below num_classes = {self.num_classes}"
            raise ValueError(f"InstanceAP: labels must be classes from 0{bound}, got {label}")

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.copy()).to(self.device)


def area_under_envelope(hits: np.ndarray, num_truth: int) -> float:
    """AP of one class: ``hits [n]`` bool by descending score, ``num_truth`` > 0 true objects."""
    true_positives = np.cumsum(hits)
    precision = true_positives / np.arange(1, len(hits) + 1)
    recall = np.concatenate(([0.0], true_positives / num_truth, [1.0]))
    envelope = np.concatenate(([0.0], precision, [0.0]))
    envelope = np.maximum.accumulate(envelope[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1])
    return float(np.sum((recall[steps + 1] - recall[steps]) * envelope[steps + 1]))


def _mean(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN if there are none."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if kept.size else float("nan")


def _checked_thresholds(thresholds: Sequence[float]) -> dict[int, np.float32]:
    """``round(100 * threshold) -> threshold`` in float32, in the order given."""
    owner = "instance_voc: iou_thresholds"
    result: dict[int, np.float32] = {}
    for threshold in thresholds:
        if not 0 <= threshold <= 1:
            raise ValueError(f"{owner} must be in [0, 1], got {threshold}")
        key = round(100 * threshold)
        if key in result:
            raise ValueError(f"{owner} must differ by a hundredth, got two that are called {key}")
        result[key] = np.float32(threshold)
    if not result:
        raise ValueError(f"{owner} must not be empty")
    return result
