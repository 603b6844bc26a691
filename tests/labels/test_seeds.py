"""Seed maps against the reference's golden answers, and at the edges."""

from __future__ import annotations

import pytest
import torch

from tests.golden_cases import SEEDS, load_scene, tensor
from wsis.errors import ConfigError
from wsis.labels import seeds


def inputs(case):
    return tensor(case, "in_rgb").permute(2, 0, 1), tensor(case, "in_cams"), tensor(case, "in_keys")


@pytest.mark.parametrize("seed", SEEDS)
def test_seed_labels_equal_the_reference(seed):
    case = load_scene(seed)
    image, cams, keys = inputs(case)
    got = seeds.seed_labels(image, cams, keys)
    assert got.dtype == torch.uint8
    assert (got == tensor(case, "ir_label")).float().mean() >= 0.999


def test_batch_equals_one_by_one():
    cases = [load_scene(seed) for seed in SEEDS]
    parts = [inputs(case) for case in cases]
    none = torch.zeros(0, 48, 64)
    images = torch.stack([parts[0][0], parts[0][0], *(part[0] for part in parts[1:])])
    cams = torch.cat([none, *(part[1] for part in parts)])
    classes = torch.cat([part[2] for part in parts])
    index = torch.cat([torch.full((len(part[2]),), b + 1) for b, part in enumerate(parts)])
    made = seeds.seed_labels_batch(images, cams, classes, index, seeds.Config())
    assert made[0].sum() == 0
    for b, part in enumerate(parts):
        assert torch.equal(made[b + 1], seeds.seed_labels(*part))


def test_no_class_is_all_background():
    image = torch.randint(0, 256, (3, 7, 9), dtype=torch.uint8)
    assert seeds.seed_labels(image, torch.zeros(0, 7, 9), torch.zeros(0)).sum() == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3)])
def test_tiny_images(size):
    image = torch.full((3, *size), 90, dtype=torch.uint8)
    sure = seeds.seed_labels(image, torch.ones(1, *size), torch.tensor([4]))
    assert sure.eq(5).all()
    assert seeds.seed_labels(image, torch.zeros(1, *size), torch.tensor([4])).eq(0).all()
    assert seeds.seed_labels(image, torch.full((1, *size), 0.2), torch.tensor([4])).eq(255).all()


def test_scores_at_the_thresholds_are_background():
    image = torch.full((3, 4, 4), 90, dtype=torch.uint8)
    at = torch.full((1, 4, 4), 0.30)
    assert seeds.seed_labels(image, at, torch.tensor([0])).eq(255).all()
    assert seeds.seed_labels(image, at, torch.tensor([0]), foreground=0.25).eq(1).all()
    low = torch.full((1, 4, 4), 0.05)
    assert seeds.seed_labels(image, low, torch.tensor([0])).eq(0).all()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"image": None}, TypeError, "image must be a tensor"),
        ({"image": torch.zeros(3, 4, 5)}, ValueError, "image must be"),
        ({"image": torch.zeros(4, 4, 5, dtype=torch.uint8)}, ValueError, "image must be"),
        ({"cams": torch.zeros(1, 4, 4)}, ValueError, "cams must be"),
        ({"cams": torch.full((1, 4, 5), float("nan"))}, ValueError, "finite"),
        ({"classes": torch.tensor([1, 2])}, ValueError, "classes must be"),
        ({"classes": torch.tensor([1.0])}, TypeError, "integers"),
        ({"classes": torch.tensor([-1])}, ValueError, "0..253"),
        ({"classes": torch.tensor([254])}, ValueError, "0..253"),
        ({"foreground": 0.01}, ConfigError, "below background"),
        ({"foreground": 1.5}, ConfigError, "expected 0 to 1"),
        ({"background": float("nan")}, ConfigError, "expected 0 to 1"),
    ],
)
def test_seed_labels_rejects_bad_arguments(change, error, words):
    good = {
        "image": torch.zeros(3, 4, 5, dtype=torch.uint8),
        "cams": torch.ones(1, 4, 5),
        "classes": torch.tensor([253]),
    }
    assert seeds.seed_labels(**good).eq(254).all()
    with pytest.raises(error, match=words):
        seeds.seed_labels(**(good | change))


def test_config_rejects_bad_kernels():
    with pytest.raises(ConfigError) as caught:
        seeds.Config(gt_prob=1.0, steps=-1, spatial=(0.0, 3.0), bilateral=(1.0, 2.0))
    assert len(caught.value.problems) == 4
