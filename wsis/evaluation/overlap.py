"""Intersection over union between the masks of one image, and the walk through paired iterables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsis import ops

__all__ = ["Table", "mask_iou", "paired"]

_MISSING = object()


def mask_iou(masks_a: Tensor, masks_b: Tensor) -> Tensor:
    """Intersection over union of every mask of one set with every mask of another.

    Counts are exact at any image size; the quotient is taken in float64 and rounded to float32. Two empty
    masks have the value 0.

    Args:
        masks_a: ``[N, H, W]`` bool.
        masks_b: ``[M, H, W]`` bool, on the same device.

    Returns:
        ``[N, M]`` float32.

    Raises:
        ValueError: if a set is not three-dimensional or the image sizes differ.
    """
    for name, masks in (("masks_a", masks_a), ("masks_b", masks_b)):
        if masks.dim() != 3:
            raise ValueError(f"mask_iou: {name} must be [N, H, W], got shape {list(masks.shape)}")
    if masks_a.shape[1:] != masks_b.shape[1:]:
        raise ValueError(
            f"mask_iou: masks_a and masks_b must have one image size, got {list(masks_a.shape[1:])} "
            f"and {list(masks_b.shape[1:])}"
        )
    return ops.mask_iou(masks_a != 0, masks_b != 0).iou


class Table:
    """The masks, labels and scores of one image, checked, whatever object they came from.

    Attributes:
        masks: ``[N, H, W]`` tensor, non-zero = inside.
        labels: ``[N]`` int64 array, classes from 0.
        scores: ``[N]`` float array, finite; ones if the object has none.
    """

    def __init__(self, source: Any, where: str):
        """Read ``source``; ``where`` names it in errors (``evaluate: predictions[3]``)."""
        for name in ("masks", "labels"):
            if not hasattr(source, name):
                raise TypeError(f"{where} must have masks and labels, got {type(source).__name__}")
        self.masks = torch.as_tensor(source.masks)
        if self.masks.dim() != 3:
            raise ValueError(f"{where}.masks must be [N, H, W], got shape {list(self.masks.shape)}")
        count = self.masks.shape[0]
        self.labels = label_array(source.labels, count, where)
        self.scores = score_array(getattr(source, "scores", None), count, where)


def label_array(labels: Any, count: int, where: str) -> np.ndarray:
    """``labels`` as ``[count]`` int64; ``ValueError``/``TypeError`` if they are not classes from 0."""
    array = torch.as_tensor(labels).cpu().numpy()
    if array.shape != (count,):
        raise ValueError(f"{where}.labels must be [N] with N = {count} masks, got shape {list(array.shape)}")
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{where}.labels must be integers, got {array.dtype}")
    if array.size and array.min() < 0:
        raise ValueError(f"{where}.labels must be classes from 0, got {int(array.min())}")
    return array.astype(np.int64)


def score_array(scores: Any, count: int, where: str) -> np.ndarray:
    """``scores`` as ``[count]`` float32 or float64, ones for ``None``; ``ValueError`` unless all finite."""
    if scores is None:
        return np.ones(count, dtype=np.float32)
    tensor = torch.as_tensor(scores).detach().cpu()
    array = (tensor if tensor.dtype == torch.float64 else tensor.float()).numpy()
    if array.shape != (count,):
        raise ValueError(f"{where}.scores must be [N] with N = {count} masks, got shape {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{where}.scores must be finite, got {array[~np.isfinite(array)][0]}")
    return array


def paired(owner: str, predictions: Iterable[Any], ground_truth: Iterable[Any]) -> Iterator[tuple[int, Any, Any]]:
    """Walk both iterables in step: ``(index, prediction, truth)``; ``ValueError`` if one ends first."""
    for index, pair in enumerate(zip_longest(predictions, ground_truth, fillvalue=_MISSING)):
        for name, item in zip(("predictions", "ground_truth"), pair):
            if item is _MISSING:
                raise ValueError(
                    f"{owner}: predictions and ground_truth must have one item per image each, "
                    f"but {name} ended after {index}"
                )
        yield index, *pair
