"""Training samples: decided by (seed, epoch, index) alone, image and seeds moved together."""

import numpy as np
import pytest
import torch
from PIL import Image

from wsis.data.transforms import (
    CamTransform,
    IrnTransform,
    normalize,
    resize_image,
    resize_labels,
    sample_rng,
    seed_grid,
    top_left_crop,
)

RNG = np.random.default_rng(0)
MEAN, STD = (10.0, 20.0, 30.0), (2.0, 4.0, 8.0)


def test_normalize():
    image = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    tensor = normalize(image[:, ::-1], MEAN, STD)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    for channel in range(3):
        expected = (image[:, ::-1, channel].astype(np.float32) - MEAN[channel]) / STD[channel]
        assert np.allclose(tensor[channel], expected, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (30, 40), (61, 80), (7, 11)])
def test_resizing_is_pillows(size):
    image = RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    expected = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)
    assert np.array_equal(resize_image(image, size), np.array(expected))
    labels = image[:, :, 0]
    expected = Image.fromarray(labels).resize(size[::-1], Image.Resampling.NEAREST)
    assert np.array_equal(resize_labels(labels, size), np.array(expected))


def test_seed_grid_takes_pixel_4i_plus_2():
    seeds = RNG.integers(0, 256, (512, 512), dtype=np.uint8)
    assert np.array_equal(seed_grid(seeds), seeds[2::4, 2::4])
    assert np.array_equal(seed_grid(seeds), resize_labels(seeds, (128, 128)))
    for height, width in ((1, 1), (5, 9), (6, 7), (13, 4)):
        part = seeds[:height, :width]
        grid = seed_grid(part)
        assert grid.shape == ((height - 1) // 4 + 1, (width - 1) // 4 + 1)
        assert (
            grid[-1, -1]
            == part[min(4 * (grid.shape[0] - 1) + 2, height - 1), min(4 * (grid.shape[1] - 1) + 2, width - 1)]
        )


def test_samples_depend_on_seed_epoch_and_index_only():
    image = RNG.integers(0, 256, (50, 70, 3), dtype=np.uint8)
    seeds = RNG.integers(0, 21, (50, 70), dtype=np.uint8)
    cam = CamTransform(MEAN, STD, crop=32, long_side=(30, 60))
    irn = IrnTransform(MEAN, STD, crop=32)
    first = cam(image, sample_rng(1, 2, 3))
    assert first.shape == (3, 32, 32)
    assert first.equal(cam(image, sample_rng(1, 2, 3)))
    for other in ((0, 2, 3), (1, 0, 3), (1, 2, 4)):
        assert not first.equal(cam(image, sample_rng(*other)))
    one, two = irn(image, seeds, sample_rng(1, 2, 3)), irn(image, seeds, sample_rng(1, 2, 3))
    assert one[0].equal(two[0])
    assert one[1].equal(two[1])
    with pytest.raises(ValueError, match="sample_rng: epoch"):
        sample_rng(0, -1, 0)


def test_a_large_picture_fills_the_crop_and_a_small_one_is_padded_with_zeros():
    image = np.full((40, 60, 3), 255, np.uint8)
    seen = set()
    for index in range(40):
        sample = CamTransform((0, 0, 0), (1, 1, 1), crop=32, long_side=(48, 96))(
            image, sample_rng(0, 0, index)
        )
        assert (sample == 255).all()
        sample = CamTransform((0, 0, 0), (1, 1, 1), crop=32, long_side=(12, 24))(
            image, sample_rng(0, 0, index)
        )
        rows, columns = sample[0].any(1).nonzero().flatten(), sample[0].any(0).nonzero().flatten()
        height, width = len(rows), len(columns)
        assert 12 <= width <= 24
        assert height == round(40 * width / 60)
        assert (sample == 255).sum() == 3 * height * width
        seen |= {(int(rows[0]), 32 - int(rows[-1])), (int(columns[0]), 32 - int(columns[-1]))}
    assert len(seen) > 20


def test_image_and_seeds_move_together():
    """The picture's red channel carries the seed map; where the crop has a seed, its pixel must agree."""
    base = np.repeat(np.repeat(RNG.integers(0, 8, (8, 12)), 16, 0), 16, 1).astype(np.uint8)
    image = np.repeat(base[:, :, None] * 30, 3, axis=2)
    agree, padded = [], 0
    for index in range(30):
        sample, seeds = IrnTransform((0, 0, 0), (1, 1, 1), crop=128)(image, base, sample_rng(0, 0, index))
        assert sample.shape == (3, 128, 128)
        assert seeds.shape == (32, 32)
        assert seeds.dtype == torch.uint8
        at = sample[0][2::4, 2::4]
        known = seeds != 255
        agree.append(((at[known] / 30).round() == seeds[known]).float().mean())
        padded += int((~known).sum())
        assert (at[~known] == 0).all()
    assert min(agree) > 0.85
    assert np.mean(agree) > 0.93
    assert padded > 0


def test_flip_happens_half_the_time_and_can_be_turned_off():
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, :8] = 200
    flips = []
    for index in range(200):
        sample = CamTransform((0, 0, 0), (1, 1, 1), crop=16, long_side=(16, 16))(
            image, sample_rng(0, 0, index)
        )
        flips.append(bool(sample[0, 0, 0] == 0))
        straight = CamTransform((0, 0, 0), (1, 1, 1), 16, (16, 16), flip=False)(
            image, sample_rng(0, 0, index)
        )
        assert straight[0, 0, 0] == 200
    assert 70 < sum(flips) < 130


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (31, 33)])
def test_any_size(size):
    image = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    for index in range(5):
        rng = sample_rng(0, 0, index)
        assert CamTransform(MEAN, STD, crop=32, long_side=(20, 40))(image, rng).shape == (3, 32, 32)
        sample, seeds = IrnTransform(MEAN, STD, crop=32)(image, image[:, :, 0], rng)
        assert (sample.shape, seeds.shape) == ((3, 32, 32), (8, 8))


def test_top_left_crop():
    image = RNG.integers(0, 256, (20, 50, 3), dtype=np.uint8)
    crop = top_left_crop(image, 32, MEAN, STD)
    assert crop[:, :20].equal(normalize(image, MEAN, STD)[:, :, :32])
    assert (crop[:, 20:] == 0).all()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: CamTransform(MEAN, STD, crop=0), "CamTransform: crop"),
        (lambda: CamTransform(MEAN, STD, long_side=(9, 3)), "CamTransform: long_side"),
        (lambda: IrnTransform(MEAN, STD, crop=30), "IrnTransform: crop must be a multiple of 4"),
        (lambda: IrnTransform(MEAN, STD, scale=(0.0, 1.0)), "IrnTransform: scale"),
        (lambda: IrnTransform(MEAN, STD, scale=(0.5, float("nan"))), "IrnTransform: scale"),
    ],
)
def test_rejects_bad_settings(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_rejects_seeds_of_another_size():
    with pytest.raises(ValueError, match="seeds must have the size of the image"):
        IrnTransform(MEAN, STD, crop=8)(
            np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8), sample_rng(0, 0, 0)
        )
