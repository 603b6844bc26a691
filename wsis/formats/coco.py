"""COCO json: the annotation file for training, and the results list for evaluation servers.

Differs from what the IRNet reference writes, on purpose: annotation ids are unique over the whole file (the
reference begins anew for each image), and category ids come from the data set's table.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wsis.data.artifacts import atomic_file
from wsis.data.categories import Categories
from wsis.formats.common import (
    ExportOptions,
    Rows,
    Written,
    coco_number,
    dump,
    file_name,
    kept,
    labelled,
    row_masks,
    row_rle,
    score_of,
    write_list,
)
from wsis.formats.polygons import join_rings, mask_rings
from wsis.runtime.shards import Row

__all__ = ["write_coco", "write_coco_results"]


def write_coco(rows: Rows, categories: Categories, output: Path, options: ExportOptions) -> Written:
    """Write an annotation file: images, categories, annotations with mask (RLE, or polygons), box, area and score.

    The file is written as it is read, in three passes over the rows; nothing is held but one row. Images
    that were skipped are not in it; images without instances are.
    """
    written = Written(output)
    numbered = _numbered(rows, options.image_numbers)
    with atomic_file(output) as file:
        head = {"info": options.about, "licenses": [], "categories": _categories(categories)}
        file.write(dump(head)[:-1] + b',\n"images":[')
        written.images = write_list(file, (_image(number, row) for number, row in numbered(written)))
        file.write(b'],\n"annotations":[')
        write_list(file, _annotations(numbered, categories, options, written))
        file.write(b"]}\n")
    return written


def write_coco_results(rows: Rows, categories: Categories, output: Path, options: ExportOptions) -> Written:
    """Write the list of results that COCO's evaluation reads: image, category, RLE, score."""
    written = Written(output)
    numbered = _numbered(rows, options.image_numbers)
    written.images = sum(1 for _ in numbered(written))
    keys = ("image_id", "category_id", "segmentation", "score")
    with atomic_file(output) as file:
        file.write(b"[")
        found = _annotations(numbered, categories, options, written)
        write_list(file, ({key: one[key] for key in keys} for one in found))
        file.write(b"]\n")
    return written


def _numbered(rows: Rows, given: Mapping[str, int] | None):
    """A function that walks the labelled rows with their image numbers.

    Those of the data set, where it has its own; ids that are all different numbers (``17``, ``000000000139`` or
    ``COCO_val2014_000000000139``, as COCO's are) keep their number; else images count from 1.
    """
    number_of = coco_number if given is None else given.get
    numbers, keep = array("Q"), True
    for row in labelled(rows()):
        number = number_of(row.image_id)
        keep = keep and number is not None and 0 <= number < 1 << 63
        numbers.append(number if keep else 0)
    keep = keep and len(np.unique(numbers)) == len(numbers)

    def walk(written: Written | None = None) -> Iterator[tuple[int, Row]]:
        for position, row in enumerate(labelled(rows(), written), start=1):
            yield (number_of(row.image_id) if keep else position), row

    return walk


def _annotations(
    numbered: Any, categories: Categories, options: ExportOptions, written: Written
) -> Iterator[dict[str, Any]]:
    number = 0
    for image, row in numbered():
        for n in kept(row, options.min_score, written):
            number += 1
            yield {
                "id": number,
                "image_id": image,
                "category_id": categories.ids[row.label[n]],
                "segmentation": _segmentation(row, n, options),
                "area": row.area[n],
                "bbox": list(row.bbox_xywh[n]),
                "iscrowd": 0,
                "score": score_of(row, n),
            }


def _segmentation(row: Row, position: int, options: ExportOptions) -> Any:
    """Run lengths; with shape ``polygon`` one polygon per part, its holes joined to it by seams of no width."""
    if options.shape == "polygon":
        (mask,) = row_masks(row, [position])
        return [join_rings(part).reshape(-1).tolist() for part in mask_rings(mask, options.tolerance)]
    code = row_rle(row, position)
    return {"size": code["size"], "counts": code["counts"].decode("ascii")}


def _image(number: int, row: Row) -> dict[str, Any]:
    return {"id": number, "file_name": file_name(row), "height": row.height, "width": row.width}


def _categories(categories: Categories) -> list[dict[str, Any]]:
    return [{"id": k, "name": name, "supercategory": ""} for k, name in zip(categories.ids, categories.names)]
