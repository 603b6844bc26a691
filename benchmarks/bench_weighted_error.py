"""``weighted_error`` forward and backward beside the formula in PyTorch: the losses of a refined training step."""

from __future__ import annotations

import pytest
import torch

from wsis import ops

BATCH, CLASSES, SIZE = 4, 20, 416
GROUP = f"weighted_error {BATCH}x{CLASSES}x{SIZE}x{SIZE}, two targets, a quarter of the pixels, forward and backward"


@pytest.fixture(scope="module")
def case() -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """Weights in discs, as instances have them."""
    g = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    weights = []
    for _ in range(2):
        center = torch.randint(100, SIZE - 100, (BATCH, 1, 2, 1, 1), generator=g)
        disc = (y - center[:, :, 0]) ** 2 + (x - center[:, :, 1]) ** 2 < 117**2
        weights.append(disc * torch.rand(BATCH, 1, 1, 1, generator=g))
    prediction, *targets = (torch.rand(BATCH, CLASSES, SIZE, SIZE, generator=g) for _ in range(3))
    return prediction.requires_grad_(), targets, weights


def by_ops(prediction, targets, weights):
    loss = ops.weighted_error(prediction, targets, weights, 2)
    return loss, torch.autograd.grad(loss, prediction)[0]


def by_torch(prediction, targets, weights):
    parts = [((prediction - t) ** 2 * w).sum() / (w > 0).sum().clamp_min(1) for t, w in zip(targets, weights)]
    loss = sum(parts) / len(parts)
    return loss, torch.autograd.grad(loss, prediction)[0]


@pytest.mark.benchmark(group=GROUP)
def test_weighted_error(benchmark, case):
    torch.testing.assert_close(by_ops(*case), by_torch(*case), rtol=1e-4, atol=1e-9)
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark.pedantic(by_ops, case, rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group=GROUP)
def test_torch(benchmark, case):
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark.pedantic(by_torch, case, rounds=3)
