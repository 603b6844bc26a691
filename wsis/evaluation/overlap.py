"""Intersection over union between the masks of one image, and the walk through paired iterables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Table", "mask_iou", "paired"]

CHUNK_CELLS = 1 << 22
"""Mask cells that are turned into float32 at a time: 16 MB, below the 2**24 up to which float32 counts."""

_MISSING = object()
_BITS = np.array([bin(value).count("1") for value in range(256)], dtype=np.uint8)


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
    count = _count_packed if masks_a.device.type == masks_b.device.type == "cpu" else _count_products
    common, area_a, area_b = count(masks_a.flatten(1) != 0, masks_b.flatten(1) != 0)
    union = area_a[:, None] + area_b[None, :] - common
    return torch.where(union > 0, common / union.clamp(min=1), torch.zeros_like(common)).float()


def _count_packed(flat_a: Tensor, flat_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Common cells and areas of ``[N, P]`` and ``[M, P]`` bool on the CPU, float64: 64 cells in one word."""
    packed_a, packed_b = (_packed(flat.numpy()) for flat in (flat_a, flat_b))
    common = np.zeros((len(packed_a), len(packed_b)), dtype=np.float64)
    for column, words in enumerate(packed_b):
        common[:, column] = _ones(packed_a & words)
    return tuple(map(torch.from_numpy, (common, _ones(packed_a), _ones(packed_b))))


def _count_products(flat_a: Tensor, flat_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same on an accelerator, by matrix products of pieces in which float32 counts exactly."""
    rows, columns = flat_a.shape[0], flat_b.shape[0]
    common = torch.zeros((rows, columns), dtype=torch.float64, device=flat_a.device)
    if rows and columns:
        step = max(1, CHUNK_CELLS // (rows + columns))
        for start in range(0, flat_a.shape[1], step):
            part_a, part_b = (flat[:, start : start + step].float() for flat in (flat_a, flat_b))
            common += part_a @ part_b.T
    return common, flat_a.sum(1).double(), flat_b.sum(1).double()


def _packed(flat: np.ndarray) -> np.ndarray:
    """``[N, P]`` bool -> ``[N, ceil(P / 64)]`` uint64."""
    octets = np.packbits(flat, axis=1)
    return np.pad(octets, ((0, 0), (0, -octets.shape[1] % 8))).view(np.uint64)


def _ones(words: np.ndarray) -> np.ndarray:
    """Set bits of each row of ``[N, W]`` uint64, float64."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(words).sum(axis=1, dtype=np.float64)
    return _BITS[words.view(np.uint8)].sum(axis=1, dtype=np.float64)


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
