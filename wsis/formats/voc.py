"""Pairs of index maps in the layout of the VOC development kit."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wsis.data.artifacts import atomic_file, make_folder, safe_join, write_bytes, write_json, write_png
from wsis.data.categories import Categories
from wsis.errors import ConfigError
from wsis.formats.common import ExportOptions, Rows, Written, counts_of, kept, labelled, painted
from wsis.runtime.shards import Row

__all__ = ["write_voc"]

MOST_OBJECTS = 254
"""Ids of an 8-bit map: 0 is background and 255 is void."""


def write_voc(rows: Rows, categories: Categories, output: Path, options: ExportOptions) -> Written:
    """Write ``SegmentationClass/ID.png`` and ``SegmentationObject/ID.png`` with the VOC palette.

    Also ``ImageSets/Segmentation/exported.txt`` (the ids), ``classes.txt`` and ``export.json`` (origin and
    counts; written last), so that the folder can be read as a data set's masks. Where instances overlap the
    higher score lies on top. More than 254 objects in an image give a 16-bit map without a palette, or are
    refused (``many_objects``).
    """
    written = Written(output)
    palette = categories.palette()
    for row in labelled(rows(), written):
        positions = kept(row, options.min_score, written)
        objects, semantic = painted(row, positions)
        objects, colors = _narrowed(row, objects, len(positions), palette, options.many_objects)
        for folder, array, table in (("Class", semantic, palette), ("Object", objects, colors)):
            path = safe_join(make_folder(output / f"Segmentation{folder}"), row.image_id + ".png")
            make_folder(path.parent)
            write_png(path, array, table)
        written.images += 1
    with atomic_file(make_folder(output / "ImageSets" / "Segmentation") / "exported.txt") as file:
        for row in labelled(rows()):
            file.write(f"{row.image_id}\n".encode())
    write_bytes(output / "classes.txt", "".join(f"{name}\n" for name in categories.names).encode())
    write_json(output / "export.json", {**options.about, **counts_of(written)})
    return written


def _narrowed(
    row: Row, objects: np.ndarray, count: int, palette: np.ndarray, many: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """The map of objects in 8 bits with its palette where it fits, else in 16 bits without."""
    if count <= MOST_OBJECTS:
        return objects.astype(np.uint8), palette
    if many == "refuse" or count >= (1 << 16) - 1:
        raise ConfigError(
            f"image {row.image_id!r} has {count} objects, an 8-bit map holds {MOST_OBJECTS}: "
            "give many_objects=uint16, or a higher min_score"
        )
    return objects, None
