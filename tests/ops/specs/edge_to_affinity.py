"""Spec of ``edge_to_affinity``."""

from __future__ import annotations

import torch

from tests.ops.spec import BadInput, Call, OpSpec, Sample, generator
from wsis import ops
from wsis.reference import edge_to_affinity as reference


def samples(seed: int) -> list[Sample]:
    g = generator(seed)
    tied = torch.randint(0, 3, (2, 9, 11), generator=g) / 2
    return [
        Sample((torch.rand(2, 12, 17, generator=g), 5)),
        Sample((torch.rand(1, 23, 9, generator=g), 10), note="wider than the image"),
        Sample((tied, 4), note="ties"),
        Sample((torch.rand(1, 1, 1, generator=g), 5), note="one pixel"),
        Sample((torch.rand(1, 1, 33, generator=g), 3), note="one row"),
        Sample((torch.rand(1, 33, 1, generator=g), 3), note="one column"),
        Sample((torch.rand(2, 5, 6, generator=g).double(), 16), note="float64, the largest radius"),
        Sample((torch.zeros(1, 4, 4), 1), note="a radius without neighbours"),
    ]


def bad_inputs() -> list[BadInput]:
    ok = torch.rand(1, 4, 5)
    good = Sample((ok, 5))
    return [
        BadInput(("boundary", 5), TypeError, "boundary must be a tensor, got str", good=good),
        BadInput((ok[0], 5), ValueError, r"boundary must have shape \[B, h, w\], got \[4, 5\]", good=good),
        BadInput((ok[None], 5), ValueError, r"boundary must have shape"),
        BadInput((ok.half(), 5), TypeError, "boundary must be float32, float64, got float16"),
        BadInput((ok.to(torch.bfloat16), 5), TypeError, "got bfloat16"),
        BadInput((ok.int(), 5), TypeError, "got int32"),
        BadInput((ok.bool(), 5), TypeError, "got bool"),
        BadInput((ok.to(torch.complex64), 5), TypeError, "got complex64"),
        BadInput((ok.to_sparse(), 5), ValueError, "dense"),
        BadInput((ok, 0), ValueError, "radius must be 1..16, got 0", good=Sample((ok, 1))),
        BadInput((ok, 17), ValueError, "radius must be 1..16, got 17", good=Sample((ok, 16))),
        BadInput((ok, -5), ValueError, "radius must be 1..16, got -5"),
        BadInput((ok, 5.0), TypeError, "radius must be an integer, got float"),
        BadInput((ok, True), TypeError, "radius must be an integer, got bool"),
        BadInput((ok, 10**30), ValueError, "radius must be 1..16"),
    ]


def calls(sample: Sample) -> list[Call]:
    boundary, radius = sample.args
    return [Call(torch.ops.wsis.edge_to_affinity.default, (boundary.clone().requires_grad_(), radius))]


def invariants(sample: Sample, affinity: torch.Tensor) -> None:
    boundary, radius = sample.args
    assert affinity.shape[:2] == (boundary.shape[0], len(ops.neighbor_offsets(radius)))
    if affinity.numel():
        assert affinity.min() >= 0
        assert affinity.max() <= 1


def gradcheck() -> list[Sample]:
    values = torch.randperm(2 * 6 * 7, generator=generator(0)).double().view(2, 6, 7) / 84
    return [Sample((values, 4)), Sample((values[:1, :3], 3))]


SPEC = OpSpec(
    name="edge_to_affinity",
    op=ops.edge_to_affinity,
    reference=reference.edge_to_affinity,
    samples=samples,
    bad_inputs=bad_inputs,
    calls=calls,
    invariants=invariants,
    exact=True,
    differentiable=(0,),
    gradcheck=gradcheck,
    empty=lambda: [Sample((torch.zeros(shape), 5)) for shape in ((0, 4, 5), (2, 0, 5), (2, 4, 0))],
)
