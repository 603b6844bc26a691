"""One json file per image as LabelMe and X-AnyLabeling read it."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wsis.data.artifacts import encode_png, make_folder, safe_join, write_json
from wsis.data.categories import Categories
from wsis.formats.common import (
    ExportOptions,
    Rows,
    Written,
    counts_of,
    file_name,
    kept,
    labelled,
    picture_path,
    row_masks,
    score_of,
)
from wsis.formats.polygons import join_rings, mask_rings
from wsis.runtime.shards import Row

__all__ = ["write_labelme"]

_VERSION = "5.5.0"


def write_labelme(rows: Rows, categories: Categories, output: Path, options: ExportOptions) -> Written:
    """Write ``labels/ID.json`` and ``export.json``.

    An object is one polygon per part, its holes joined to it by seams of no width, the parts of one object sharing
    a ``group_id``; or, with shape ``mask``, one exact mask inside its box. ``imagePath`` leads to the picture where
    its folder is known, else it is the name alone, for files that are put beside the pictures.
    """
    written = Written(output)
    folder = make_folder(output / "labels")
    for row in labelled(rows(), written):
        written.images += 1
        path = safe_join(folder, row.image_id + ".json")
        make_folder(path.parent)
        picture = picture_path(row, options)
        content = {
            "version": _VERSION,
            "flags": {},
            "shapes": list(_shapes(row, categories, options, written)),
            "imagePath": os.path.relpath(picture, path.parent) if picture else os.path.basename(file_name(row)),
            "imageData": None,
            "imageHeight": row.height,
            "imageWidth": row.width,
        }
        write_json(path, content)
    write_json(output / "export.json", {**options.about, **counts_of(written)})
    return written


def _shapes(row: Row, categories: Categories, options: ExportOptions, written: Written) -> Iterator[dict[str, Any]]:
    positions = kept(row, options.min_score, written)
    for number, (n, mask) in enumerate(zip(positions, row_masks(row, positions)), start=1):
        about = {"label": categories.names[row.label[n]], "group_id": number, "description": "", "flags": {}}
        about["score"] = score_of(row, n)
        if options.shape == "mask":
            left, top, width, height = row.bbox_xywh[n]
            inside = mask[top : top + height, left : left + width]
            if inside.size:
                points = [[left, top], [left + width - 1, top + height - 1]]
                code = base64.b64encode(encode_png(inside)).decode()
                yield {**about, "shape_type": "mask", "points": points, "mask": code}
            continue
        for part in mask_rings(mask, options.tolerance):
            points = join_rings(part).tolist()
            yield {**about, "shape_type": "polygon", "points": points, "mask": None}
