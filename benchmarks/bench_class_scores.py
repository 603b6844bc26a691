"""``class_scores`` beside the softmax of all channels and a gather."""

from __future__ import annotations

import pytest
import torch

from benchmarks.inputs import blobs
from wsis import ops

BATCH, CLASSES, SIZE = 4, 20, 416
GROUP = f"class_scores {BATCH}x{CLASSES + 1}x{SIZE}x{SIZE}, a third labelled"


def by_softmax(semantic: torch.Tensor, center: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    index = labels[:, None].long()
    probability = semantic.softmax(1).gather(1, index)[:, 0]
    heat = center.gather(1, (index - 1).clamp_min(0))[:, 0]
    return probability * (labels > 0), heat * (labels > 0)


@pytest.fixture(scope="module")
def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    semantic = torch.randn(BATCH, CLASSES + 1, SIZE, SIZE, generator=g) * 4
    center = torch.randn(BATCH, CLASSES, SIZE, SIZE, generator=g)
    mask = torch.from_numpy(blobs(BATCH, SIZE, 8, 0.33)) != 0
    return semantic, center, (mask * torch.tensor([3, 7, 20, 1])[:, None, None]).to(torch.int32)


@pytest.mark.benchmark(group=GROUP)
def test_class_scores(benchmark, case):
    for got, want in zip(ops.class_scores(*case), by_softmax(*case)):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark(ops.class_scores, *case)


@pytest.mark.benchmark(group=GROUP)
def test_softmax_and_gather(benchmark, case):
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark(by_softmax, *case)
