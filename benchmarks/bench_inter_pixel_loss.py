"""inter_pixel_loss against gathering every path: time of forward and backward, and peak memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from benchmarks.baselines.inter_pixel_loss import inter_pixel_loss as gathered
from benchmarks.cost import peak_bytes
from wsis import ops

BATCH, SIDE, RADIUS = 8, 128, 10
GROUP = f"inter_pixel_loss {BATCH} x {SIDE} x {SIDE}, radius {RADIUS}, forward and backward"
pytestmark = pytest.mark.benchmark(group=GROUP)


def make_case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Seeds in patches of 16 x 16 cells, a fifth of the cells unknown."""
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(BATCH, SIDE, SIDE, generator=g)
    displacement = 3 * torch.randn(BATCH, 2, SIDE, SIDE, generator=g)
    coarse = torch.randint(0, 4, (BATCH, SIDE // 16, SIDE // 16), generator=g)
    seeds = coarse.repeat_interleave(16, 1).repeat_interleave(16, 2)
    seeds[torch.rand(seeds.shape, generator=g) < 0.2] = 255
    return logits.requires_grad_(), displacement.requires_grad_(), seeds.to(torch.uint8)


def step(function, logits, displacement, seeds) -> tuple[torch.Tensor, ...]:
    """Losses and gradients of one training step."""
    losses = function(logits, displacement, seeds, radius=RADIUS)
    return (*losses, *torch.autograd.grad(sum(losses) / 2, (logits, displacement)))


def peak_megabytes(kind: str) -> float:
    """By how much a step of a fresh process raises its resident memory at the peak, in MB; 0 where that is unknown."""
    command = [sys.executable, "-m", "benchmarks.bench_inter_pixel_loss", kind]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.fixture(scope="module")
def case():
    return make_case()


@pytest.fixture(scope="module", autouse=True)
def results_agree(case) -> None:
    for ours, theirs in zip(step(ops.inter_pixel_loss, *case), step(gathered, *case)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


def test_wsis(benchmark, case):
    ours, theirs = peak_megabytes("wsis"), peak_megabytes("gather")
    benchmark.extra_info.update(threads=torch.get_num_threads(), target=5, peer="gather", peak_megabytes=ours)
    what, ratio = "inter_pixel_loss: peak memory of gather over that of wsis", theirs / max(ours, 1)
    benchmark.extra_info["goals"] = {what: [ratio, 20]}
    benchmark(step, ops.inter_pixel_loss, *case)


def test_gather(benchmark, case):
    benchmark.extra_info.update(threads=torch.get_num_threads(), )
    benchmark.pedantic(step, (gathered, *case), rounds=2)


def main() -> None:
    """Prints the peak memory of one step of ``sys.argv[1]``, above what was resident before it."""
    arguments = make_case()
    if sys.argv[1] == "gather":
        gathered(*(t.detach()[:1, ..., :24, :24].contiguous() for t in arguments), radius=RADIUS)
    else:
        step(ops.inter_pixel_loss, *(t[:1, ..., :24, :24] for t in arguments))
    function = ops.inter_pixel_loss if sys.argv[1] == "wsis" else gathered
    print((peak_bytes(lambda: step(function, *arguments)) or 0) / 1e6)


if __name__ == "__main__":
    main()
