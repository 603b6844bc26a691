"""IRNet's training loss (Ahn, Cho, Kwak, CVPR 2019, equation 9)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from wsis.models import IRNetOutput
from wsis.ops.inter_pixel_loss import InterPixelLoss, inter_pixel_loss

__all__ = ["IRNetLoss", "irnet_loss"]


class IRNetLoss(NamedTuple):
    """``total`` (scalar) and the four parts it is made from."""

    total: Tensor
    parts: InterPixelLoss


def irnet_loss(output: IRNetOutput, seeds: Tensor, radius: int = 10) -> IRNetLoss:
    """``(positive + negative) / 2 + (foreground + background) / 2``, in float32 under autocast too.

    Args:
        output: raw maps of the net, ``[B, h, w]`` and ``[B, 2, h, w]``.
        seeds: ``[B, h, w]`` uint8, 0 background, class + 1, 255 unsure.
        radius: pairs lie nearer than this (strictly).
    """
    parts = inter_pixel_loss(
        output.boundary_logits.float(), output.displacement.float(), seeds, radius=radius
    )
    affinity = (parts.affinity_positive + parts.affinity_negative) / 2
    displacement = (parts.displacement_foreground + parts.displacement_background) / 2
    return IRNetLoss(affinity + displacement, parts)
