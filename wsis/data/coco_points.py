"""Points from the key points of a COCO json, as CVAT, Roboflow and others export them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from wsis.data.categories import Categories
from wsis.data.point_annotations import RawPoints, class_number, get_or_none, path_ends
from wsis.errors import ConfigError, Problems

__all__ = ["coco_points"]

_LISTS = ("images", "annotations", "categories")


def coco_points(path: Path, value: Mapping[str, Any], categories: Categories) -> dict[str, RawPoints]:
    """One point of every annotation with key points: the first that is labelled (its third number is not 0).

    An image is known under its ``file_name`` and under every shorter end of it, without suffix, that no other image
    shares; one without such annotations is in the table without points. Annotations without key points are counted.

    Args:
        path: the file, for errors.
        value: its content.
        categories: the classes; those of the file are matched by name.

    Raises:
        ConfigError: unknown images and classes, key points that are no triples: all named with their place.
    """
    if not all(isinstance(value.get(name), list) for name in _LISTS):
        raise ConfigError(
            f"{path}: expected a list of tasks (Label Studio), or lists of images, annotations and categories (COCO)"
        )
    problems = Problems()
    images = _by_id(path, "images", value["images"], "file_name", problems)
    names = _by_id(path, "categories", value["categories"], "name", problems)
    rows: dict[Any, list[tuple[str, tuple[str, ...]]]] = {number: [] for number in images}
    passed = dict.fromkeys(images, 0)
    for number, item in enumerate(value["annotations"]):
        place = f"{path}: annotations[{number}]"
        image, category, points = (get_or_none(item, name) for name in ("image_id", "category_id", "keypoints"))
        if not _known(image, images):
            problems.add(f"{place}.image_id", f"{image!r} is no image of the file")
        elif points is None:
            passed[image] += 1
        elif not _known(category, names):
            problems.add(f"{place}.category_id", f"{category!r} is no category of the file")
        elif not _are_triples(points):
            problems.add(f"{place}.keypoints", f"expected triples x, y, visibility, got {str(points)[:60]}")
        else:
            with problems.collecting():
                label = _class(place, names[category]["name"], categories)
                seen = [points[k : k + 2] for k in range(0, len(points), 3) if points[k + 2]]
                rows[image] += [(f"annotations[{number}]", (*map(repr, xy), label, "1")) for xy in seen[:1]]
    problems.raise_if_any()
    table: dict[str, RawPoints | None] = {}
    for number, image in images.items():
        size = (get_or_none(image, "height"), get_or_none(image, "width"))
        size = size if all(isinstance(side, int) and side > 0 for side in size) else None
        for end in path_ends(PurePosixPath(image["file_name"])):
            table[end] = None if end in table else RawPoints(tuple(rows[number]), size, passed[number])
    return {name: points for name, points in table.items() if points is not None}


def _by_id(path: Path, name: str, items: list[Any], text: str, problems: Problems) -> dict[int, Mapping[str, Any]]:
    """The objects of a list by their number; what has none, or no ``text``, is a problem."""
    found: dict[int, Mapping[str, Any]] = {}
    for number, item in enumerate(items):
        key = get_or_none(item, "id")
        if not isinstance(key, int) or isinstance(key, bool) or not isinstance(get_or_none(item, text), str):
            problems.add(f"{path}: {name}[{number}]", f"needs a whole id and a {text}, got {str(item)[:60]}")
        elif key in found:
            problems.add(f"{path}: {name}[{number}].id", f"{key} stands there twice")
        else:
            found[key] = item
    return found


def _class(place: str, name: str, categories: Categories) -> str:
    try:
        return class_number(name, categories)
    except ConfigError as error:
        raise ConfigError(f"{place}.category_id: {error}") from error


def _known(key: Any, table: Mapping[int, Any]) -> bool:
    return isinstance(key, int) and not isinstance(key, bool) and key in table


def _are_triples(points: Any) -> bool:
    numbers = isinstance(points, list) and all(
        isinstance(one, (int, float)) and not isinstance(one, bool) for one in points
    )
    return numbers and len(points) % 3 == 0
