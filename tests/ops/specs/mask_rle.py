"""Spec of ``mask_rle``."""

from __future__ import annotations

from typing import Any

import torch

from tests.ops.spec import BadInput, Call, OpSpec, Sample, generator
from wsis import ops
from wsis.reference import mask_rle as reference


def samples(seed: int) -> list[Sample]:
    g = generator(seed)

    def ids(*shape: int, values: int = 5) -> torch.Tensor:
        return torch.randint(0, values, shape, generator=g)

    coarse = ids(2, 4, 6).repeat_interleave(7, 1).repeat_interleave(6, 2).to(torch.int32)
    stripes = torch.arange(40).view(1, 1, 40).expand(1, 30, 40) // 7
    return [
        Sample((coarse,)),
        Sample((ids(2, 9, 17).to(torch.uint8),), note="noise"),
        Sample((ids(1, 8, 9, values=2).bool(),)),
        Sample((coarse,), {"sizes": torch.tensor([[28, 36], [15, 11]])}, "padded images"),
        Sample((stripes,), note="runs that go on in the next column"),
        Sample((stripes.transpose(1, 2) % 3,), note="rows"),
        Sample((torch.ones(1, 70, 90, dtype=torch.int64),), note="all equal"),
        Sample((torch.zeros(2, 3, 4, dtype=torch.int32),), note="none"),
        Sample((ids(1, 6, 7) * 1_000_000_007,), note="ids far apart"),
        Sample((ids(1, 6, 7) + 2**40,), note="ids far apart, none 0"),
        Sample((ids(1, 1, 1, values=2),), note="one pixel"),
        Sample((ids(1, 1, 33),), note="one row"),
        Sample((ids(1, 33, 1),), note="one column"),
        Sample((ids(1, 300, 64, values=2),), note="longer differences"),
    ]


def bad_inputs() -> list[BadInput]:
    ok = torch.ones(2, 4, 5, dtype=torch.int32)
    good = Sample((ok,))
    table = torch.tensor([[4, 5], [0, 5]])
    fits = Sample((ok,), {"sizes": table})
    wide = torch.zeros(1, 1, 65537, dtype=torch.uint8)
    return [
        BadInput((3,), TypeError, "ids must be a tensor, got int", good=good),
        BadInput((ok[0],), ValueError, r"ids must have shape \[B, H, W\], got \[4, 5\]", good=good),
        BadInput((ok[None],), ValueError, "ids must have shape"),
        BadInput((ok.float(),), TypeError, "ids must be bool, uint8.*got float32"),
        BadInput((ok.to(torch.complex64),), TypeError, "got complex64"),
        BadInput((ok.to_sparse(),), ValueError, "dense"),
        BadInput((ok - 2,), ValueError, "positive, got -1", good=Sample((ok - 1,))),
        BadInput(
            (wide,), ValueError, r"sides of at most 65536, got \[1, 65537\]", good=Sample((wide[..., 1:],))
        ),
        BadInput(
            (ok,), ValueError, r"sizes must have shape \[2, 2\], got \[1, 2\]", {"sizes": table[:1]}, fits
        ),
        BadInput((ok,), TypeError, "sizes must be int32, int64, got float32", {"sizes": table.float()}),
        BadInput((ok,), TypeError, "sizes must be a tensor, got tuple", {"sizes": (4, 5)}),
        BadInput((ok,), ValueError, "padded height 4.*got 5", {"sizes": table + 1}, fits),
        BadInput((ok,), ValueError, "padded width 5.*got -5", {"sizes": table * torch.tensor([1, -1])}),
    ]


def calls(sample: Sample) -> list[Call]:
    ids = sample.args[0].to(torch.int32)
    sizes = torch.tensor([[2, 3]] * ids.shape[0], dtype=torch.int32)
    op = torch.ops.wsis.mask_rle.default
    return [Call(op, (ids, None, 5)), Call(op, (ids, sizes, 3))]


def invariants(sample: Sample, rles: list[dict[str, Any]]) -> None:
    """The way back ends at the start."""
    ids = sample.args[0].to(torch.int64).clone()
    if "sizes" in sample.kwargs:
        for image, (height, width) in zip(ids, sample.kwargs["sizes"].tolist()):
            image[height:] = 0
            image[:, width:] = 0
    if ids.max() < 2**31:
        assert torch.equal(ops.rle_to_ids(rles, ids.shape[0], tuple(ids.shape[1:])).to(torch.int64), ids)
    for rle in rles:
        height, width = rle["size"]
        assert torch.equal(ops.rle_to_mask([rle])[0], ids[rle["image_index"], :height, :width] == rle["id"])


SPEC = OpSpec(
    name="mask_rle",
    op=ops.mask_rle,
    reference=reference.mask_rle,
    samples=samples,
    bad_inputs=bad_inputs,
    calls=calls,
    invariants=invariants,
    exact=True,
    empty=lambda: [Sample((torch.zeros(shape).int(),)) for shape in ((0, 4, 5), (2, 0, 5), (2, 4, 0))],
    compile=False,
)
