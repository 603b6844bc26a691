"""What is particular to mask_rle and the ways back: bytes of the COCO tools, rows from outside."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from tests.ops.spec import generator
from wsis import _host, ops


def test_a_worked_example():
    """Column-major: 3 zeros, 2 ones, 1 zero; below the 2 lies id 7."""
    ids = torch.tensor([[[0, 0, 2], [7, 2, 0]]])
    assert ops.mask_rle(ids) == [
        {"image_index": 0, "id": 2, "size": [2, 3], "counts": b"321"},
        {"image_index": 0, "id": 7, "size": [2, 3], "counts": b"114"},
    ]


@pytest.mark.parametrize("on", [True, False])
def test_the_garbage_collector_is_left_as_it_was(on):
    before = gc.isenabled()
    columns = [np.array(values, dtype=np.int64) for values in ([5], [1], [0, 1])]
    codes, sizes = np.frombuffer(b"4", dtype=np.uint8), np.array([2, 2])
    try:
        (gc.enable if on else gc.disable)()
        ops.mask_rle(torch.ones(1, 2, 2, dtype=torch.int32))
        assert gc.isenabled() is on
        with pytest.raises(ValueError, match="row 0: image_index or ends out of range"):
            _host.rle_rows(*columns, codes, sizes)
        assert gc.isenabled() is on
    finally:
        (gc.enable if before else gc.disable)()


@pytest.mark.parametrize("shape", [(40, 50), (33, 1), (1, 33), (300, 200)])
def test_bytes_are_those_of_the_coco_tools(shape):
    coco = pytest.importorskip("pycocotools.mask", reason="pip install pycocotools")
    g = generator(0)
    for scale in (1, 3, 17):
        cells = [-(-side // scale) for side in shape]
        ids = torch.randint(0, 6, (1, *cells), generator=g)
        ids = ids.repeat_interleave(scale, 1).repeat_interleave(scale, 2)[:, : shape[0], : shape[1]]
        for row in ops.mask_rle(ids):
            mask = np.asfortranarray((ids[0] == row["id"]).numpy().astype(np.uint8))
            assert coco.encode(mask)["counts"] == row["counts"]


def test_ids_survive_the_way_there_and_back():
    ids = torch.randint(0, 9, (3, 31, 47), generator=generator(1), dtype=torch.int32)
    ids[1] = 0
    rles = ops.mask_rle(ids)
    assert torch.equal(ops.rle_to_ids(rles, 3, (31, 47)), ids)
    assert ops.mask_rle(ops.rle_to_ids(rles, 3, (31, 47))) == rles


def test_ids_of_padded_images_survive():
    sizes = torch.tensor([[20, 30], [31, 8]])
    ids = torch.zeros(2, 31, 30, dtype=torch.int32)
    for b, (height, width) in enumerate(sizes.tolist()):
        ids[b, :height, :width] = torch.randint(0, 4, (height, width), generator=generator(b))
    rles = ops.mask_rle(ids, sizes=sizes)
    assert {tuple(row["size"]) for row in rles} == {(20, 30), (31, 8)}
    assert torch.equal(ops.rle_to_ids(rles, 2), ids)


def test_rle_to_mask_stacks_masks_of_one_size():
    ids = torch.randint(0, 4, (1, 9, 7), generator=generator(2))
    masks = ops.rle_to_mask(ops.mask_rle(ids))
    assert masks.dtype == torch.bool
    assert torch.equal(masks, ids == torch.arange(1, 4).view(-1, 1, 1))
    assert ops.rle_to_mask([], (4, 5)).shape == (0, 4, 5)


GOOD = {"image_index": 0, "id": 1, "size": [4, 5], "counts": [3, 2, 15]}


@pytest.mark.parametrize(
    ("row", "error", "match"),
    [
        ({**GOOD, "counts": b"o"}, ValueError, r"rles\[1\]: counts must be a complete code"),
        ({**GOOD, "counts": [3, 2, 14]}, ValueError, "add up to height . width = 20, got 19"),
        ({**GOOD, "size": [0, 5]}, ValueError, r"rles\[1\]: size must be 1\.\.65536"),
        ({**GOOD, "size": None}, ValueError, "size must be"),
        ({**GOOD, "id": 0}, ValueError, r"rles\[1\]\['id'\] must be 1\.\.2147483647, got 0"),
        ({**GOOD, "id": 2**31}, ValueError, "got 2147483648"),
        ({**GOOD, "id": 1.0}, TypeError, "must be an integer, got float"),
        ({**GOOD, "image_index": 2}, ValueError, r"'image_index'\] must be 0\.\.1, got 2"),
        ({**GOOD, "image_index": -1}, ValueError, "got -1"),
        ({**GOOD, "size": [5, 4]}, ValueError, r"at most \[4, 5\] large, got \[5, 4\]"),
        ({"size": [4, 5], "counts": [20]}, TypeError, r"rles\[1\] must have image_index"),
        ("321", TypeError, r"rles\[1\] must be a mapping"),
    ],
)
def test_rle_to_ids_rejects_rows_and_names_them(row, error, match):
    ops.rle_to_ids([GOOD, GOOD], 2, (4, 5))
    with pytest.raises(error, match=match) as raised:
        ops.rle_to_ids([GOOD, row], 2, (4, 5))
    assert str(raised.value).startswith("rle_to_ids: ")


def test_rle_to_mask_rejects_by_name():
    for bad, error in (({**GOOD, "counts": b"~"}, ValueError), (3, TypeError)):
        with pytest.raises(error, match=r"^rle_to_mask: rles\[1\]"):
            ops.rle_to_mask([GOOD, bad])
    with pytest.raises(ValueError, match="rle_to_mask: size must be given for an empty list"):
        ops.rle_to_mask([])
    with pytest.raises(ValueError, match="rle_to_ids: size must be given for an empty list"):
        ops.rle_to_ids([], 1)
