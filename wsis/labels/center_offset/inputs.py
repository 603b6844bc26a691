"""What the label functions are given: looked at once, and brought into one form."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from wsis.ops._checks import INTEGERS, check_device, check_finite, check_index, check_sizes, check_tensor
from wsis.structures import Points

__all__ = ["Fields", "PointRows", "Prediction", "class_labels", "fields_of", "point_rows"]

IGNORE = 255
_MAPS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


class Prediction(Protocol):
    """Raw maps of a centre and offset network."""

    semantic: Tensor
    """``[B, C + 1, H, W]`` logits, background first."""
    center: Tensor
    """``[B, C, H, W]`` centre heatmaps."""
    offset: Tensor
    """``[B, 2, H, W]`` ``(y, x)`` in pixels, from the pixel to its centre."""


class Fields(NamedTuple):
    """The maps of a :class:`Prediction` as float32, without gradient."""

    semantic: Tensor
    center: Tensor
    offset: Tensor


class PointRows(NamedTuple):
    """Points as columns of one length; ``usable`` is false where a point is to be passed over.

    Attributes:
        image, y, x, label: ``[N]`` int64, inside their bounds even where not usable.
        usable: ``[N]`` bool: inside its image, of a class that the image has.
    """

    image: Tensor
    y: Tensor
    x: Tensor
    label: Tensor
    usable: Tensor


def fields_of(owner: str, prediction: Prediction, validate: bool) -> Fields:
    """Raises: TypeError, ValueError: maps that do not fit each other; with ``validate`` an offset or centre value
    that is not finite."""
    for name in ("semantic", "center", "offset"):
        if not isinstance(getattr(prediction, name, None), Tensor):
            raise TypeError(
                f"{owner}: prediction must have tensors semantic, center and offset, got "
                f"{type(prediction).__name__} without {name}"
            )
    semantic, center, offset = prediction.semantic, prediction.center, prediction.offset
    check_tensor(owner, "prediction.semantic", semantic, ("B", "C + 1", "H", "W"), _MAPS)
    batch, channels, height, width = semantic.shape
    if not 1 <= channels <= IGNORE:
        raise ValueError(f"{owner}: prediction.semantic must have 1 to {IGNORE} channels, got {channels}")
    check_tensor(owner, "prediction.center", center, (batch, channels - 1, height, width), _MAPS)
    check_tensor(owner, "prediction.offset", offset, (batch, 2, height, width), _MAPS)
    check_device(owner, semantic=semantic, center=center, offset=offset)
    if validate:
        check_finite(owner, "prediction.offset", offset)
    return Fields(*(t.detach().to(torch.float32) for t in (semantic, center, offset)))


def present_classes(owner: str, image_labels: Tensor, batch: int, classes: int | None, like: Tensor) -> Tensor:
    """``[B, C]`` bool. Raises: TypeError, ValueError: another shape, dtype or device."""
    length = "C" if classes is None else classes
    check_tensor(owner, "image_labels", image_labels, (batch, length), (*INTEGERS, *_MAPS, torch.bool))
    check_device(owner, semantic=like, image_labels=image_labels)
    if image_labels.shape[1] >= IGNORE:
        raise ValueError(f"{owner}: image_labels must have at most {IGNORE - 1} classes, got {image_labels.shape[1]}")
    return image_labels != 0


def class_labels(
    owner: str, semantic: Tensor, image_labels: Tensor, sizes: Tensor | None, classes: int | None, validate: bool
) -> tuple[Tensor, Tensor]:
    """The semantic map with nothing but the classes of the image label.

    Args:
        semantic: ``[B, H, W]`` integers, 0 = background, class + 1, 255 = ignore.
        image_labels: ``[B, C]``, non-zero = present.
        sizes: ``[B, 2]`` (height, width) of padded images, or None.

    Returns:
        ``[B, H, W]`` int32 (0 = none, class + 1) and ``[B, C]`` bool, the classes present.
    """
    check_tensor(owner, "semantic", semantic, ("B", "H", "W"), INTEGERS)
    batch, height, width = semantic.shape
    present = present_classes(owner, image_labels, batch, classes, semantic)
    sizes = check_sizes(owner, sizes, batch, height, width)
    if validate:
        known = semantic if semantic.dtype == torch.int8 else semantic.masked_fill(semantic == IGNORE, 0)
        check_index(owner, "semantic", known, present.shape[1] + 1, f"or {IGNORE} = ignore")
    names = torch.arange(1, present.shape[1] + 1, dtype=torch.int32, device=semantic.device)
    table = torch.zeros((batch, 256), dtype=torch.int32, device=semantic.device)
    table[:, 1 : present.shape[1] + 1] = present * names
    place = semantic.to(torch.int64)
    if semantic.dtype != torch.uint8:
        place = place.clamp(0, 255)
    labels = table.gather(1, place.flatten(1)).view(batch, height, width)
    return crop(labels, sizes), present


def crop(labels: Tensor, sizes: Tensor | None) -> Tensor:
    """``labels [B, H, W]`` with 0 outside the true size of each image."""
    if sizes is None:
        return labels
    y = torch.arange(labels.shape[1], device=labels.device)
    x = torch.arange(labels.shape[2], device=labels.device)
    inside = (y < sizes[:, :1])[:, :, None] & (x < sizes[:, 1:])[:, None]
    return labels * inside


def point_rows(owner: str, points: Points, present: Tensor, size: tuple[int, int], validate: bool) -> PointRows:
    """The points of classes that their image has.

    Raises:
        TypeError, ValueError: no :class:`Points`; with ``validate`` a point outside its image, an unknown image
            or class. Without it, such points are passed over.
    """
    if not isinstance(points, Points):
        raise TypeError(f"{owner}: points must be Points, got {type(points).__name__}")
    columns = {name: getattr(points, name) for name in ("image_index", "y", "x", "label")}
    for name, column in columns.items():
        check_tensor(owner, f"points.{name}", column, (len(points),), INTEGERS)
    check_device(owner, semantic=present, **columns)
    bounds = {"image_index": present.shape[0], "y": size[0], "x": size[1], "label": present.shape[1]}
    what = {"image_index": "images", "y": "rows", "x": "columns", "label": "classes"}
    usable = torch.ones(len(points), dtype=torch.bool, device=present.device)
    kept = []
    for name, column in columns.items():
        column, bound = column.to(torch.int64), bounds[name]
        if validate:
            check_index(owner, f"points.{name}", column, bound, f"there are {bound} {what[name]}")
        usable &= (column >= 0) & (column < bound)
        kept.append(column.clamp(0, max(bound - 1, 0)))
    image, y, x, label = kept
    if present.numel() == 0:
        return PointRows(image, y, x, label, torch.zeros_like(usable))
    return PointRows(image, y, x, label, usable & present[image, label])
