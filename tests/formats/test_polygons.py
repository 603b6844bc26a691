"""Polygons enclose the centres of exactly the mask's pixels, parts and holes included, and simplified ones nearly."""

from __future__ import annotations

import numpy as np
import pytest

from wsis.formats.labelstudio import brush_decode, brush_encode
from wsis.formats.polygons import join_rings, mask_rings, rings_area


def inside(ring: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre lies inside, by counting crossings to the left of it."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    odd = np.zeros(size, bool)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0)):
        if y0 == y1:
            continue
        crosses = (min(y0, y1) <= y) & (y < max(y0, y1))
        odd ^= crosses & (x > x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return odd


def blobs(seed: int, size=(37, 53), density=0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.random((size[0] // 4 + 1, size[1] // 4 + 1)) < density
    return np.kron(coarse, np.ones((4, 4), bool))[: size[0], : size[1]] ^ (rng.random(size) < 0.03)


MASKS = {
    "empty": np.zeros((4, 5), bool),
    "full": np.ones((4, 5), bool),
    "pixel": np.eye(1, dtype=bool),
    "diagonal": np.eye(5, dtype=bool),
    "ring": np.pad(np.zeros((3, 3), bool), 2, constant_values=True),
    "nested": np.pad(np.pad(np.pad(np.ones((2, 2), bool), 2), 1, constant_values=True), 1),
    "checker": np.indices((6, 7)).sum(0) % 2 == 0,
    "line": np.ones((1, 9), bool),
    **{f"blobs {k}": blobs(k, density=0.2 + 0.1 * k) for k in range(6)},
}


@pytest.mark.parametrize("name", MASKS)
def test_exact(name):
    mask = MASKS[name]
    parts = mask_rings(mask)
    painted = np.zeros_like(mask)
    for part in parts:
        assert rings_area(part[:1]) > 0
        assert all(rings_area([hole]) < 0 for hole in part[1:])
        painted |= inside(join_rings(part), mask.shape)
    np.testing.assert_array_equal(painted, mask)
    assert sum(map(rings_area, parts)) == mask.sum()
    if parts:
        np.testing.assert_array_equal(inside(join_rings([r for part in parts for r in part]), mask.shape), mask)


def test_parts_and_corners():
    (one,) = mask_rings(MASKS["full"])
    assert sorted(map(tuple, one[0])) == [(0, 0), (0, 4), (5, 0), (5, 4)]
    assert len(mask_rings(MASKS["diagonal"])) == 5
    ring, core = mask_rings(MASKS["nested"])
    assert (len(ring), len(core)) == (2, 1)
    assert rings_area(ring) > rings_area(core)


@pytest.mark.parametrize(("tolerance", "least"), [(0.5, 0.95), (0.75, 0.93), (2.0, 0.75)])
def test_simplified(tolerance, least):
    y, x = np.mgrid[:80, :100]
    mask = ((y - 40) / 30) ** 2 + ((x - 50) / 40) ** 2 < 1
    (exact,), (simple,) = mask_rings(mask), mask_rings(mask, tolerance)
    assert len(simple[0]) < len(exact[0])
    painted = inside(simple[0], mask.shape)
    assert (painted & mask).sum() / (painted | mask).sum() > least


def test_small_parts_survive_simplifying():
    mask = np.zeros((20, 20), bool)
    mask[3, 3] = mask[10:12, 10] = True
    assert len(mask_rings(mask, 5.0)) == 2
    assert all(len(part[0]) >= 3 for part in mask_rings(mask, 5.0))


@pytest.mark.parametrize("name", MASKS)
def test_brush_round_trip(name):
    mask = MASKS[name]
    np.testing.assert_array_equal(brush_decode(brush_encode(mask), mask.shape), mask)


def test_long_runs_and_bad_codes():
    mask = np.zeros((300, 300), bool)
    mask[150:] = True
    code = brush_encode(mask)
    assert len(code) < 60
    np.testing.assert_array_equal(brush_decode(list(code), (300, 300)), mask)
    for bad, size in ((code[:-3], (300, 300)), (code, (300, 299)), (b"", (1, 1)), (code[:9] + b"\xff" * 9, (300, 300))):
        with pytest.raises(ValueError, match="brush_decode"):
            brush_decode(bad, size)
