"""Weighted errors of dense predictions (BESTIE, CVPR 2022, section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wsis import _library
from wsis.ops._autograd import refuse_second_derivative
from wsis.ops._checks import FLOATS, check_device, check_int, check_tensor

__all__ = ["weighted_error"]

_library.load()

_OP = "weighted_error"
MAX_TARGETS = 2


def weighted_error(prediction: Tensor, targets: Sequence[Tensor], weights: Sequence[Tensor], power: int) -> Tensor:
    """Mean over one or two targets of ``sum(|prediction - target| ** power * weight) / count(weight > 0)``.

    Pixels of weight 0 are not looked at, neither their values nor, in the backward pass, their gradient, which is 0;
    a target without a weight above 0 has error 0. Nothing of the size of the prediction is stored but the gradient.

    Args:
        prediction: ``[B, K, H, W]`` float32 (float64 on the CPU).
        targets: one or two of the same shape and dtype.
        weights: ``[B, 1, H, W]`` for each, not negative.
        power: 1 or 2.

    Returns:
        A scalar in the dtype of ``prediction``, summed in float64 in a fixed order. Differentiable by the prediction
        (once, and by nothing else); at a difference of 0 the gradient of the absolute error is 0.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    check_tensor(_OP, "prediction", prediction, ("B", "K", "H", "W"), FLOATS)
    for name, value in (("targets", targets), ("weights", weights)):
        if not isinstance(value, Sequence):
            raise TypeError(f"{_OP}: {name} must be a list of tensors, got {type(value).__name__}")
    if not 1 <= len(targets) <= MAX_TARGETS or len(weights) != len(targets):
        raise ValueError(
            f"{_OP}: there must be 1 or {MAX_TARGETS} targets and as many weights, "
            f"got {len(targets)} and {len(weights)}"
        )
    batch, _, height, width = prediction.shape
    tensors = {"prediction": prediction}
    for i, (target, weight) in enumerate(zip(targets, weights)):
        check_tensor(_OP, f"targets[{i}]", target, tuple(prediction.shape), (prediction.dtype,))
        check_tensor(_OP, f"weights[{i}]", weight, (batch, 1, height, width), (prediction.dtype,))
        tensors |= {f"targets[{i}]": target, f"weights[{i}]": weight}
    check_device(_OP, **tensors)
    check_int(_OP, "power", power, 1, 2)
    pairs = [x.detach() for pair in zip(targets, weights) for x in pair]
    pairs += [None] * (2 * (MAX_TARGETS - len(targets)))
    sums, counts = torch.ops.wsis.weighted_error.default(prediction, *pairs, power)
    return ((sums / counts.clamp_min(1)).sum() / len(targets)).to(prediction.dtype)


@torch.library.register_fake("wsis::weighted_error")
def _(
    prediction: Tensor, target: Tensor, weight: Tensor, target_b: Tensor | None, weight_b: Tensor | None, power: int
) -> tuple[Tensor, Tensor]:
    return (
        prediction.new_empty(MAX_TARGETS, dtype=torch.float64),
        prediction.new_empty(MAX_TARGETS, dtype=torch.int64),
    )


@torch.library.register_fake("wsis::weighted_error_backward")
def _(
    factor: Tensor,
    prediction: Tensor,
    target: Tensor,
    weight: Tensor,
    target_b: Tensor | None,
    weight_b: Tensor | None,
    power: int,
) -> Tensor:
    return prediction.new_empty(prediction.shape)


def _backward(ctx, grad_sums: Tensor, grad_counts: None):
    gradient = torch.ops.wsis.weighted_error_backward.default(grad_sums, *ctx.saved_tensors, ctx.power)
    return gradient, None, None, None, None, None


def _setup_context(ctx, inputs, output) -> None:
    *tensors, ctx.power = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors)


torch.library.register_autograd("wsis::weighted_error", _backward, setup_context=_setup_context)
refuse_second_derivative(_OP)
