"""The three losses of BESTIE against the golden cases, and where nothing is supervised."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tests.golden_cases import SEEDS, load_scene, tensor
from wsis.losses import center_offset as losses
from wsis.models import CenterOffsetOutput
from wsis.structures import CenterOffsetTarget


def target_of(scene, name: str = "pseudo_cls") -> CenterOffsetTarget:
    return CenterOffsetTarget(*(tensor(scene, f"{name}_{part}")[None] for part in ("center", "offset", "weight")))


def prediction_of(scene) -> SimpleNamespace:
    return SimpleNamespace(
        semantic=tensor(scene, "in_seg_logits")[None],
        center=tensor(scene, "in_center")[None],
        offset=tensor(scene, "in_offset")[None],
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_losses_match_golden(seed: int):
    scene = load_scene(seed)
    prediction, target = prediction_of(scene), target_of(scene)
    made = losses.center_offset_loss(prediction, tensor(scene, "in_ir_label")[None], target)
    for name, got in (("loss_seg", made.semantic), ("loss_center", made.center), ("loss_offset", made.offset)):
        assert got.item() == pytest.approx(float(scene[name]), rel=1e-4, abs=1e-6)
    assert made.total.item() == pytest.approx(
        made.semantic.item() + 200 * made.center.item() + 0.01 * made.offset.item(), rel=1e-6
    )


def test_refined_targets_are_averaged_in():
    scene = load_scene(0)
    prediction, pseudo, refined = prediction_of(scene), target_of(scene), target_of(scene, "refine_cls")
    semantic = tensor(scene, "in_ir_label")[None]
    first, second = (losses.center_offset_loss(prediction, semantic, t) for t in (pseudo, refined))
    both = losses.center_offset_loss(prediction, semantic, pseudo, refined)
    assert torch.allclose(both.center, (first.center + second.center) / 2)
    assert torch.allclose(both.offset, (first.offset + second.offset) / 2)
    points = losses.center_offset_loss(prediction, semantic, pseudo, refined, supervision="point")
    assert torch.equal(points.center, first.center)
    assert torch.equal(points.offset, both.offset)


def test_hardest_pixels_count_ignored_ones_among_all():
    logits = torch.zeros(1, 2, 2, 5)
    target = torch.full((1, 2, 5), 255)
    target[0, 0, 0] = 1
    assert losses.semantic_loss(logits, target).item() == pytest.approx(torch.tensor(2.0).log().item() / 2)
    assert losses.semantic_loss(logits, torch.full_like(target, 255)).item() == 0


def test_nothing_supervised_costs_nothing_and_has_a_gradient():
    center = torch.randn(2, 3, 4, 5, requires_grad=True)
    nothing = CenterOffsetTarget(torch.ones(2, 3, 4, 5), torch.ones(2, 2, 4, 5), torch.zeros(2, 1, 4, 5))
    loss = losses.center_loss(center, nothing)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(center.grad, torch.zeros_like(center))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("count", [1, 2])
def test_gradients_are_those_of_the_formula(layout, count):
    g = torch.Generator().manual_seed(0)
    center, offset = (torch.randn(3, k, 5, 7, generator=g).contiguous(memory_format=layout) for k in (4, 2))
    targets = []
    for _ in range(count):
        weight = torch.rand(3, 1, 5, 7, generator=g) * (torch.rand(3, 1, 5, 7, generator=g) > 0.5)
        parts = (torch.randn(3, k, 5, 7, generator=g) for k in (4, 2))
        targets.append(CenterOffsetTarget(*parts, weight))

    def formula(maps, name, power):
        made = [((maps - getattr(t, name)).abs() ** power * t.weight).sum() / (t.weight > 0).sum() for t in targets]
        return sum(made) / count

    cases = (losses.center_loss, center, "center", 2), (losses.offset_loss, offset, "offset", 1)
    for loss, maps, name, power in cases:
        ours, plain = (maps.clone().requires_grad_() for _ in range(2))
        value, expected = loss(ours, *targets), formula(plain, name, power)
        torch.testing.assert_close(value, expected)
        (3 * value).backward(retain_graph=True)
        (3 * value).backward()
        (6 * expected).backward()
        torch.testing.assert_close(ours.grad, plain.grad)


def test_a_centre_that_no_label_knows_costs_without_guidance_alone():
    weight = torch.zeros(1, 1, 8, 8)
    weight[..., :4] = 1
    pseudo = CenterOffsetTarget(torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8), weight)
    center = torch.zeros(1, 2, 8, 8)
    center[0, 0, 2, 6] = 1.0
    refined = CenterOffsetTarget(center, torch.zeros(1, 2, 8, 8), 1 - weight)
    prediction = CenterOffsetOutput(torch.zeros(1, 3, 8, 8), center, torch.ones(1, 2, 8, 8))
    semantic = torch.zeros(1, 8, 8, dtype=torch.uint8)
    for guidance, others, supervision, expected in (
        (True, None, "image", 0.0),
        (False, None, "image", 1 / 64),
        (False, refined, "image", 1 / 128),
        (False, refined, "point", 1 / 64),
    ):
        made = losses.center_offset_loss(
            prediction, semantic, pseudo, others, supervision=supervision, guidance=guidance
        )
        assert (made.center.item(), made.offset.item()) == (pytest.approx(expected), 2.0)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"semantic_loss: hardest must be .*got 0"):
        losses.semantic_loss(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3), 0)
    with pytest.raises(ValueError, match="semantic_loss: expected"):
        losses.semantic_loss(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 4))
    target = CenterOffsetTarget(torch.ones(1, 3, 4, 5), torch.ones(1, 2, 4, 5), torch.zeros(1, 1, 4, 5))
    with pytest.raises(ValueError, match="center_loss: prediction must have the shape"):
        losses.center_loss(torch.zeros(1, 2, 4, 5), target)
    with pytest.raises(ValueError, match="supervision must be"):
        losses.center_offset_loss(None, None, target, supervision="box")
