"""``center_target`` beside the NumPy formulation that walks over instances."""

from __future__ import annotations

import pytest
import torch

from benchmarks.baselines import python_center_target as baseline
from wsis import ops
from wsis.structures import InstanceMap

BATCH, CLASSES, SIZE, COUNT = 8, 20, 416, 8


@pytest.fixture(scope="module")
def instances() -> InstanceMap:
    g = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, COUNT + 1, (BATCH, 8, 8), generator=g, dtype=torch.int32)
    ids = blocks.repeat_interleave(SIZE // 8, 1).repeat_interleave(SIZE // 8, 2)
    rows = BATCH * COUNT
    return InstanceMap(
        ids,
        torch.arange(BATCH).repeat_interleave(COUNT),
        torch.arange(1, COUNT + 1).repeat(BATCH),
        torch.randint(0, CLASSES, (rows,), generator=g),
        torch.rand(rows, generator=g),
        torch.rand(rows, 2, generator=g) * SIZE,
    )


@pytest.mark.benchmark(group="center_target 8x416x416, 20 classes, 64 instances")
def test_center_target(benchmark, instances):
    target = ops.center_target(instances, CLASSES)
    center, offset, weight = baseline.center_target(instances, CLASSES, 6.0)
    torch.testing.assert_close(target.center, torch.from_numpy(center))
    assert torch.equal(target.offset, torch.from_numpy(offset))
    assert torch.equal(target.weight, torch.from_numpy(weight))
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark.extra_info.update(target=20, peer="index")
    benchmark(ops.center_target, instances, CLASSES)


@pytest.mark.benchmark(group="center_target 8x416x416, 20 classes, 64 instances")
@pytest.mark.parametrize("by", ["index", "mask"])
def test_numpy(benchmark, instances, by):
    benchmark.extra_info["threads"] = 1
    benchmark.pedantic(baseline.center_target, (instances, CLASSES, 6.0, by), rounds=5)


def read_once(make) -> float:
    """The targets made and every value of the centre map read, as a loss on all pixels would."""
    center = make()[0]
    return center.max()


@pytest.mark.benchmark(group="center_target 8x416x416, 20 classes, 64 instances, and its heatmaps read once")
@pytest.mark.parametrize("by", ["wsis", "index", "mask"])
def test_made_and_read(benchmark, instances, by):
    def ours():
        target = ops.center_target(instances, CLASSES)
        return target.center.numpy(), target.offset, target.weight

    make = ours if by == "wsis" else lambda: baseline.center_target(instances, CLASSES, 6.0, by)
    benchmark.extra_info["threads"] = torch.get_num_threads() if by == "wsis" else 1
    benchmark.pedantic(read_once, (make,), rounds=5)
