"""Point cues: files with one point per line, one table for all images, or what annotation tools write.

* A folder holds ``<id>.txt`` per image, with lines ``x y class confidence`` (pixels, from the top left; class from
  0; what BESTIE's published code writes and reads), or ``<id>.json`` of LabelMe, of which the points count.
* A table is a CSV file with the header ``image,x,y,class`` and optionally ``confidence``, whose classes are names or
  numbers.
* A JSON file is an export of Label Studio with key points, or a COCO json with key points, one of each annotation.

Points on row 0 or column 0 are points like others.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wsis.data.atomic import PathLike, make_folder, safe_join, write_bytes
from wsis.data.categories import Categories
from wsis.data.coco_points import coco_points
from wsis.data.lists import read_json, read_text
from wsis.data.point_annotations import RawPoints, class_number, label_studio_points, read_labelme
from wsis.errors import Code, ConfigError, DataFault, Problems

__all__ = ["ImagePoints", "PointSource", "open_points", "point_lines", "read_points", "write_point_table"]

MAX_POINTS = 100_000
_HEADER = ("image", "x", "y", "class", "confidence")


@dataclass(frozen=True)
class ImagePoints:
    """The usable points of one image.

    Attributes:
        rows: ``(x, y, class, confidence)`` in the order of the file, ``x`` and ``y`` whole pixels inside the image.
        notes: how many were left out, by reason: ``outside``, ``duplicate``, ``class not in image labels``,
            ``two classes on one pixel``, ``not a point``.
    """

    rows: tuple[tuple[int, int, int, float], ...] = ()
    notes: Mapping[str, int] = field(default_factory=dict)

    def above(self, confidence: float) -> tuple[tuple[int, int, int, float], ...]:
        """The rows with more than this confidence."""
        return tuple(row for row in self.rows if row[3] > confidence)


class PointSource:
    """Points by image id, from a folder or a table.

    Args:
        folder: with ``<id>.txt`` or ``<id>.json``; or None.
        table: the points by id; or None.
        where: what to name in errors.
        categories: the classes.
        missing: ``refuse`` an image without an entry (``E_MISSING``), or take it as ``empty``.
    """

    def __init__(
        self,
        folder: Path | None,
        table: Mapping[str, RawPoints] | None,
        where: str,
        categories: Categories,
        missing: str = "refuse",
    ):
        self.folder, self.table, self.where = folder, table, where
        self.categories, self.missing = categories, missing

    def has(self, image_id: str) -> bool:
        """Whether there is an entry, which may be empty."""
        if self.folder is not None:
            return any(self._file(image_id, suffix).is_file() for suffix in (".txt", ".json"))
        return image_id in self.table

    def read(self, image_id: str, size: tuple[int, int], labels: Sequence[int] | None = None) -> ImagePoints:
        """The points of an image of ``(height, width)``; those of classes that ``labels`` lacks are left out.

        Raises:
            DataFault: no entry, or one that cannot be right.
        """
        if not self.has(image_id):
            if self.missing == "empty":
                return ImagePoints()
            raise DataFault(Code.E_MISSING, image_id, "points", f"has no points in {self.where}")
        if self.folder is None:
            return _usable(self.table[image_id], image_id, size, len(self.categories), labels)
        lines, labelme = self._file(image_id, ".txt"), self._file(image_id, ".json")
        if lines.is_file():
            return read_points(lines, size, len(self.categories), labels)
        return _usable(read_labelme(labelme, self.categories), labelme, size, len(self.categories), labels)

    def _file(self, image_id: str, suffix: str) -> Path:
        return safe_join(self.folder, image_id + suffix)


def open_points(path: PathLike, categories: Categories, missing: str = "refuse") -> PointSource:
    """A folder of points files, a CSV table, an export of Label Studio, or a COCO json with key points.

    Raises:
        ConfigError: none of them; a table with a wrong header, lines of another length or unknown classes: all named.
    """
    path = Path(path)
    if missing not in ("refuse", "empty"):
        raise ConfigError(f"points: missing = {missing!r}, expected refuse or empty")
    if path.is_dir():
        return PointSource(path, None, str(path), categories, missing)
    readers = {".csv": _read_table, ".json": _read_export}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        what = "neither a folder of <id>.txt or <id>.json nor a .csv or .json file"
        raise ConfigError(f"points: {path} is {what} (from {Path.cwd()})")
    return PointSource(None, reader(path, categories), str(path), categories, missing)


def read_points(
    path: PathLike, size: tuple[int, int], num_classes: int, labels: Sequence[int] | None = None
) -> ImagePoints:
    """The points of one file.

    Args:
        path: lines ``x y class confidence``; an empty file is an image without points.
        size: ``(height, width)`` of the image.
        num_classes: classes are ``0..num_classes - 1``.
        labels: classes of the image; None = any.

    Raises:
        DataFault: ``E_DECODE`` a line of another form, ``E_TRUNCATED`` no newline at the end, ``E_RANGE`` a class
            that does not exist, ``E_SHAPE`` most points outside (x and y swapped?), ``E_TOO_LARGE`` too many.
    """
    try:
        text = read_text(path)
    except ConfigError as error:
        raise DataFault(Code.E_DECODE, path, "points", str(error)) from error
    lines = text.split("\n")
    if lines.pop():
        raise DataFault(Code.E_TRUNCATED, path, "points", f"line {len(lines) + 1} does not end with a newline")
    rows = [(f"line {number}", tuple(line.split())) for number, line in enumerate(lines, 1) if line.strip()]
    return _usable(RawPoints(tuple(rows)), path, size, num_classes, labels)


def point_lines(rows: Iterable[Sequence[float]]) -> bytes:
    """The content of a points file: ``x y class confidence``, the confidence with three decimals."""
    return "".join(f"{int(x)} {int(y)} {int(label)} {score:.3f}\n" for x, y, label, score in rows).encode()


def write_point_table(path: PathLike, rows: Mapping[str, Sequence[Sequence[float]]], categories: Categories) -> None:
    """Write a table that :func:`open_points` reads; classes as names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADER)
    for image_id, points in rows.items():
        writer.writerows(
            (image_id, int(x), int(y), categories.names[int(c)], f"{score:.3f}") for x, y, c, score in points
        )
    make_folder(Path(path).parent)
    write_bytes(path, text.getvalue().encode())


def _usable(
    points: RawPoints,
    owner: PathLike,
    size: tuple[int, int],
    num_classes: int,
    labels: Sequence[int] | None,
) -> ImagePoints:
    """Parse and look at every row; what is merely of no use is counted, what cannot be right is a fault."""
    rows = points.rows
    if len(rows) > MAX_POINTS:
        raise DataFault(Code.E_TOO_LARGE, owner, "points", f"has {len(rows):,} points, expected at most {MAX_POINTS:,}")
    if points.size is not None and points.size != tuple(size):
        text = f"was annotated at {points.size[0]} x {points.size[1]}, the image has {size[0]} x {size[1]}"
        raise DataFault(Code.E_SHAPE, owner, "points", text)
    notes: Counter[str] = Counter({"not a point": points.passed})
    kept: dict[tuple[int, int, int], float] = {}
    for where, words in rows:
        x, y, label, score = _parse(where, words, owner)
        if not 0 <= label < num_classes:
            text = f"{where}: class {label}, expected 0 to {num_classes - 1}"
            hint = "; are its classes counted from 1?" if label == num_classes else ""
            raise DataFault(Code.E_RANGE, owner, "points", text + hint)
        if not (0 <= x < size[1] and 0 <= y < size[0]):
            notes["outside"] += 1
        elif labels is not None and label not in labels:
            notes["class not in image labels"] += 1
        elif (x, y, label) in kept:
            notes["duplicate"] += 1
            kept[x, y, label] = max(score, kept[x, y, label])
        else:
            kept[x, y, label] = score
    if 2 * notes["outside"] > len(rows):
        text = f"{notes['outside']} of {len(rows)} points lie outside of {size[0]} x {size[1]}; are x and y swapped?"
        raise DataFault(Code.E_SHAPE, owner, "points", text)
    pixels = Counter((x, y) for x, y, _ in kept)
    notes["two classes on one pixel"] = sum(count > 1 for count in pixels.values())
    found = {name: count for name, count in notes.items() if count}
    return ImagePoints(tuple((x, y, label, score) for (x, y, label), score in kept.items()), found)


def _parse(where: str, words: tuple[str, ...], owner: PathLike) -> tuple[int, int, int, float]:
    if len(words) != 4:
        text = f"{where} has {len(words)} columns, expected x y class confidence"
        raise DataFault(Code.E_DECODE, owner, "points", text)
    try:
        x, y, label, score = (float(word) for word in words)
    except ValueError as error:
        raise DataFault(Code.E_DECODE, owner, "points", f"{where}: {' '.join(words)!r} holds no numbers") from error
    if not all(math.isfinite(value) for value in (x, y, label, score)) or label != int(label) or not 0 <= score <= 1:
        text = f"{where}: {' '.join(words)!r}; expected pixels, a whole class and a confidence from 0 to 1"
        raise DataFault(Code.E_DECODE, owner, "points", text)
    return math.floor(x), math.floor(y), int(label), score


def _read_export(path: Path, categories: Categories) -> dict[str, RawPoints]:
    value = read_json(path)
    if isinstance(value, list):
        return label_studio_points(path, value, categories)
    return coco_points(path, value if isinstance(value, Mapping) else {}, categories)


def _read_table(path: Path, categories: Categories) -> dict[str, RawPoints]:
    problems = Problems()
    table: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    text = read_text(path)
    reader = csv.reader(io.StringIO(text))
    header = tuple(next(reader, ()))
    if header not in (_HEADER, _HEADER[:4]):
        raise ConfigError(f"{path}:1: header is {','.join(header)!r}, expected {','.join(_HEADER)!r}")
    for words in reader:
        place = f"{path}:{reader.line_num}"
        if not words:
            continue
        if len(words) != len(header):
            problems.add(place, f"has {len(words)} columns, expected {len(header)}")
            continue
        image, x, y, name = words[:4]
        try:
            row = (x, y, class_number(name, categories), words[4] if len(words) > 4 else "1")
            table.setdefault(image, []).append((place, row))
        except ConfigError as error:
            problems.add(place, str(error))
    if not text.endswith(("\n", "\r")):
        problems.add(f"{path}:{reader.line_num}", "does not end with a newline; was the file cut off?")
    problems.raise_if_any()
    return {image: RawPoints(tuple(rows)) for image, rows in table.items()}
