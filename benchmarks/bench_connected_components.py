"""connected_components against OpenCV (with statistics, as it is used) and scipy.ndimage, thread for thread."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from benchmarks.inputs import blobs
from wsis import ops

CASES = {
    "blobs": lambda: blobs(1, 512, 8, 0.5),
    "ragged blobs": lambda: blobs(1, 512, 3, 0.5),
    "noise": lambda: (np.random.default_rng(0).random((1, 512, 512)) < 0.5).astype(np.uint8),
    "16 x blobs": lambda: blobs(16, 512, 8, 0.5),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Both libraries on one core."""
    before, cv_before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    yield
    torch.set_num_threads(before)
    cv2.setNumThreads(cv_before)


def opencv(masks: np.ndarray, connectivity: int) -> list[tuple]:
    return [cv2.connectedComponentsWithStats(mask, connectivity=connectivity) for mask in masks]


def scipy(masks: np.ndarray, connectivity: int) -> list[tuple]:
    structure = ndimage.generate_binary_structure(2, 2 if connectivity == 8 else 1)
    return [ndimage.label(mask, structure) for mask in masks]


PEERS = {
    "wsis": lambda masks, connectivity: ops.connected_components(torch.from_numpy(masks), connectivity),
    "opencv": opencv,
    "scipy": scipy,
}


def check(masks: np.ndarray, connectivity: int) -> None:
    """The same components as OpenCV and SciPy, whatever their numbers."""
    ours = ops.connected_components(torch.from_numpy(masks), connectivity)
    for ids, count, theirs, other in zip(
        ours.ids.numpy(), ours.counts.tolist(), opencv(masks, connectivity), scipy(masks, connectivity)
    ):
        assert theirs[0] - 1 == other[1] == count
        for labels in (theirs[1], other[0]):
            assert len(np.unique(np.stack((ids, labels)).reshape(2, -1), axis=1).T) == len(np.unique(ids))


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("connectivity", [8, 4])
@pytest.mark.parametrize("case", CASES)
def test_one_thread(benchmark, case, connectivity, peer):
    masks = CASES[case]()
    if peer == "wsis":
        check(masks, connectivity)
    benchmark.group = f"connected_components {case} 512 x 512, connectivity {connectivity}, one thread"
    benchmark.extra_info["threads"] = 1
    if peer == "wsis":
        benchmark.extra_info.update(target=1, peer="opencv")
    benchmark.pedantic(PEERS[peer], (masks, connectivity), rounds=15, warmup_rounds=2)


@pytest.mark.parametrize("threads", [1, 2])
def test_batch_scaling(benchmark, threads):
    masks = torch.from_numpy(CASES["16 x blobs"]())
    torch.set_num_threads(threads)
    benchmark.group = "connected_components 16 x blobs 512 x 512, threads"
    benchmark.extra_info["threads"] = threads
    benchmark.pedantic(ops.connected_components, (masks,), rounds=15, warmup_rounds=2)
