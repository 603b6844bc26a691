"""Peak points against maps and maxima computed one by one, and the middles of masks by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import maximum_filter, uniform_filter

from wsis.errors import ConfigError
from wsis.labels.points import Config, center_points, peak_maps, peak_points
from wsis.models import build_peak_net
from wsis.structures import Instances


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(1)
    return build_peak_net("tiny", 4, alpha=0.5, width=8).eval()


@pytest.fixture(scope="module")
def image():
    return torch.randint(0, 256, (3, 50, 71), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def plain_map(net, image, label, side):
    """One class at a time, image and mirror in passes of their own."""
    pixels = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((side, side), Image.Resampling.BILINEAR)
    mean, std = (np.array(v, dtype=np.float32) for v in net.backbone.normalization)
    x = torch.from_numpy((np.asarray(pixels, dtype=np.float32) - mean) / std).permute(2, 0, 1)[None]
    halves = []
    for mirrored in (False, True):
        values = net(x.flip(3) if mirrored else x).maps[0, label].clamp(min=0)
        values = F.interpolate(values[None, None], image.shape[1:], mode="bilinear", align_corners=False)[0, 0].numpy()
        values = values / (values.max() + 1e-5)
        halves.append(values[:, ::-1] if mirrored else values)
    return uniform_filter(sum(halves) / 2, 3, mode="constant")


def test_maps_are_those_of_image_and_mirror(net, image):
    maps = peak_maps(net, image, [3, 1], 64)
    assert maps.shape == (2, 50, 71)
    for row, label in enumerate((3, 1)):
        np.testing.assert_allclose(maps[row].numpy(), plain_map(net, image, label, 64), atol=1e-5)
    assert float(maps.max()) > 0.3


def test_points_are_the_strongest_maxima_of_each_class(net, image):
    config = Config(side=64, window=9, top=3, threshold=0.2)
    maps = peak_maps(net, image, [0, 2], 64).numpy()
    rows = peak_points(net, image, [0, 2], config)
    assert rows
    for place, label in enumerate((0, 2)):
        heat = maps[place]
        peaks = (heat == maximum_filter(heat, 9, mode="constant", cval=-1)) & (heat >= np.float32(0.2))
        want = sorted((-float(heat[y, x]), int(y), int(x)) for y, x in zip(*np.nonzero(peaks)))[:3]
        assert [(-score, y, x) for x, y, c, score in rows if c == label] == want
    assert [row[2] for row in rows] == sorted(row[2] for row in rows)


class Constant:
    """A network whose maps are given."""

    def __init__(self, maps):
        self.maps = maps
        self.classifier = torch.nn.Conv2d(1, 1, 1)
        self.backbone = type("Body", (), {"normalization": ((0.0,) * 3, (1.0,) * 3)})

    def __call__(self, x):
        return type("Output", (), {"maps": torch.stack([self.maps, self.maps.flip(2)])})


def test_the_threshold_itself_is_enough_and_nothing_gives_nothing():
    heat = torch.zeros(1, 20, 20)
    heat[0, 9:12, 4:7] = 1 + 1e-5
    net, image = Constant(heat), torch.zeros((3, 20, 20), dtype=torch.uint8)
    top = float(peak_maps(net, image, [0]).max())
    assert peak_points(net, image, [0], Config(threshold=top)) == [(5, 10, 0, pytest.approx(top))]
    assert peak_points(net, image, [0], Config(threshold=float(np.nextafter(np.float32(top), np.float32(1))))) == []
    assert peak_points(net, image, []) == []
    assert peak_points(Constant(heat * 0), image, [0]) == []
    with pytest.raises(ArithmeticError, match="not finite"):
        peak_points(Constant(heat * float("nan")), image, [0])


def test_middles_of_masks():
    masks = torch.zeros(4, 9, 9, dtype=torch.bool)
    masks[0, 2:5, 3:8] = True
    masks[1, 0, 0] = True
    masks[2, :, 0] = masks[2, 8, :] = True
    instances = Instances(masks, torch.tensor([2, 0, 1, 1]))
    rows = center_points(instances)
    assert rows[:2] == [(5, 3, 2, 1.0), (0, 0, 0, 1.0)]
    assert len(rows) == 3
    x, y = rows[2][:2]
    assert masks[2, y, x]
    assert center_points(Instances(masks[:0], torch.zeros(0, dtype=torch.int64))) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"window": 14}, "window = 14, expected an odd number"),
        ({"window": 103}, "window = 103, expected 1 to 101"),
        ({"threshold": 1.5}, "threshold = 1.5, expected 0 to 1"),
        ({"threshold": float("nan")}, "threshold = nan"),
        ({"top": 0}, "top = 0, expected 1 to"),
        ({"side": 8}, "side = 8, expected 16 to 4096"),
    ],
)
def test_settings_out_of_range(change, words):
    with pytest.raises(ConfigError, match=words):
        Config(**change)
