"""COCO mask AP through pycocotools, or through faster-coco-eval, which gives the same numbers sooner.

Neither library checks what it is given (a wrong run length overruns its memory), so every mask passes
:mod:`wsis.data.rle` first. Masks are kept as run lengths only; predictions and
ground truth may be generators.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch

from wsis.data import rle
from wsis.evaluation.overlap import Table, label_array, paired, score_array

__all__ = ["PROTOCOL", "CocoAP", "evaluate"]

PROTOCOL = "coco-mask-ap/101-point-1"
"""Name and version of the protocol, for result files."""

Backend = Literal["auto", "pycocotools", "faster-coco-eval"]

_AREAS = {"": 0, "_small": 1, "_medium": 2, "_large": 3}


def evaluate(
    predictions: Iterable[Any],
    ground_truth: Iterable[Any],
    *,
    num_classes: int | None = None,
    backend: Backend = "auto",
) -> dict[str, Any]:
    """COCO mask AP and AR of predicted masks: IoU 0.50 to 0.95, at most 100 an image and class.

    Args:
        predictions: one object per image with ``masks [N, H, W]``, ``labels [N]`` (classes from 0) and
            ``scores [N]``, for example :class:`wsis.structures.Instances`.
        ground_truth: the same for the true objects, in the same order; a ``crowd [N]`` attribute (bool) marks
            regions that predictions may cover without harm.
        num_classes: length of the per-class results; by default the largest label seen + 1.
        backend: ``auto`` takes faster-coco-eval where it is installed.

    Returns:
        ``map`` (mean over IoU 0.50:0.95), ``map_50``, ``map_75``, ``map_small`` (area < 32^2),
        ``map_medium``, ``map_large`` (>= 96^2), ``mar_1``, ``mar_10``, ``mar_100``, ``mar_small``,
        ``mar_medium``, ``mar_large`` (floats, NaN where nothing counts); ``ap``, ``ap_50``, ``ap_75``
        (``[C]`` float64, NaN for classes without ground truth); ``num_images``; ``backend``.

    Raises:
        ValueError, TypeError: as :func:`wsis.evaluation.instance_voc.evaluate`.
        ModuleNotFoundError: if the backend asked for is not installed.
    """
    metric = CocoAP(num_classes=num_classes, backend=backend)
    for index, prediction, truth in paired("instance_coco.evaluate", predictions, ground_truth):
        found = Table(prediction, f"instance_coco.evaluate: predictions[{index}]")
        true = Table(truth, f"instance_coco.evaluate: ground_truth[{index}]")
        if found.masks.shape[1:] != true.masks.shape[1:] and len(found.labels) and len(true.labels):
            raise ValueError(
                f"instance_coco.evaluate: masks of image {index} must have one size, got predictions "
                f"{list(found.masks.shape[1:])} and ground_truth {list(true.masks.shape[1:])}"
            )
        metric.add(
            encode_masks(found.masks),
            found.labels,
            found.scores,
            encode_masks(true.masks),
            true.labels,
            getattr(truth, "crowd", None),
        )
    return metric.result()


def encode_masks(masks: torch.Tensor) -> list[dict[str, Any]]:
    """``[N, H, W]`` masks -> compressed run lengths, one mapping each."""
    return rle.encode_masks((masks != 0).cpu().numpy())


def checked_rles(
    rles: Sequence[Any], size: tuple[int, int] | None, where: str
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Run-length masks of one size that are safe to hand to a C library, and their areas ``[N]``.

    Raises:
        ValueError: a malformed mask or one of another size; ``where`` and its position are named.
    """
    try:
        areas = rle.area(list(rles))
        safe = [_compressed(mask) for mask in rles]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from error
    for position, mask in enumerate(safe):
        if size is not None and mask["size"] != list(size):
            raise ValueError(f"{where}: rles[{position}] must have size {list(size)}, got {mask['size']}")
    return safe, areas


def _compressed(mask: Any) -> dict[str, Any]:
    counts = mask["counts"]
    if isinstance(counts, str):
        counts = counts.encode("ascii")
    elif not isinstance(counts, (bytes, bytearray)):
        counts = rle.encode_counts(counts)
    return {"size": [int(side) for side in mask["size"]], "counts": bytes(counts)}


class CocoAP:
    """The same, one image at a time, from run lengths."""

    def __init__(self, *, num_classes: int | None = None, backend: Backend = "auto"):
        if num_classes is not None and num_classes < 1:
            raise ValueError(f"CocoAP: num_classes must be at least 1, got {num_classes}")
        self.num_classes = num_classes
        self.backend = _checked_backend(backend)
        self._images: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []
        self._true: list[dict[str, Any]] = []

    def add(
        self,
        rles: Sequence[Any],
        labels: Any,
        scores: Any,
        true_rles: Sequence[Any],
        true_labels: Any,
        crowd: Any = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Add one image.

        Args:
            rles: run-length masks of the predictions (see :mod:`wsis.data.rle`).
            labels, scores: ``[N]``, of the predictions.
            true_rles, true_labels: of the true objects.
            crowd: ``[M]`` bool, or nothing.
            size: ``(height, width)`` of the image, if the masks are to be held to it.
        """
        image = len(self._images)
        where = f"CocoAP.add: image {image}"
        labels = label_array(labels, len(rles), f"{where}: prediction")
        scores = score_array(scores, len(rles), f"{where}: prediction")
        true_labels = label_array(true_labels, len(true_rles), f"{where}: ground truth")
        crowds = np.zeros(len(true_rles), bool) if crowd is None else np.asarray(crowd).astype(bool)
        if crowds.shape != true_labels.shape:
            raise ValueError(f"{where}: crowd must be [M] with M = {len(true_rles)}, got {list(crowds.shape)}")
        self._check_labels(np.concatenate((labels, true_labels)), where)
        found, true = [], []
        for kind, source, target in (("prediction", rles, found), ("ground truth", true_rles, true)):
            safe, areas = checked_rles(source, size, f"{where}: {kind}")
            for mask, area in zip(safe, areas.tolist()):
                size = size or tuple(mask["size"])
                target.append({"image_id": image + 1, "segmentation": mask, "area": area, "iscrowd": 0})
        for row, label, score in zip(found, labels, scores):
            row |= {"category_id": int(label) + 1, "score": float(score)}
        for row, label, is_crowd in zip(true, true_labels, crowds):
            row |= {"category_id": int(label) + 1, "iscrowd": int(is_crowd), "ignore": int(is_crowd)}
        height, width = size or (1, 1)
        self._images.append({"id": image + 1, "height": height, "width": width})
        self._found += found
        self._true += true

    def result(self) -> dict[str, Any]:
        """Everything that :func:`evaluate` returns, for the images so far."""
        rows = self._found + self._true
        count = self.num_classes or max((row["category_id"] for row in rows), default=0)
        precision, recall = self._run(count) if self._true else (None, None)
        result: dict[str, Any] = {}
        for name, area in _AREAS.items():
            result[f"map{name}"] = _mean(None if precision is None else precision[..., area, 2])
        for name, at in (("_50", 0), ("_75", 5)):
            result[f"map{name}"] = _mean(None if precision is None else precision[at, ..., 0, 2])
        for column, limit in enumerate((1, 10, 100)):
            result[f"mar_{limit}"] = _mean(None if recall is None else recall[..., 0, column])
        for name, area in list(_AREAS.items())[1:]:
            result[f"mar{name}"] = _mean(None if recall is None else recall[..., area, 2])
        for name, at in (("ap", slice(None)), ("ap_50", slice(0, 1)), ("ap_75", slice(5, 6))):
            values = np.full(count, np.nan)
            if precision is not None:
                values[:] = [_mean(precision[at, :, k, 0, 2]) for k in range(count)]
            result[name] = torch.from_numpy(values)
        return result | {"num_images": len(self._images), "backend": self.backend}

    def _run(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Precision ``[10, 101, C, 4, 3]`` and recall ``[10, C, 4, 3]``; -1 where nothing counts."""
        if self.backend == "faster-coco-eval":
            from faster_coco_eval import COCO
            from faster_coco_eval import COCOeval_faster as Evaluation
        else:
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval as Evaluation
        categories = [{"id": k + 1, "name": str(k)} for k in range(count)]
        tables = []
        with contextlib.redirect_stdout(io.StringIO()):
            for rows in (self._true, self._found):
                table = COCO()
                table.dataset = {
                    "images": self._images,
                    "categories": categories,
                    "annotations": [row | {"id": index + 1} for index, row in enumerate(rows)],
                }
                table.createIndex()
                tables.append(table)
            evaluation = Evaluation(*tables, iouType="segm")
            evaluation.evaluate()
            evaluation.accumulate()
        precision, recall = (np.asarray(evaluation.eval[name]) for name in ("precision", "recall"))
        return precision.reshape(10, 101, count, 4, 3), recall.reshape(10, count, 4, 3)

    def _check_labels(self, labels: np.ndarray, where: str) -> None:
        if self.num_classes is not None and labels.size and labels.max() >= self.num_classes:
            raise ValueError(f"{where}: labels must be below num_classes = {self.num_classes}, got {labels.max()}")


def _mean(values: np.ndarray | None) -> float:
    """Mean of the values above -1, which mark what does not count; NaN if there are none."""
    if values is None:
        return float("nan")
    kept = values[values > -1]
    return float(kept.mean()) if kept.size else float("nan")


def _checked_backend(backend: str) -> str:
    if backend not in ("auto", "pycocotools", "faster-coco-eval"):
        raise ValueError(f"instance_coco: backend must be 'auto', 'pycocotools' or 'faster-coco-eval', got {backend!r}")
    installed = find_spec("faster_coco_eval") is not None
    if backend == "faster-coco-eval" and not installed:
        raise ModuleNotFoundError(
            "instance_coco: backend 'faster-coco-eval' is not installed: pip install faster-coco-eval"
        )
    if backend == "auto":
        return "faster-coco-eval" if installed else "pycocotools"
    return backend
