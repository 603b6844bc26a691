"""The losses of IRNet training, made from pairs of pixels (IRNet, CVPR 2019, sections 4.1 and 4.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from wsis import _library
from wsis.ops._autograd import refuse_second_derivative
from wsis.ops._checks import (
    FLOATS,
    INTEGERS,
    check_device,
    check_finite,
    check_index,
    check_int,
    check_tensor,
)
from wsis.ops.edge_to_affinity import MAX_RADIUS

__all__ = ["InterPixelLoss", "inter_pixel_loss"]

_library.load()

_OP = "inter_pixel_loss"


class InterPixelLoss(NamedTuple):
    """Four scalars, each the mean over its pairs of the whole batch; 0 where there is no such pair.

    IRNet trains on ``(affinity_positive + affinity_negative) / 2 + (displacement_foreground +
    displacement_background) / 2``.
    """

    affinity_positive: Tensor
    affinity_negative: Tensor
    displacement_foreground: Tensor
    displacement_background: Tensor


def inter_pixel_loss(
    boundary_logits: Tensor, displacement: Tensor, seeds: Tensor, *, radius: int = 10
) -> InterPixelLoss:
    """What the boundary and the displacement of every pair of near pixels should be, given their seeds.

    Pairs are those of :func:`wsis.ops.neighbor_offsets`, from every source pixel whose whole half disc lies
    inside the grid (rows ``0..h-radius``, columns ``radius-1..w-radius``), with both seeds known. With ``a``
    one minus the largest boundary probability on the path of the pair (equation 2), and ``d`` the difference
    of its displacements (source minus target):

    - affinity, positive: mean of ``-log(a + 1e-5)`` over pairs of equal seeds; the average of the mean over
      background pairs and the mean over foreground pairs (equation 5);
    - affinity, negative: mean of ``-log(1 + 1e-5 - a)`` over pairs of different seeds;
    - displacement, foreground: ``|d - (dy, dx)|`` over foreground pairs of equal seeds (equation 7);
    - displacement, background: ``|d|`` over background pairs (equation 8), both summed over the two
      components and divided by ``2 count + 1e-5``. Every mean is ``sum / (count + 1e-5)``.

    Nothing is stored per pair, in either direction: 12 bytes per pixel are kept for the backward pass. Losses
    and gradients have the same bits for any number of threads.

    Args:
        boundary_logits: ``[B, h, w]`` float32 (float64 on the CPU), finite; the boundary is its sigmoid.
        displacement: ``[B, 2, h, w]`` ``(y, x)`` in cells, of the same dtype, finite.
        seeds: ``[B, h, w]`` of any integer type, 0 background, ``1..254`` classes, 255 unknown.
        radius: 1..16, pairs at a distance below it.

    Returns:
        :class:`InterPixelLoss` in the dtype of ``boundary_logits``. Differentiable by ``boundary_logits`` and
        ``displacement``: the affinity's gradient goes to one maximal cell of a path, of equal logits to that
        with the largest ``|y| + |x|`` from the source, then the smallest ``y``, then ``x``; at a residual of
        exactly 0 the displacement's gradient is 0.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    check_tensor(_OP, "boundary_logits", boundary_logits, ("B", "h", "w"), FLOATS)
    batch, height, width = boundary_logits.shape
    check_tensor(_OP, "displacement", displacement, (batch, 2, height, width), (boundary_logits.dtype,))
    check_tensor(_OP, "seeds", seeds, (batch, height, width), INTEGERS)
    check_int(_OP, "radius", radius, 1, MAX_RADIUS)
    check_device(_OP, boundary_logits=boundary_logits, displacement=displacement, seeds=seeds)
    if seeds.dtype != torch.uint8:
        check_index(_OP, "seeds", seeds, 256, "255 = unknown")
        seeds = seeds.to(torch.uint8)
    check_finite(_OP, "boundary_logits", boundary_logits)
    check_finite(_OP, "displacement", displacement)
    losses, _, _ = torch.ops.wsis.inter_pixel_loss.default(boundary_logits, displacement, seeds, radius)
    return InterPixelLoss(*losses.unbind())


@torch.library.register_fake("wsis::inter_pixel_loss")
def _(
    boundary_logits: Tensor, displacement: Tensor, seeds: Tensor, radius: int
) -> tuple[Tensor, Tensor, Tensor]:
    batch, height, width = boundary_logits.shape
    return (
        boundary_logits.new_empty(4),
        boundary_logits.new_empty(3, dtype=torch.int64),
        boundary_logits.new_empty(batch, 3, height, width, dtype=torch.int32),
    )


@torch.library.register_fake("wsis::inter_pixel_loss_backward")
def _(
    grad_losses: Tensor, boundary_logits: Tensor, seeds: Tensor, counts: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    batch, height, width = boundary_logits.shape
    return boundary_logits.new_empty(batch, height, width), boundary_logits.new_empty(batch, 2, height, width)


def _backward(ctx, grad_losses: Tensor, grad_counts: None, grad_state: None):
    boundary_logits, seeds, counts, state = ctx.saved_tensors
    grads = torch.ops.wsis.inter_pixel_loss_backward.default(
        grad_losses, boundary_logits, seeds, counts, state
    )
    return *grads, None, None


def _setup_context(ctx, inputs, output) -> None:
    boundary_logits, _, seeds, _ = inputs
    _, counts, state = output
    ctx.mark_non_differentiable(counts, state)
    ctx.save_for_backward(boundary_logits, seeds, counts, state)


torch.library.register_autograd("wsis::inter_pixel_loss", _backward, setup_context=_setup_context)
refuse_second_derivative("inter_pixel_loss")
