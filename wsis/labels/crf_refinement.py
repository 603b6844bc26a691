"""Label maps drawn to the edges of the photograph by a dense CRF.

Not a step of the IRNet paper, whose labels end at the random walk on a grid of stride 4; an option for nets whose
boundaries are soft (see ``docs/results.md`` for what it gains).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wsis import ops
from wsis.ops.dense_crf import MAX_LABELS

__all__ = ["crf_refinement"]

SPECK = 64
_ROUNDS = 32


def crf_refinement(images: Tensor, winner: Tensor, of_image: Tensor, gt_prob: float) -> Tensor:
    """Refine maps of winning channels by :func:`wsis.ops.dense_crf` with the constants of the seed maps.

    Args:
        images: ``[B, 3, H, W]`` uint8 RGB.
        winner: ``[B, H, W]`` int64, 0 = background, else row of a table of channels + 1.
        of_image: ``[N]`` int64 ascending, the image of each channel; an image's pixels name its own channels.
        gt_prob: trust in the maps, strictly between 0 and 1.

    Returns:
        ``[B, H, W]`` int64, as ``winner``. Specks (4-connected parts of fewer than 64 pixels, of the background too)
        are given to what surrounds them. An image on which only one label, or more than 254 channels, won pixels
        stays as it is.
    """
    batch = winner.shape[0]
    count = torch.bincount(of_image, minlength=batch)
    first = (count.cumsum(0) - count).view(-1, 1)
    own = torch.where(winner.flatten(1) > 0, winner.flatten(1) - first, 0)
    present = own.new_zeros((batch, (int(count.max()) if batch else 0) + 1)).scatter_(1, own, 1)
    present[:, 0] = 1
    rank = present.cumsum(1) - 1
    number = present.sum(1)
    todo = ((number > 1) & (number <= MAX_LABELS)).nonzero().squeeze(1)
    if todo.numel() == 0:
        return winner
    labels = rank.gather(1, own).view_as(winner)[todo]
    refined = _without_specks(ops.dense_crf(images[todo], labels, number[todo].cpu(), gt_prob=gt_prob))
    numbers = torch.arange(present.shape[1], device=present.device).expand_as(present)
    channel = torch.zeros_like(present).scatter_(1, rank * present, numbers * present)
    back = channel[todo].gather(1, refined.flatten(1))
    result = winner.clone()
    result[todo] = torch.where(back > 0, back + first[todo], 0).view_as(refined)
    return result


def _without_specks(labels: Tensor) -> Tensor:
    """``[B, H, W]`` with the parts under :data:`SPECK` pixels eaten up from outside: in every round a pixel takes the
    label of the neighbour above, left, right or below, the first that is settled."""
    parts = ops.connected_components((labels + 1).int(), 4).ids
    loose = ops.filter_ids(parts, SPECK).ids == 0
    for _ in range(_ROUNDS):
        if not bool(loose.any()):
            break
        padded = F.pad(torch.where(loose, -1, labels), (1, 1, 1, 1), value=-1)
        taken = torch.full_like(labels, -1)
        for near in (padded[:, :-2, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:], padded[:, 2:, 1:-1]):
            taken = torch.where(taken < 0, near, taken)
        settled = loose & (taken >= 0)
        labels, loose = torch.where(settled, taken, labels), loose & ~settled
    return labels
