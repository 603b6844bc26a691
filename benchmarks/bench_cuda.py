"""Every operator on a GPU against itself on the CPU: same result first, then time, bandwidth and share of the ceiling.

``bytes`` counts what a kernel must read and write at least, once each; ``flops`` the arithmetic of its definition.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from benchmarks import bench_refine, bench_weighted_error, cuda_timing
from wsis import ops
from wsis.labels import center_offset
from wsis.ops.instance_stats import instance_stats_dense
from wsis.structures import CenterOffsetTarget, InstanceMap

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@dataclass(frozen=True)
class Case:
    """``make(device-less generator) -> CPU inputs``; ``run(*inputs)`` -> output tensors."""

    name: str
    make: Callable[[torch.Generator], tuple[torch.Tensor, ...]]
    run: Callable[..., Any]
    flops: float = 0.0
    tolerance: float = 1e-4
    most_ms: float | None = None


def smooth(g: torch.Generator, *shape: int, cells: int = 8) -> torch.Tensor:
    """Smooth noise ``[B, C, H, W]`` in 0..1."""
    batch, channels, height, width = shape
    coarse = torch.rand(batch, channels, height // cells + 2, width // cells + 2, generator=g)
    return F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)


def blobs(g: torch.Generator, batch: int, height: int, width: int) -> torch.Tensor:
    return (smooth(g, batch, 1, height, width, cells=16)[:, 0] > 0.5).to(torch.int32)


def losses_and_gradients(logits: torch.Tensor, displacement: torch.Tensor, seeds: torch.Tensor) -> list[torch.Tensor]:
    inputs = (logits.detach().requires_grad_(), displacement.detach().requires_grad_())
    losses = ops.inter_pixel_loss(*inputs, seeds, radius=10)
    return [*(loss.detach() for loss in losses), *torch.autograd.grad(sum(losses), inputs)]


def photograph(g: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    image = 200 * smooth(g, 4, 3, 375, 500, cells=30) + 5 * torch.randn(4, 3, 375, 500, generator=g)
    labels = smooth(g, 4, 6, 375, 500, cells=40).view(4, 2, 3, 375, 500).argmax(2)
    return image.clamp(0, 255).to(torch.uint8), labels.to(torch.uint8)


def mask_bytes(ids: torch.Tensor) -> torch.Tensor:
    """The codes of all instances, one after another."""
    text = b"".join(code["counts"] for code in ops.mask_rle(ids))
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)


def scored_pixels(g: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    labels = (smooth(g, 16, 1, 416, 416, cells=64)[:, 0] * 20).int()
    return smooth(g, 16, 21, 416, 416), smooth(g, 16, 20, 416, 416), labels


def votes(g: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Offsets, a table of centres on a grid, and components."""
    image, y, x = (
        t.flatten() for t in torch.meshgrid(torch.arange(16), *[torch.arange(8, 416, 32)] * 2, indexing="ij")
    )
    return 10 * smooth(g, 16, 2, 416, 416) - 5, image, y, x, ops.connected_components(blobs(g, 16, 416, 416)).ids


def group(offsets: torch.Tensor, image: torch.Tensor, y: torch.Tensor, x: torch.Tensor, ids: torch.Tensor):
    return ops.group_pixels(offsets, SimpleNamespace(image_index=image, y=y, x=x), ids)


def instances(g: torch.Generator) -> tuple[torch.Tensor, ...]:
    ids = ops.connected_components(blobs(g, 16, 416, 416)).ids
    found = ops.instance_stats(ids)
    return ids, found.image_index, found.id, found.id % 20, torch.ones(len(found.id)), found.centroid_yx.float()


def center_maps(target: CenterOffsetTarget) -> tuple[torch.Tensor, ...]:
    return target.center, target.offset, target.weight


def weighted(g: torch.Generator) -> tuple[torch.Tensor, ...]:
    prediction, target = smooth(g, 16, 20, 416, 416), smooth(g, 16, 20, 416, 416, cells=16)
    return prediction, target, (smooth(g, 16, 1, 416, 416, cells=64) > 0.6).float()


def weighted_error(prediction: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return bench_weighted_error.by_ops(prediction.detach().requires_grad_(), [target], [weight])


def refinement(g: torch.Generator) -> tuple[torch.Tensor, ...]:
    prediction, semantic, labels = bench_refine.scene()
    return prediction.semantic, prediction.center, prediction.offset, semantic, labels


def refine(semantic: torch.Tensor, center: torch.Tensor, offset: torch.Tensor, *labels: torch.Tensor):
    prediction = SimpleNamespace(semantic=semantic, center=center, offset=offset)
    return center_maps(center_offset.refine(prediction, *labels, validate=False))


WALK_CELLS, WALK_DEGREE = 16 * 8 * 94 * 125, 72
CASES = [
    Case(
        "edge_to_affinity 16 x 94 x 125, radius 5", lambda g: (smooth(g, 16, 1, 94, 125)[:, 0],), ops.edge_to_affinity
    ),
    Case(
        "random_walk 16 images x 8 channels x 94 x 125",
        lambda g: (
            torch.rand(128, 94, 125, generator=g),
            smooth(g, 16, 1, 94, 125)[:, 0],
            torch.arange(16).repeat_interleave(8),
        ),
        ops.random_walk,
        flops=2.0 * WALK_CELLS * 69 * WALK_DEGREE,
    ),
    Case(
        "inter_pixel_loss 16 x 128 x 128, radius 10, forward and backward",
        lambda g: (
            torch.randn(16, 128, 128, generator=g),
            3 * torch.randn(16, 2, 128, 128, generator=g),
            torch.randint(0, 4, (16, 8, 8), generator=g).repeat_interleave(16, 1).repeat_interleave(16, 2).byte(),
        ),
        losses_and_gradients,
        tolerance=1e-3,
    ),
    Case(
        "trace_displacement 16 x 94 x 125, 300 steps",
        lambda g: (12 * smooth(g, 16, 2, 94, 125) - 6,),
        ops.trace_displacement,
    ),
    Case("filter_ids 16 x 416 x 416", lambda g: (votes(g)[4],), lambda ids: ops.filter_ids(ids, min_area=20)),
    Case("class_scores 16 x 21 x 416 x 416", scored_pixels, ops.class_scores),
    Case("group_pixels 16 x 416 x 416, 169 centres an image", votes, group),
    Case(
        "center_target 16 x 416 x 416, 20 classes",
        instances,
        lambda *table: center_maps(ops.center_target(InstanceMap(*table), 20)),
    ),
    Case("weighted_error 16 x 20 x 416 x 416, forward and backward", weighted, weighted_error),
    Case("refine 16 x 416 x 416, 20 classes", refinement, refine, most_ms=3.0),
    Case("connected_components 16 x 416 x 416", lambda g: (blobs(g, 16, 416, 416),), ops.connected_components),
    Case(
        "instance_stats 16 x 416 x 416",
        lambda g: (blobs(g, 16, 416, 416), torch.rand(16, 416, 416, generator=g)),
        lambda ids, scores: instance_stats_dense(ids, scores, capacity=64),
    ),
    Case(
        "peaks 16 x 20 x 416 x 416, window 41",
        lambda g: (smooth(g, 16, 20, 416, 416, cells=16),),
        lambda heat: ops.peak_mask(heat, 41, 0.3),
    ),
    Case(
        "mask_iou 64 x 64 masks of 416 x 416",
        lambda g: tuple(blobs(g, 64, 416, 416).bool() for _ in range(2)),
        ops.mask_iou,
    ),
    Case("mask_rle 16 x 416 x 416", lambda g: (blobs(g, 16, 416, 416),), mask_bytes),
    Case(
        "dense_crf 4 images x 2 maps x 375 x 500", photograph, lambda image, maps: ops.dense_crf(image, maps, [3] * 4)
    ),
]


def leaves(output: Any) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    return [leaf for item in output for leaf in leaves(item)] if isinstance(output, (tuple, list)) else []


def assert_agree(case: Case, ours: Any, theirs: Any) -> None:
    """Floats within the tolerance; integers equal in all but one of a thousand places (ties)."""
    for a, b in zip(leaves(ours), leaves(theirs), strict=True):
        a = a.cpu()
        if a.is_floating_point():
            torch.testing.assert_close(a, b, rtol=case.tolerance, atol=case.tolerance, equal_nan=True)
        else:
            assert a.shape == b.shape
            assert a.numel() == 0 or (a != b).float().mean() <= 1e-3


@pytest.fixture(scope="session")
def ceilings() -> dict[str, float]:
    return {"bandwidth": cuda_timing.copy_bandwidth(), "flops": cuda_timing.fp32_flops()}


@pytest.mark.parametrize("case", CASES, ids=[case.name.split()[0] for case in CASES])
@pytest.mark.benchmark(min_rounds=3)
def test_cuda(benchmark, case: Case, ceilings: dict[str, float]):
    benchmark.group = f"cuda {case.name}"
    inputs = case.make(torch.Generator().manual_seed(0))
    on_gpu = tuple(tensor.cuda() for tensor in inputs)
    output = case.run(*on_gpu)
    assert_agree(case, output, case.run(*inputs))
    moved = sum(t.numel() * t.element_size() for t in (*on_gpu, *leaves(output)))
    copies = [on_gpu] + [tuple(t.clone() for t in on_gpu) for _ in range(cuda_timing.rotations(moved) - 1)]
    torch.cuda.reset_peak_memory_stats()
    resident = torch.cuda.memory_allocated()
    seconds = cuda_timing.event_seconds([lambda c=c: case.run(*c) for c in copies])
    median = statistics.median(seconds)
    benchmark.extra_info.update(
        threads=torch.get_num_threads(),
        device_ms=1e3 * median,
        peak_mib=(torch.cuda.max_memory_allocated() - resident) / 2**20,
        gigabytes_per_second=moved / median / 1e9,
        share_of_copy_bandwidth=moved / median / ceilings["bandwidth"],
    )
    if case.flops:
        benchmark.extra_info["share_of_fp32_matmul"] = case.flops / median / ceilings["flops"]
    if case.most_ms:
        goal = {f"{case.name} on a GPU, times in {case.most_ms:g} ms": [case.most_ms / (1e3 * median), 1.0]}
        benchmark.extra_info["goals"] = goal
    turn = iter(range(10**9))

    def one() -> None:
        case.run(*copies[next(turn) % len(copies)])
        torch.cuda.synchronize()

    benchmark(one)


@pytest.mark.parametrize("images", [1, 16, 64])
@pytest.mark.parametrize("blocks", ["0", "16"], ids=["terms", "clusters"])
def test_walk_designs_wsis(benchmark, monkeypatch, blocks: str, images: int):
    """A launch for each term beside one launch on clusters of 16 blocks (docs/performance.md): which is faster?"""
    benchmark.group = f"cuda random_walk designs, {images} images x 8 channels x 94 x 125"
    g = torch.Generator().manual_seed(0)
    seeds, boundary = torch.rand(8 * images, 94, 125, generator=g).cuda(), smooth(g, images, 1, 94, 125)[:, 0].cuda()
    index = torch.arange(images, device="cuda").repeat_interleave(8)
    monkeypatch.setenv("WSIS_WALK_BLOCKS", "0")
    want = ops.random_walk(seeds, boundary, index)
    monkeypatch.setenv("WSIS_WALK_BLOCKS", blocks)
    assert torch.equal(ops.random_walk(seeds, boundary, index), want)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        ops.random_walk(seeds, boundary, index)
    launched = statistics.median(cuda_timing.event_seconds([lambda: ops.random_walk(seeds, boundary, index)]))
    replayed = statistics.median(cuda_timing.event_seconds([graph.replay]))
    benchmark.extra_info.update(
        threads=1,
        device_ms=1e3 * launched,
        device_ms_in_a_graph=1e3 * replayed,
        images_per_second=images / replayed,
        goals={f"random_walk on a GPU, {images} images a call: images per second": [images / replayed, 5000]},
    )

    def one() -> None:
        graph.replay()
        torch.cuda.synchronize()

    benchmark(one)


@pytest.mark.parametrize("case", CASES, ids=[case.name.split()[0] for case in CASES])
def test_cpu(benchmark, case: Case):
    benchmark.group = f"cuda {case.name}"
    inputs = case.make(torch.Generator().manual_seed(0))
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark.pedantic(case.run, inputs, rounds=3, warmup_rounds=1)
