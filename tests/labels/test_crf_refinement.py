"""The optional CRF after the random walk: borders go to the photograph's edges and nothing else changes."""

from __future__ import annotations

import pytest
import torch

from tests.golden_cases import SEEDS, load_scene, tensor
from wsis import ops
from wsis.errors import ConfigError
from wsis.labels import irnet
from wsis.labels.crf_refinement import _without_specks, crf_refinement


def photographs():
    """Two pictures, bright squares on dark ground, and maps whose squares are two pixels too wide."""
    images = torch.full((2, 3, 40, 48), 20, dtype=torch.uint8)
    winner = torch.zeros((2, 40, 48), dtype=torch.int64)
    images[0, :, 8:20, 6:18] = 220
    winner[0, 8:20, 4:20] = 1
    images[1, :, 10:30, 24:40] = 200
    images[1, :, 2:9, 2:12] = 120
    winner[1, 10:30, 22:42] = 4
    winner[1, 2:9, 2:14] = 2
    return images, winner, torch.tensor([0, 1, 1, 1])


def test_borders_go_to_the_edges_of_the_photograph():
    images, winner, of_image = photographs()
    refined = crf_refinement(images, winner, of_image, 0.55)
    want = torch.zeros_like(winner)
    want[0, 8:20, 6:18] = 1
    want[1, 10:30, 24:40] = 4
    want[1, 2:9, 2:12] = 2
    assert (refined != want).float().mean() < 0.002
    assert (winner != want).float().mean() > 0.02


def test_a_batch_equals_one_image_at_a_time():
    images, winner, of_image = photographs()
    refined = crf_refinement(images, winner, of_image, 0.55)
    assert torch.equal(refined[:1], crf_refinement(images[:1], winner[:1], of_image[:1], 0.55))
    alone = crf_refinement(images[1:], (winner[1:] - 1).clamp_min(0), of_image[1:] - 1, 0.55)
    assert torch.equal(refined[1:], torch.where(alone > 0, alone + 1, 0))


def test_numbering_of_the_channels_does_not_matter():
    """The second picture's channels are 1 and 3 of its three; the CRF sees labels 0, 1 and 2."""
    images, winner, of_image = photographs()
    labels = torch.where(winner[1] == 4, 2, torch.where(winner[1] == 2, 1, 0))
    direct = ops.dense_crf(images[1:], labels[None].int(), [3], gt_prob=0.7)[0]
    refined = crf_refinement(images, winner, of_image, 0.7)[1]
    assert torch.equal(refined, torch.tensor([0, 2, 4])[direct.long()])


def test_specks_are_given_to_what_surrounds_them():
    labels = torch.zeros((2, 20, 30), dtype=torch.int64)
    labels[0, :, 15:] = 2
    labels[0, 3:8, 3:8] = 1
    labels[0, 10:14, 20:22] = 0
    labels[1, 0, 0] = 3
    cleaned = _without_specks(labels)
    want = torch.zeros_like(labels)
    want[0, :, 15:] = 2
    assert torch.equal(cleaned, want)
    tiny = torch.arange(12).view(1, 3, 4)
    assert torch.equal(_without_specks(tiny), tiny)


def test_maps_of_one_label_and_of_too_many_stay():
    images, winner, of_image = photographs()
    assert torch.equal(crf_refinement(images, torch.zeros_like(winner), of_image, 0.5), torch.zeros_like(winner))
    many = torch.arange(40 * 48).view(1, 40, 48) % 300
    assert torch.equal(crf_refinement(images[:1], many, torch.zeros(299, dtype=torch.int64), 0.5), many)
    none = torch.zeros((0, 4, 4), dtype=torch.int64)
    assert crf_refinement(images[:0, :, :4, :4], none, of_image[:0], 0.5).shape == (0, 4, 4)


def test_instances_and_semantic_maps_take_it_from_their_config():
    case = load_scene(SEEDS[0])
    cams, boundary, displacement = (tensor(case, name) for name in ("in_cams", "in_edge", "in_dp"))
    classes, size = tensor(case, "in_keys"), tuple(case["in_image_size"].tolist())
    image = torch.from_numpy(case["in_image"]).permute(2, 0, 1) if "in_image" in case else None
    if image is None:
        image = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain = irnet.semantic_from_cam(cams, classes, boundary, size)
    refined = irnet.semantic_from_cam(cams, classes, boundary, size, irnet.Config(semantic_crf=0.6), image)
    assert not torch.equal(plain, refined)
    assert set(refined.unique().tolist()) <= set(plain.unique().tolist())
    made = irnet.instances_from_cam(cams, classes, boundary, displacement, size, irnet.Config(crf=0.6), image)
    assert set(made.labels.tolist()) <= set(classes.tolist())
    assert not (made.masks.sum(0) > 1).any()


@pytest.mark.parametrize("image", [None, torch.zeros((3, 5, 5), dtype=torch.uint8), torch.zeros((3, 40, 48))])
def test_a_photograph_that_is_missing_or_wrong_is_refused(image):
    cams = torch.rand(1, 10, 12)
    fields = cams, torch.tensor([0]), torch.rand(10, 12)
    with pytest.raises(ValueError, match=r"semantic_crf = 0.5 needs image as \[3, 40, 48\] uint8, got"):
        irnet.semantic_from_cam(*fields, (40, 48), irnet.Config(semantic_crf=0.5), image)


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_a_trust_out_of_range_is_refused(value):
    with pytest.raises(ConfigError, match=r"irnet\.Config: crf = "):
        irnet.Config(crf=value)
