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

__all__ = ["crf_refinement", "refine_channels"]

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
    first = (count.cumsum(0) - count).view(-1, 1, 1)
    refined = refine_channels(images, torch.where(winner > 0, winner - first, 0), count, gt_prob)
    return torch.where(refined > 0, refined + first, 0)


def refine_channels(
    images: Tensor, own: Tensor, count: Tensor, gt_prob: float, image_index: Tensor | None = None
) -> Tensor:
    """:func:`crf_refinement` where every map numbers channels of its own.

    Args:
        images: ``[B, 3, H, W]`` uint8 RGB photographs.
        own: ``[S, H, W]`` int64, 0 = background, else channel + 1.
        count: ``[S]`` int64, channels of each map.
        gt_prob: trust in the labels given, 0 to 1.
        image_index: ``[S]`` int64, the photograph of each map; None: one map a photograph. Maps of one photograph
            share its lattice.

    Returns:
        ``[S, H, W]`` int64, numbered as ``own``.
    """
    maps = own.shape[0]
    flat = own.flatten(1)
    present = own.new_zeros((maps, (int(count.max()) if maps else 0) + 1)).scatter_(1, flat, 1)
    present[:, 0] = 1
    rank = present.cumsum(1) - 1
    number = present.sum(1)
    todo = ((number > 1) & (number <= MAX_LABELS)).nonzero().squeeze(1)
    if todo.numel() == 0:
        return own
    labels = rank.gather(1, flat).view_as(own)[todo]
    if image_index is None:
        images = images[todo]
    index = None if image_index is None else image_index[todo].cpu()
    refined = ops.dense_crf(images, labels, number[todo].cpu(), gt_prob=gt_prob, image_index=index)
    numbers = torch.arange(present.shape[1], device=present.device).expand_as(present)
    channel = torch.zeros_like(present).scatter_(1, rank * present, numbers * present)
    result = own.clone()
    result[todo] = channel[todo].gather(1, _without_specks(refined).flatten(1)).view_as(refined)
    return result


def _without_specks(labels: Tensor) -> Tensor:
    """``[B, H, W]`` with the parts under :data:`SPECK` pixels eaten up from outside: in every round a pixel takes the
    label of the neighbour above, left, right or below, the first that is settled."""
    loose = ops.filter_ids(ops.connected_components((labels + 1).int(), 4).ids, SPECK).ids == 0
    padded = F.pad(torch.where(loose, -1, labels), (1, 1, 1, 1), value=-1)
    flat, width = padded.view(-1), padded.shape[2]
    left = F.pad(loose, (1, 1, 1, 1)).flatten().nonzero().squeeze(1)
    for _ in range(_ROUNDS):
        if not left.numel():
            break
        taken = torch.full_like(left, -1, dtype=labels.dtype)
        for step in (-width, -1, 1, width):
            taken = torch.where(taken < 0, flat[left + step], taken)
        settled = taken >= 0
        flat[left[settled]] = taken[settled]
        left = left[~settled]
    inside = padded[:, 1:-1, 1:-1]
    return torch.where(inside < 0, labels, inside)
