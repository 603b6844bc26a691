"""Spec of ``trace_displacement``."""

from __future__ import annotations

import torch

from tests.ops.spec import BadInput, Call, OpSpec, Sample, generator
from wsis import ops
from wsis.reference import trace_displacement as reference


def _to_center(height: int, width: int) -> torch.Tensor:
    """A field that leads straight to the middle cell, a quarter of the way in each step."""
    rows = torch.arange(height, dtype=torch.float32)[:, None].expand(height, width)
    columns = torch.arange(width, dtype=torch.float32)[None].expand(height, width)
    return torch.stack([(height // 2 - rows) / 4, (width // 2 - columns) / 4])[None]


def samples(seed: int) -> list[Sample]:
    g = generator(seed)
    return [
        Sample((2 * torch.randn(2, 2, 13, 17, generator=g), 300)),
        Sample((torch.randn(3, 2, 9, 8, generator=g), 60), {"sizes": torch.tensor([[9, 8], [5, 3], [0, 8]])}),
        Sample((_to_center(11, 14), 300), note="one centre"),
        Sample(
            (torch.randint(-3, 4, (2, 2, 12, 12), generator=g).float(), 101), note="cycles on whole cells"
        ),
        Sample((torch.randn(1, 2, 10, 10, generator=g).double(), 300), note="float64"),
        Sample((torch.zeros(1, 2, 5, 7), 300), note="nothing moves"),
        Sample((torch.randn(1, 2, 6, 6, generator=g), 0), note="no step"),
        Sample((torch.randn(1, 2, 1, 1, generator=g), 5), note="one pixel"),
        Sample((torch.randn(1, 2, 1, 33, generator=g), 40), note="one row"),
        Sample((torch.randn(1, 2, 33, 1, generator=g), 40), note="one column"),
        Sample((1e38 * torch.randn(1, 2, 5, 9, generator=g), 7), note="moves that overflow"),
        Sample((1e-42 * torch.randn(1, 2, 5, 9, generator=g), 7), note="denormal moves"),
    ]


def bad_inputs() -> list[BadInput]:
    ok = torch.zeros(2, 2, 4, 5)
    good = Sample((ok, 3))
    nan, inf = ok.clone(), ok.clone()
    nan[1, 0, 2, 3] = float("nan")
    inf[0, 1, 0, 4] = float("-inf")
    table = torch.tensor([[4, 5], [3, 2]])
    fits = Sample((ok, 3), {"sizes": table})
    high = torch.tensor([[5, 5], [3, 2]])
    wide = torch.tensor([[4, 5], [3, 6]])
    return [
        BadInput(("field", 3), TypeError, "displacement must be a tensor, got str", good=good),
        BadInput((ok[0], 3), ValueError, r"displacement must have shape \[B, 2, h, w\], got \[2, 4, 5\]"),
        BadInput((torch.zeros(2, 3, 4, 5), 3), ValueError, r"got \[2, 3, 4, 5\]", good=good),
        BadInput((ok.half(), 3), TypeError, "displacement must be float32, float64, got float16", good=good),
        BadInput((ok.long(), 3), TypeError, "got int64"),
        BadInput((ok.to_sparse(), 3), ValueError, "dense"),
        BadInput(
            (nan, 3), ValueError, r"displacement must be finite, got 1 .* first at \[1, 0, 2, 3\]", good=good
        ),
        BadInput(
            (inf, 3), ValueError, r"displacement must be finite, got 1 .* first at \[0, 1, 0, 4\]", good=good
        ),
        BadInput((ok, -1), ValueError, "num_steps must be 0.*, got -1", good=Sample((ok, 0))),
        BadInput((ok, 2.0), TypeError, "num_steps must be an integer, got float", good=good),
        BadInput((ok, True), TypeError, "num_steps must be an integer, got bool"),
        BadInput((ok, 2**31), ValueError, "num_steps must be", good=Sample((ok, 2**31 - 1))),
        BadInput((ok, 3), ValueError, r"sizes\[:, 0\] must be 0..4.*, got 5", {"sizes": high}, good=fits),
        BadInput((ok, 3), ValueError, r"sizes\[:, 1\] must be 0..5.*, got 6", {"sizes": wide}, good=fits),
        BadInput((ok, 3), ValueError, "sizes.*, got -4", {"sizes": -table}, good=fits),
        BadInput((ok, 3), ValueError, r"sizes must have shape \[2, 2\], got \[1, 2\]", {"sizes": table[:1]}),
        BadInput((ok, 3), TypeError, "sizes must be int32, int64, got float32", {"sizes": table.float()}),
    ]


def calls(sample: Sample) -> list[Call]:
    displacement, num_steps = sample.args
    sizes = sample.kwargs.get("sizes")
    sizes = None if sizes is None else sizes.int()
    return [Call(torch.ops.wsis.trace_displacement.default, (displacement, sizes, num_steps))]


def invariants(sample: Sample, ends: torch.Tensor) -> None:
    displacement, num_steps = sample.args
    batch, _, height, width = displacement.shape
    assert ends.dtype == torch.int32
    assert ends.shape == displacement.shape
    sizes = sample.kwargs.get("sizes", torch.tensor([[height, width]] * batch))
    for b, (h, w) in enumerate(sizes.tolist()):
        inside = ends[b, :, :h, :w]
        assert (inside >= 0).all()
        assert (inside[0] < h).all()
        assert (inside[1] < w).all()
        if num_steps == 0 or not displacement[b].any():
            assert torch.equal(inside[0], torch.arange(h, dtype=torch.int32)[:, None].expand(h, w))
            assert torch.equal(inside[1], torch.arange(w, dtype=torch.int32)[None].expand(h, w))


SPEC = OpSpec(
    name="trace_displacement",
    op=ops.trace_displacement,
    reference=reference.trace_displacement,
    samples=samples,
    bad_inputs=bad_inputs,
    calls=calls,
    invariants=invariants,
    exact=True,
    empty=lambda: [Sample((torch.zeros(shape), 5)) for shape in ((0, 2, 4, 5), (2, 2, 0, 5), (2, 2, 4, 0))],
)
