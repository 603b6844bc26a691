"""Polygons in the layout of Ultralytics' YOLO segmentation."""

from __future__ import annotations

import json
from pathlib import Path

from wsis.data.artifacts import make_folder, safe_join, write_bytes, write_json
from wsis.data.categories import Categories
from wsis.formats.common import ExportOptions, Rows, Written, counts_of, kept, labelled, link_picture, row_masks
from wsis.formats.polygons import join_rings, mask_rings
from wsis.runtime.shards import Row

__all__ = ["write_yolo"]


def write_yolo(rows: Rows, categories: Categories, output: Path, options: ExportOptions) -> Written:
    """Write ``labels/ID.txt`` with one line ``class x y x y ...`` per object, ``data.yaml`` and ``export.json``.

    Coordinates are shares of width and height. The format knows one ring per object: parts and holes are joined by
    seams of no width. An image without objects gets an empty file. Where the folder of the pictures is known,
    ``images/ID.jpg`` are links to them; ``data.yaml`` names ``images`` for training and for validation.
    """
    written = Written(output)
    folder = make_folder(output / "labels")
    for row in labelled(rows(), written):
        written.images += 1
        path = safe_join(folder, row.image_id + ".txt")
        make_folder(path.parent)
        write_bytes(path, "".join(_lines(row, options, written)).encode("ascii"))
        link_picture(row, output / "images", options)
    names = "".join(f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(categories.names))
    head = f"path: {json.dumps(str(output.absolute()))}\ntrain: images\nval: images\nnames:\n"
    write_bytes(output / "data.yaml", (head + names).encode("utf-8"))
    write_json(output / "export.json", {**options.about, **counts_of(written)})
    return written


def _lines(row: Row, options: ExportOptions, written: Written) -> list[str]:
    positions = kept(row, options.min_score, written)
    lines = []
    for n, mask in zip(positions, row_masks(row, positions)):
        parts = mask_rings(mask, options.tolerance)
        if not parts:
            continue
        ring = join_rings([ring for part in parts for ring in part]) / (row.width, row.height)
        lines.append(f"{row.label[n]} " + " ".join(f"{value:.6g}" for value in ring.reshape(-1)) + "\n")
    return lines
