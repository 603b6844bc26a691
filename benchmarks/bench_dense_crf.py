"""dense_crf against pydensecrf, both seed maps of four images of 375 x 500 pixels, each using every core.

pydensecrf works on one image at a time without threads, so it gets one process per core. Per image it needs two runs
(one per seed map); wsis filters both at once. Images are made up, with as many lattice vertices per pixel as VOC
photographs have (0.3 to 0.6).
"""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from wsis import ops

densecrf = pytest.importorskip("pydensecrf.densecrf", reason="pip install pydensecrf2")

BATCH, HEIGHT, WIDTH, LABELS = 4, 375, 500, 3
pytestmark = pytest.mark.benchmark(group=f"dense_crf {BATCH} x 2 maps of {HEIGHT} x {WIDTH}, {LABELS} labels")


def photographs() -> torch.Tensor:
    """``[B, 3, H, W]``: patches of colour with shading, texture and noise."""
    g = torch.Generator().manual_seed(0)

    def noise(cells: int, mode: str, channels: int = 3) -> torch.Tensor:
        coarse = torch.rand(BATCH, channels, HEIGHT // cells + 2, WIDTH // cells + 2, generator=g)
        corners = {} if mode == "nearest" else {"align_corners": False}
        return F.interpolate(coarse, (HEIGHT, WIDTH), mode=mode, **corners)

    patches = 150 * noise(60, "nearest") + 60 * noise(90, "bilinear")
    texture = 40 * noise(6, "bilinear", 1) * noise(120, "nearest", 1)
    grain = 3 * torch.randn(BATCH, 3, HEIGHT, WIDTH, generator=g)
    return (patches + texture + grain + 10).clamp(0, 255).to(torch.uint8)


def seed_maps() -> torch.Tensor:
    """``[B, 2, H, W]``: blobs, and the same with less background."""
    g = torch.Generator().manual_seed(1)
    scores = torch.rand(BATCH, LABELS, HEIGHT // 40 + 2, WIDTH // 40 + 2, generator=g)
    scores = F.interpolate(scores, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)
    less = scores - torch.tensor([0.15, 0.0, 0.0])[:, None, None]
    return torch.stack([scores.argmax(1), less.argmax(1)], 1)


def peer(case: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """One image ``[H, W, 3]`` with its maps ``[2, H, W]``, with pydensecrf's own unaries."""
    from pydensecrf.utils import unary_from_labels

    image, maps = case
    refined = []
    for labels in maps:
        crf = densecrf.DenseCRF2D(WIDTH, HEIGHT, LABELS)
        crf.setUnaryEnergy(unary_from_labels(labels, LABELS, 0.7, zero_unsure=False))
        crf.addPairwiseGaussian(sxy=3, compat=3)
        crf.addPairwiseBilateral(sxy=50, srgb=5, rgbim=image, compat=10)
        refined.append(np.argmax(crf.inference(10), axis=0).reshape(HEIGHT, WIDTH))
    return np.stack(refined)


@pytest.fixture(scope="module")
def case() -> tuple[torch.Tensor, torch.Tensor]:
    return photographs(), seed_maps()


@pytest.fixture(scope="module")
def peer_cases(case) -> list[tuple[np.ndarray, np.ndarray]]:
    images, maps = case
    rows = images.permute(0, 2, 3, 1).contiguous().numpy()
    return list(zip(rows, maps.numpy()))


@pytest.fixture(scope="module")
def share_of_equal_labels(case, peer_cases) -> float:
    ours = ops.dense_crf(*case, [LABELS] * BATCH).numpy()
    equal = float(np.mean(ours == np.stack([peer(one) for one in peer_cases])))
    assert equal >= 0.999
    return equal


def test_wsis(benchmark, case, share_of_equal_labels):
    benchmark.extra_info.update(threads=torch.get_num_threads(), target=3, peer="pydensecrf")
    benchmark.extra_info["goals"] = {"dense_crf: share of equal labels": [share_of_equal_labels, 0.999]}
    benchmark(ops.dense_crf, *case, [LABELS] * BATCH)


def test_pydensecrf(benchmark, peer_cases):
    processes = torch.get_num_threads()
    benchmark.extra_info["threads"] = f"{processes} processes"
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(peer, peer_cases[:1] * processes)
        benchmark.pedantic(pool.map, (peer, peer_cases, 1), rounds=1)
