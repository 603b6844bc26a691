"""Local maxima of heatmaps: peak points (BESTIE, CVPR 2022, section 3.2) and centre points (section 3.3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from wsis import _library
from wsis.ops._checks import FLOATS, INTEGERS, check_device, check_int, check_tensor

__all__ = ["MAX_WINDOW", "Peaks", "peak_mask", "peaks"]

_library.load()

_OP = "peaks"
MAX_WINDOW = 101


class Peaks(NamedTuple):
    """One row per peak, by image, class, falling score, and raster order among equals.

    Attributes:
        image_index: ``[N]`` int64.
        label: ``[N]`` int64, the channel.
        y: ``[N]`` int64.
        x: ``[N]`` int64.
        score: ``[N]`` in the dtype of the heatmap.
    """

    image_index: Tensor
    label: Tensor
    y: Tensor
    x: Tensor
    score: Tensor


def peaks(
    heatmap: Tensor, window: int, threshold: float = 0.0, top_k: int | None = None, ids: Tensor | None = None
) -> Peaks:
    """Pixels above a threshold that no pixel of the window around them surpasses.

    Args:
        heatmap: ``[B, C, H, W]`` float32 (float64 on the CPU). A NaN is no peak and hides none.
        window: side of the square window, odd, 1..101; it is clipped to the image.
        threshold: peaks are strictly above it.
        top_k: keep at most so many of each image and class, the strongest; ``None`` keeps all.
        ids: ``[B, H, W]`` integers: a peak is compared with the pixels of its own id only, and pixels of id 0
            are no peaks.

    Returns:
        :class:`Peaks`. All pixels of a plateau are peaks. The number of rows is read back from the device once.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    if top_k is not None:
        check_int(_OP, "top_k", top_k, 1, 2**31 - 1)
    mask = peak_mask(heatmap, window, threshold, ids)
    image_index, label, y, x = mask.nonzero(as_tuple=True)
    score = heatmap[image_index, label, y, x]
    plane = image_index * heatmap.shape[1] + label
    order = torch.argsort(score, descending=True, stable=True)
    order = order[torch.argsort(plane[order], stable=True)]
    if top_k is not None and order.numel():
        sorted_plane = plane[order]
        position = torch.arange(order.numel(), device=order.device)
        first = torch.searchsorted(sorted_plane, sorted_plane)
        order = order[position - first < top_k]
    return Peaks(image_index[order], label[order], y[order], x[order], score[order])


def peak_mask(heatmap: Tensor, window: int, threshold: float = 0.0, ids: Tensor | None = None) -> Tensor:
    """As :func:`peaks` without its table: ``[B, C, H, W]`` bool, and no read-back from the device."""
    check_tensor(_OP, "heatmap", heatmap, ("B", "C", "H", "W"), FLOATS)
    check_int(_OP, "window", window, 1, MAX_WINDOW)
    if window % 2 == 0:
        raise ValueError(f"{_OP}: window must be odd, got {window}")
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)):
        raise TypeError(f"{_OP}: threshold must be a number, got {type(threshold).__name__} {threshold!r}")
    if threshold != threshold:
        raise ValueError(f"{_OP}: threshold must be a number, got NaN")
    if ids is not None:
        batch, _, height, width = heatmap.shape
        check_tensor(_OP, "ids", ids, (batch, height, width), INTEGERS)
        ids = ids.to(torch.int32)
    check_device(_OP, heatmap=heatmap, ids=ids)
    return torch.ops.wsis.peak_mask.default(heatmap, ids, window, float(threshold))


@torch.library.register_fake("wsis::peak_mask")
def _(heatmap: Tensor, ids: Tensor | None, window: int, threshold: float) -> Tensor:
    return heatmap.new_empty(heatmap.shape, dtype=torch.bool)
