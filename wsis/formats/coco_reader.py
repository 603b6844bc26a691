"""Reading COCO json from outside: annotation files and lists of results, every row checked before use."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsis.data import rle
from wsis.data.categories import Categories
from wsis.data.coco import without_suffix
from wsis.errors import Code, ConfigError, DataFault, Problems, system_fault
from wsis.formats.common import coco_number

__all__ = ["CocoRows", "read_coco"]

MAX_BYTES = 2 << 30


@dataclass
class CocoRows:
    """The rows of one image: labels from 0, scores, and segmentations as they stand in the file."""

    name: str
    labels: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    segmentations: list[Any] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)

    def mask(self, position: int, size: tuple[int, int]) -> Mapping[str, Any]:
        """One mask in compressed form; ``DataFault`` if it is malformed or polygons lie far outside."""
        segmentation = self.segmentations[position]
        try:
            if isinstance(segmentation, Mapping):
                rle.area([segmentation])
                return segmentation
            return rle.from_polygons(segmentation, size)
        except (ValueError, TypeError) as error:
            text = f"mask {position} of the image: {error}"
            raise DataFault(Code.E_RANGE, self.name, "prediction", text) from error


def read_coco(
    path: Path, categories: Categories, image_ids: Collection[str], numbers: Mapping[int, str] | None = None
) -> dict[str, CocoRows]:
    """Rows by image id of the data.

    Images are known by their file name without suffix (with or without folders), or, in a list of results, by
    ``image_id`` as a text or a number; categories by name, or by number where the file has no table.

    Args:
        path: the file.
        categories: the classes of the data.
        image_ids: the images of the data.
        numbers: what the numbers in a list of results mean; ``None``: the numbers that the ids are, where all ids are
            different ones (see :func:`wsis.formats.common.coco_number`).

    Raises:
        ConfigError: not JSON, NaN, wrong types, dangling or unknown ids; every problem with its place, as in
            ``annotations[12].image_id``.
        SystemFault: the machine failed.
    """
    content = _load(path)
    problems = Problems()
    names = _Names(image_ids, numbers)
    if isinstance(content, Mapping):
        rows, prefix = content.get("annotations"), "annotations"
        images = _image_table(content.get("images"), names, problems, path)
        labels = _label_table(content.get("categories"), categories, problems, path)
    else:
        rows, prefix, images = content, "", None
        labels = {number: k for k, number in enumerate(categories.ids)}
    if not isinstance(rows, list):
        raise ConfigError(f"{path}: expected a list of results, or images, categories and annotations")
    table = {name: CocoRows(name) for name in (images or {}).values() if name is not None}
    for index, row in enumerate(rows):
        _add(row, f"{path}: {prefix}[{index}]", images, names, labels, table, problems)
        if len(problems) > 100:
            break
    problems.raise_if_any()
    return table


class _Names:
    """Image ids of the data by everything that a file may call them."""

    def __init__(self, image_ids: Collection[str], numbers: Mapping[int, str] | None):
        self.exact = {name: name for name in image_ids}
        self.short: dict[str, str | None] = {}
        for name in image_ids:
            stem = name.rsplit("/", 1)[-1]
            self.short[stem] = None if stem in self.short else name
        if numbers is None:
            numbers = {coco_number(name): name for name in image_ids}
            numbers = {} if None in numbers or len(numbers) < len(image_ids) else numbers
        self.numbers = numbers

    def find(self, key: Any) -> str | None:
        """The data's id for a file's image id or file name (without suffix)."""
        if isinstance(key, int):
            return self.numbers.get(key)
        return self.exact.get(key) or self.short.get(key.rsplit("/", 1)[-1])


def _load(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ConfigError(f"{path}: has {size:,} bytes, expected at most {MAX_BYTES:,}")
        text = path.read_text(encoding="utf-8-sig")
        return json.loads(text, parse_constant=_refuse_constant)
    except OSError as error:
        raise system_fault(error, "reading", path) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: is not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: is not JSON that can be read: {error}") from error


def _refuse_constant(text: str) -> float:
    raise ValueError(f"it holds {text}, expected finite numbers")


def _image_table(images: Any, names: _Names, problems: Problems, path: Path) -> dict[Any, str | None]:
    """COCO image id -> the data's id, ``None`` for images that are not in the data."""
    if not isinstance(images, list):
        raise ConfigError(f"{path}: images must be a list, got {type(images).__name__}")
    table: dict[Any, str | None] = {}
    for index, image in enumerate(images):
        place = f"{path}: images[{index}]"
        if not isinstance(image, Mapping) or not isinstance(image.get("id"), (int, str)):
            problems.add(f"{place}.id", f"got {str(image)[:60]!r}, expected an image with an id")
            continue
        if image["id"] in table:
            problems.add(f"{place}.id", f"{image['id']!r} stands there twice")
        file = image.get("file_name")
        stem = without_suffix(file) if isinstance(file, str) and file else image["id"]
        table[image["id"]] = names.find(stem)
    return table


def _label_table(table: Any, categories: Categories, problems: Problems, path: Path) -> dict[Any, int]:
    """COCO category id -> class."""
    if not isinstance(table, list):
        raise ConfigError(f"{path}: categories must be a list, got {type(table).__name__}")
    labels: dict[Any, int] = {}
    for index, row in enumerate(table):
        place = f"{path}: categories[{index}]"
        if not isinstance(row, Mapping) or not isinstance(row.get("name"), str) or not isinstance(row.get("id"), int):
            problems.add(place, f"got {str(row)[:60]!r}, expected an id and a name")
        elif row["id"] in labels:
            problems.add(f"{place}.id", f"{row['id']} stands there twice")
        elif row["name"] in categories.names:
            labels[row["id"]] = categories.names.index(row["name"])
        else:
            problems.add(f"{place}.name", f"{row['name']!r} is no class of the data")
    return labels


def _add(
    row: Any,
    place: str,
    images: Mapping[Any, str | None] | None,
    names: _Names,
    labels: Mapping[Any, int],
    table: dict[str, CocoRows],
    problems: Problems,
) -> None:
    """Check one annotation or result and put it into the table."""
    if not isinstance(row, Mapping):
        problems.add(place, f"got {type(row).__name__}, expected an object")
        return
    image, category, score = row.get("image_id"), row.get("category_id"), row.get("score", 1.0)
    if isinstance(image, bool) or not isinstance(image, (int, str)):
        problems.add(f"{place}.image_id", f"got {image!r}, expected a number or a text")
        return
    if images is not None and image not in images:
        problems.add(f"{place}.image_id", f"{image!r} is not among the images")
        return
    if isinstance(category, bool) or not isinstance(category, int) or category not in labels:
        problems.add(f"{place}.category_id", f"got {category!r}, expected one of {sorted(labels)[:8]}...")
        return
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score):
        problems.add(f"{place}.score", f"got {score!r}, expected a finite number")
        return
    segmentation = row.get("segmentation")
    if not isinstance(segmentation, (Mapping, Sequence)) or isinstance(segmentation, str) or not segmentation:
        problems.add(f"{place}.segmentation", f"got {str(segmentation)[:40]!r}, expected a mask or polygons")
        return
    name = names.find(image) if images is None else images[image]
    if name is None:
        return
    rows = table.setdefault(name, CocoRows(name))
    rows.labels.append(labels[category])
    rows.scores.append(float(score))
    rows.segmentations.append(segmentation)
