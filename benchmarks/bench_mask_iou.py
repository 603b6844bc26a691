"""mask_iou of stacked masks, as evaluation needs it, beside loops over pairs and pycocotools, on one thread."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from benchmarks.inputs import blobs
from wsis import ops

coco = pytest.importorskip("pycocotools.mask", reason="pip install pycocotools")

COUNT, SIDE = 20, 416
pytestmark = pytest.mark.benchmark(group=f"mask_iou {COUNT} x {COUNT} masks of {SIDE} x {SIDE}, one thread")


@pytest.fixture(scope="module")
def masks() -> tuple[torch.Tensor, torch.Tensor]:
    a, b = (torch.from_numpy(blobs(COUNT, SIDE, SIDE / 16, 0.2, seed)) != 0 for seed in (0, 1))
    return a, b


@pytest.fixture(autouse=True)
def one_thread(benchmark) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    benchmark.extra_info["threads"] = 1
    yield
    torch.set_num_threads(before)


def by_loops(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """As in ChainerCV's ``mask_iou``."""
    iou = np.empty((len(a), len(b)), np.float32)
    for n, first in enumerate(a):
        for m, second in enumerate(b):
            union = np.bitwise_or(first, second).sum()
            iou[n, m] = np.bitwise_and(first, second).sum() / union if union else 0
    return iou


def by_coco(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Coded first: stacked masks are what an evaluation holds."""
    codes = [coco.encode(np.asfortranarray(t.transpose(1, 2, 0))) for t in (a, b)]
    return coco.iou(*codes, [0] * len(b))


def test_wsis(benchmark, masks):
    result = benchmark(ops.mask_iou, *masks)
    assert np.array_equal(result.iou.numpy(), by_loops(*(t.numpy() for t in masks)))
    benchmark.extra_info.update(target=20, peer="loops")


def test_loops(benchmark, masks):
    benchmark.pedantic(by_loops, tuple(t.numpy() for t in masks), rounds=3)


def test_pycocotools(benchmark, masks):
    benchmark.pedantic(by_coco, tuple(t.numpy().view(np.uint8) for t in masks), rounds=5)
