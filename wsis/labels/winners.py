"""Which map wins a pixel, and the connected components of the winners."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wsis import ops
from wsis.structures import InstanceMap

__all__ = ["STRIDE", "component_table", "contenders", "strongest", "tops"]

STRIDE = 4
_CHUNK_BYTES = 256 << 20


def component_table(
    winner: Tensor, value: Tensor, of_class: Tensor, min_area: float, score: str = "max"
) -> tuple[InstanceMap, Tensor, Tensor]:
    """Every 4-connected component of winning channels as an instance.

    Args:
        winner: ``[B, H, W]`` integers, 0 = background, else channel + 1.
        value: ``[B, H, W]`` float32, the winner's value.
        of_class: ``[N]`` int64, class of each channel.
        min_area: a component under this share of the image gets score 0.
        score: whether a component's score is the max or the mean of its values.

    Returns:
        Rows in the order of the channels, then raster order; ``[M]`` areas; ``[M, 4]`` half-open boxes.
    """
    size = winner.shape[1:]
    ids, _ = ops.connected_components(winner.to(torch.int32), 4)
    table = ops.instance_stats(ids, value)
    image, where = table.image_index.long(), table.peak_yx.long()
    piece = winner[image, where[:, 0], where[:, 1]] - 1
    order = torch.argsort(piece, stable=True)
    image, piece = image[order], piece[order]
    area = table.area[order]
    values = (table.score_max if score == "max" else table.score_mean)[order].float()
    values = torch.where(area < size[0] * size[1] * min_area, torch.zeros_like(values), values)
    center = table.centroid_yx[order].float()
    rows = InstanceMap(ids, image, table.id[order].long(), of_class[piece], values, center)
    return rows, area, table.box_xyxy[order]


def strongest(
    walked: Tensor, of_image: Tensor, batch: int, size: tuple[int, int], background: float
) -> tuple[Tensor, Tensor]:
    """The strongest channel of every pixel at image size.

    Returns:
        winner: ``[B, H, W]`` int64, 0 = background, else row of ``walked`` + 1 (of equal ones the first).
        value: ``[B, H, W]`` float32, the winner's value divided by the image's largest.

    """
    winner, value = tops(walked, of_image, batch, size, contenders(walked, of_image, batch, background))
    return winner.masked_fill_(~(value > background), 0), value


def tops(
    walked: Tensor, of_image: Tensor, batch: int, size: tuple[int, int], rows: Tensor
) -> tuple[Tensor, Tensor]:
    """The strongest of some channels in every pixel at image size, whatever the background.

    Args:
        rows: ``[R]`` int64 ascending, the channels that take part.

    Returns:
        ``[B, H, W]`` int64, row of ``walked`` + 1 (of equal ones the first; 0 where no channel of the image takes
        part), and ``[B, H, W]`` float32, its value divided by the image's largest.

    Every channel is enlarged as an image of its own: torch takes another code path, with other roundings, for
    three channels than for four.
    """
    height, width = size
    winner = torch.zeros((batch, height, width), dtype=torch.int64, device=walked.device)
    value = walked.new_zeros((batch, height, width))
    if rows.numel() == 0 or height * width == 0:
        return winner, value
    count = torch.bincount(of_image[rows], minlength=batch)
    most = int(count.max())
    first = count.cumsum(0) - count
    rank = torch.arange(rows.numel(), device=rows.device) - first[of_image[rows]]
    slot = torch.full((batch, most), -1, dtype=torch.int64, device=rows.device)
    slot[of_image[rows], rank] = rows
    step = max(1, _CHUNK_BYTES // (4 * most * height * width))
    for start in range(0, batch, step):
        part = slot[start : start + step]
        dense = torch.where((part >= 0)[..., None, None], walked[part.clamp_min(0)], walked.new_zeros(()))
        large = F.interpolate(dense.flatten(0, 1)[:, None], scale_factor=STRIDE, mode="bilinear", align_corners=False)
        best, index = large[:, 0, :height, :width].reshape(-1, most, height, width).max(1)
        peak = best.flatten(1).max(1).values.view(-1, 1, 1)
        value[start : start + step] = torch.where(peak > 0, best / peak, torch.zeros_like(best))
        winner[start : start + step] = part.gather(1, index.flatten(1)).view_as(index) + 1
    return winner, value


def contenders(walked: Tensor, of_image: Tensor, batch: int, background: float) -> Tensor:
    """Rows of ``walked`` that can win a pixel; the others cannot, whatever the interpolation does.

    Interpolation never exceeds a channel's largest cell, and an image's largest pixel is at least ``0.625 **
    2`` of its largest cell (the nearest pixel of a cell in the last, cropped row or column lies 3/8 cells
    away).
    """
    top = walked.flatten(1).amax(1) if walked.numel() else walked.new_zeros(walked.shape[0])
    best = top.new_zeros(batch).scatter_reduce_(0, of_image, top, "amax")
    return ((top > 0) & (top >= background * 0.39 * best[of_image])).nonzero().squeeze(1)
