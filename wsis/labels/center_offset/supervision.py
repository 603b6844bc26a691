"""Targets for the training of a centre and offset network: semantic knowledge transfer and self-refinement
(BESTIE, CVPR 2022, sections 3.2 and 3.3).

Both are ``encode`` of instances: pseudo labels of the regions that hold exactly one point, refined labels of what
``decode`` finds inside the given semantic map. Nothing here has a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wsis import ops
from wsis.labels.center_offset.config import Config
from wsis.labels.center_offset.decoding import Found, find_instances, region_centroids
from wsis.labels.center_offset.inputs import PointRows, Prediction, class_labels, fields_of, point_rows
from wsis.labels.center_offset.tables import NO_ID, Regions, find_regions, group, image_key, nowhere, splat
from wsis.ops._checks import check_finite
from wsis.structures import CenterOffsetTarget, InstanceMap, Points

__all__ = ["RefinedTarget", "encode", "pseudo_instances", "pseudo_targets", "refine", "refined_instances"]


@dataclass(frozen=True)
class RefinedTarget(CenterOffsetTarget):
    """Targets made from a prediction.

    Attributes:
        lost: ``[B]`` int64, centres for which ``Config.center_capacity`` or ``cluster_capacity`` had no room; an
            image with any is left out (weight 0).
    """

    lost: Tensor | None = None


def encode(instances: InstanceMap, num_classes: int, config: Config | None = None) -> CenterOffsetTarget:
    """Targets of instances: the inverse of ``decode``.

    Args:
        instances: id map and table; ``score`` becomes the weight, ``center_yx`` is truncated to whole pixels.
        num_classes: channels of the centre heatmap.
        config: ``sigma`` of the Gaussians.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    return ops.center_target(instances, num_classes, (config or Config()).sigma)


@torch.no_grad()
def pseudo_targets(
    semantic: Tensor,
    points: Points,
    image_labels: Tensor,
    *,
    supervision: str = "image",
    config: Config | None = None,
    sizes: Tensor | None = None,
    validate: bool = True,
) -> CenterOffsetTarget:
    """Targets from a semantic map and points: a region that holds exactly one point of its class is an instance.

    Args:
        semantic: ``[B, H, W]`` integers, 0 = background, class + 1, 255 = ignore.
        points: all of them are used, whatever their score; those of classes that the image label lacks are not.
        image_labels: ``[B, C]`` integers, bool or float, non-zero = present.
        supervision: ``"image"``: a Gaussian at the centroid of every instance; ``"point"``: at every point.
        config: ``min_area`` and ``sigma``.
        sizes: ``[B, 2]`` (height, width) of padded images.
        validate: look at the values (reads a few numbers back from a GPU); without, points outside the image
            are passed over and unknown semantic values are background.

    Returns:
        :class:`CenterOffsetTarget` with weight 1 inside instances, whose centre is the centroid, truncated.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    owner, config = "pseudo_targets", config or Config()
    if supervision not in ("image", "point"):
        raise ValueError(f'{owner}: supervision must be "image" or "point", got {supervision!r}')
    labels, present = class_labels(owner, semantic, image_labels, sizes, None, validate)
    rows = point_rows(owner, points, present, tuple(labels.shape[1:]), validate)
    if labels.numel() == 0:
        return _no_target(labels, present.shape[1])
    regions, label, valid = _held_once(labels, rows, config)
    centroid, _ = region_centroids(regions)
    weight = torch.ones_like(label)
    if supervision == "image":
        return _encode_rows(regions.ids, valid, label, weight, centroid, present.shape[1], config)
    target = _encode_rows(regions.ids, valid, torch.zeros_like(label), weight, centroid, 1, config)
    heat = _at_points(torch.zeros_like(regions.ids), rows, present.shape[1], config).center
    return CenterOffsetTarget(heat, target.offset, target.weight)


@torch.no_grad()
def pseudo_instances(
    semantic: Tensor, points: Points, image_labels: Tensor, *, config: Config | None = None, sizes: Tensor | None = None
) -> InstanceMap:
    """The instances of which :func:`pseudo_targets` makes targets, with score 1; arguments and errors as there."""
    owner, config = "pseudo_instances", config or Config()
    labels, present = class_labels(owner, semantic, image_labels, sizes, None, True)
    rows = point_rows(owner, points, present, tuple(labels.shape[1:]), True)
    regions, label, valid = _held_once(labels, rows, config)
    image, row = valid.nonzero(as_tuple=True)
    center = region_centroids(regions)[0][image, row].float()
    return InstanceMap(regions.ids, image, row + 1, label[image, row], torch.ones(len(row)).to(center), center)


def _held_once(labels: Tensor, rows: PointRows, config: Config) -> tuple[Regions, Tensor, Tensor]:
    """Regions; ``[B, R]`` the sum of the classes of the points in each, and whether it holds exactly one."""
    regions = find_regions(labels, config.min_area)
    batch, room = labels.shape[0], regions.room
    holder = regions.ids[rows.image, rows.y, rows.x].to(torch.int64)
    holder = torch.where(rows.usable & (labels[rows.image, rows.y, rows.x] == rows.label + 1), holder, 0)
    slot = rows.image * (room + 1) + holder
    count = slot.new_zeros(batch * (room + 1)).scatter_add_(0, slot, torch.ones_like(slot))
    label = torch.zeros_like(count).scatter_add_(0, slot, rows.label).view(batch, -1)[:, 1:]
    return regions, label, count.view(batch, -1)[:, 1:] == 1


@torch.no_grad()
def refine(
    prediction: Prediction,
    semantic: Tensor,
    image_labels: Tensor,
    points: Points | None = None,
    config: Config | None = None,
    *,
    sizes: Tensor | None = None,
    validate: bool = True,
) -> RefinedTarget:
    """Targets from the network's own prediction: ``encode(decode(prediction, foreground = semantic))``.

    Args:
        prediction: raw maps, ``semantic [B, C + 1, H, W]``, ``center [B, C, H, W]``, ``offset [B, 2, H, W]``.
        semantic: ``[B, H, W]`` integers, 0 = background, class + 1, 255 = ignore: where instances may be.
        image_labels: ``[B, C]`` integers, bool or float, non-zero = present.
        points: given: point supervision. Every pixel of a class goes to the point nearest to where its offset
            leads; weight 1; ``center`` is that of :func:`pseudo_targets`.
        config: thresholds.
        sizes: ``[B, 2]`` (height, width) of padded images.
        validate: look at the values (reads a few numbers back from a GPU). Without it nothing is read back.

    Returns:
        :class:`RefinedTarget`: offsets to each instance's first pixel of largest centre value, a Gaussian there,
        and the instance's score as weight.

    Raises:
        TypeError, ValueError: an argument is not as described, or values that decide are not finite.
    """
    owner, config = "refine", config or Config()
    fields = fields_of(owner, prediction, validate)
    classes = fields.center.shape[1]
    if tuple(semantic.shape) != (fields.center.shape[0], *fields.center.shape[2:]):
        raise ValueError(
            f"{owner}: semantic must be [B, H, W] = {[fields.center.shape[0], *fields.center.shape[2:]]} like "
            f"prediction.center, got {list(semantic.shape)}"
        )
    labels, present = class_labels(owner, semantic, image_labels, sizes, classes, validate)
    if points is not None:
        rows = point_rows(owner, points, present, tuple(labels.shape[1:]), validate)
    if labels.numel() == 0:
        return _refined(_no_target(labels, classes), labels)
    if points is not None:
        ids = to_points(fields.offset, labels, rows)
        return _refined(_at_points(ids, rows, classes, config), labels)
    regions = find_regions(labels, config.min_area)
    probability, heat = ops.class_scores(fields.semantic, fields.center, labels)
    if validate:
        check_finite(owner, "prediction.center", heat)
        check_finite(owner, "softmax of prediction.semantic", probability)
    found = find_instances(heat, probability, fields.offset, regions, config.refine_threshold, config, False)
    kept = _kept(found, regions, config)
    target = _encode_rows(found.ids, kept.valid, found.label, kept.score, kept.center_yx, classes, config)
    return RefinedTarget(target.center, target.offset, target.weight, found.lost)


@torch.no_grad()
def refined_instances(
    prediction: Prediction,
    semantic: Tensor,
    image_labels: Tensor,
    points: Points | None = None,
    config: Config | None = None,
) -> InstanceMap:
    """The instances of which :func:`refine` makes targets, with their weight as score; arguments and errors as
    there."""
    owner, config = "refined_instances", config or Config()
    fields = fields_of(owner, prediction, True)
    labels, present = class_labels(owner, semantic, image_labels, None, fields.center.shape[1], True)
    if points is not None:
        rows = point_rows(owner, points, present, tuple(labels.shape[1:]), True)
        ids = to_points(fields.offset, labels, rows)
        used = (ids[rows.image] == torch.arange(1, len(points) + 1, device=ids.device)[:, None, None]).flatten(1).any(1)
        row = (used & rows.usable).nonzero().squeeze(1)
        center = torch.stack((rows.y, rows.x), 1)[row].float()
        return InstanceMap(ids, rows.image[row], row + 1, rows.label[row], torch.ones(len(row)).to(center), center)
    regions = find_regions(labels, config.min_area)
    probability, heat = ops.class_scores(fields.semantic, fields.center, labels)
    found = find_instances(heat, probability, fields.offset, regions, config.refine_threshold, config, False)
    kept = _kept(found, regions, config)
    image, row = kept.valid.nonzero(as_tuple=True)
    score, center = kept.score[image, row].float(), kept.center_yx[image, row].float()
    return InstanceMap(found.ids, image, row + 1, found.label[image, row].long(), score, center)


def to_points(offset: Tensor, labels: Tensor, rows: PointRows) -> Tensor:
    """``[B, H, W]`` int32: 1 + the row of the pixel's point, the nearest of its class to where its offset leads."""
    key = image_key(rows.image, torch.where(rows.usable, rows.label + 1, NO_ID))
    name = torch.arange(1, key.numel() + 1, device=key.device)
    return group(offset, labels, torch.stack((rows.y, rows.x), 1), key, name)


class _Kept(NamedTuple):
    """What refinement takes of the table of found instances: ``[B, M]`` ``valid`` and ``score``, ``[B, M, 2]``
    ``center_yx``."""

    valid: Tensor
    score: Tensor
    center_yx: Tensor


def _kept(found: Found, regions: Regions, config: Config) -> _Kept:
    """Crowded regions and images with lost centres are left out."""
    exists = found.area > 0
    beyond = (exists & (found.rank >= config.max_centers)).to(torch.int32)
    crowd = beyond.new_zeros((beyond.shape[0], regions.room + 1)).scatter_add_(1, found.region, beyond)
    valid = exists & (crowd.gather(1, found.region) == 0) & (found.lost == 0)[:, None]
    width = regions.ids.shape[2]
    centroid, _ = region_centroids(regions)
    row = (found.region - 1).clamp_min(0)[..., None].expand(-1, -1, 2)
    peak_yx = torch.stack((found.peak // width, found.peak % width), -1)
    doubtful = found.center_score < config.refine_threshold
    center = torch.where(doubtful[..., None], centroid.gather(1, row), peak_yx)
    sure = (found.center_score * found.class_score).clamp(0, 1)
    return _Kept(valid, torch.where(doubtful, found.class_score, sure), center)


def _encode_rows(
    ids: Tensor, valid: Tensor, label: Tensor, score: Tensor, center_yx: Tensor, classes: int, config: Config
) -> CenterOffsetTarget:
    """Targets of a table ``[B, M]`` whose row ``m`` describes the pixels with id ``m + 1``."""
    batch, rows = valid.shape
    image = torch.arange(batch, device=ids.device)[:, None]
    name = torch.where(valid, torch.arange(1, rows + 1, device=ids.device), NO_ID)
    return splat(
        ids,
        image_key(image, name).flatten(),
        torch.where(valid, label, 0).clamp(0, max(classes - 1, 0)).flatten(),
        score.flatten(),
        nowhere(center_yx, valid).flatten(0, 1),
        classes,
        config.sigma,
    )


def _at_points(ids: Tensor, rows: PointRows, classes: int, config: Config) -> CenterOffsetTarget:
    """Targets of point rows, row ``n`` being that of the pixels with id ``n + 1``."""
    name = torch.where(rows.usable, torch.arange(1, rows.label.numel() + 1, device=ids.device), NO_ID)
    center_yx = nowhere(torch.stack((rows.y, rows.x), 1), rows.usable)
    score = torch.ones_like(rows.label)
    return splat(ids, image_key(rows.image, name), rows.label, score, center_yx, classes, config.sigma)


def _no_target(labels: Tensor, classes: int) -> CenterOffsetTarget:
    batch, height, width = labels.shape
    shape = ((batch, channels, height, width) for channels in (classes, 2, 1))
    return CenterOffsetTarget(*(torch.zeros(s, device=labels.device) for s in shape))


def _refined(target: CenterOffsetTarget, labels: Tensor) -> RefinedTarget:
    lost = torch.zeros(labels.shape[0], dtype=torch.int64, device=labels.device)
    return RefinedTarget(target.center, target.offset, target.weight, lost)
