"""``peaks`` beside the usual formulation, ``max_pool2d`` with a 41x41 window."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from wsis import ops

WINDOW, THRESHOLD = 41, 0.3


def max_pool_mask(heat: torch.Tensor) -> torch.Tensor:
    pooled = F.max_pool2d(heat, WINDOW, stride=1, padding=WINDOW // 2)
    return (heat == pooled) & (heat > THRESHOLD)


@pytest.fixture(scope="module")
def heat() -> torch.Tensor:
    noise = torch.rand(2, 4, 26, 26, generator=torch.Generator().manual_seed(0))
    return F.interpolate(noise, size=(416, 416), mode="bilinear")


@pytest.mark.benchmark(group="peaks 2x4x416x416, window 41")
def test_peaks(benchmark, heat):
    assert torch.equal(ops.peak_mask(heat, WINDOW, THRESHOLD), max_pool_mask(heat))
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark.extra_info.update(target=10, peer="max_pool2d")
    benchmark(ops.peak_mask, heat, WINDOW, THRESHOLD)


@pytest.mark.benchmark(group="peaks 2x4x416x416, window 41")
def test_max_pool2d(benchmark, heat):
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark.pedantic(max_pool_mask, (heat,), rounds=3)
