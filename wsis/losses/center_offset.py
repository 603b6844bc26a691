"""BESTIE's training losses (Kim et al., CVPR 2022, section 3.4). Sums and counts run over the whole batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from wsis.labels.center_offset.inputs import Prediction
from wsis.structures import CenterOffsetTarget

__all__ = ["CenterOffsetLoss", "center_loss", "center_offset_loss", "offset_loss", "semantic_loss"]

IGNORE = 255
SEMANTIC_WEIGHT, CENTER_WEIGHT, OFFSET_WEIGHT = 1.0, 200.0, 0.01


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
    pairs = [x for target in targets for x in (target.center, target.weight)]
    return _weighted("center_loss", 2, prediction, pairs)


def offset_loss(prediction: Tensor, *targets: CenterOffsetTarget) -> Tensor:
    """Weighted absolute error of the offsets ``[B, 2, H, W]``, summed over both components; of several targets the
    mean of their losses."""
    pairs = [x for target in targets for x in (target.offset, target.weight)]
    return _weighted("offset_loss", 1, prediction, pairs)


def center_offset_loss(
    prediction: Prediction,
    semantic: Tensor,
    pseudo: CenterOffsetTarget,
    refined: CenterOffsetTarget | None = None,
    *,
    supervision: str = "image",
    weights: tuple[float, float, float] = (SEMANTIC_WEIGHT, CENTER_WEIGHT, OFFSET_WEIGHT),
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

    Raises:
        ValueError: shapes that do not fit, or an unknown supervision.
    """
    if supervision not in ("image", "point"):
        raise ValueError(f'center_offset_loss: supervision must be "image" or "point", got {supervision!r}')
    seg = semantic_loss(prediction.semantic, semantic)
    both = (pseudo,) if refined is None else (pseudo, refined)
    center = center_loss(prediction.center, *(both if supervision == "image" else both[:1]))
    offset = offset_loss(prediction.offset, *both)
    total = weights[0] * seg + weights[1] * center + weights[2] * offset
    return CenterOffsetLoss(total, seg, center, offset)


def _weighted(owner: str, power: int, prediction: Tensor, pairs: list[Tensor]) -> Tensor:
    """Mean over the targets of ``sum(|prediction - target| ** power * weight)`` over the number of pixels with a
    weight; 0 for a target that has none.

    Args:
        pairs: a target ``[B, K, H, W]`` and its weight ``[B, 1, H, W]``, and so on.
    """
    for target in pairs[::2]:
        if prediction.shape != target.shape:
            expected = f"prediction must have the shape of its target {list(target.shape)}"
            raise ValueError(f"{owner}: {expected}, got {list(prediction.shape)}")
    share = 2 / len(pairs)
    scaled = [w.float() * (share / (w > 0).sum().clamp_min(1)) for w in pairs[1::2]]
    return _WeightedError.apply(power, prediction.float(), *(x for pair in zip(pairs[::2], scaled) for x in pair))


class _WeightedError(torch.autograd.Function):
    """``sum(|prediction - target| ** power * weight)`` over one or several targets.

    Written out because memory is what it costs: the only map of the size of the prediction that is made is its
    gradient. On the CPU the images take turns with one scratch buffer.
    """

    @staticmethod
    def forward(ctx: Any, power: int, prediction: Tensor, *pairs: Tensor) -> Tensor:
        ctx.power = power
        ctx.save_for_backward(prediction, *pairs)
        total = prediction.new_zeros(())
        scratch = _scratch(prediction)
        for target, weight in zip(pairs[::2], pairs[1::2]):
            for part in _turns(prediction):
                error = torch.sub(prediction[part], target[part], out=scratch)
                error = error.square_() if power == 2 else error.abs_()
                total += (error.sum(1, keepdim=True) * weight[part]).sum()
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        prediction, *pairs = ctx.saved_tensors
        gradient, scratch = torch.empty_like(prediction), _scratch(prediction)
        for place, (target, weight) in enumerate(zip(pairs[::2], pairs[1::2])):
            factor = weight * (outer * ctx.power)
            for part in _turns(prediction):
                error = torch.sub(prediction[part], target[part], out=gradient[part] if place == 0 else scratch)
                slope = error if ctx.power == 2 else error.sign_()
                if place == 0:
                    slope.mul_(factor[part])
                else:
                    gradient[part].addcmul_(slope, factor[part])
        return (None, gradient, *(None for _ in pairs))


def _turns(x: Tensor) -> list[slice]:
    """Images that are worked on together: on the CPU one at a time."""
    return [slice(i, i + 1) for i in range(len(x))] if x.device.type == "cpu" else [slice(None)]


def _scratch(x: Tensor) -> Tensor:
    return torch.empty_like(x[_turns(x)[0]] if len(x) else x)
