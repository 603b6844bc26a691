"""Masks as COCO run lengths: coded, decoded, measured and compared without ever being unpacked.

A mask is a mapping ``{"size": [height, width], "counts": ...}``. ``counts`` is the compressed code (bytes, or
ASCII text as in JSON files) or the list of lengths: alternating runs of zeros and ones down the columns, the
first of zeros. All functions accept both, refuse what is malformed (``1 <= height, width <= 65536``, lengths
from 0 that add up to ``height * width``) and give codes that are byte for byte those of the COCO tools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsis import _host

__all__ = [
    "area",
    "box_xywh",
    "decode_counts",
    "encode_counts",
    "encode_mask",
    "encode_masks",
    "from_polygons",
    "iou",
    "merge",
    "packed",
    "to_masks",
]

Rle = dict[str, Any]


def encode_counts(lengths: Sequence[int] | np.ndarray) -> bytes:
    """Lengths of alternating runs, the first of zeros, to the compressed code.

    Raises:
        TypeError, ValueError: no flat list of integers in ``0..2**32``.
    """
    return _named("encode_counts", _host.rle_encode, _integers("encode_counts: lengths", lengths))


def decode_counts(rle: Mapping[str, Any]) -> np.ndarray:
    """The lengths of one mask, ``[R]`` int64. Raises: TypeError, ValueError: a malformed mask."""
    return _named("decode_counts", _host.rle_lengths, packed([rle], "rle"), "rle")


def encode_mask(mask: np.ndarray) -> Rle:
    """``[H, W]`` array, non-zero = inside, to a mask in compressed form.

    Raises:
        ValueError: another number of dimensions, or a side outside ``1..65536``.
    """
    array = np.ascontiguousarray(np.asarray(mask) != 0)
    return _compressed(_named("encode_mask", _host.mask_lengths, array), array.shape)


def encode_masks(masks: np.ndarray) -> list[Rle]:
    """``[N, H, W]`` array, one compressed mask each. Raises: ValueError: as :func:`encode_mask`."""
    array = np.asarray(masks)
    if array.ndim != 3:
        raise ValueError(f"encode_masks: masks must be [N, H, W], got shape {list(array.shape)}")
    return [encode_mask(mask) for mask in array]


def to_masks(rles: Sequence[Mapping[str, Any]], size: tuple[int, int] | None = None) -> np.ndarray:
    """Masks of one size to ``[N, H, W]`` bool; ``size`` is needed for an empty list, and checked otherwise.

    Raises:
        TypeError, ValueError: a malformed mask, sizes that differ, or no size known.
    """
    if size is None:
        if not rles:
            raise ValueError("to_masks: size must be given for an empty list, got None")
        size = _size("to_masks: rles[0]", rles[0])
    return _named("to_masks", _host.rle_masks, packed(rles, "rles"), *map(int, size), "rles")


def area(rles: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Pixels of each mask, ``[N]`` int64. Raises: TypeError, ValueError: a malformed mask."""
    return _named("area", _host.rle_area, packed(rles, "rles"), "rles")


def box_xywh(rles: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """``[N, 4]`` int64: left, top, width, height of each mask, zeros for an empty one.

    Raises:
        TypeError, ValueError: a malformed mask.
    """
    corners = _named("box_xywh", _host.rle_box, packed(rles, "rles"), "rles")
    return np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1)


def iou(
    a: Sequence[Mapping[str, Any]],
    b: Sequence[Mapping[str, Any]],
    iscrowd: Sequence[bool] | np.ndarray | None = None,
) -> np.ndarray:
    """Intersection over union of every mask of ``a`` with every mask of ``b``, by merging runs.

    Args:
        a: N masks (detections).
        b: M masks of the same size (ground truth).
        iscrowd: ``[M]``; where set, the intersection is divided by the area of the mask of ``a`` alone.

    Returns:
        ``[N, M]`` float64, 0 where nothing is shared.

    Raises:
        TypeError, ValueError: a malformed mask, sizes that differ, or another number of crowd flags.
    """
    flags = np.zeros(len(b), dtype=bool) if iscrowd is None else np.asarray(iscrowd) != 0
    return _named("iou", _host.rle_iou, packed(a, "a"), packed(b, "b"), flags)


def merge(rles: Sequence[Mapping[str, Any]], intersect: bool = False) -> Rle:
    """Union (or intersection) of at least one mask of one size, in compressed form.

    Raises:
        TypeError, ValueError: no mask, a malformed one, or sizes that differ.
    """
    lengths = _named("merge", _host.rle_merge, packed(rles, "rles"), bool(intersect), "rles")
    return _compressed(lengths, _size("merge: rles[0]", rles[0]))


def from_polygons(polygons: Sequence[Any], size: tuple[int, int]) -> Rle:
    """The union of polygons as one mask, by the rasterising rule of the COCO tools.

    Args:
        polygons: each ``[x0, y0, x1, y1, ...]`` with at least three points, coordinates within 131072 of 0.
        size: (height, width) of the image, each ``1..65536``; what lies outside is cut off.

    Raises:
        TypeError, ValueError: no polygon, or one that is not as described; the text names its index.
    """
    if isinstance(polygons, (str, bytes)) or len(polygons) == 0:
        raise ValueError(f"from_polygons: polygons must hold at least one polygon, got {polygons!r:.40}")
    height, width = _size("from_polygons", {"size": size, "counts": b""})
    parts = []
    for index, polygon in enumerate(polygons):
        where = f"from_polygons: polygons[{index}]"
        points = _floats(where, polygon)
        if points.ndim == 1 and points.size % 2 == 0:
            points = points.reshape(-1, 2)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"{where} must be x, y pairs, got shape {list(points.shape)}")
        lengths = _named(where, _host.polygon_lengths, np.ascontiguousarray(points), height, width)
        parts.append({"size": [height, width], "counts": lengths})
    return merge(parts)


def packed(rles: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, int, bytes | np.ndarray]]:
    """Masks in the form of ``wsis._host``: (height, width, code or lengths); the codes are checked there.

    Raises:
        TypeError: not a sequence of mappings with size and counts. ValueError: size or counts malformed.
    """
    if isinstance(rles, (Mapping, str, bytes)) or not isinstance(rles, Sequence):
        raise TypeError(f"{name} must be a list of masks, got {type(rles).__name__}")
    return [
        (*_size(f"{name}[{i}]", rle), _counts(f"{name}[{i}]", rle["counts"])) for i, rle in enumerate(rles)
    ]


def _compressed(lengths: np.ndarray, size: Sequence[int]) -> Rle:
    return {"size": [int(size[0]), int(size[1])], "counts": _host.rle_encode(lengths)}


def _size(where: str, rle: Any) -> tuple[int, int]:
    if not isinstance(rle, Mapping) or not {"size", "counts"} <= rle.keys():
        raise TypeError(f"{where} must be a mapping with size and counts, got {type(rle).__name__}")
    size = rle["size"]
    if (
        not isinstance(size, (list, tuple, np.ndarray))
        or len(size) != 2
        or not all(isinstance(side, (int, np.integer)) and not isinstance(side, bool) for side in size)
    ):
        raise ValueError(f"{where}: size must be [height, width], got {size!r:.60}")
    height, width = (int(side) for side in size)
    if not (1 <= height <= 65536 and 1 <= width <= 65536):
        raise ValueError(f"{where}: size must be 1..65536 each, got {[height, width]}")
    return height, width


def _counts(where: str, counts: Any) -> bytes | np.ndarray:
    if isinstance(counts, (bytes, bytearray)):
        return bytes(counts)
    if isinstance(counts, str):
        if not counts.isascii():
            raise ValueError(f"{where}: counts must be ASCII text, got {counts[:40]!r}")
        return counts.encode("ascii")
    return _integers(f"{where}: counts", counts)


def _integers(where: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.size == 0 and array.ndim == 1:
        return np.zeros(0, dtype=np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{where} must be a flat list of integers, got {array.dtype} {list(array.shape)}")
    if array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{where} must be at most 2**32, got {array.max()}")
    return np.ascontiguousarray(array, dtype=np.int64)


def _floats(where: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{where} must be a list of numbers, got {values!r:.60}") from error


def _named(function: str, call: Any, *args: Any) -> Any:
    try:
        return call(*args)
    except ValueError as error:
        raise ValueError(f"{function}: {error}") from None
