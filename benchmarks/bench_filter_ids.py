"""``filter_ids`` beside NumPy: areas by ``bincount``, new ids by a lookup table, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.inputs import blobs
from wsis import ops

BATCH, SIZE, MIN_AREA = 16, 416, 50
GROUP = f"filter_ids {BATCH}x{SIZE}x{SIZE}"


def by_bincount(ids: np.ndarray) -> np.ndarray:
    kept = np.empty_like(ids)
    for image, out in zip(ids, kept):
        area = np.bincount(image.ravel())
        fits = area >= MIN_AREA
        fits[0] = False
        np.take((fits.cumsum() * fits).astype(ids.dtype), image, out=out)
    return kept


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return ops.connected_components(torch.from_numpy(blobs(BATCH, SIZE, 3, 0.5)), 8).ids


@pytest.mark.benchmark(group=GROUP)
def test_filter_ids(benchmark, ids):
    assert np.array_equal(ops.filter_ids(ids, MIN_AREA).ids.numpy(), by_bincount(ids.numpy()))
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark(ops.filter_ids, ids, MIN_AREA)


@pytest.mark.benchmark(group=GROUP)
def test_bincount(benchmark, ids):
    benchmark.extra_info["threads"] = 1
    benchmark(by_bincount, ids.numpy())
