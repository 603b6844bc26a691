"""From centre and offset maps to instances, within given regions (BESTIE, CVPR 2022, section 3.3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from wsis import ops
from wsis.labels.center_offset.config import Config
from wsis.labels.center_offset.tables import NO_ID, Regions, Selected, first_true, group, image_key, room_for
from wsis.ops.instance_stats import instance_stats_dense

__all__ = ["Found", "find_instances", "region_centroids"]


class Found(NamedTuple):
    """Instances of a batch, ``M`` rows an image; row ``m`` describes the pixels with id ``m + 1``.

    Attributes:
        ids: ``[B, H, W]`` int32.
        area: ``[B, M]`` int64, 0 in rows that hold nothing.
        label: ``[B, M]`` int64 classes.
        region: ``[B, M]`` int64, the region of each row, 0 in rows that hold nothing.
        rank: ``[B, M]`` int64, place of the row's centre among those of its region, from 0.
        center_score: ``[B, M]`` float32, largest value of the centre map in the instance.
        class_score: ``[B, M]`` float32, mean probability of the class in the instance.
        peak: ``[B, M]`` int64, first pixel in raster order that has ``center_score``.
        lost: ``[B]`` int64, centres for which the tables had no room.
    """

    ids: Tensor
    area: Tensor
    label: Tensor
    region: Tensor
    rank: Tensor
    center_score: Tensor
    class_score: Tensor
    peak: Tensor
    lost: Tensor


def find_instances(
    heat: Tensor,
    probability: Tensor,
    offset: Tensor,
    regions: Regions,
    threshold: float,
    config: Config,
    whole_components: bool,
) -> Found:
    """The instances of every region.

    Args:
        heat: ``[B, H, W]`` float32, centre map of each pixel's own class.
        probability: ``[B, H, W]`` float32, softmax of each pixel's own class.
        offset: ``[B, 2, H, W]`` float32 ``(y, x)``, from the pixel to its centre.
        regions: what may hold instances.
        threshold: centres lie above it.
        config: all other constants.
        whole_components: a region without a centre is an instance.
    """
    peaks = first_true(
        ops.peak_mask(heat[:, None], config.window, threshold, regions.ids)[:, 0].flatten(1), config.center_capacity
    )
    added = _cluster_centers(heat, offset, regions, peaks.index, config)
    index = torch.cat((peaks.index, added.index), 1)
    region = _region_at(regions, index)
    ids = _vote(offset, regions, index, region)
    rank = _rank(region)
    region = region.masked_fill(index < 0, 0)
    if whole_components:
        centers = index.shape[1]
        ids = torch.where((ids == 0) & (regions.ids > 0), regions.ids + centers, ids)
        every = torch.arange(1, regions.room + 1, device=ids.device).expand(ids.shape[0], -1)
        region = torch.cat((region, every), 1)
        rank = torch.cat((rank, torch.zeros_like(every)), 1)
    of_center = instance_stats_dense(ids, _raise(heat, added.index), capacity=region.shape[1])
    of_class = instance_stats_dense(ids, probability, capacity=region.shape[1])
    peak = of_center.peak.clamp_min(0)
    return Found(
        ids=ids,
        area=of_center.area,
        label=regions.labels.flatten(1).gather(1, peak).to(torch.int64) - 1,
        region=region,
        rank=rank,
        center_score=of_center.score_max,
        class_score=(of_class.score_sum / of_class.area.clamp_min(1)).to(torch.float32),
        peak=peak,
        lost=peaks.lost + added.lost,
    )


def region_centroids(regions: Regions) -> tuple[Tensor, Tensor]:
    """``[B, room, 2]`` int64 centroids of the regions, truncated, and ``[B, room]`` int64 areas."""
    stats = instance_stats_dense(regions.ids, capacity=regions.room)
    return stats.moment // stats.area.clamp_min(1)[..., None], stats.area


def _region_at(regions: Regions, index: Tensor) -> Tensor:
    """``[B, R]`` int64 region of pixels, :data:`NO_ID` for -1."""
    region = regions.ids.flatten(1).gather(1, index.clamp_min(0)).to(torch.int64)
    return torch.where(index >= 0, region, NO_ID)


def _cluster_centers(heat: Tensor, offset: Tensor, regions: Regions, peaks: Tensor, config: Config) -> Selected:
    """Centres that the offsets show and the centre map does not: small clusters of weak offsets.

    ``peaks`` is ``[B, R]``; of the result's rows those that are too near to a peak of their region are empty.
    """
    _, height, width = heat.shape
    low, high = config.cluster_areas
    weak = (offset[:, 0].square() + offset[:, 1].square()).sqrt() < config.weak_offset
    clusters = ops.connected_components(torch.where(weak, regions.ids, 0), 4).ids
    ids, counts = ops.filter_ids(clusters, low, max(high, 0))
    stats = instance_stats_dense(ids, heat, capacity=room_for(counts, height * width // low))
    middle = stats.moment // stats.area.clamp_min(1)[..., None]
    pixel = middle[..., 0] * width + middle[..., 1]
    own = _region_at(regions, stats.peak)
    strong = heat.flatten(1).gather(1, pixel) > config.cluster_threshold
    chosen = first_true((stats.area > 0) & strong & (_region_at(regions, pixel) == own), config.cluster_capacity)
    row = chosen.index.clamp_min(0)
    pixel, own = pixel.gather(1, row), own.gather(1, row)
    away_y = (pixel // width)[:, :, None] - (peaks // width)[:, None]
    away_x = (pixel % width)[:, :, None] - (peaks % width)[:, None]
    near = (away_y.square() + away_x.square()) <= config.cluster_distance**2
    taken = (near & (own[:, :, None] == _region_at(regions, peaks)[:, None])).any(2)
    return Selected(torch.where(taken | (chosen.index < 0), -1, pixel), chosen.lost)


def _vote(offset: Tensor, regions: Regions, index: Tensor, region: Tensor) -> Tensor:
    """``[B, H, W]`` int32: 1 + the column of ``index`` that is the pixel's centre."""
    batch, columns = index.shape
    width = regions.ids.shape[2]
    image = torch.arange(batch, device=index.device)[:, None]
    name = torch.arange(1, columns + 1, device=index.device).expand(batch, columns)
    center_yx = torch.stack((index // width, index % width), -1)
    key = image_key(image, region)
    return group(offset, regions.ids, center_yx.flatten(0, 1), key.flatten(), name.flatten())


def _rank(region: Tensor) -> Tensor:
    """``[B, R]``: how many earlier columns have the same value."""
    order = torch.argsort(region, dim=1, stable=True)
    ordered = region.gather(1, order)
    place = torch.arange(region.shape[1], device=region.device) - torch.searchsorted(ordered, ordered)
    return torch.empty_like(place).scatter_(1, order, place)


def _raise(heat: Tensor, added: Tensor) -> Tensor:
    """``heat`` with 1 at the pixels ``added [B, R]``; empty rows repeat another one, or change nothing."""
    flat = heat.flatten(1)
    anchor = added.amax(1, keepdim=True)
    pixel = torch.where(added >= 0, added, anchor.clamp_min(0))
    value = torch.where(anchor >= 0, torch.ones_like(flat[:, :1]), flat[:, :1])
    return flat.scatter(1, pixel, value.expand_as(pixel)).view_as(heat)
