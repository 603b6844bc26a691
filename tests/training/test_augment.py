"""Training crops."""

from __future__ import annotations

import numpy as np
import torch

from wsis.training.augment import augment, draw, scale_by_long_side

PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def _image(height, width):
    return np.random.default_rng(0).integers(1, 255, (height, width, 3), dtype=np.uint8)


def test_the_same_draw_gives_the_same_crop():
    image, seeds = _image(40, 60), np.zeros((40, 60), np.uint8)
    first, second = (augment(image, seeds, 0.8, 32, PLAIN, draw(1, 2, 3)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    other = augment(image, seeds, 0.8, 32, PLAIN, draw(1, 3, 3))[0]
    assert not torch.equal(first[0], other)


def test_long_side_is_a_whole_number_in_the_range():
    sides = {round(60 * scale_by_long_side((40, 60), 20, 22, draw(0, 0, i))) for i in range(50)}
    assert sides == {20, 21, 22}


def test_a_small_image_lies_whole_in_zeros_and_unsure():
    image = _image(10, 12)
    crop, grid = augment(image, np.ones((10, 12), np.uint8), 1.0, 32, PLAIN, draw(0, 0, 0))
    inside = (crop != 0).all(0)
    assert int(inside.sum()) == 120
    ys, xs = inside.nonzero().T
    assert (int(ys.max() - ys.min()), int(xs.max() - xs.min())) == (9, 11)
    assert grid.shape == (8, 8)
    assert torch.equal(grid == 1, inside[2::4, 2::4])
    assert set(grid.unique().tolist()) == {1, 255}


def test_map_and_image_stay_together():
    """The image carries its own map as brightness; after scale 1, mirror and crop they still agree."""
    seeds = np.random.default_rng(1).integers(0, 5, (50, 70)).astype(np.uint8)
    image = np.repeat(seeds[..., None] + 1, 3, 2)
    for index in range(8):
        crop, grid = augment(image, seeds, 1.0, 40, PLAIN, draw(0, 0, index))
        assert torch.equal(crop[0, 2::4, 2::4] - 1, grid.float())


def test_normalisation_comes_before_padding():
    crop, _ = augment(np.full((4, 4, 3), 100, np.uint8), None, 1.0, 8, ((50.0,) * 3, (10.0,) * 3), draw(0, 0, 0))
    assert set(crop.unique().tolist()) == {0.0, 5.0}
