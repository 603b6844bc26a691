"""Oracle of :func:`wsis.ops.inter_pixel_loss`, in plain differentiable torch, one offset at a time."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from wsis.reference.edge_to_affinity import neighbor_offsets, path

__all__ = ["InterPixelLoss", "inter_pixel_loss"]

_EPSILON = 1e-5
_IGNORE = 255


class InterPixelLoss(NamedTuple):
    """Four scalars."""

    affinity_positive: Tensor
    affinity_negative: Tensor
    displacement_foreground: Tensor
    displacement_background: Tensor


def _path_maximum(boundary: Tensor, dy: int, dx: int, rows: int, left: int, right: int) -> Tensor:
    cells = torch.stack([boundary[:, y : y + rows, left + x : right + x] for y, x in path(dy, dx)])
    return cells.gather(0, cells.detach().argmax(0, keepdim=True)).squeeze(0)


def inter_pixel_loss(
    boundary_logits: Tensor, displacement: Tensor, seeds: Tensor, *, radius: int = 10
) -> InterPixelLoss:
    """``[B, h, w]``, ``[B, 2, h, w]``, ``[B, h, w]`` -> four losses."""
    _, height, width = boundary_logits.shape
    rows, left, right = height - radius + 1, radius - 1, width - radius + 1
    zero = (boundary_logits.sum() + displacement.sum()) * 0
    sums = dict.fromkeys(
        ("background", "foreground", "different", "move_foreground", "move_background"), zero
    )
    counts = dict.fromkeys(("background", "foreground", "different"), 0)
    if rows > 0 and left < right:
        source = seeds[:, :rows, left:right].long()
        for dy, dx in neighbor_offsets(radius).tolist():
            target = seeds[:, dy : dy + rows, left + dx : right + dx].long()
            known = (source != _IGNORE) & (target != _IGNORE)
            kinds = {
                "background": known & (source == target) & (source == 0),
                "foreground": known & (source == target) & (source > 0),
                "different": known & (source != target),
            }
            # the path maximum of the logits is that of their sigmoid
            logit = _path_maximum(boundary_logits, dy, dx, rows, left, right)
            equal_loss = -torch.log(torch.sigmoid(-logit) + _EPSILON)
            different_loss = -torch.log(torch.sigmoid(logit) + _EPSILON)
            moved = (
                displacement[:, :, :rows, left:right]
                - displacement[:, :, dy : dy + rows, left + dx : right + dx]
            )
            residual = (moved - moved.new_tensor([dy, dx]).view(1, 2, 1, 1)).abs().sum(1)
            for kind, mask in kinds.items():
                loss = different_loss if kind == "different" else equal_loss
                sums[kind] = sums[kind] + loss[mask].sum()
                counts[kind] += int(mask.sum())
            sums["move_foreground"] = sums["move_foreground"] + residual[kinds["foreground"]].sum()
            sums["move_background"] = sums["move_background"] + moved.abs().sum(1)[kinds["background"]].sum()
    mean = {kind: sums[kind] / (counts[kind] + _EPSILON) for kind in counts}
    return InterPixelLoss(
        (mean["background"] + mean["foreground"]) / 2,
        mean["different"],
        sums["move_foreground"] / (2 * counts["foreground"] + _EPSILON),
        sums["move_background"] / (2 * counts["background"] + _EPSILON),
    )
