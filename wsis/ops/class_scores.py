"""What a centre and offset network says of each pixel's own class (BESTIE, CVPR 2022, section 3.3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from wsis import _library
from wsis.ops._checks import FLOATS, INTEGERS, check_device, check_tensor

__all__ = ["ClassScores", "class_scores"]

_library.load()

_OP = "class_scores"


class ClassScores(NamedTuple):
    """Result of :func:`class_scores`, in the dtype of its arguments.

    Attributes:
        probability: ``[B, H, W]`` softmax over the channels, at the pixel's label.
        heat: ``[B, H, W]`` the centre heatmap of the pixel's class.
    """

    probability: Tensor
    heat: Tensor


def class_scores(semantic: Tensor, center: Tensor, labels: Tensor) -> ClassScores:
    """Softmax and centre heat of every pixel for the class it is labelled with, and nothing for the others.

    Args:
        semantic: ``[B, C + 1, H, W]`` float32 (float64 on the CPU) logits, background first. A pixel with a NaN
            among its logits, or whose own is infinite, has probability NaN.
        center: ``[B, C, H, W]`` heatmaps of the same dtype.
        labels: ``[B, H, W]`` integers, 0 = none, class + 1; values outside ``0..C`` count as 0.

    Returns:
        :class:`ClassScores`, both 0 where the label is 0. The softmax of all channels is never stored.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    check_tensor(_OP, "semantic", semantic, ("B", "C + 1", "H", "W"), FLOATS)
    batch, channels, height, width = semantic.shape
    if channels < 1:
        raise ValueError(
            f"{_OP}: semantic must have a background channel, [B, C + 1, H, W], got {list(semantic.shape)}"
        )
    check_tensor(_OP, "center", center, (batch, channels - 1, height, width), (semantic.dtype,))
    check_tensor(_OP, "labels", labels, (batch, height, width), INTEGERS)
    check_device(_OP, semantic=semantic, center=center, labels=labels)
    if labels.dtype == torch.int64:
        labels = labels.clamp(-1, channels)
    return ClassScores(*torch.ops.wsis.class_scores.default(semantic, center, labels.to(torch.int32)))


@torch.library.register_fake("wsis::class_scores")
def _(semantic: Tensor, center: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return semantic.new_empty(labels.shape), semantic.new_empty(labels.shape)
