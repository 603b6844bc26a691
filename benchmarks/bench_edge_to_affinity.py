"""edge_to_affinity against the gather + max_pool formulation, at a training crop of IRNet (128 x 128, radius 10)."""

from __future__ import annotations

import pytest
import torch

from benchmarks.baselines.gather_affinity import GatherAffinity
from wsis import ops

SIDE, RADIUS = 128, 10
FORWARD = f"edge_to_affinity {SIDE} x {SIDE}, radius {RADIUS}: forward"
BOTH = f"edge_to_affinity {SIDE} x {SIDE}, radius {RADIUS}: forward and backward"


@pytest.fixture(scope="module")
def boundary() -> torch.Tensor:
    return torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def gather() -> GatherAffinity:
    return GatherAffinity(SIDE, SIDE, RADIUS)


@pytest.fixture(scope="module", autouse=True)
def results_agree(boundary, gather) -> None:
    """On the sources that the gather formulation knows."""
    reach = RADIUS - 1
    ours = ops.edge_to_affinity(boundary, RADIUS)[:, :, : SIDE - reach, reach : SIDE - reach]
    assert torch.equal(ours, gather(boundary))


def forward_and_backward(function, boundary: torch.Tensor) -> torch.Tensor:
    leaf = boundary.clone().requires_grad_()
    (grad,) = torch.autograd.grad(function(leaf).sum(), leaf)
    return grad


@pytest.mark.benchmark(group=FORWARD)
def test_wsis_forward(benchmark, boundary):
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark(ops.edge_to_affinity, boundary, RADIUS)


@pytest.mark.benchmark(group=FORWARD)
def test_gather_forward(benchmark, boundary, gather):
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark(gather, boundary)


@pytest.mark.benchmark(group=BOTH)
def test_wsis_both(benchmark, boundary):
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark(forward_and_backward, lambda leaf: ops.edge_to_affinity(leaf, RADIUS), boundary)


@pytest.mark.benchmark(group=BOTH)
def test_gather_both(benchmark, boundary, gather):
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark(forward_and_backward, gather, boundary)
