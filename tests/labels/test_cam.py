"""Multi-scale CAM against a formulation written down from the paper, and its edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from wsis.labels.cam import multi_scale_cam, multi_scale_cams
from wsis.models import CamNet, build_backbone

SCALES = (1.0, 0.5, 1.5)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return CamNet(build_backbone("tiny"), 4).eval()


def _image(height, width, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _reference(net, image, classes):
    _, height, width = image.shape
    strided = full = 0
    for scale in SCALES:
        size = (round(width * scale), round(height * scale))
        pixels = Image.fromarray(image.permute(1, 2, 0).numpy()).resize(size, Image.Resampling.BICUBIC)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in net.backbone.normalization)
        x = ((torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() - mean) / std)[None]
        with torch.no_grad():
            features, mirrored = net.backbone(x)[4], net.backbone(x.flip(-1))[4]
            maps = F.conv2d(features, net.classifier.weight).relu()
            maps = maps + F.conv2d(mirrored, net.classifier.weight).relu().flip(-1)
        grid = ((height - 1) // 4 + 1, (width - 1) // 4 + 1)
        whole = (((height - 1) // 16 + 1) * 16, ((width - 1) // 16 + 1) * 16)
        strided = strided + F.interpolate(maps, grid, mode="bilinear", align_corners=False)[0, classes]
        full = full + F.interpolate(maps, whole, mode="bilinear", align_corners=False)[0, classes]
    full = full[:, :height, :width]
    return tuple(m / (m.flatten(1).max(1).values.view(-1, 1, 1) + 1e-5) for m in (strided, full))


@pytest.mark.parametrize("size", [(48, 64), (37, 51)])
def test_both_fusions_equal_the_reference(net, size):
    image, classes = _image(*size), [3, 1]
    got = multi_scale_cam(net, image, classes, SCALES)
    for ours, theirs in zip(got, _reference(net, image, classes)):
        torch.testing.assert_close(ours, theirs)


def test_batches_change_nothing(net):
    images = [_image(40, 48, 0), _image(32, 56, 1), _image(40, 48, 2)]
    classes = [[0], [1, 2], [3]]
    together = multi_scale_cams(net, images, classes, SCALES)
    for image, present, maps in zip(images, classes, together):
        alone = multi_scale_cam(net, image, present, SCALES)
        torch.testing.assert_close(maps.strided, alone.strided)
        torch.testing.assert_close(maps.full, alone.full)


def test_no_class_and_one_pixel(net):
    maps = multi_scale_cam(net, _image(20, 30), [], SCALES)
    assert maps.strided.shape == (0, 5, 8)
    assert maps.full.shape == (0, 20, 30)
    assert multi_scale_cam(net, _image(1, 1), [2], SCALES).full.shape == (1, 1, 1)


def test_the_mode_of_the_net_is_left_as_it_was(net):
    net.train()
    multi_scale_cam(net, _image(16, 16), [0], (1.0,))
    assert net.training
    net.eval()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": torch.zeros(3, 8, 8)}, "image must be uint8"),
        ({"image": torch.zeros(8, 8, dtype=torch.uint8)}, r"image must be \[3, H, W\]"),
        ({"classes": [4]}, r"classes must lie in 0\.\.3"),
        ({"classes": [-1]}, r"classes must lie in 0\.\.3"),
        ({"classes": [0.5]}, "classes must be a list of class numbers"),
        ({"scales": ()}, "scales must be positive"),
        ({"scales": (1.0, 0.0)}, "scales must be positive"),
        ({"scales": (float("nan"),)}, "scales must be positive"),
    ],
)
def test_rejects(net, change, words):
    arguments = {"image": _image(8, 8), "classes": [0], "scales": (1.0,), **change}
    with pytest.raises((ValueError, TypeError), match=words):
        multi_scale_cam(net, **arguments)
