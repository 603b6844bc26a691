"""Intersection and union of every mask of one set with every mask of another."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from wsis import _library
from wsis.ops._checks import INTEGERS, check_device, check_tensor

__all__ = ["MaskIou", "mask_iou"]

_library.load()

_OP = "mask_iou"
MASK_DTYPES = (torch.bool, torch.uint8)
MAX_PIXELS = 2**31 - 1


class MaskIou(NamedTuple):
    """Result of :func:`mask_iou`.

    Attributes:
        intersection: ``[N, M]`` int64, pixels inside both.
        union: ``[N, M]`` int64, pixels inside one of them at least.
        iou: ``[N, M]`` float32, the quotient, taken in float64; 0 where the union is empty.
    """

    intersection: Tensor
    union: Tensor
    iou: Tensor


def mask_iou(
    masks_a: Tensor, masks_b: Tensor, image_a: Tensor | None = None, image_b: Tensor | None = None
) -> MaskIou:
    """Compare stacked masks, which may overlap, pair by pair; counts are exact.

    Args:
        masks_a: ``[N, H, W]`` bool or uint8 (not 0 = inside); fewer than ``2**31`` pixels a mask.
        masks_b: ``[M, H, W]`` bool or uint8 on the same device.
        image_a: ``[N]`` integers, the image of each mask; None, together with ``image_b``: all are of one image.
        image_b: ``[M]`` integers. Masks of different images have no pixel in common.

    Returns:
        :class:`MaskIou`. Each mask is read once and packed to a bit per pixel; nothing is read back from the
        device.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    check_tensor(_OP, "masks_a", masks_a, ("N", "H", "W"), MASK_DTYPES)
    count, height, width = masks_a.shape
    check_tensor(_OP, "masks_b", masks_b, ("M", height, width), MASK_DTYPES)
    if height * width > MAX_PIXELS:
        raise ValueError(f"{_OP}: masks_a must have at most {MAX_PIXELS} pixels a mask, got {height * width}")
    if (image_a is None) != (image_b is None):
        missing, given = ("image_a", "image_b") if image_a is None else ("image_b", "image_a")
        raise ValueError(f"{_OP}: {missing} must be given where {given} is, got None")
    if image_a is not None and image_b is not None:
        check_tensor(_OP, "image_a", image_a, (count,), INTEGERS)
        check_tensor(_OP, "image_b", image_b, (masks_b.shape[0],), INTEGERS)
        image_a, image_b = image_a.to(torch.int64), image_b.to(torch.int64)
    check_device(_OP, masks_a=masks_a, masks_b=masks_b, image_a=image_a, image_b=image_b)
    common, area_a, area_b = torch.ops.wsis.mask_iou.default(masks_a, masks_b, image_a, image_b)
    union = area_a[:, None] + area_b - common
    return MaskIou(common, union, (common.double() / union.clamp_min(1)).float())


@torch.library.register_fake("wsis::mask_iou")
def _(
    masks_a: Tensor, masks_b: Tensor, image_a: Tensor | None, image_b: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    count, others = masks_a.shape[0], masks_b.shape[0]
    return tuple(masks_a.new_empty(shape, dtype=torch.int64) for shape in ((count, others), (count,), (others,)))
