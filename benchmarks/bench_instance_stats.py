"""instance_stats against scipy.ndimage asked for the same columns, and against skimage's regionprops."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import ndimage

from benchmarks.inputs import instance_map
from wsis import ops

skimage_measure = pytest.importorskip("skimage.measure")


@pytest.fixture(scope="module")
def maps() -> tuple[torch.Tensor, torch.Tensor]:
    ids = instance_map(4, 512)
    return ids, torch.rand(ids.shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scipy(ids: torch.Tensor, scores: torch.Tensor) -> list[dict[str, object]]:
    tables = []
    for image, values in zip(ids.numpy(), scores.numpy()):
        index = np.unique(image)
        index = index[index > 0]
        tables.append(
            {
                "area": ndimage.sum_labels(np.ones_like(image), image, index),
                "box": ndimage.find_objects(image),
                "centroid": ndimage.center_of_mass(np.ones_like(image), image, index),
                "maximum": ndimage.maximum(values, image, index),
                "mean": ndimage.mean(values, image, index),
                "peak": ndimage.maximum_position(values, image, index),
            }
        )
    return tables


def regionprops(ids: torch.Tensor, scores: torch.Tensor) -> list[list[tuple]]:
    return [
        [
            (p.area, p.bbox, p.centroid, p.intensity_max, p.intensity_mean)
            for p in skimage_measure.regionprops(image, values)
        ]
        for image, values in zip(ids.numpy(), scores.numpy())
    ]


def check(ids: torch.Tensor, scores: torch.Tensor) -> None:
    ours = ops.instance_stats(ids, scores)
    theirs = scipy(ids, scores)
    assert np.array_equal(ours.area.numpy(), np.concatenate([t["area"] for t in theirs]))
    assert np.allclose(ours.centroid_yx.numpy(), np.concatenate([t["centroid"] for t in theirs]))
    assert np.array_equal(ours.score_max.numpy(), np.concatenate([t["maximum"] for t in theirs]))
    assert np.allclose(ours.score_mean.numpy(), np.concatenate([t["mean"] for t in theirs]), rtol=1e-5)
    assert np.array_equal(ours.peak_yx.numpy(), np.concatenate([t["peak"] for t in theirs]))


PEERS = {"wsis": ops.instance_stats, "scipy": scipy, "regionprops": regionprops}


@pytest.mark.parametrize("peer", PEERS)
def test_one_thread(benchmark, maps, peer):
    if peer == "wsis":
        check(*maps)
        benchmark.extra_info.update(target=20, peer="scipy")
    benchmark.group = "instance_stats 4 x 512 x 512 with scores, one thread"
    benchmark.extra_info["threads"] = 1
    benchmark.extra_info["instances"] = len(ops.instance_stats(*maps).id)
    benchmark.pedantic(PEERS[peer], maps, rounds=5 if peer != "wsis" else 30, warmup_rounds=1)
