"""mask_rle and the run-length functions of wsis.data.rle against pycocotools, on one thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.inputs import instance_map
from wsis import ops
from wsis.data import rle

coco = pytest.importorskip("pycocotools.mask", reason="pip install pycocotools")


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return instance_map(4, 512)


@pytest.fixture(scope="module")
def stacks(ids) -> list[np.ndarray]:
    """The masks of each image in the layout that pycocotools wants, made beforehand."""
    return [stack(image) for image in ids]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def stack(image: torch.Tensor) -> np.ndarray:
    values = range(1, int(image.max()) + 1)
    masks = np.zeros((*image.shape, len(values)), dtype=np.uint8, order="F")
    for k, value in enumerate(values):
        masks[:, :, k] = image.numpy() == value
    return masks


def encode_stacks(stacks: list[np.ndarray]) -> list[dict[str, Any]]:
    return [code for masks in stacks for code in coco.encode(masks)]


def test_encode_wsis(benchmark, ids, stacks):
    benchmark.extra_info.update(target=3, peer="encode_pycocotools")
    codes = benchmark.pedantic(ops.mask_rle, (ids,), rounds=30, warmup_rounds=2)
    assert [code["counts"] for code in codes] == [code["counts"] for code in encode_stacks(stacks)]


def test_encode_pycocotools(benchmark, stacks):
    benchmark.pedantic(encode_stacks, (stacks,), rounds=5, warmup_rounds=1)


def test_encode_pycocotools_with_the_masks_to_be_made(benchmark, ids):
    benchmark.pedantic(lambda: encode_stacks([stack(image) for image in ids]), rounds=3, warmup_rounds=1)


def test_decode_wsis(benchmark, ids):
    codes = ops.mask_rle(ids)
    masks = benchmark.pedantic(ops.rle_to_mask, (codes,), rounds=10, warmup_rounds=1)
    assert np.array_equal(masks.numpy(), coco.decode(codes).transpose(2, 0, 1))


def test_decode_pycocotools(benchmark, ids):
    codes = ops.mask_rle(ids)
    benchmark.pedantic(lambda: np.ascontiguousarray(coco.decode(codes).transpose(2, 0, 1)), rounds=5, warmup_rounds=1)


def test_overlap_wsis(benchmark, ids):
    codes = ops.mask_rle(ids)
    result = benchmark.pedantic(rle.iou, (codes, codes), rounds=10, warmup_rounds=1)
    assert np.array_equal(result, coco.iou(codes, codes, [0] * len(codes)))


def test_overlap_pycocotools(benchmark, ids):
    codes = ops.mask_rle(ids)
    benchmark.pedantic(coco.iou, (codes, codes, [0] * len(codes)), rounds=10, warmup_rounds=1)


GROUPS = {"encode": "mask_rle 4 x 512 x 512", "decode": "rle_to_mask 4 x 512 x 512", "overlap": "rle.iou"}


@pytest.fixture(autouse=True)
def group(request) -> None:
    if "benchmark" in request.fixturenames:
        benchmark = request.getfixturevalue("benchmark")
        benchmark.group = f"{GROUPS[request.node.name.split('_')[1]]}, one thread"
        benchmark.extra_info["threads"] = 1
