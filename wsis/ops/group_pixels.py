"""Instances from offsets: every pixel votes for a centre of its own component (BESTIE, CVPR 2022, section 3.3)."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from wsis import _library
from wsis.ops._checks import FLOATS, INTEGERS, check_device, check_finite, check_index, check_tensor

__all__ = ["Centers", "group_pixels"]

_library.load()

_OP = "group_pixels"


class Centers(Protocol):
    """Any table with these columns, such as :class:`wsis.structures.Points` or :class:`wsis.ops.Peaks`."""

    image_index: Tensor
    y: Tensor
    x: Tensor


def group_pixels(offsets: Tensor, centers: Centers, foreground: Tensor) -> Tensor:
    """The pixel ``(y, x)`` goes to the centre nearest to ``(y, x) + offset(y, x)``, among those of its component.

    Args:
        offsets: ``[B, 2, H, W]`` float32 (float64 on the CPU), ``(y, x)`` in pixels, finite.
        centers: table with columns ``image_index, y, x``, ``[N]`` each, integers (``y`` and ``x`` also floats, which
            are truncated to find the pixel they lie on). A centre belongs to the component it lies on; one on
            background gets no pixel.
        foreground: ``[B, H, W]`` integers, the component of each pixel, 0 = none.

    Returns:
        ``[B, H, W]`` int32: 0, or 1 + the position of the pixel's centre among the rows of its image. Of equally
        near centres the first row wins. Pixels of a component without a centre get 0.

    Raises:
        TypeError, ValueError: an argument is not as described, or a centre lies outside its image.
    """
    check_tensor(_OP, "offsets", offsets, ("B", 2, "H", "W"), FLOATS)
    batch, _, height, width = offsets.shape
    check_tensor(_OP, "foreground", foreground, (batch, height, width), INTEGERS)
    image, y, x = centers.image_index, centers.y, centers.x
    check_tensor(_OP, "centers.image_index", image, ("N",), INTEGERS)
    for name, column in (("centers.y", y), ("centers.x", x)):
        check_tensor(_OP, name, column, (image.shape[0],), (*INTEGERS, *FLOATS))
    check_device(_OP, offsets=offsets, foreground=foreground, image_index=image, y=y, x=x)
    check_finite(_OP, "offsets", offsets)
    image, row, column = (t.to(torch.int64) for t in (image, y, x))
    check_index(_OP, "centers.image_index", image, batch, f"offsets hold {batch} images")
    check_index(_OP, "centers.y", row, height, f"images are {height} high")
    check_index(_OP, "centers.x", column, width, f"images are {width} wide")
    foreground = foreground.to(torch.int32)
    key = (image << 32) + foreground[image, row, column]
    order = torch.argsort(key, stable=True)
    center_yx = torch.stack((y, x), 1).to(offsets.dtype)
    return torch.ops.wsis.group_pixels.default(
        offsets, foreground, center_yx[order], key[order], _position_in_image(image)[order]
    )


def _position_in_image(image: Tensor) -> Tensor:
    """1, 2, 3, ... over the rows of each image, in their order."""
    order = torch.argsort(image, stable=True)
    sorted_image = image[order]
    position = torch.arange(1, image.numel() + 1, device=image.device)
    position = position - torch.searchsorted(sorted_image, sorted_image)
    return torch.empty_like(position).scatter_(0, order, position).to(torch.int32)


@torch.library.register_fake("wsis::group_pixels")
def _(offsets: Tensor, foreground: Tensor, center_yx: Tensor, component: Tensor, id: Tensor) -> Tensor:
    return foreground.new_empty(foreground.shape)
