"""BESTIE's label functions against the golden cases."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tests.golden_cases import SEEDS, bestie_instances, load_scene, tensor
from wsis.labels import center_offset
from wsis.structures import CenterOffsetTarget, Points

ALL_SEEDS = pytest.mark.parametrize("seed", SEEDS)


def inputs(scene) -> tuple[SimpleNamespace, torch.Tensor, Points, torch.Tensor]:
    """Prediction, semantic map, points and image labels."""
    prediction = SimpleNamespace(
        semantic=tensor(scene, "in_seg_logits")[None],
        center=tensor(scene, "in_center")[None],
        offset=tensor(scene, "in_offset")[None],
    )
    points = Points.from_rows([scene["in_points"].tolist()])
    return prediction, tensor(scene, "in_cmap")[None], points, tensor(scene, "in_label")[None]


def assert_target(target: CenterOffsetTarget, scene, name: str, parts=("center", "offset", "weight")) -> None:
    for part in parts:
        expected = tensor(scene, f"{name}_{part}")
        torch.testing.assert_close(getattr(target, part)[0], expected, rtol=0, atol=1e-4)
        assert torch.equal(getattr(target, part)[0] != 0, expected != 0)


@ALL_SEEDS
@pytest.mark.parametrize(("supervision", "name"), [("image", "pseudo_cls"), ("point", "pseudo_point")])
def test_pseudo_targets_match_golden(seed: int, supervision: str, name: str):
    scene = load_scene(seed)
    _, semantic, points, labels = inputs(scene)
    assert_target(center_offset.pseudo_targets(semantic, points, labels, supervision=supervision), scene, name)


@ALL_SEEDS
def test_refine_matches_golden(seed: int):
    scene = load_scene(seed)
    prediction, semantic, points, labels = inputs(scene)
    assert_target(center_offset.refine(prediction, semantic, labels), scene, "refine_cls")
    by_points = center_offset.refine(prediction, semantic, labels, points)
    assert_target(by_points, scene, "refine_point", ("offset", "weight"))
    assert_target(by_points, scene, "pseudo_point", ("center",))


@ALL_SEEDS
def test_decode_matches_golden(seed: int):
    scene = load_scene(seed)
    prediction, _, _, labels = inputs(scene)
    (found,) = center_offset.decode(prediction, labels)
    expected = bestie_instances(scene)
    assert torch.equal(found.labels, expected.labels)
    assert torch.equal(found.masks, expected.masks)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-4)


@ALL_SEEDS
def test_semantic_map_of_the_prediction_matches_golden(seed: int):
    scene = load_scene(seed)
    prediction, _, _, labels = inputs(scene)
    fields = center_offset.inputs.fields_of("test", prediction, True)
    strongest = center_offset.inference.predicted_labels("test", fields, labels, None)
    assert torch.equal(strongest[0], tensor(scene, "bestie_seg").to(torch.int32))
