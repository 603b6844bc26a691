"""What all writers share: options, counts, and which instances of a row are kept."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from wsis.data import rle
from wsis.data.artifacts import check_relative, make_folder, safe_join
from wsis.errors import ConfigError
from wsis.evaluation.instance_coco import checked_rles
from wsis.runtime.shards import Row

__all__ = [
    "ExportOptions",
    "Rows",
    "Written",
    "coco_number",
    "counts_of",
    "dump",
    "file_name",
    "kept",
    "labelled",
    "link_picture",
    "painted",
    "picture_path",
    "row_masks",
    "score_of",
    "write_list",
]

Rows = Callable[[], Iterator[Row]]
"""Called once per pass over the rows of a run."""

_COCO_NAME = re.compile(r"(?:COCO_[A-Za-z0-9-]+_)?([0-9]+)")


@dataclass(frozen=True)
class ExportOptions:
    """What a writer may be asked for.

    Attributes:
        min_score: instances with a score below it are left out.
        many_objects: what to do with more objects in one image than an 8-bit map has room for: ``uint16``
            (write a 16-bit map, which has no palette) or ``refuse``.
        about: what the files say about their origin.
        shape: ``auto`` (the format's own way), ``mask`` or ``polygon``.
        tolerance: how far a polygon may lie from the border of its mask, in pixels.
        pictures: folder to which the files of the rows are relative; ``None`` = not known.
        image_url: what stands before a picture's name where a program wants an address.
        image_numbers: of a data set that numbers its images itself, the number of each id.
    """

    min_score: float = 1e-5
    many_objects: str = "uint16"
    about: dict[str, Any] = field(default_factory=dict)
    shape: str = "auto"
    tolerance: float = 0.75
    pictures: Path | None = None
    image_url: str = "/data/local-files/?d="
    image_numbers: Mapping[str, int] | None = None


@dataclass
class Written:
    """What was written: where, and how many images, instances, dropped instances and skipped images."""

    path: Path
    images: int = 0
    instances: int = 0
    dropped: int = 0
    skipped: int = 0


def labelled(rows: Iterator[Row], written: Written | None = None) -> Iterator[Row]:
    """The rows that have labels; the others are counted as skipped."""
    for row in rows:
        if row.status == "skipped":
            if written is not None:
                written.skipped += 1
            continue
        if row.height < 1 or row.width < 1:
            raise ConfigError(f"image {row.image_id!r}: size must be positive, got {row.height} x {row.width}")
        yield row


def kept(row: Row, min_score: float, written: Written | None = None) -> list[int]:
    """Positions of the instances of a row that are not below ``min_score``, compared in float32."""
    positions = np.flatnonzero(np.asarray(row.score, np.float32) >= np.float32(min_score)).tolist()
    if written is not None:
        written.dropped += len(row) - len(positions)
        written.instances += len(positions)
    return positions


def row_masks(row: Row, positions: list[int]) -> Iterator[np.ndarray]:
    """The masks ``[H, W]`` bool of some instances, one at a time."""
    for n in positions:
        yield rle.to_masks([row_rle(row, n)])[0]


def row_rle(row: Row, position: int) -> dict[str, Any]:
    """One mask of a row, checked: ``{"size": [h, w], "counts": bytes}``."""
    size = (row.height, row.width)
    mask = {"size": list(size), "counts": row.counts[position]}
    try:
        return checked_rles([mask], size, f"image {row.image_id!r}, instance {position}")[0][0]
    except ValueError as error:
        raise ConfigError(f"{error}; the label run is damaged") from error


def painted(row: Row, positions: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """A row as a pair of maps.

    Returns:
        ``objects [H, W]`` uint16: 0 = none, ``k + 1`` for the k-th of ``positions``; and ``semantic [H, W]``
        uint8: 0 = background, class + 1. Where instances overlap, the higher score lies on top (the later of
        equal ones).
    """
    objects = np.zeros((row.height, row.width), dtype=np.uint16)
    semantic = np.zeros((row.height, row.width), dtype=np.uint8)
    order = sorted(range(len(positions)), key=lambda k: row.score[positions[k]])
    for k in order:
        (mask,) = row_masks(row, [positions[k]])
        objects[mask] = k + 1
        semantic[mask] = row.label[positions[k]] + 1
    return objects, semantic


def coco_number(image_id: str) -> int | None:
    """The number that an id in COCO's manner stands for: ``000000000139`` or ``COCO_val2014_000000000139``; None for
    other ids."""
    found = _COCO_NAME.fullmatch(image_id)
    return int(found[1]) if found else None


def file_name(row: Row) -> str:
    """The picture's name as a relative path: the id with the picture's suffix."""
    suffix = PurePosixPath(row.file).suffix if row.file else ".png"
    name = row.image_id + suffix
    reason = check_relative(name)
    if reason:
        raise ConfigError(f"image id {row.image_id!r} {reason}")
    return name


def score_of(row: Row, position: int) -> float:
    """A score with no more digits than it has."""
    return float(str(np.float32(row.score[position])))


def picture_path(row: Row, options: ExportOptions) -> Path | None:
    """Where the picture of a row is; ``None`` if its folder is not known.

    Raises:
        ConfigError: it is not there.
    """
    if options.pictures is None or not row.file:
        return None
    path = options.pictures / row.file
    if not path.is_file():
        raise ConfigError(f"pictures: {path} of image {row.image_id!r} does not exist; is this the data's root?")
    return path.absolute()


def link_picture(row: Row, folder: Path, options: ExportOptions) -> None:
    """A link ``folder/ID.suffix`` to the picture of a row, where its folder is known and nothing is there yet."""
    picture = picture_path(row, options)
    if picture is None:
        return
    path = safe_join(folder, file_name(row))
    make_folder(path.parent)
    if not path.exists():
        path.symlink_to(picture)


def counts_of(written: Written) -> dict[str, int]:
    """For ``export.json``."""
    return {name: getattr(written, name) for name in ("images", "instances", "dropped", "skipped")}


def write_list(file: IO[bytes], items: Iterator[dict[str, Any]]) -> int:
    """Write the items of a JSON list, one per line; returns how many there were."""
    count = 0
    for item in items:
        file.write((b",\n" if count else b"\n") + dump(item))
        count += 1
    return count


def dump(value: Any) -> bytes:
    """JSON without blanks."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
