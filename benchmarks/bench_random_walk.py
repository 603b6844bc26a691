"""random_walk against the dense matrix power (48 x 64, 8 channels) and SciPy CSR steps (94 x 125, 8 channels)."""

from __future__ import annotations

import pytest
import torch

from benchmarks.baselines import csr_walk, dense_power
from benchmarks.cost import thread_seconds
from wsis import ops

DENSE = "random_walk 48 x 64 x 8, 256 steps: dense power"
SPARSE = "random_walk 94 x 125 x 8, 256 steps: SciPy CSR"
BATCH = "random_walk 16 images of 94 x 125 x 8, 256 steps"
WIDTHS = "random_walk 256 rows, one channel, 16 steps: no width is a trap for the cache"


def problem(height: int, width: int, channels: int = 8, batch: int = 1) -> tuple[torch.Tensor, ...]:
    """Seeds and a boundary that is low inside patches and high between them."""
    g = torch.Generator().manual_seed(0)
    patches = torch.rand(batch, 1, height // 12 + 2, width // 12 + 2, generator=g)
    field = torch.nn.functional.interpolate(patches, (height, width), mode="bilinear")[:, 0]
    boundary = torch.exp(-((field - 0.5) ** 2) / 0.004) * 0.95
    index = torch.arange(batch).repeat_interleave(channels)
    return torch.rand(channels * batch, height, width, generator=g), boundary, index


def check(walked: torch.Tensor, expected: torch.Tensor) -> None:
    assert float((walked - expected).abs().max() / expected.abs().max()) < 1e-4


@pytest.fixture(scope="module")
def dense() -> dict[str, torch.Tensor]:
    """What the dense power gave; it takes so long that it is timed and used in one."""
    return {}


def by_dense_power(dense: dict[str, torch.Tensor]) -> None:
    seeds, boundary, _ = problem(48, 64)
    dense["walked"] = dense_power.random_walk(seeds, boundary[0])


@pytest.mark.benchmark(group=DENSE)
def test_dense_power(benchmark, dense):
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark.pedantic(by_dense_power, (dense,), rounds=1)


@pytest.mark.benchmark(group=DENSE)
def test_wsis_48x64(benchmark, dense):
    seeds, boundary, _ = problem(48, 64)
    if not dense:
        by_dense_power(dense)
    check(ops.random_walk(seeds, boundary), dense["walked"])
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark.extra_info.update(target=1000, peer="dense_power")
    benchmark(ops.random_walk, seeds, boundary)


@pytest.mark.benchmark(group=SPARSE)
@pytest.mark.parametrize("method", ["chebyshev", "power"])
def test_wsis_94x125(benchmark, method):
    seeds, boundary, _ = problem(94, 125)
    expected = torch.from_numpy(csr_walk.random_walk(seeds.double().numpy(), boundary[0].double().numpy()))
    check(ops.random_walk(seeds, boundary, method=method), expected)
    benchmark.extra_info["threads"] = torch.get_num_threads()
    if method == "chebyshev":
        benchmark.extra_info.update(target=20, peer="scipy_csr")
    benchmark(ops.random_walk, seeds, boundary, method=method)


@pytest.mark.benchmark(group=SPARSE)
def test_scipy_csr(benchmark):
    seeds, boundary, _ = problem(94, 125)
    benchmark.extra_info["threads"] = 1
    benchmark.pedantic(csr_walk.random_walk, (seeds.numpy(), boundary[0].numpy()), rounds=2)


@pytest.mark.benchmark(group=BATCH)
@pytest.mark.parametrize("threads", [1, 2])
def test_batch(benchmark, threads):
    seeds, boundary, index = problem(94, 125, batch=16)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        benchmark.extra_info["threads"] = threads
        benchmark.pedantic(ops.random_walk, (seeds, boundary, index), rounds=5, warmup_rounds=1)
    finally:
        torch.set_num_threads(before)


@pytest.mark.benchmark(group="random_walk 48 x 64 x 8: gradient of seeds and boundary")
def test_forward_and_backward(benchmark):
    seeds, boundary, _ = problem(48, 64)
    inputs = (seeds.requires_grad_(), boundary.requires_grad_())
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark(lambda: torch.autograd.grad(ops.random_walk(*inputs).sum(), inputs))


@pytest.mark.benchmark(group=WIDTHS)
@pytest.mark.parametrize("width", [240, 250, 496, 506, 1000, 1016])
def test_width(benchmark, width):
    """With one margin of 16 values, rows of 240, 496 and 1000 columns lie a power of two apart."""
    seeds, boundary, _ = problem(256, width, channels=1)
    seconds = thread_seconds(lambda: ops.random_walk(seeds, boundary, num_steps=16))
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark.extra_info["ns_per_cell_and_step_of_one_thread"] = 1e9 * seconds / (256 * width * 16)
    benchmark.pedantic(ops.random_walk, (seeds, boundary), {"num_steps": 16}, rounds=3)
