"""Refined labels as instances are those of which refine makes targets; predictions come back from kept fields."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.golden_cases import SEEDS, load_scene, tensor
from wsis.labels import center_offset
from wsis.labels.center_offset.inputs import Fields
from wsis.labels.center_offset.kept import prediction_of_kept
from wsis.labels.center_offset.labeller import CenterOffsetFields
from wsis.structures import Points


def case(seed):
    scene = load_scene(seed)
    maps = Fields(*(tensor(scene, f"in_{name}").float()[None] for name in ("seg_logits", "center", "offset")))
    semantic = tensor(scene, "in_cmap").to(torch.uint8)[None]
    return maps, semantic, tensor(scene, "in_label")[None], Points.from_rows([scene["in_points"].tolist()])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("by_point", [False, True])
def test_refined_instances_are_what_refine_encodes(seed, by_point):
    maps, semantic, labels, points = case(seed)
    given = points if by_point else None
    want = center_offset.refine(maps, semantic, labels, given)
    found = center_offset.refined_instances(maps, semantic, labels, given)
    assert len(found) >= 1
    made = center_offset.encode(found, maps.center.shape[1])
    torch.testing.assert_close(made.offset, want.offset)
    torch.testing.assert_close(made.weight, want.weight)
    if not by_point:
        torch.testing.assert_close(made.center, want.center)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_prediction_comes_back_from_kept_fields(seed):
    maps, _, labels, _ = case(seed)
    size = tuple(maps.offset.shape[2:])
    kept = CenterOffsetFields(*maps, labels != 0).arrays(0, None)
    back = prediction_of_kept(kept, maps.center.shape[1], size)
    assert [item.shape for item in back] == [item.shape for item in maps]
    present = (labels[0] != 0).nonzero().squeeze(1)
    close = {"rtol": 2e-3, "atol": 2e-3}
    torch.testing.assert_close(back.offset[..., ::4, ::4], maps.offset[..., ::4, ::4], **close)
    torch.testing.assert_close(back.center[:, present, ::4, ::4], maps.center[:, present, ::4, ::4], **close)
    want = maps.semantic.softmax(1)[:, present + 1]
    torch.testing.assert_close(back.semantic.softmax(1)[:, present + 1, ::4, ::4], want[..., ::4, ::4], **close)
    middle = (back.offset[..., 0, 0] + back.offset[..., 0, 4]) / 2
    torch.testing.assert_close(back.offset[..., 0, 2], middle)


def test_fields_of_another_image_and_none_at_all():
    kept = {
        "classes": np.array([1]),
        "probability": np.zeros((1, 3, 2), np.float16),
        "center": np.zeros((1, 3, 2), np.float16),
        "offset": np.zeros((2, 3, 2), np.float16),
    }
    for size in ((9, 5), (12, 8), (10, 7)):
        assert prediction_of_kept(kept, 2, size).semantic.shape == (1, 3, *size)
    with pytest.raises(ValueError, match=r"probability must be \[1, 4, 2\], got \[1, 3, 2\]"):
        prediction_of_kept(kept, 2, (13, 8))
    with pytest.raises(ValueError, match=r"classes must be 0 to 0, got \[1\]"):
        prediction_of_kept(kept, 1, (9, 5))
    none = {**kept, "classes": np.zeros(0, int), "probability": np.zeros((0, 3, 2)), "center": np.zeros((0, 3, 2))}
    assert prediction_of_kept(none, 2, (9, 5)).semantic.argmax(1).eq(0).all()
