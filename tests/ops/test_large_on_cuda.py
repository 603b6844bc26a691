"""Maps of thousands of blocks against the CPU operators: what only shows when very many threads run at once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.ops.spec import flatten, generator, map_tensors
from wsis import ops
from wsis.ops.instance_stats import instance_stats_dense
from wsis.steps import doctor
from wsis.structures import InstanceMap, Points

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
BATCH, HEIGHT, WIDTH = 3, 613, 1021


def noise(share: float, seed: int = 0) -> Tensor:
    """At a share near 0.59 (four neighbours) or 0.41 (eight) components are as ragged as they get."""
    return torch.rand(BATCH, HEIGHT, WIDTH, generator=generator(seed)) < share


def snake() -> Tensor:
    """One component that goes to and fro through the whole image."""
    path = torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool)
    path[:, 1::2] = False
    path[:, 1::4, -1], path[:, 3::4, 0] = True, True
    return path


def smooth(channels: int, cells: int, seed: int = 0) -> Tensor:
    coarse = torch.rand(BATCH, channels, HEIGHT // cells + 2, WIDTH // cells + 2, generator=generator(seed))
    return F.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)


def components(share: float = 0.45) -> Tensor:
    return ops.connected_components(noise(share)).ids


def regions() -> Tensor:
    return ops.connected_components((4 * smooth(1, 50)[:, 0]).int()).ids


def points(count: int = 200) -> Points:
    g, total = generator(1), BATCH * count
    y, x = (torch.randint(0, side, (total,), generator=g) for side in (HEIGHT, WIDTH))
    return Points(torch.arange(BATCH).repeat_interleave(count), y, x, torch.zeros_like(y), torch.ones(total))


def instances() -> InstanceMap:
    ids, found = components(), ops.instance_stats(components())
    score = torch.rand(len(found.id), generator=generator(2))
    return InstanceMap(ids, found.image_index, found.id, found.id % 3, score, found.centroid_yx.float())


def few(ids: Tensor, scores: Tensor) -> tuple[Tensor, ...]:
    return instance_stats_dense(ids, scores, capacity=9)


def many(high: int = 3) -> Tensor:
    """More images than a grid of blocks has rows."""
    return torch.randint(0, high, (70001, 2, 3), generator=generator(3), dtype=torch.int32)


def many_logits(channels: int) -> Tensor:
    return torch.randn(70001, channels, 2, 3, generator=generator(4))


def loss_and_gradient(prediction: Tensor, targets: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    leaf = prediction.clone().requires_grad_()
    loss = ops.weighted_error(leaf, targets, weights, 2)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0] * prediction.numel()


CASES = {
    "connected_components of noise, 4": lambda: (ops.connected_components, noise(0.59), 4),
    "connected_components of noise, 8": lambda: (ops.connected_components, noise(0.41), 8),
    "connected_components of a snake": lambda: (ops.connected_components, snake(), 4),
    "connected_components of labels": lambda: (lambda t: ops.connected_components(t, background=None), regions() % 5),
    "connected_components of one": lambda: (ops.connected_components, noise(2.0), 4),
    "connected_components of many images": lambda: (ops.connected_components, many(), 4),
    "filter_ids": lambda: (ops.filter_ids, components(), 3, 500),
    "filter_ids of many images": lambda: (ops.filter_ids, many(), 2),
    "instance_stats": lambda: (ops.instance_stats, components(), smooth(1, 20)[:, 0] - 0.5),
    "instance_stats of few": lambda: (few, noise(0.5).int(), noise(0.5).float()),
    "instance_stats of many images": lambda: (ops.instance_stats, many()),
    "mask_rle": lambda: (ops.mask_rle, regions()),
    "mask_rle of noise": lambda: (ops.mask_rle, noise(0.5)),
    "peaks": lambda: (ops.peaks, smooth(4, 8), 41, 0.2, 30),
    "peaks of components": lambda: (lambda h, i: ops.peaks(h, 41, 0.2, ids=i), smooth(2, 8), regions()),
    "group_pixels": lambda: (ops.group_pixels, 40 * smooth(2, 30) - 20, points(), regions()),
    "center_target": lambda: (ops.center_target, instances(), 3),
    "mask_iou": lambda: (ops.mask_iou, noise(0.3), noise(0.7, 1)),
    "class_scores of many images": lambda: (ops.class_scores, many_logits(3), many_logits(2), many()),
    "class_scores": lambda: (ops.class_scores, 9 * smooth(7, 9), smooth(6, 9), (7 * smooth(1, 60)[:, 0]).int()),
    "weighted_error": lambda: (
        loss_and_gradient, smooth(5, 9), [smooth(5, 9, 1), smooth(5, 9, 2)], [noise(0.3)[:, None].float()] * 2
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_large(case: str):
    function, *arguments = CASES[case]()
    expected = flatten(function(*arguments))
    for _ in range(3):
        for ours, theirs in zip(flatten(function(*map_tensors(arguments, Tensor.cuda))), expected, strict=True):
            if isinstance(theirs, Tensor):
                exact = not theirs.is_floating_point()
                tolerance = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-5, "atol": 1e-6}
                torch.testing.assert_close(ours.cpu(), theirs, **tolerance)
            else:
                assert ours == theirs


def test_the_doctor_is_content():
    assert [f"{check.op}: {check.problem}" for check in doctor.self_test("cuda") if check.problem] == []
