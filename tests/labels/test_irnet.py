"""The IRNet instance step against the reference's golden answers, by hand, and on degenerate input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.golden_cases import SEEDS, load_scene, tensor, unpack_masks
from wsis.errors import ConfigError
from wsis.labels import irnet, winners
from wsis.structures import Instances


def tensors(case):
    cams, boundary, displacement = (tensor(case, name) for name in ("in_cams", "in_edge", "in_dp"))
    return cams, tensor(case, "in_keys"), boundary, displacement, tuple(case["in_image_size"].tolist())


@pytest.mark.parametrize("seed", SEEDS)
def test_clusters_equal_the_reference(seed):
    case = load_scene(seed)
    clusters = irnet.cluster_pixels(tensor(case, "in_dp")[None])[0]
    assert (clusters.numpy() == case["cluster_map"]).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_walked_pieces_equal_the_reference(seed):
    case = load_scene(seed)
    cams, classes, boundary, displacement, size = tensors(case)
    made = irnet.propagate(
        cams, classes, torch.zeros_like(classes), boundary[None], displacement[None], size, irnet.Config()
    )
    clusters = tensor(case, "cluster_map")
    count = int(clusters.max()) + 1
    want = tensor(case, "walked")
    nonempty = torch.stack([(cam * (clusters == i)).max() > 0 for cam in cams for i in range(count)])
    assert made.walked.shape[0] == int(nonempty.sum())
    assert (made.walked - want[nonempty]).abs().max() <= 1e-4 * want.max()
    assert want[~nonempty].abs().sum() == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_instances_equal_the_reference(seed):
    case = load_scene(seed)
    cams, classes, boundary, displacement, size = tensors(case)
    found = irnet.instances_from_cam(cams, classes, boundary, displacement, size)
    masks = unpack_masks(case, "det_mask")
    assert found.labels.tolist() == case["det_class"].tolist()
    assert found.masks.dtype == torch.bool
    assert (found.masks != masks).any(0).float().mean() <= 1e-3
    assert np.abs(found.scores.numpy() - case["det_score"]).max() <= 1e-4


@pytest.mark.parametrize("seed", SEEDS)
def test_semantic_is_the_argmax_of_the_walked_maps(seed):
    case = load_scene(seed)
    cams, classes, boundary, _, (height, width) = tensors(case)
    got = irnet.semantic_from_cam(cams, classes, boundary, (height, width))
    walked = tensor(case, "walked_semantic")
    large = torch.nn.functional.interpolate(walked[None], scale_factor=4, mode="bilinear")[0, :, :height, :width]
    large = torch.cat([torch.full_like(large[:1], 0.25), large / large.max()])
    want = torch.cat([torch.zeros(1, dtype=torch.int64), classes + 1])[large.argmax(0)]
    assert got.dtype == torch.uint8
    assert (got != want).float().mean() <= 1e-3


def test_batch_equals_one_by_one():
    cases = [load_scene(seed) for seed in SEEDS]
    size = tuple(cases[0]["in_image_size"].tolist())
    cams = torch.cat([tensor(case, "in_cams") for case in cases])
    classes = torch.cat([tensor(case, "in_keys") for case in cases])
    index = torch.cat([torch.full((len(case["in_keys"]),), b) for b, case in enumerate(cases)])
    boundary = torch.stack([tensor(case, "in_edge") for case in cases])
    displacement = torch.stack([tensor(case, "in_dp") for case in cases])
    made = irnet.propagate(cams, classes, index, boundary, displacement, size, irnet.Config(), semantic=True)
    together = made.instances.to_instances()
    for b, case in enumerate(cases):
        alone = irnet.instances_from_cam(*tensors(case))
        assert torch.equal(together[b].masks, alone.masks)
        assert torch.equal(together[b].labels, alone.labels)
        assert torch.equal(together[b].scores, alone.scores)
        semantic = irnet.semantic_from_cam(*tensors(case)[:3], size)
        assert torch.equal(made.semantic[b].to(torch.uint8), semantic)


def two_squares(gap: int = 2):
    """Two separated 8x8 squares of class 3 on a 16x32 grid, displacements pointing at their centres."""
    cams, displacement = torch.zeros(1, 16, 32), torch.zeros(2, 16, 32)
    boundary = torch.full((16, 32), 0.0)
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(32.0), indexing="ij")
    for left in (4, 4 + 8 + gap):
        cams[0, 4:12, left : left + 8] = 1
        boundary[3:13, left - 1 : left + 9] = 1
        boundary[4:12, left : left + 8] = 0
    middle = columns < 12 + gap / 2
    displacement[0] = 8 - rows
    displacement[1] = torch.where(middle, 8 - columns, 16 + gap - columns)
    return cams, torch.tensor([3]), boundary, displacement, (64, 128)


def test_two_squares_are_two_instances_by_hand():
    found = irnet.instances_from_cam(*two_squares())
    assert found.labels.tolist() == [3, 3]
    assert found.masks[0, 32, 32]
    assert found.masks[1, 32, 72]
    assert not (found.masks[0] & found.masks[1]).any()
    assert found.scores.max() == 1


def test_small_components_keep_their_row_with_score_zero():
    cams, classes, boundary, displacement, size = two_squares()
    cams[0, :, 14:] = 0
    cams[0, 7, 20] = 1
    tight = irnet.Config(min_area=0.5)
    found = irnet.instances_from_cam(cams, classes, boundary, displacement, size, tight)
    assert len(found) >= 1
    assert found.scores.abs().max() == 0


def test_min_area_is_not_small_at_exactly_the_limit():
    cams, classes, boundary, displacement, size = two_squares()
    found = irnet.instances_from_cam(cams, classes, boundary, displacement, size)
    area = int(found.masks[0].sum())
    at = irnet.Config(min_area=area / (size[0] * size[1]))
    assert irnet.instances_from_cam(cams, classes, boundary, displacement, size, at).scores[0] > 0
    above = irnet.Config(min_area=(area + 1) / (size[0] * size[1]))
    assert irnet.instances_from_cam(cams, classes, boundary, displacement, size, above).scores[0] == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (3, 5), (37, 4)])
def test_tiny_images(size):
    grid = irnet.grid_size(size)
    found = irnet.instances_from_cam(
        torch.ones(2, *grid), torch.tensor([0, 7]), torch.zeros(grid), torch.zeros(2, *grid), size
    )
    assert found.masks.shape == (1, *size)
    assert found.masks.all()
    assert found.labels.tolist() == [0]
    assert irnet.semantic_from_cam(torch.ones(1, *grid), torch.tensor([4]), torch.zeros(grid), size).eq(5).all()


def test_nothing_active_is_no_instance_and_all_background():
    grid, size = (6, 8), (24, 32)
    zero = torch.zeros(2, *grid)
    found = irnet.instances_from_cam(zero, torch.tensor([0, 1]), torch.zeros(grid), zero, size)
    assert isinstance(found, Instances)
    assert found.masks.shape == (0, *size)
    assert irnet.semantic_from_cam(zero, torch.tensor([0, 1]), torch.zeros(grid), size).sum() == 0


def test_no_class_is_no_instance():
    grid, size = (6, 8), (24, 32)
    none = torch.zeros(0, *grid)
    found = irnet.instances_from_cam(none, torch.zeros(0), torch.rand(grid), torch.zeros(2, *grid), size)
    assert len(found) == 0
    assert irnet.semantic_from_cam(none, torch.zeros(0), torch.rand(grid), size).sum() == 0


def test_pixels_that_arrive_nowhere_are_a_group():
    displacement = torch.full((1, 2, 4, 40), 0.0)
    displacement[:, 1, :, :20] = 3.0
    displacement[:, 1, :, 20:] = -3.0
    clusters = irnet.cluster_pixels(displacement)
    assert clusters.unique().tolist() == [0]
    displacement[:, 1, :, 38:] = 0
    assert irnet.cluster_pixels(displacement).unique().tolist() == [0, 1]


def test_pruned_channels_change_nothing(monkeypatch):
    case = load_scene(SEEDS[0])
    pruned = irnet.instances_from_cam(*tensors(case))
    monkeypatch.setattr(winners, "contenders", lambda walked, *_: torch.arange(walked.shape[0]))
    full = irnet.instances_from_cam(*tensors(case))
    assert torch.equal(pruned.masks, full.masks)
    assert torch.equal(pruned.scores, full.scores)


def test_chunks_change_nothing(monkeypatch):
    cases = [load_scene(seed) for seed in SEEDS]
    walked = torch.cat([tensor(case, "walked") for case in cases])
    index = torch.cat([torch.full((len(case["walked"]),), b) for b, case in enumerate(cases)])
    whole = winners.strongest(walked, index, 3, (189, 255), 0.25)
    monkeypatch.setattr(winners, "_CHUNK_BYTES", 1)
    parts = winners.strongest(walked, index, 3, (189, 255), 0.25)
    assert torch.equal(whole[0], parts[0])
    assert torch.equal(whole[1], parts[1])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"cams": None}, TypeError, "cams must be a tensor"),
        ({"cams": torch.zeros(1, 3, 3)}, ValueError, "stride-4 grid"),
        ({"cams": torch.zeros(1, 6, 8, dtype=torch.int64)}, ValueError, "cams must be float"),
        ({"classes": torch.zeros(2, dtype=torch.int64)}, ValueError, "classes must be"),
        ({"classes": torch.zeros(1)}, TypeError, "classes must be integers"),
        ({"classes": torch.tensor([-1])}, ValueError, "at least 0, got -1"),
        ({"boundary": torch.zeros(1, 6, 8)}, ValueError, "boundary must be float"),
        ({"displacement": torch.zeros(1, 6, 8)}, ValueError, "displacement must be"),
        ({"image_size": (0, 5)}, ValueError, "image_size must be at least"),
        ({"image_size": (25, 32)}, ValueError, "stride-4 grid"),
        ({"boundary": torch.full((6, 8), float("nan"))}, ValueError, "finite"),
        ({"displacement": torch.full((2, 6, 8), float("inf"))}, ValueError, "finite"),
    ],
)
def test_instances_rejects_bad_arguments(change, error, words):
    arguments = {
        "cams": torch.ones(1, 6, 8),
        "classes": torch.tensor([2]),
        "boundary": torch.zeros(6, 8),
        "displacement": torch.zeros(2, 6, 8),
        "image_size": (24, 32),
    }
    assert len(irnet.instances_from_cam(**arguments)) == 1
    with pytest.raises(error, match=words):
        irnet.instances_from_cam(**(arguments | change))


def test_semantic_refuses_classes_that_would_wrap():
    cams, boundary = torch.ones(1, 6, 8), torch.zeros(6, 8)
    assert irnet.semantic_from_cam(cams, torch.tensor([253]), boundary, (24, 32)).eq(254).all()
    with pytest.raises(ValueError, match="at most 253"):
        irnet.semantic_from_cam(cams, torch.tensor([254]), boundary, (24, 32))


def test_config_names_every_value_out_of_range():
    with pytest.raises(ConfigError) as caught:
        irnet.Config(background=1.5, radius=0, beta=-1, walk_tol=float("nan"))
    assert len(caught.value.problems) == 4
    irnet.Config(background=1.0, radius=2, beta=0)


def test_the_score_is_the_largest_or_the_mean_value_of_a_component():
    winner = torch.zeros((1, 4, 6), dtype=torch.int64)
    winner[0, :2, :3], winner[0, 3, 4:] = 2, 1
    value = torch.arange(24.0).view(1, 4, 6) / 24
    classes = torch.tensor([5, 7])
    rows, area, _ = irnet.component_table(winner, value, classes, 0.1)
    assert rows.label.tolist() == [5, 7]
    assert area.tolist() == [2, 6]
    assert rows.score.tolist() == pytest.approx([0.0, 8 / 24])
    rows, _, _ = irnet.component_table(winner, value, classes, 0.0, "mean")
    assert rows.score.tolist() == pytest.approx([22.5 / 24, 4 / 24])
    with pytest.raises(ConfigError, match="score = 'best', expected max or mean"):
        irnet.Config(score="best")
