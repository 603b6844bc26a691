"""BESTIE's training losses (Kim et al., CVPR 2022, section 3.4). Sums and counts run over the whole batch."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from wsis import ops
from wsis.labels.center_offset.inputs import Prediction
from wsis.structures import CenterOffsetTarget

__all__ = ["WEIGHTS", "CenterOffsetLoss", "center_loss", "center_offset_loss", "offset_loss", "semantic_loss"]

IGNORE = 255
WEIGHTS = (1.0, 200.0, 0.01)


class CenterOffsetLoss(NamedTuple):
    """``total`` (scalar) and the three parts it is made from, without their factors."""

    total: Tensor
    semantic: Tensor
    center: Tensor
    offset: Tensor


def semantic_loss(logits: Tensor, target: Tensor, hardest: float = 0.2) -> Tensor:
    """Cross entropy, mean of the hardest pixels of the batch.

    Args:
        logits: ``[B, C + 1, H, W]``, background first.
        target: ``[B, H, W]`` integers, 0 = background, class + 1; an ignored pixel (255) has loss 0, but counts
            among all.
        hardest: share of all pixels that is averaged, at least one pixel.

    Raises:
        ValueError: shapes that do not fit, or a share outside ``(0, 1]``.
    """
    owner = "semantic_loss"
    if not 0 < hardest <= 1:
        raise ValueError(f"{owner}: hardest must be above 0 and at most 1, got {hardest}")
    if logits.dim() != 4 or tuple(target.shape) != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(
            f"{owner}: expected logits [B, C + 1, H, W] and target [B, H, W], got {list(logits.shape)} and "
            f"{list(target.shape)}"
        )
    loss = F.cross_entropy(logits.float(), target.long(), ignore_index=IGNORE, reduction="none").flatten()
    if loss.numel() == 0:
        return loss.sum()
    return loss.topk(max(1, int(hardest * loss.numel())), sorted=False).values.mean()


def center_loss(prediction: Tensor, *targets: CenterOffsetTarget) -> Tensor:
    """Weighted squared error of the centre heatmaps ``[B, C, H, W]``, summed over the channels; of several targets the
    mean of their losses."""
    return _weighted("center_loss", 2, prediction, [(target.center, target.weight) for target in targets])


def offset_loss(prediction: Tensor, *targets: CenterOffsetTarget) -> Tensor:
    """Weighted absolute error of the offsets ``[B, 2, H, W]``, summed over both components; of several targets the
    mean of their losses."""
    return _weighted("offset_loss", 1, prediction, [(target.offset, target.weight) for target in targets])


def center_offset_loss(
    prediction: Prediction,
    semantic: Tensor,
    pseudo: CenterOffsetTarget,
    refined: CenterOffsetTarget | None = None,
    *,
    supervision: str = "image",
    weights: tuple[float, float, float] = WEIGHTS,
    hardest: float = 0.2,
    guidance: bool = True,
) -> CenterOffsetLoss:
    """What the network minimises.

    Args:
        prediction: raw maps ``semantic``, ``center``, ``offset``.
        semantic: ``[B, H, W]`` integers, the given semantic map, 255 = ignore.
        pseudo: targets of ``pseudo_targets``.
        refined: targets of ``refine``; centre and offset losses are then the mean of those on both targets, under
            point supervision the offset loss alone.
        supervision: ``"image"`` or ``"point"``.
        weights: factors of the semantic, centre and offset loss.
        hardest: share of the pixels in the semantic loss, as in :func:`semantic_loss`.
        guidance: centre maps count inside the instances of a target (instance-aware guidance, section 3.3). Without
            it they are held to the pseudo labels at every pixel, as Panoptic-DeepLab's are to the truth: what the
            pseudo labels miss is background, and only refined labels say otherwise.

    Raises:
        ValueError: shapes that do not fit, or an unknown supervision.
    """
    if supervision not in ("image", "point"):
        raise ValueError(f'center_offset_loss: supervision must be "image" or "point", got {supervision!r}')
    seg = semantic_loss(prediction.semantic, semantic, hardest)
    both = (pseudo,) if refined is None else (pseudo, refined)
    offset = offset_loss(prediction.offset, *both)
    if not guidance:
        both = (replace(pseudo, weight=torch.ones_like(pseudo.weight)), *both[1:])
    center = center_loss(prediction.center, *(both if supervision == "image" else both[:1]))
    total = weights[0] * seg + weights[1] * center + weights[2] * offset
    return CenterOffsetLoss(total, seg, center, offset)


def _weighted(owner: str, power: int, prediction: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Mean of :func:`wsis.ops.weighted_error` over pairs of target ``[B, K, H, W]`` and weight ``[B, 1, H, W]``."""
    for target, _ in pairs:
        if prediction.shape != target.shape:
            expected = f"prediction must have the shape of its target {list(target.shape)}"
            raise ValueError(f"{owner}: {expected}, got {list(prediction.shape)}")
    prediction, total = prediction.float(), prediction.new_zeros((), dtype=torch.float32)
    for some in (pairs[i : i + 2] for i in range(0, len(pairs), 2)):
        targets, weights = zip(*((target.float(), weight.float()) for target, weight in some))
        total = total + ops.weighted_error(prediction, targets, weights, power) * (len(some) / len(pairs))
    return total
