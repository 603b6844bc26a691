"""trace_displacement against a loop of NumPy steps, at the size of a 375 x 500 image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.baselines.trace_displacement import trace_displacement as numpy_trace
from wsis import ops

pytestmark = pytest.mark.benchmark(group="trace_displacement 4 x 94 x 125, 300 steps")
STEPS = 300


@pytest.fixture(scope="module")
def displacement() -> torch.Tensor:
    """A smooth field in which pixels travel some ten cells and turn around each other."""
    noise = torch.randn(4, 2, 94, 125, generator=torch.Generator().manual_seed(0))
    return 6 * F.avg_pool2d(noise, 9, 1, 4)


@pytest.fixture(scope="module", autouse=True)
def results_agree(displacement) -> None:
    """The two sum a bilinear sample in different order, which may turn a trace at a fork."""
    ours = ops.trace_displacement(displacement, STEPS).numpy()
    theirs = numpy_trace(displacement.numpy(), STEPS)
    assert np.mean(np.any(ours != theirs, axis=1)) < 5e-3


def test_wsis(benchmark, displacement):
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark.extra_info.update(target=20, peer="numpy")
    benchmark(ops.trace_displacement, displacement, STEPS)


def test_numpy(benchmark, displacement):
    benchmark.extra_info["threads"] = 1
    benchmark.pedantic(numpy_trace, (displacement.numpy(), STEPS), rounds=2)
