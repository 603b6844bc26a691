"""random_walk against the dense matrix power (48 x 64, 8 channels) and SciPy CSR steps (94 x 125, 8 channels).

``WSIS_BENCH_FULL=1`` adds the cost from 32 x 32 to 512 x 512 and from 1 to 64 channels, with fitted exponents.
"""

from __future__ import annotations

import math
import os
import time

import pytest
import torch

from benchmarks.baselines import csr_walk, dense_power
from wsis import ops

DENSE = "random_walk 48 x 64 x 8, 256 steps: dense power"
SPARSE = "random_walk 94 x 125 x 8, 256 steps: SciPy CSR"
BATCH = "random_walk 16 images of 94 x 125 x 8, 256 steps"


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


@pytest.mark.benchmark(group=DENSE)
def test_wsis_48x64(benchmark):
    seeds, boundary, _ = problem(48, 64)
    check(ops.random_walk(seeds, boundary), dense_power.random_walk(seeds, boundary[0]))
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark(ops.random_walk, seeds, boundary)


@pytest.mark.benchmark(group=DENSE)
def test_dense_power(benchmark):
    seeds, boundary, _ = problem(48, 64)
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark.pedantic(dense_power.random_walk, (seeds, boundary[0]), rounds=2)


@pytest.mark.benchmark(group=SPARSE)
@pytest.mark.parametrize("method", ["chebyshev", "power"])
def test_wsis_94x125(benchmark, method):
    seeds, boundary, _ = problem(94, 125)
    expected = torch.from_numpy(csr_walk.random_walk(seeds.double().numpy(), boundary[0].double().numpy()))
    check(ops.random_walk(seeds, boundary, method=method), expected)
    benchmark.extra_info["threads"] = torch.get_num_threads()
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


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Slope of the least-squares line through the logarithms."""
    x, y = [math.log(n) for n in sizes], [math.log(t) for t in seconds]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y)) / sum((a - mean_x) ** 2 for a in x)


def best_time(*arguments: torch.Tensor) -> float:
    """Processor seconds on one thread, which other work on the machine disturbs least."""
    times = []
    for _ in range(4):
        start = time.thread_time()
        ops.random_walk(*arguments)
        times.append(time.thread_time() - start)
    return min(times)


@pytest.mark.skipif(not os.environ.get("WSIS_BENCH_FULL"), reason="WSIS_BENCH_FULL=1 runs it")
@pytest.mark.benchmark(group="random_walk: cost against size")
def test_cost_is_linear(benchmark):
    sides, counts = [32, 64, 128, 256, 512], [1, 4, 16, 64]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    by_pixels = [best_time(*problem(side, side)) for side in sides]
    by_channels = [best_time(*problem(64, 64, channels)) for channels in counts]
    torch.set_num_threads(threads)
    pixels = exponent([side * side for side in sides], by_pixels)
    channels = exponent(counts, by_channels)
    benchmark.extra_info.update(
        threads=1,
        seconds_by_side=dict(zip(sides, by_pixels)),
        seconds_by_channels=dict(zip(counts, by_channels)),
        exponent_pixels=pixels,
        exponent_channels=channels,
    )
    benchmark(ops.random_walk, *problem(64, 64))
    print(f"\ncost ~ pixels^{pixels:.2f}, channels^{channels:.2f}")
    assert pixels < 1.2
    assert channels < 1.1
