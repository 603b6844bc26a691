"""Figures of one setting of a sweep from rows that a file can keep: one per image, without masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from wsis.evaluation.compare import Comparison, Found, Ready, Truth

__all__ = ["SettingTally", "measured"]

_NO_MAP = np.zeros((0, 0), dtype=np.uint8)


def measured(found: Found, truth: Truth, num_classes: int, name: str) -> dict[str, Any]:
    """What one image counts under one setting, as JSON can hold it: ``labels`` and ``scores`` of the instances, their
    ``iou`` with each true object, and the cells of the confusion matrix that are not 0, ``[number, pixels]``.

    Raises:
        DataFault: as :meth:`wsis.evaluation.compare.Comparison.prepare`.
    """
    ready = Comparison(num_classes, coco="none").prepare(found, truth, name)
    cells = ready.confusion.flatten()
    used = cells.nonzero().squeeze(1)
    return {
        "labels": found.labels.tolist(),
        "scores": found.scores.tolist(),
        "iou": np.asarray(ready.iou).tolist(),
        "confusion": torch.stack([used, cells[used]], 1).tolist(),
    }


class SettingTally:
    """Adds up the images of one setting.

    Args:
        num_classes: ``C``.
    """

    def __init__(self, num_classes: int) -> None:
        self.table = Comparison(num_classes, coco="none")
        self._matches: list[tuple[np.ndarray, np.ndarray, int]] = []

    def add(self, row: Mapping[str, Any], true_labels: Sequence[int]) -> None:
        """Count one image: what :func:`measured` gave, and the classes of its true objects."""
        true = np.asarray(true_labels, dtype=np.int64)
        labels, scores = np.asarray(row["labels"], np.int64), np.asarray(row["scores"], np.float32)
        iou = np.asarray(row["iou"], np.float64).reshape(len(labels), len(true))
        confusion = torch.zeros_like(self.table.semantic.counts)
        cells = torch.tensor(row["confusion"], dtype=torch.int64).reshape(-1, 2)
        confusion.view(-1)[cells[:, 0]] = cells[:, 1]
        found = Found((0, 0), (), labels, scores, _NO_MAP)
        self.table.count(Ready(found, iou, confusion, False), Truth((), true, _NO_MAP))
        self._matches.append((*_hits(iou, labels, scores, true), len(true)))

    def figures(self, names: Sequence[str]) -> dict[str, float]:
        """Some of the figures of VOC's protocol, and ``miou``."""
        result = self.table.result()
        return {**{name: float(result["voc"][name]) for name in names}, "miou": float(result["semantic"]["miou"])}

    def filtered(self, score: float) -> dict[str, float]:
        """Precision and recall over all classes at IoU 0.5 of the instances from ``score`` on."""
        kept = sum(int((scores >= np.float32(score)).sum()) for scores, _, _ in self._matches)
        good = sum(int(hit[scores >= np.float32(score)].sum()) for scores, hit, _ in self._matches)
        total = sum(count for _, _, count in self._matches)
        precision, recall = good / max(1, kept), good / max(1, total)
        f1 = 2 * precision * recall / max(precision + recall, 1e-12)
        return {"min_score": score, "instances": kept, "precision": precision, "recall": recall, "f1": f1}


def _hits(iou: np.ndarray, labels: np.ndarray, scores: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the instances, and whether each is the first to cover a true object of its class by half."""
    order = np.argsort(-scores, kind="stable")
    hit, taken = np.zeros(len(order), dtype=bool), np.zeros(len(true), dtype=bool)
    for place, k in enumerate(order):
        own = np.where((true == labels[k]) & ~taken, iou[k], 0.0) if len(taken) else np.zeros(0)
        if len(own) and own.max() >= 0.5:
            hit[place] = taken[own.argmax()] = True
    return scores[order], hit
