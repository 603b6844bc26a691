"""Spec of ``filter_ids``."""

from __future__ import annotations

import torch

from tests.ops.spec import BadInput, Call, OpSpec, Sample, generator
from wsis import ops
from wsis.reference import filter_ids as reference


def ids_of(seed: int, batch: int, height: int, width: int, most: int) -> torch.Tensor:
    """Blocks of 3x2 pixels of one id, some ids more than once."""
    shape = (batch, (height + 2) // 3, (width + 1) // 2)
    ids = torch.randint(0, most + 1, shape, generator=generator(seed), dtype=torch.int32)
    return ids.repeat_interleave(3, 1).repeat_interleave(2, 2)[:, :height, :width]


def samples(seed: int) -> list[Sample]:
    strange = ids_of(seed, 2, 9, 11, 5).clone()
    strange[0, 0] = torch.tensor([-1, 99, 100, 2**31 - 1, -(2**31), 0, 1, 1, 1, 1, 1])
    return [
        Sample((ids_of(seed, 2, 17, 33, 9), 50)),
        Sample((ids_of(seed, 2, 17, 33, 60), 7, 14)),
        Sample((ids_of(seed, 3, 12, 10, 100), 6, 6), note="areas at both bounds"),
        Sample((ids_of(seed, 1, 1, 300, 7),)),
        Sample((ids_of(seed, 1, 33, 1, 5), 2)),
        Sample((torch.ones(1, 1, 1, dtype=torch.int32), 1, 1)),
        Sample((torch.ones(2, 40, 40, dtype=torch.int32), 1600, 1600), note="one component is all"),
        Sample((torch.zeros(2, 5, 6, dtype=torch.int32), 0), note="nothing"),
        Sample((torch.arange(1, 43, dtype=torch.int32).view(1, 6, 7), 0, 1), note="as many ids as pixels"),
        Sample((ids_of(seed, 1, 8, 8, 3), 5, 2), note="no area fits"),
        Sample((strange, 1), note="values that are no ids"),
    ]


def bad_inputs() -> list[BadInput]:
    ids = ids_of(0, 2, 6, 8, 3)
    return [
        BadInput((ids[0],), ValueError, r"ids must have shape \[B, H, W\], got \[6, 8\]", good=Sample((ids,))),
        BadInput((ids[None],), ValueError, "ids must have shape"),
        BadInput((ids.tolist(),), TypeError, "ids must be a tensor, got list"),
        BadInput((ids.long(),), TypeError, "ids must be int32, got int64"),
        BadInput((ids.float(),), TypeError, "ids must be int32, got float32"),
        BadInput((ids > 0,), TypeError, "got bool"),
        BadInput((ids.to_sparse(),), ValueError, "must be a dense tensor, got layout"),
        BadInput((ids, -1), ValueError, "min_area must be 0..2147483647, got -1", good=Sample((ids, 0))),
        BadInput((ids, 2**31), ValueError, "min_area must be 0..2147483647, got", good=Sample((ids, 2**31 - 1))),
        BadInput((ids, 2.0), TypeError, "min_area must be an integer, got float"),
        BadInput((ids, True), TypeError, "min_area must be an integer, got bool"),
        BadInput((ids, None), TypeError, "min_area must be an integer, got NoneType"),
        BadInput((ids, 1, -1), ValueError, "max_area must be 0..2147483647, got -1", good=Sample((ids, 1, 0))),
        BadInput((ids, 1, "9"), TypeError, "max_area must be an integer, got str"),
    ]


def calls(sample: Sample) -> list[Call]:
    ids, low, high = (*sample.args, *(1, 2**31 - 1)[len(sample.args) - 1 :])
    return [Call(torch.ops.wsis.filter_ids.default, (ids, low, high))]


def invariants(sample: Sample, output: ops.FilteredIds) -> None:
    ids = sample.args[0]
    assert ((output.ids > 0) <= (ids > 0)).all()
    assert torch.equal(output.ids.flatten(1).amax(1), output.counts)
    if len(sample.args) > 1 and sample.args[1] > 0:
        assert (output.counts <= ids[0].numel() // sample.args[1]).all()


SPEC = OpSpec(
    name="filter_ids",
    op=ops.filter_ids,
    reference=reference.filter_ids,
    samples=samples,
    bad_inputs=bad_inputs,
    calls=calls,
    invariants=invariants,
    exact=True,
    empty=lambda: [Sample((torch.zeros(shape, dtype=torch.int32), 1)) for shape in ((0, 4, 5), (2, 0, 5), (2, 4, 0))],
)
