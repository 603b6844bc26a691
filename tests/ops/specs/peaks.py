"""Spec of ``peaks`` (operator ``peak_mask``)."""

from __future__ import annotations

import torch

from tests.ops.spec import BadInput, Call, OpSpec, Sample, generator
from wsis import ops
from wsis.reference import peaks as reference


def samples(seed: int) -> list[Sample]:
    g = generator(seed)
    tied = torch.randint(0, 4, (1, 2, 12, 15), generator=g).float()
    ids = torch.randint(0, 3, (2, 14, 13), generator=g)
    with_nan = torch.rand(1, 1, 9, 9, generator=g)
    with_nan[0, 0, 4, 4] = float("nan")
    return [
        Sample((torch.rand(2, 3, 11, 17, generator=g), 5)),
        Sample((torch.rand(1, 1, 40, 33, generator=g), 41, 0.3), note="41x41, larger than the image"),
        Sample((torch.rand(1, 2, 70, 9, generator=g), 101, 0.2, 3), note="the largest window"),
        Sample((tied, 3, 1.0, 4), note="plateaus and a score at the threshold"),
        Sample((torch.ones(1, 1, 6, 7), 3, 0.5, 5), note="all equal"),
        Sample((torch.rand(2, 2, 14, 13, generator=g), 7, 0.1, None, ids), note="confined"),
        Sample((tied[:, :, :, :13], 5, 0.5, 3, ids[:1, :12]), note="confined, ties"),
        Sample((with_nan, 3), note="a NaN"),
        Sample((torch.rand(1, 1, 1, 33, generator=g), 5)),
        Sample((torch.rand(1, 1, 33, 1, generator=g), 5)),
        Sample((torch.rand(1, 1, 1, 1, generator=g) + 0.1, 1)),
        Sample((torch.rand(1, 2, 9, 300, generator=g).double(), 9, 0.4), note="float64, wider than a block"),
    ]


def bad_inputs() -> list[BadInput]:
    heat = torch.rand(1, 2, 6, 7)
    good = Sample((heat, 3))
    ids = torch.zeros(1, 6, 7, dtype=torch.int64)
    return [
        BadInput((heat[0], 3), ValueError, r"heatmap must have shape \[B, C, H, W\]", good=good),
        BadInput(("heat", 3), TypeError, "heatmap must be a tensor"),
        BadInput((heat.half(), 3), TypeError, "heatmap must be float32, float64, got float16"),
        BadInput((heat.int(), 3), TypeError, "got int32"),
        BadInput((heat, 4), ValueError, "window must be odd, got 4", good=Sample((heat, 5))),
        BadInput((heat, 0), ValueError, "window must be 1..101, got 0", good=Sample((heat, 1))),
        BadInput((heat, 103), ValueError, "window must be 1..101, got 103", good=Sample((heat, 101))),
        BadInput((heat, 3.0), TypeError, "window must be an integer"),
        BadInput((heat, 3, "0"), TypeError, "threshold must be a number, got str"),
        BadInput((heat, 3, float("nan")), ValueError, "threshold must be a number, got NaN"),
        BadInput((heat, 3, 0.0, 0), ValueError, "top_k must be 1..", good=Sample((heat, 3, 0.0, 1))),
        BadInput((heat, 3, 0.0, True), TypeError, "top_k must be an integer, got bool"),
        BadInput((heat, 3, 0.0, None, ids[0]), ValueError, "ids must have shape"),
        BadInput((heat, 3, 0.0, None, ids[:, :5]), ValueError, "ids must have shape"),
        BadInput((heat, 3, 0.0, None, ids.float()), TypeError, "ids must be", good=Sample((heat, 3, 0.0, None, ids))),
    ]


def calls(sample: Sample) -> list[Call]:
    heat, window, threshold, _, ids = (*sample.args, *(0.0, None, None)[len(sample.args) - 2 :])
    ids = None if ids is None else ids.to(torch.int32)
    return [Call(torch.ops.wsis.peak_mask.default, (heat, ids, window, float(threshold)))]


def invariants(sample: Sample, table: ops.Peaks) -> None:
    heat = sample.args[0]
    assert torch.equal(table.score, heat[table.image_index, table.label, table.y, table.x])
    plane = table.image_index * heat.shape[1] + table.label
    assert (plane[1:] >= plane[:-1]).all()
    same = plane[1:] == plane[:-1]
    assert (table.score[1:] <= table.score[:-1])[same].all()


EMPTY = (slice(0, 0), (slice(None), slice(0, 0)), (..., slice(0, 0), slice(None)), (..., slice(0, 0)))

SPEC = OpSpec(
    name="peak_mask",
    op=ops.peaks,
    reference=reference.peaks,
    samples=samples,
    bad_inputs=bad_inputs,
    calls=calls,
    invariants=invariants,
    exact=True,
    empty=lambda: [Sample((torch.zeros(2, 3, 4, 5)[index], 5)) for index in EMPTY],
    compile=False,
)
