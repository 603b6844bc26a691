"""The run-length codec against the COCO tools, and against everything that is not a mask."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from wsis.data import rle

RNG = np.random.default_rng(0)


def random_mask(height: int, width: int) -> np.ndarray:
    return RNG.random((height, width)) < RNG.random()


def random_masks() -> list[np.ndarray]:
    sizes = [(1, 1), (1, 9), (9, 1), (2, 2), (31, 33), (64, 48)]
    masks = [random_mask(h, w) for h, w in sizes for _ in range(8)]
    full, empty = np.ones((30, 40), dtype=bool), np.zeros((30, 40), dtype=bool)
    return [*masks, full, empty, full & (np.arange(40) > 20), full & (np.arange(30)[:, None] > 20)]


@pytest.mark.parametrize("mask", random_masks(), ids=lambda mask: "x".join(map(str, mask.shape)))
def test_coding_a_mask_gives_the_bytes_of_the_coco_tools(mask):
    expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert rle.encode_mask(mask) == {"size": list(expected["size"]), "counts": expected["counts"]}
    assert np.array_equal(rle.to_masks([expected])[0], mask)
    assert rle.area([expected]) == coco.area(expected)
    assert np.array_equal(rle.box_xywh([expected])[0], coco.toBbox(expected))


def test_lengths_and_codes_are_inverse():
    for _ in range(200):
        lengths = RNG.integers(0, 2 ** RNG.integers(1, 17), RNG.integers(1, 30))
        height = int(max(1, lengths.sum()))
        if height > 65536:
            continue
        lengths[-1] += height - lengths.sum()
        code = rle.encode_counts(lengths)
        assert np.array_equal(rle.decode_counts({"size": [height, 1], "counts": code}), lengths)


def test_text_bytes_and_lists_mean_the_same():
    mask = random_mask(20, 30)
    code = rle.encode_mask(mask)
    for counts in (code["counts"].decode(), bytearray(code["counts"]), rle.decode_counts(code).tolist()):
        assert np.array_equal(rle.to_masks([{"size": (20, 30), "counts": counts}])[0], mask)


def test_a_mask_of_the_largest_size():
    code = {"size": [65536, 65536], "counts": [2**32 - 1, 1]}
    packed = {"size": [65536, 65536], "counts": rle.encode_counts([2**32 - 1, 1])}
    for item in (code, packed):
        assert rle.area([item]) == 1
        assert rle.box_xywh([item]).tolist() == [[65535, 65535, 1, 1]]
    assert rle.area([{"size": [65536, 65536], "counts": [0, 2**32]}]) == 2**32


def test_overlap_equals_that_of_the_coco_tools():
    for height, width in ((1, 1), (7, 5), (40, 30)):
        a = [rle.encode_mask(random_mask(height, width)) for _ in range(6)]
        b = [rle.encode_mask(random_mask(height, width)) for _ in range(5)]
        a.append(rle.encode_mask(np.zeros((height, width))))
        crowd = np.array([0, 1, 0, 1, 0], dtype=np.uint8)
        assert np.array_equal(rle.iou(a, b, crowd), coco.iou(a, b, crowd))
        assert rle.merge(a) == coco.merge(a)
        assert rle.merge(a[:3], intersect=True) == coco.merge(a[:3], intersect=True)
    assert rle.iou([], b).shape == (0, 5)
    assert rle.iou(a, []).shape == (7, 0)


def polygons() -> list[tuple[list[float], int, int]]:
    cases = []
    for low, high in ((0, 1), (-0.3, 1.3), (-2, 3)):
        for _ in range(100):
            height, width = (int(v) for v in RNG.integers(1, 60, 2))
            points = RNG.uniform(low, high, (int(RNG.integers(3, 12)), 2)) * [width, height]
            points = np.round(points * 2) / 2 if RNG.random() < 0.3 else points
            cases.append((points.reshape(-1).tolist(), height, width))
    return cases


def test_polygons_are_filled_as_by_the_coco_tools():
    for points, height, width in polygons():
        expected = coco.frPyObjects([points], height, width)[0]
        assert rle.from_polygons([points], (height, width)) == expected


def test_several_polygons_are_united():
    parts = [points for points, _, _ in polygons()[:5]]
    expected = coco.merge(coco.frPyObjects(parts, 50, 60))
    assert rle.from_polygons(parts, (50, 60)) == expected


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"size": [0, 0], "counts": b""}, r"size must be 1\.\.65536 each, got \[0, 0\]"),
        ({"size": [65537, 1], "counts": [65537]}, r"got \[65537, 1\]"),
        ({"size": [-4, 5], "counts": [20]}, r"got \[-4, 5\]"),
        ({"size": [4.0, 5], "counts": [20]}, "size must be"),
        ({"size": [4], "counts": [20]}, "size must be"),
        ({"size": "45", "counts": [20]}, "size must be"),
        ({"size": [4, 5], "counts": [19]}, "add up to height . width = 20, got 19"),
        ({"size": [4, 5], "counts": [10, 11]}, "add up to height . width = 20, got more"),
        ({"size": [4, 5], "counts": [2**62, 2**62, 2**62]}, "got more"),
        ({"size": [4, 5], "counts": [21, -1]}, "got more"),
        ({"size": [4, 5], "counts": [10, -1, 11]}, "not be negative, got -1"),
        ({"size": [4, 5], "counts": []}, "got 0"),
        ({"size": [4, 5], "counts": b""}, "got 0"),
        ({"size": [4, 5], "counts": b"~"}, "got byte 126 at 0"),
        ({"size": [4, 5], "counts": b"o"}, "ends inside a number"),
        ({"size": [4, 5], "counts": b"\x00" * 4}, "got byte 0 at 0"),
        ({"size": [4, 5], "counts": b"o" * 100}, "at most 8 characters"),
        ({"size": [4, 5], "counts": b"O"}, "not be negative"),
        ({"size": [4, 5], "counts": "2é"}, "ASCII"),
    ],
)
def test_a_malformed_mask_is_refused_with_its_index(bad, match):
    good = {"size": [4, 5], "counts": [20]}
    for function in (rle.area, rle.box_xywh, rle.to_masks, rle.merge, lambda r: rle.iou(r, [good])):
        with pytest.raises(ValueError, match=match) as raised:
            function([good, bad])
        assert "[1]" in str(raised.value)


@pytest.mark.parametrize("bad", [None, 3, b"abc", {"size": [4, 5]}, {"counts": b""}, [4, 5]])
def test_what_is_no_mask_is_a_type_error(bad):
    with pytest.raises(TypeError, match=r"rles\[0\] must be a mapping with size and counts, got"):
        rle.area([bad])


@pytest.mark.parametrize("counts", [[1.5, 18.5], [[20]], ["20"], None, 20])
def test_counts_of_another_kind_are_a_type_error(counts):
    with pytest.raises(TypeError, match="flat list of integers"):
        rle.area([{"size": [4, 5], "counts": counts}])


def test_truncated_and_altered_codes_never_crash():
    code = rle.encode_mask(random_mask(60, 70))["counts"]
    refused = 0
    for _ in range(3000):
        damaged = bytearray(code)
        for _ in range(RNG.integers(1, 4)):
            damaged[RNG.integers(len(damaged))] = RNG.integers(256)
        damaged = bytes(damaged[: RNG.integers(len(damaged) + 1)])
        try:
            rle.to_masks([{"size": [60, 70], "counts": damaged}])
        except ValueError:
            refused += 1
    assert refused > 2900


def test_sizes_that_differ_are_refused():
    a, b = {"size": [4, 5], "counts": [20]}, {"size": [5, 4], "counts": [20]}
    for call in (lambda: rle.to_masks([a, b]), lambda: rle.merge([a, b]), lambda: rle.iou([a], [b])):
        with pytest.raises(ValueError, match=r"size must be that of the first mask, \(4, 5\), got \(5, 4\)"):
            call()
    with pytest.raises(ValueError, match="size must be given for an empty list"):
        rle.to_masks([])
    assert rle.to_masks([], (4, 5)).shape == (0, 4, 5)


@pytest.mark.parametrize(
    ("polygon", "match"),
    [
        ([0, 0, 1e8, 0, 5, 5], "within 131072 of 0, got 100000000"),
        ([0, 0, float("nan"), 0, 5, 5], "finite"),
        ([0, 0, float("inf"), 0, 5, 5], "finite"),
        ([0, 0, 5, 5], "at least 3, got 2"),
        ([], "at least 3, got 0"),
        ([0, 0, 5, 5, 3], "x, y pairs"),
        ([[0, 0, 1], [5, 5, 1]], "x, y pairs"),
        ([0, 0, 131072, 131072] * 1000, "outline of at most 53 million pixels"),
    ],
)
def test_polygons_out_of_bounds_are_refused_with_their_index(polygon, match):
    with pytest.raises(ValueError, match=match) as raised:
        rle.from_polygons([[0, 0, 4, 0, 4, 4], polygon], (10, 10))
    assert "polygons[1]" in str(raised.value)


def test_polygons_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="at least one polygon"):
        rle.from_polygons([], (10, 10))
    with pytest.raises(TypeError, match="list of numbers"):
        rle.from_polygons([["a", "b"]], (10, 10))
    with pytest.raises(ValueError, match="size"):
        rle.from_polygons([[0, 0, 4, 0, 4, 4]], (0, 10))


def test_the_largest_coordinate_is_accepted():
    corner = [-131072, -131072, 131072, -131072, 131072, 131072]
    assert rle.from_polygons([corner], (10, 10)) == coco.frPyObjects([corner], 10, 10)[0]
