"""``group_pixels`` beside the broadcast formulation, a ``K x HW`` distance matrix and its argmin."""

from __future__ import annotations

import pytest
import torch

from wsis import ops
from wsis.structures import Points

SIZE, CENTERS = 416, 40


def broadcast_argmin(offsets: torch.Tensor, centers: Points, foreground: torch.Tensor) -> torch.Tensor:
    height, width = offsets.shape[-2:]
    grid = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    target = (grid + offsets[0]).flatten(1)
    center = torch.stack((centers.y, centers.x), 1).to(offsets.dtype)
    distance = ((center[:, :, None] - target) ** 2).sum(1)
    return torch.where(foreground[0] > 0, distance.argmin(0).view(height, width) + 1, 0)


@pytest.fixture(scope="module")
def case() -> tuple[torch.Tensor, Points, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    offsets = torch.randn(1, 2, SIZE, SIZE, generator=g) * 10
    places = torch.randint(0, SIZE, (CENTERS, 2), generator=g).tolist()
    centers = Points.from_rows([[(x, y, 0, 1.0) for y, x in places]])
    return offsets, centers, torch.ones(1, SIZE, SIZE, dtype=torch.int32)


@pytest.mark.benchmark(group="group_pixels 416x416, 40 centres in one component")
def test_group_pixels(benchmark, case):
    agreement = (ops.group_pixels(*case)[0] == broadcast_argmin(*case)).float().mean()
    assert agreement > 0.9999, "they may differ where two centres are equally near up to rounding"
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark.extra_info.update(target=5, peer="broadcast_argmin")
    benchmark(ops.group_pixels, *case)


@pytest.mark.benchmark(group="group_pixels 416x416, 40 centres in one component")
def test_broadcast_argmin(benchmark, case):
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark.pedantic(broadcast_argmin, case, rounds=5)
