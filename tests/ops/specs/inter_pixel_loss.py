"""Spec of ``inter_pixel_loss``."""

from __future__ import annotations

import torch

from tests.ops.spec import BadInput, Call, OpSpec, Sample, generator
from wsis import ops
from wsis.reference import inter_pixel_loss as reference


def _seeds(g: torch.Generator, batch: int, height: int, width: int, *, unknown: float = 0.2) -> torch.Tensor:
    """Patches of 3 x 3 cells of background and two classes, with single cells unknown."""
    coarse = torch.randint(0, 3, (batch, height // 3 + 1, width // 3 + 1), generator=g)
    seeds = coarse.repeat_interleave(3, 1).repeat_interleave(3, 2)[:, :height, :width].clone()
    seeds[torch.rand(seeds.shape, generator=g) < unknown] = 255
    return seeds.to(torch.uint8)


def _sample(g: torch.Generator, batch: int, height: int, width: int, radius: int, note: str = "") -> Sample:
    logits = 3 * torch.randn(batch, height, width, generator=g)
    displacement = 3 * torch.randn(batch, 2, height, width, generator=g)
    return Sample((logits, displacement, _seeds(g, batch, height, width)), {"radius": radius}, note)


def samples(seed: int) -> list[Sample]:
    g = generator(seed)
    tied = _sample(g, 2, 9, 12, 4)
    logits, displacement, seeds = tied.args
    double = _sample(g, 2, 7, 11, 3)
    return [
        _sample(g, 2, 14, 23, 10),
        _sample(g, 3, 9, 13, 5),
        _sample(g, 1, 34, 35, 2, "past one block"),
        _sample(g, 1, 17, 33, 16, "the largest radius"),
        _sample(g, 2, 5, 6, 1, "a radius without pairs"),
        _sample(g, 2, 6, 7, 10, "smaller than the disc"),
        _sample(g, 1, 1, 1, 3, "one pixel"),
        _sample(g, 1, 1, 33, 3, "one row"),
        _sample(g, 1, 33, 1, 3, "one column"),
        Sample(
            tuple(t.double() if t.is_floating_point() else t for t in double.args), {"radius": 3}, "float64"
        ),
        Sample((logits.round().clamp(-1, 1), displacement.round(), seeds), {"radius": 4}, "ties"),
        Sample((logits * 0, displacement * 0, seeds), {"radius": 4}, "all equal"),
        Sample((logits, displacement, torch.full_like(seeds, 255)), {"radius": 4}, "nothing known"),
        Sample((logits, displacement, torch.full_like(seeds, 254)), {"radius": 4}, "one class"),
        Sample((logits, displacement, seeds.long()), {"radius": 4}, "int64 seeds"),
    ]


def oracle(logits, displacement, seeds, **options) -> tuple[torch.Tensor, ...]:
    """The reference in float64; gradients flow through."""
    return tuple(reference.inter_pixel_loss(logits.double(), displacement.double(), seeds, **options))


def bad_inputs() -> list[BadInput]:
    e, d, s = torch.zeros(2, 4, 5), torch.zeros(2, 2, 4, 5), torch.zeros(2, 4, 5, dtype=torch.uint8)
    good = Sample((e, d, s), {"radius": 2})
    nan, inf = e.clone(), d.clone()
    nan[1, 3, 4] = float("nan")
    inf[0, 1, 2, 3] = float("inf")
    wide = s.int()
    at_bound, over, under = wide + 255, wide + 256, wide - 1
    return [
        BadInput((None, d, s), TypeError, "boundary_logits must be a tensor, got NoneType", good=good),
        BadInput(
            (e[0], d, s), ValueError, r"boundary_logits must have shape \[B, h, w\], got \[4, 5\]", good=good
        ),
        BadInput((e.half(), d, s), TypeError, "boundary_logits must be float32, float64, got float16"),
        BadInput(
            (e, d[:, 0], s), ValueError, r"displacement must have shape \[2, 2, 4, 5\], got \[2, 4, 5\]"
        ),
        BadInput(
            (e, d[..., :4], s), ValueError, r"displacement must have shape .*, got \[2, 2, 4, 4\]", good=good
        ),
        BadInput((e, d.double(), s), TypeError, "displacement must be float32, got float64", good=good),
        BadInput((e, d, s[:1]), ValueError, r"seeds must have shape \[2, 4, 5\], got \[1, 4, 5\]", good=good),
        BadInput((e, d, s.float()), TypeError, "seeds must be .*, got float32", good=good),
        BadInput((e, d, s.bool()), TypeError, "seeds must be .*, got bool"),
        BadInput((e, d, over), ValueError, "seeds must be 0..255 .*, got 256", good=Sample((e, d, at_bound))),
        BadInput((e, d, under), ValueError, "seeds must be 0..255 .*, got -1", good=Sample((e, d, wide))),
        BadInput((nan, d, s), ValueError, r"boundary_logits must be finite, got 1 .* first at \[1, 3, 4\]"),
        BadInput((e, inf, s), ValueError, r"displacement must be finite, got 1 .* first at \[0, 1, 2, 3\]"),
        BadInput(
            (e, d, s),
            ValueError,
            "radius must be 1..16, got 0",
            {"radius": 0},
            Sample((e, d, s), {"radius": 1}),
        ),
        BadInput(
            (e, d, s),
            ValueError,
            "radius must be 1..16, got 17",
            {"radius": 17},
            Sample((e, d, s), {"radius": 16}),
        ),
        BadInput((e, d, s), TypeError, "radius must be an integer, got float", {"radius": 5.0}, good),
        BadInput((e.to_sparse(), d, s), ValueError, "boundary_logits must be a dense tensor, got layout"),
    ]


def calls(sample: Sample) -> list[Call]:
    logits, displacement, seeds = sample.args
    args = (logits.clone().requires_grad_(), displacement.clone().requires_grad_(), seeds.to(torch.uint8))
    radius = sample.kwargs["radius"]
    _, counts, state = torch.ops.wsis.inter_pixel_loss.default(*args, radius)
    backward = (torch.ones(4, dtype=logits.dtype), logits, args[2], counts, state)
    return [
        Call(torch.ops.wsis.inter_pixel_loss.default, (*args, radius)),
        Call(torch.ops.wsis.inter_pixel_loss_backward.default, backward),
    ]


def invariants(sample: Sample, losses) -> None:
    logits, _, seeds = sample.args
    _, height, width = logits.shape
    radius = sample.kwargs["radius"]
    assert all(loss.dim() == 0 and torch.isfinite(loss) and loss >= 0 for loss in losses)
    if (seeds == 255).all() or height < radius or width < 2 * radius - 1 or radius == 1:
        assert not any(losses)


def gradcheck() -> list[Sample]:
    g = generator(3)
    made = []
    for batch, height, width, radius in ((1, 6, 9, 3), (2, 7, 8, 2)):
        cells = batch * height * width
        logits = (torch.randperm(cells, generator=g).double() / cells - 0.5).view(batch, height, width) * 6
        displacement = torch.randn(batch, 2, height, width, generator=g).double()
        made.append(Sample((logits, displacement, _seeds(g, batch, height, width)), {"radius": radius}))
    return made


SPEC = OpSpec(
    name="inter_pixel_loss",
    op=ops.inter_pixel_loss,
    reference=oracle,
    samples=samples,
    bad_inputs=bad_inputs,
    calls=calls,
    invariants=invariants,
    rtol=2e-6,
    atol=1e-7,
    differentiable=(0, 1),
    gradcheck=gradcheck,
    empty=lambda: [
        Sample((torch.zeros(b, h, w), torch.zeros(b, 2, h, w), torch.zeros(b, h, w, dtype=torch.uint8)))
        for b, h, w in ((0, 4, 5), (2, 0, 5), (2, 4, 0))
    ],
)
