"""Overlays and colour codes: sizes, exact colours where they can be told, and refusals."""

import numpy as np
import pytest
import torch

from wsis.structures import Instances
from wsis.viz.colors import distinct_colors, heat_ramp, ink_on, oklch_to_rgb, wheel_colors
from wsis.viz.overlay import (
    colorize_displacement,
    colorize_heat,
    contact_sheet,
    displacement_wheel,
    mark_points,
    overlay_heat,
    overlay_instances,
    resize,
)


def two_halves(height=40, width=60):
    masks = torch.zeros((2, height, width), dtype=torch.bool)
    masks[0, :, : width // 2] = True
    masks[1, :, width // 2 :] = True
    return Instances(masks, torch.tensor([0, 1]), torch.tensor([0.9, 0.4]))


def test_known_colors():
    assert oklch_to_rgb(np.array(1.0), np.array(0.0), np.array(0.0)).tolist() == [255, 255, 255]
    assert oklch_to_rgb(np.array(0.0), np.array(0.0), np.array(0.0)).tolist() == [0, 0, 0]
    red = oklch_to_rgb(np.array(0.627955), np.array(0.257683), np.deg2rad(29.2339))
    assert np.abs(red.astype(int) - [255, 0, 0]).max() <= 1


def test_distinct_colors_are_distinct_and_stable():
    colors = distinct_colors(24).astype(int)
    gaps = np.abs(colors[:, None] - colors[None]).sum(-1) + 1000 * np.eye(24, dtype=int)
    assert gaps.min() > 20
    assert np.array_equal(distinct_colors(5, start=3), distinct_colors(8)[3:])
    assert distinct_colors(0).shape == (0, 3)


def test_heat_ramp_rises_in_lightness():
    luminance = heat_ramp().astype(float) @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(luminance) > -1).all()
    assert luminance[-1] - luminance[0] > 200


def test_ink_is_readable():
    assert ink_on(np.array([255, 255, 255])) == (16, 16, 20)
    assert ink_on(np.array([0, 0, 0])) == (255, 255, 255)


def test_overlay_tints_each_side_with_its_color():
    photo = np.full((40, 60, 3), 128, np.uint8)
    picture = overlay_instances(photo, two_halves(), alpha=1.0, captions=False, min_side=60)
    colors = distinct_colors(2)
    assert picture.shape == photo.shape
    assert picture[20, 10].tolist() == colors[0].tolist()
    assert picture[20, 50].tolist() == colors[1].tolist()
    assert (photo == 128).all()


def test_overlay_score_limit_keeps_what_is_equal():
    photo = np.full((40, 60, 3), 128, np.uint8)
    scored = two_halves()
    scored = Instances(scored.masks, scored.labels, torch.tensor([0.5, 0.25]))
    picture = overlay_instances(photo, scored, alpha=1.0, captions=False, min_score=0.5, min_side=60)
    assert picture[20, 50].tolist() == [128] * 3
    assert picture[20, 10].tolist() != [128] * 3


def test_overlay_by_class_and_enlarged():
    photo = np.zeros((40, 60, 3), np.uint8)
    one_class = Instances(two_halves().masks, torch.tensor([3, 3]))
    picture = overlay_instances(photo, one_class, ["a", "b", "c", "d"], by_class=True, alpha=1.0)
    assert picture.shape == (256, 384, 3)
    assert picture[200, 60].tolist() == picture[200, 330].tolist() == distinct_colors(4)[3].tolist()


def test_overlay_of_nothing_is_the_photo():
    photo = np.random.default_rng(0).integers(0, 255, (40, 400, 3)).astype(np.uint8)
    assert np.array_equal(overlay_instances(photo, Instances.empty((40, 400))), photo)


def test_overlay_survives_tiny_images_and_names_it_does_not_know():
    one = Instances(torch.ones((3, 1, 1), dtype=torch.bool), torch.tensor([0, 7, 2]))
    picture = overlay_instances(np.zeros((1, 1, 3), np.uint8), one, ["a"])
    assert picture.shape == (384, 384, 3)
    crowd = Instances(torch.ones((40, 30, 30), dtype=torch.bool), torch.zeros(40, dtype=torch.int64))
    assert overlay_instances(np.zeros((30, 30, 3), np.uint8), crowd, ["class"]).shape == (384, 384, 3)


def test_heat_ends_and_shapes():
    ramp = heat_ramp()
    picture = colorize_heat(torch.tensor([[0.0, 0.5], [1.0, 2.0]]))
    assert picture[0, 0].tolist() == ramp[0].tolist()
    assert picture[1, 0].tolist() == picture[1, 1].tolist() == ramp[255].tolist()
    several = colorize_heat(np.array([[[0.2]], [[1.0]]], np.float32))
    assert several[0, 0].tolist() == ramp[255].tolist()
    assert colorize_heat(np.zeros((0, 4, 5))).tolist() == np.broadcast_to(ramp[0], (4, 5, 3)).tolist()
    assert colorize_heat(np.array([[np.nan, np.inf]]))[0].tolist() == [ramp[0].tolist()] * 2
    scaled = colorize_heat(np.array([[0.0, 0.25]]), (8, 10), top=None)
    assert scaled.shape == (8, 10, 3)
    assert scaled[0, -1].tolist() == ramp[255].tolist()


def test_overlay_heat_shows_the_photo_where_nothing_is():
    photo = np.full((8, 8, 3), 200, np.uint8)
    values = np.zeros((8, 8), np.float32)
    values[4:] = 1
    picture = overlay_heat(photo, values)
    assert len(np.unique(picture[0], axis=0)) == 1
    assert picture[0, 0].tolist() == [170] * 3
    assert picture[7, 0].tolist() != [170] * 3


def test_displacement_hue_is_direction_and_white_is_rest():
    field = np.zeros((2, 1, 4), np.float32)
    field[1, 0, 1] = 3.0
    field[0, 0, 2] = 3.0
    field[1, 0, 3] = -3.0
    picture = colorize_displacement(field, reach=3.0)[0]
    assert picture[0].min() > 240
    assert picture[1].tolist() == wheel_colors(np.array(0.0), np.array(1.0)).tolist()
    assert picture[2].tolist() == wheel_colors(np.array(np.pi / 2), np.array(1.0)).tolist()
    assert picture[3].tolist() == wheel_colors(np.array(np.pi), np.array(1.0)).tolist()
    assert colorize_displacement(torch.zeros((2, 3, 4)), (6, 8)).shape == (6, 8, 3)


def test_wheel_is_a_disc():
    wheel = displacement_wheel(32)
    assert wheel.shape == (32, 32, 4)
    assert wheel[0, 0, 3] == 0
    assert wheel[16, 16, 3] == 255


def test_contact_sheet_places_panels():
    red, blue = np.zeros((10, 20, 3), np.uint8), np.zeros((20, 20, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    sheet = contact_sheet([("one", red), ("two", blue), ("three", red)], columns=2, panel_width=40, gap=4)
    assert sheet.shape[1] == 2 * 40 + 3 * 4
    assert (sheet == [255, 0, 0]).all(-1).sum() == 2 * 40 * 20
    assert (sheet == [0, 0, 255]).all(-1).sum() == 40 * 40
    bare = contact_sheet([("", red)], panel_width=20, gap=0)
    assert np.array_equal(bare, red)


def test_resize_averages_and_keeps_indices():
    assert resize(np.array([[0, 4], [0, 4]], np.float32), (1, 1)).tolist() == [[2.0]]
    assert resize(np.array([[1, 9]], np.uint8), (2, 4), smooth=False).tolist() == [[1, 1, 9, 9]] * 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: overlay_instances(np.zeros((4, 4)), two_halves()),
            r"image must be \[H, W, 3\] uint8 with pixels",
        ),
        (lambda: overlay_instances(np.zeros((4, 4, 3), np.uint8), two_halves()), r"image's size \[4, 4\]"),
        (lambda: overlay_heat(np.zeros((0, 4, 3), np.uint8), np.zeros((2, 2))), "with pixels"),
        (lambda: colorize_heat(np.zeros(3)), r"values must be \[h, w\] or \[K, h, w\]"),
        (
            lambda: colorize_displacement(np.zeros((3, 4, 4))),
            r"displacement must be \[2, h, w\], got \[3, 4, 4\]",
        ),
        (lambda: contact_sheet([]), "panels must not be empty"),
        (lambda: contact_sheet([("a", np.zeros((4, 4, 3)))]), r"panels\[0\]: image must be"),
    ],
)
def test_rejects(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_points_are_ringed_and_the_image_is_kept():
    image = np.full((40, 60, 3), 90, np.uint8)
    marked = mark_points(image, [(0, 0, 2, 1.0), (30, 20)])
    changed = (marked != image).any(2)
    assert changed[:8, :8].any()
    assert changed[14:27, 24:37].any()
    assert (marked[20, 30] == 90).all()
    assert not changed[30:].any()
    assert (image == 90).all()
    assert np.array_equal(mark_points(image, []), image)
