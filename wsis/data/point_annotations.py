"""Points as annotation tools write them: LabelMe's file per image, and the JSON export of Label Studio.

Both become the rows of text that points files hold, so that one place decides which points can be used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from wsis.data.categories import Categories
from wsis.data.lists import read_json, read_text
from wsis.errors import Code, ConfigError, DataFault, Problems

__all__ = [
    "RawPoints",
    "class_number",
    "get_or_none",
    "image_of_task",
    "label_studio_points",
    "path_ends",
    "read_labelme",
]

_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
_ROUNDING = 1e-6


@dataclass(frozen=True)
class RawPoints:
    """The points of one image, not yet looked at.

    Attributes:
        rows: the place to name in errors, and the words ``x y class confidence``.
        size: ``(height, width)`` of the picture that was annotated, where the file says so.
        passed: shapes that are no points.
    """

    rows: tuple[tuple[str, tuple[str, ...]], ...] = ()
    size: tuple[int, int] | None = None
    passed: int = 0


def class_number(name: str, categories: Categories) -> str:
    """A class given as name or number, as the text of its number; ``ConfigError`` with the nearest name."""
    return name if name.isdecimal() else str(categories.index(name))


def read_labelme(path: Path, categories: Categories) -> RawPoints:
    """The shapes of type ``point`` of a LabelMe file; shapes of other types are counted.

    Raises:
        DataFault: ``E_TRUNCATED``, ``E_DECODE`` if it is not LabelMe's form, ``E_LABEL`` an unknown class.
    """
    try:
        if not read_text(path).rstrip().endswith(("}", "]")):
            raise DataFault(Code.E_TRUNCATED, path, "points", "the file ends before its content does")
        value = read_json(path)
    except ConfigError as error:
        raise DataFault(Code.E_DECODE, path, "points", str(error)) from error
    shapes = value.get("shapes") if isinstance(value, dict) else None
    if not isinstance(shapes, list):
        raise DataFault(Code.E_DECODE, path, "points", "has no list shapes, so it is no file of LabelMe")
    rows, passed = [], 0
    for number, shape in enumerate(shapes):
        where = f"shapes[{number}]"
        kind, label, points = (get_or_none(shape, name) for name in ("shape_type", "label", "points"))
        if kind != "point":
            passed += 1
            continue
        if not (isinstance(label, str) and isinstance(points, list) and len(points) == 1 and _is_pair(points[0])):
            text = f"{where}: a point needs a label and points = [[x, y]], got {str(shape)[:80]}"
            raise DataFault(Code.E_DECODE, path, "points", text)
        try:
            number = class_number(label, categories)
        except ConfigError as error:
            raise DataFault(Code.E_LABEL, path, "points", f"{where}: {error}") from error
        rows.append((where, (repr(points[0][0]), repr(points[0][1]), number, "1")))
    return RawPoints(tuple(rows), _size(value.get("imageHeight"), value.get("imageWidth")), passed)


def label_studio_points(path: Path, tasks: list[Any], categories: Categories) -> dict[str, RawPoints]:
    """The key points of an export of Label Studio in its format JSON: ``tasks`` from the file at ``path``.

    An image is known under its path and under every shorter end of it, without suffix: a task whose image is
    ``/data/upload/3/1a2b3c4d-cats/7.jpg`` answers to ``7`` and ``cats/7`` (the eight digits that an upload puts before
    the name are taken off). An end that several tasks share names none of them. Of several annotations of a task the
    newest counts, cancelled ones do not; tasks without an annotation are not in the table.

    Raises:
        ConfigError: not this format, unknown classes, points without their place: all named.
    """
    problems = Problems()
    table: dict[str, RawPoints | None] = {}
    for number, task in enumerate(tasks):
        place = f"{path}: [{number}]"
        image = image_of_task(task)
        annotations = get_or_none(task, "annotations")
        if image is None or not isinstance(annotations, list):
            text = "has no data with the image's path, or no annotations"
            problems.add(place, text, "export from Label Studio as JSON, not JSON-MIN")
            continue
        kept = [(k, item) for k, item in enumerate(annotations) if not get_or_none(item, "was_cancelled")]
        if not kept:
            continue
        newest, annotation = max(kept, key=lambda one: (str(get_or_none(one[1], "updated_at") or ""), one[0]))
        with problems.collecting():
            points = _key_points(f"{place}.annotations[{newest}].result", get_or_none(annotation, "result"), categories)
            for end in path_ends(image):
                table[end] = None if end in table else points
    problems.raise_if_any()
    return {name: points for name, points in table.items() if points is not None}


def _key_points(place: str, result: Any, categories: Categories) -> RawPoints:
    if not isinstance(result, list):
        raise ConfigError(f"{place}: expected a list, got {str(result)[:80]}")
    problems = Problems()
    rows, sizes, passed = [], set(), 0
    for number, item in enumerate(result):
        where = f"{place}[{number}]"
        if get_or_none(item, "type") != "keypointlabels":
            passed += 1
            continue
        value = get_or_none(item, "value")
        size = _size(get_or_none(item, "original_height"), get_or_none(item, "original_width"))
        x, y, names = (get_or_none(value, name) for name in ("x", "y", "keypointlabels"))
        if not (_is_pair([x, y]) and isinstance(names, list) and all(isinstance(n, str) for n in names) and size):
            text = f"expected x, y, keypointlabels, original_width and original_height, got {str(item)[:80]}"
            problems.add(where, text)
            continue
        if get_or_none(item, "image_rotation"):
            problems.add(where, "the picture was rotated in Label Studio; rotate the file itself")
            continue
        sizes.add(size)
        pixels = [repr(share * side / 100 + _ROUNDING) for share, side in ((x, size[1]), (y, size[0]))]
        for name in names:
            try:
                rows.append((where, (*pixels, class_number(name, categories), "1")))
            except ConfigError as error:
                problems.add(where, str(error))
    if len(sizes) > 1:
        problems.add(place, f"names several sizes of one picture: {sorted(sizes)}")
    problems.raise_if_any()
    return RawPoints(tuple(rows), next(iter(sizes), None), passed)


def image_of_task(task: Any) -> PurePosixPath | None:
    """The path in a task's address of its image: ``data.image``, or the only text in ``data``."""
    data = get_or_none(task, "data")
    texts = [text for text in data.values() if isinstance(text, str)] if isinstance(data, Mapping) else []
    address = get_or_none(data, "image") or (texts[0] if len(texts) == 1 else None)
    if not isinstance(address, str):
        return None
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    return PurePosixPath(local[0] if local else unquote(parts.path))


def path_ends(image: PurePosixPath) -> Iterator[str]:
    """A path without its suffix, from its name alone to all of it."""
    name = image.stem
    uploaded = _UPLOADED.fullmatch(name)
    folders = [part for part in image.parts[:-1] if part != "/"]
    for stem in {name, uploaded[1] if uploaded else name}:
        for start in range(len(folders) + 1):
            yield "/".join([*folders[start:], stem])


def get_or_none(owner: Any, name: str) -> Any:
    """A value of a JSON object; None where ``owner`` is none, or has no such name."""
    return owner.get(name) if isinstance(owner, Mapping) else None


def _is_pair(value: Any) -> bool:
    if not (isinstance(value, list) and len(value) == 2):
        return False
    return all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in value)


def _size(height: Any, width: Any) -> tuple[int, int] | None:
    known = all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in (height, width))
    return (height, width) if known else None
