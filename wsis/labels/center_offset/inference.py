"""Instances from the maps of a centre and offset network (BESTIE, CVPR 2022, section 3.3)."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from wsis import ops
from wsis.labels.center_offset.config import Config
from wsis.labels.center_offset.decoding import find_instances
from wsis.labels.center_offset.inputs import Fields, Prediction, crop, fields_of, point_rows, present_classes
from wsis.labels.center_offset.supervision import to_points
from wsis.labels.center_offset.tables import find_regions
from wsis.ops._checks import check_finite, check_sizes
from wsis.ops.instance_stats import instance_stats_dense
from wsis.structures import InstanceMap, Instances, Points

__all__ = ["decode", "decode_map", "mirror_average", "predicted_labels"]


def decode(
    prediction: Prediction,
    image_labels: Tensor | None = None,
    config: Config | None = None,
    *,
    points: Points | None = None,
    sizes: Tensor | None = None,
) -> list[Instances]:
    """As :func:`decode_map`, as stacked masks: one :class:`Instances` per image, cropped to ``sizes``."""
    found = decode_map(prediction, image_labels, config, points=points, sizes=sizes)
    return found.to_instances(None if sizes is None else [tuple(map(int, size)) for size in sizes.tolist()])


@torch.no_grad()
def decode_map(
    prediction: Prediction,
    image_labels: Tensor | None = None,
    config: Config | None = None,
    *,
    points: Points | None = None,
    sizes: Tensor | None = None,
) -> InstanceMap:
    """The instances that a prediction shows.

    Args:
        prediction: raw maps, ``semantic [B, C + 1, H, W]`` logits, ``center [B, C, H, W]``,
            ``offset [B, 2, H, W]`` in pixels.
        image_labels: ``[B, C]``, non-zero = present: other classes are struck out before each pixel takes its
            strongest class. None: all classes may occur.
        config: thresholds.
        points: centres of the instances, instead of those that the maps show; every pixel of a class that has
            points belongs to one of them.
        sizes: ``[B, 2]`` (height, width) of padded images.

    Returns:
        Rows by image, class, component (raster order of the first pixel) and centre; with points by image,
        class and the points' order. The score is class score times centre score, with points the class score.

    Raises:
        TypeError, ValueError: an argument is not as described, or values that decide are not finite.

    Warns:
        RuntimeWarning: more centres than ``config.center_capacity`` or ``cluster_capacity``; the later ones were
            not used.
    """
    owner, config = "decode", config or Config()
    fields = fields_of(owner, prediction, True)
    labels = predicted_labels(owner, fields, image_labels, sizes)
    if labels.numel() == 0:
        return _map(labels, *(labels.new_zeros((labels.shape[0], 0)) for _ in range(6)))
    probability, heat = ops.class_scores(fields.semantic, fields.center, labels)
    check_finite(owner, "prediction.center", heat)
    if points is not None:
        return _of_points(owner, fields, labels, probability, points)
    found = find_instances(
        heat,
        probability,
        fields.offset,
        find_regions(labels, config.min_area),
        config.threshold,
        config,
        config.whole_components,
    )
    if bool((found.lost > 0).any()):
        warnings.warn(
            f"{owner}: {int(found.lost.sum())} centres had no room in the tables (center_capacity = "
            f"{config.center_capacity}, cluster_capacity = {config.cluster_capacity}) and were not used",
            RuntimeWarning,
            stacklevel=2,
        )
    certain = torch.where(found.center_score >= 1, found.class_score, found.center_score)
    return _map(found.ids, found.area, found.label, found.region, found.rank, certain * found.class_score, found.peak)


def predicted_labels(owner: str, fields: Fields, image_labels: Tensor | None, sizes: Tensor | None) -> Tensor:
    """The strongest class of every pixel, ``[B, H, W]`` int32, 0 = background, class + 1; of equal ones the first.

    Raises:
        ValueError: a NaN or an infinity among the logits.
    """
    semantic = fields.semantic
    batch, channels, height, width = semantic.shape
    if image_labels is not None:
        present = present_classes(owner, image_labels, batch, channels - 1, semantic)
        struck = torch.nn.functional.pad(~present, (1, 0))[:, :, None, None]
        semantic = semantic.masked_fill(struck, -torch.inf)
    best, label = semantic.max(1)
    check_finite(owner, "prediction.semantic", best)
    return crop(label.to(torch.int32), check_sizes(owner, sizes, batch, height, width))


def mirror_average(prediction: Prediction, of_mirror: Prediction) -> Fields:
    """Class probabilities and centre maps averaged with those of the mirrored image; offsets are not.

    ``of_mirror`` is what the network says of the images flipped left to right, not flipped back.
    """
    one, other = fields_of("mirror_average", prediction, False), fields_of("mirror_average", of_mirror, False)
    if one.semantic.shape != other.semantic.shape:
        raise ValueError(
            f"mirror_average: of_mirror.semantic must have the shape of prediction.semantic "
            f"{list(one.semantic.shape)}, got {list(other.semantic.shape)}"
        )
    semantic = torch.logaddexp(one.semantic.log_softmax(1), other.semantic.flip(-1).log_softmax(1))
    return Fields(semantic, (one.center + other.center.flip(-1)) / 2, one.offset)


def _of_points(owner: str, fields: Fields, labels: Tensor, probability: Tensor, points: Points) -> InstanceMap:
    batch, height, width = labels.shape
    every = torch.ones((batch, fields.center.shape[1]), dtype=torch.bool, device=labels.device)
    rows = point_rows(owner, points, every, (height, width), True)
    ids = to_points(fields.offset, labels, rows)
    stats = instance_stats_dense(ids, probability, capacity=len(points))
    score = (stats.score_sum / stats.area.clamp_min(1)).to(torch.float32)
    label = rows.label.expand(batch, -1)
    peak = (rows.y * width + rows.x).expand(batch, -1)
    rank = torch.arange(len(points), device=labels.device).expand(batch, -1)
    return _map(ids, stats.area, label, torch.zeros_like(rank), rank, score, peak)


def _map(
    ids: Tensor, area: Tensor, label: Tensor, region: Tensor, rank: Tensor, score: Tensor, peak: Tensor
) -> InstanceMap:
    """The rows of ``[B, M]`` tables that have pixels; row ``m`` describes the pixels with id ``m + 1``."""
    image, row = (area > 0).nonzero(as_tuple=True)
    for key in (rank, region, label):
        order = torch.argsort(key[image, row], stable=True)
        image, row = image[order], row[order]
    order = torch.argsort(image, stable=True)
    image, row = image[order], row[order]
    width = max(ids.shape[2], 1)
    peak = peak[image, row]
    center = torch.stack((peak // width, peak % width), 1).to(torch.float32)
    label, score = label[image, row].to(torch.int64), score[image, row].to(torch.float32)
    return InstanceMap(ids, image, row + 1, label, score, center)
