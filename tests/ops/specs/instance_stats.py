"""Spec of ``instance_stats``."""

from __future__ import annotations

import torch

from tests.ops.spec import BadInput, Call, OpSpec, Sample, generator
from wsis import ops
from wsis.reference import instance_stats as reference


def samples(seed: int) -> list[Sample]:
    g = generator(seed)

    def ids(*shape: int, values: int = 6) -> torch.Tensor:
        return torch.randint(0, values, shape, generator=g)

    coarse = ids(2, 5, 7).repeat_interleave(5, 1).repeat_interleave(11, 2).to(torch.int32)
    scores = torch.rand(2, 25, 77, generator=g)
    tied = torch.randint(0, 3, (2, 25, 77), generator=g) / 2
    sizes = torch.tensor([[25, 77], [13, 40]])
    return [
        Sample((coarse, scores)),
        Sample((coarse,), note="no scores"),
        Sample((coarse, tied - 0.5), note="ties, negative scores, -0"),
        Sample((coarse, scores.double()), note="float64"),
        Sample((coarse, tied), {"sizes": sizes}, "padded images"),
        Sample((ids(3, 9, 10).to(torch.uint8), torch.rand(3, 9, 10, generator=g)), note="noise"),
        Sample((ids(1, 6, 7) * 1_000_000_007, torch.rand(1, 6, 7, generator=g)), note="ids far apart"),
        Sample((ids(1, 6, 7) + 2**40,), note="ids far apart, none 0"),
        Sample((torch.zeros(2, 4, 5, dtype=torch.int64), torch.rand(2, 4, 5, generator=g)), note="none"),
        Sample((torch.ones(1, 3, 300, dtype=torch.bool), torch.zeros(1, 3, 300)), note="all equal"),
        Sample((ids(1, 1, 1, values=2), torch.ones(1, 1, 1)), note="one pixel"),
        Sample((ids(1, 1, 33), torch.rand(1, 1, 33, generator=g)), note="one row"),
        Sample((ids(1, 33, 1), torch.rand(1, 33, 1, generator=g)), note="one column"),
        Sample((coarse, scores * 3e38), note="sums above the largest float32"),
        Sample((coarse, scores * 1e-40), note="denormal"),
    ]


def bad_inputs() -> list[BadInput]:
    ok = torch.ones(2, 4, 5, dtype=torch.int32)
    scores = torch.ones(2, 4, 5)
    nan, inf = scores.clone(), scores.clone()
    nan[1, 2, 3] = float("nan")
    inf[0, 0, 0] = float("inf")
    good = Sample((ok, scores))
    table = torch.tensor([[4, 5], [0, 5]])
    return [
        BadInput((None,), TypeError, "ids must be a tensor, got NoneType", good=good),
        BadInput((ok[0],), ValueError, r"ids must have shape \[B, H, W\], got \[4, 5\]", good=good),
        BadInput((ok.float(),), TypeError, "ids must be bool, uint8.*got float32"),
        BadInput((ok.to_sparse(),), ValueError, "dense"),
        BadInput(
            (ok - 2,),
            ValueError,
            r"ids must be 0 \(no instance\) or positive, got -1",
            good=Sample((ok - 1,)),
        ),
        BadInput((ok, [1.0]), TypeError, "scores must be a tensor, got list"),
        BadInput(
            (ok, scores[:1]), ValueError, r"scores must have shape \[2, 4, 5\], got \[1, 4, 5\]", good=good
        ),
        BadInput((ok, scores[:, :, :4]), ValueError, r"got \[2, 4, 4\]"),
        BadInput((ok, scores.half()), TypeError, "scores must be float32, float64, got float16"),
        BadInput((ok, ok), TypeError, "scores must be float32, float64, got int32"),
        BadInput((ok, nan), ValueError, r"scores must be finite, got 1 NaN.*\[1, 2, 3\]", good=good),
        BadInput((ok, inf), ValueError, "scores must be finite"),
        BadInput((ok,), ValueError, r"sizes must have shape \[2, 2\], got \[2\]", {"sizes": table[0]}),
        BadInput((ok,), TypeError, "sizes must be a tensor, got list", {"sizes": [[4, 5], [4, 5]]}),
        BadInput(
            (ok,), ValueError, "padded height 4.*got 5", {"sizes": table + 1}, Sample((ok,), {"sizes": table})
        ),
    ]


def calls(sample: Sample) -> list[Call]:
    ids = sample.args[0].to(torch.int32)
    sizes = torch.tensor([[2, 3]] * ids.shape[0], dtype=torch.int32)
    op = torch.ops.wsis.instance_stats.default
    return [Call(op, (ids, torch.rand(ids.shape), None, 5)), Call(op, (ids, None, sizes, 3))]


def invariants(sample: Sample, table: ops.InstanceStats) -> None:
    assert (table.area > 0).all()
    x0, y0, x1, y1 = table.box_xyxy.unbind(1)
    assert (table.area <= (x1 - x0) * (y1 - y0)).all()
    assert (
        (table.centroid_yx >= torch.stack((y0, x0), 1)) & (table.centroid_yx < torch.stack((y1, x1), 1))
    ).all()
    if table.score_max is not None:
        scores = sample.args[1]
        at_peak = scores[table.image_index, table.peak_yx[:, 0], table.peak_yx[:, 1]]
        assert torch.equal(at_peak, table.score_max)
        assert (table.score_mean <= table.score_max * (1 + 1e-6 * table.score_max.sign())).all()


def empty() -> list[Sample]:
    return [Sample((torch.zeros(s).int(), torch.zeros(s))) for s in ((0, 4, 5), (2, 0, 5), (2, 4, 0))]


SPEC = OpSpec(
    name="instance_stats",
    op=ops.instance_stats,
    reference=reference.instance_stats,
    samples=samples,
    bad_inputs=bad_inputs,
    calls=calls,
    invariants=invariants,
    rtol=1e-6,
    atol=1e-40,
    empty=empty,
    compile=False,
)
