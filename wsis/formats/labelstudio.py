"""Tasks with predictions for Label Studio, and the labelling interface that shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from wsis.data.artifacts import atomic_file, write_bytes
from wsis.data.categories import Categories
from wsis.formats.common import (
    ExportOptions,
    Rows,
    Written,
    file_name,
    kept,
    labelled,
    row_masks,
    score_of,
    write_list,
)
from wsis.formats.polygons import join_rings, mask_rings
from wsis.runtime.shards import Row

__all__ = ["brush_decode", "brush_encode", "write_labelstudio"]

_SIZES = (3, 4, 8, 16)
_WORD = 8


def write_labelstudio(rows: Rows, categories: Categories, output: Path, options: ExportOptions) -> Written:
    """Write a list of tasks, one per image with a prediction, and beside it ``NAME.xml``, the labelling interface.

    Objects are brush masks (exact), or with shape ``polygon`` one polygon per part. A picture is named by
    ``image_url`` and its file name, as Label Studio's local storage serves it.
    """
    written = Written(output)
    with atomic_file(output) as file:
        file.write(b"[")
        written.images = write_list(file, _tasks(rows, categories, options, written))
        file.write(b"]\n")
    write_bytes(output.with_suffix(".xml"), _interface(categories, options.shape == "polygon").encode())
    return written


def _tasks(rows: Rows, categories: Categories, options: ExportOptions, written: Written) -> Iterator[dict[str, Any]]:
    for row in labelled(rows(), written):
        positions = kept(row, options.min_score, written)
        result = list(_regions(row, positions, categories, options))
        scores = [score_of(row, n) for n in positions]
        prediction = {
            "model_version": str(options.about.get("made_by", "wsis")),
            "score": min(scores) if scores else 0.0,
            "result": result,
        }
        yield {"data": {"image": options.image_url + quote(file_name(row))}, "predictions": [prediction]}


def _regions(
    row: Row, positions: list[int], categories: Categories, options: ExportOptions
) -> Iterator[dict[str, Any]]:
    for n, mask in zip(positions, row_masks(row, positions)):
        about = {
            "from_name": "objects",
            "to_name": "image",
            "original_width": row.width,
            "original_height": row.height,
            "image_rotation": 0,
            "score": score_of(row, n),
        }
        name = [categories.names[row.label[n]]]
        if options.shape == "polygon":
            for k, part in enumerate(mask_rings(mask, options.tolerance)):
                points = (join_rings(part) * (100 / row.width, 100 / row.height)).round(4).tolist()
                value = {"points": points, "closed": True, "polygonlabels": name}
                yield {"id": f"o{n}-{k}", "type": "polygonlabels", "value": value, **about}
        elif mask.any():
            value = {"format": "rle", "rle": list(brush_encode(mask)), "brushlabels": name}
            yield {"id": f"o{n}", "type": "brushlabels", "value": value, **about}


def brush_encode(mask: np.ndarray) -> bytes:
    """A mask ``[H, W]`` in the code of Label Studio's brush.

    A stream of bits over the four channels of every pixel in rows, each 0 or 255: the number of values (32 bits), the
    bits of a value less one (5), four sizes less one (4 each); then packets of a flag (1: one value repeated), a size
    by its number (2), the count less one in as many bits, and the value.
    """
    flat = np.asarray(mask, dtype=bool).reshape(-1)
    borders = np.flatnonzero(np.diff(flat)) + 1
    bounds = np.concatenate(([0], borders, [flat.size]))
    bits = [f"{4 * flat.size:032b}", f"{_WORD - 1:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist()):
        value, left = "11111111" if flat[first] else "00000000", 4 * (last - first)
        while left:
            count = min(left, 1 << _SIZES[-1])
            number = next(k for k, size in enumerate(_SIZES) if count <= 1 << size)
            bits.append(f"1{number:02b}{count - 1:0{_SIZES[number]}b}{value}")
            left -= count
    text = "".join(bits)
    return np.packbits(np.frombuffer(text.encode(), np.uint8) - ord("0")).tobytes()


def brush_decode(code: bytes | list[int], size: tuple[int, int]) -> np.ndarray:
    """The mask ``[H, W]`` bool of :func:`brush_encode`, or of Label Studio itself; ``ValueError`` if it is
    malformed."""
    bits = "".join(f"{byte:08b}" for byte in bytes(code))
    total = size[0] * size[1] * 4
    at = 0

    def take(count: int) -> int:
        nonlocal at
        if at + count > len(bits):
            raise ValueError(f"brush_decode: the code ends after {len(bits)} bits, expected {at + count} or more")
        at += count
        return int(bits[at - count : at], 2)

    if (number := take(32)) != total:
        raise ValueError(f"brush_decode: holds {number} values, expected {total} for size {list(size)}")
    word = take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    out, done = np.zeros(total, dtype=bool), 0
    while done < total:
        repeated, count = take(1), take(sizes[take(2)]) + 1
        if done + count > total:
            raise ValueError(f"brush_decode: more than {total} values")
        if repeated:
            out[done : done + count] = take(word) > 0
        else:
            out[done : done + count] = [take(word) > 0 for _ in range(count)]
        done += count
    return out.reshape(*size, 4)[:, :, 3]


def _interface(categories: Categories, polygons: bool) -> str:
    kind = "PolygonLabels" if polygons else "BrushLabels"
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in categories.names)
    image = '  <Image name="image" value="$image" zoom="true"/>\n'
    return f'<View>\n{image}  <{kind} name="objects" toName="image">\n{labels}  </{kind}>\n</View>\n'
