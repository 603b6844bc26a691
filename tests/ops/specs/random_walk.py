"""Spec of ``random_walk``."""

from __future__ import annotations

import math

import torch

from tests.ops.spec import BadInput, Call, OpSpec, Sample, generator
from wsis import ops
from wsis.reference import random_walk as reference

KEYS = ("radius", "beta", "num_steps", "tol")
DEFAULTS = {"radius": 5, "beta": 10.0, "num_steps": 256, "tol": 1e-5}


def seeds_and_boundary(
    g: torch.Generator, count: int, batch: int, height: int, width: int, level: float = 0.6
):
    return torch.rand(count, height, width, generator=g), torch.rand(
        batch, height, width, generator=g
    ) * level


def samples(seed: int) -> list[Sample]:
    g = generator(seed)
    several = torch.tensor([1, 0, 1, 1, 0])
    sizes = torch.tensor([[9, 21], [12, 8]])
    precise = {"tol": 1e-6}
    return [
        Sample(
            (*seeds_and_boundary(g, 5, 2, 12, 21), several), precise, note="channels of two images, mixed"
        ),
        Sample((*seeds_and_boundary(g, 5, 2, 12, 21), several), {"sizes": sizes, **precise}, note="padded"),
        Sample(seeds_and_boundary(g, 3, 3, 7, 33), {"method": "power"}, note="one channel per image"),
        Sample(
            seeds_and_boundary(g, 3, 1, 17, 16), {"num_steps": 7, **precise}, note="an odd number of steps"
        ),
        Sample(seeds_and_boundary(g, 4, 1, 6, 5), {"num_steps": 0}, note="no step"),
        Sample(seeds_and_boundary(g, 2, 1, 6, 5), {"num_steps": 1}, note="one step"),
        Sample(
            seeds_and_boundary(g, 2, 2, 10, 11), {"radius": 3, "beta": 2.5, **precise}, note="a broken power"
        ),
        Sample(
            seeds_and_boundary(g, 2, 1, 9, 20),
            {"radius": 8, "beta": 0.0, **precise},
            note="no boundary counts",
        ),
        Sample(seeds_and_boundary(g, 2, 1, 5, 6), {"radius": 1}, note="nobody is near"),
        Sample(seeds_and_boundary(g, 1, 1, 1, 1), precise, note="one pixel"),
        Sample(seeds_and_boundary(g, 3, 1, 1, 40), precise, note="one row"),
        Sample(seeds_and_boundary(g, 9, 1, 40, 1), precise, note="one column"),
        Sample(
            (torch.full((2, 8, 9), 0.3), torch.rand(1, 8, 9, generator=g)), precise, note="constant seeds"
        ),
        Sample((torch.rand(2, 8, 9, generator=g), torch.ones(1, 8, 9)), precise, note="boundary everywhere"),
        Sample((torch.rand(2, 8, 9, generator=g), torch.zeros(2, 8, 9)), precise, note="no boundary"),
        Sample(
            tuple(t.double() for t in seeds_and_boundary(g, 2, 1, 11, 12)), {"tol": 1e-10}, note="float64"
        ),
    ]


def bad_inputs() -> list[BadInput]:
    x, edge = torch.rand(3, 4, 5), torch.rand(1, 4, 5)
    two = torch.rand(2, 4, 5)
    index = torch.tensor([0, 1, 1])
    good = Sample((x, edge))
    nan, wide = edge.clone(), edge.clone()
    nan[0, 1, 2] = math.nan
    wide[0, 0, 0] = 1.01
    rounded = edge.clone()
    rounded[0, 0, 0] = 1 + 9e-7
    infinite = x.clone()
    infinite[2, 3, 4] = math.inf
    return [
        BadInput((x.numpy(), edge), TypeError, "seeds must be a tensor, got ndarray", good=good),
        BadInput((x[0], edge), ValueError, r"seeds must have shape \[M, h, w\], got \[4, 5\]", good=good),
        BadInput((x, edge[0]), ValueError, r"boundary must have shape \[B, 4, 5\], got \[4, 5\]"),
        BadInput((x, edge[:, :3]), ValueError, r"boundary must have shape \[B, 4, 5\], got \[1, 3, 5\]"),
        BadInput((x.half(), edge.half()), TypeError, "seeds must be float32, float64, got float16"),
        BadInput((x, edge.double()), TypeError, "boundary must be float32, got float64"),
        BadInput((x, two), ValueError, "image_index must say .* got None", good=Sample((x, two, index))),
        BadInput((x, two, index[:2]), ValueError, r"image_index must have shape \[3\], got \[2\]"),
        BadInput((x, two, index.float()), TypeError, "image_index must be int64.* got float32"),
        BadInput((x, two, index + 1), ValueError, r"image_index must be 0..1 .*got 2"),
        BadInput((x, two, index - 1), ValueError, r"image_index must be 0..1 .*got -1"),
        BadInput(
            (x, nan), ValueError, r"boundary must be finite, got 1 NaN .*first at \[0, 1, 2\]", good=good
        ),
        BadInput((infinite, edge), ValueError, r"seeds must be finite, got 1 NaN .*\[2, 3, 4\]", good=good),
        BadInput(
            (x, wide), ValueError, "boundary must be probabilities .* got 1.0", good=Sample((x, rounded))
        ),
        BadInput(
            (x, -wide), ValueError, "boundary must be probabilities .* got -", good=Sample((x, edge * 0))
        ),
        BadInput((x, edge), ValueError, "radius must be 1..16, got 17", {"radius": 17}, good),
        BadInput((x, edge), TypeError, "radius must be an integer, got float", {"radius": 5.0}),
        BadInput(
            (x, edge), ValueError, "beta must be .* got -1", {"beta": -1}, Sample((x, edge), {"beta": 0})
        ),
        BadInput((x, edge), ValueError, "beta must be .* got nan", {"beta": math.nan}),
        BadInput((x, edge), ValueError, "num_steps must be 0..1000000, got -1", {"num_steps": -1}),
        BadInput(
            (x, edge),
            ValueError,
            "num_steps must be 0..1000000, got 1000001",
            {"num_steps": 1_000_001},
            Sample((x, edge), {"num_steps": 1_000_000}),
        ),
        BadInput(
            (x, edge), ValueError, "tol must be .* got 1.5", {"tol": 1.5}, Sample((x, edge), {"tol": 1.0})
        ),
        BadInput((x, edge), TypeError, "tol must be a number, got str", {"tol": "small"}),
        BadInput(
            (x, edge), ValueError, "method must be 'chebyshev' or 'power', got 'exact'", {"method": "exact"}
        ),
        BadInput((x, edge), ValueError, r"sizes must have shape \[1, 2\]", {"sizes": torch.tensor([4, 5])}),
        BadInput((x, edge), ValueError, r"sizes.* must be 0..4 .*got 5", {"sizes": torch.tensor([[5, 5]])}),
    ]


def calls(sample: Sample) -> list[Call]:
    seeds, boundary, *rest = sample.args
    index = rest[0] if rest else torch.arange(len(seeds)) * (len(boundary) > 1)
    sizes = sample.kwargs.get("sizes")
    settings = [sample.kwargs.get(key, DEFAULTS[key]) for key in KEYS]
    exact = sample.kwargs.get("method") == "power"
    table = None if sizes is None else sizes.to(torch.int32)
    inputs = [t.clone().requires_grad_() for t in (seeds, boundary)]
    return [Call(torch.ops.wsis.random_walk.default, (*inputs, index, table, *settings, exact))]


def invariants(sample: Sample, walked: torch.Tensor) -> None:
    """A walk takes weighted means of what lies inside the true size."""
    seeds = sample.args[0]
    assert walked.shape == seeds.shape
    assert walked.dtype == seeds.dtype
    slack = 2e-5
    assert (walked.amax((1, 2)) <= seeds.amax((1, 2)) + slack).all()
    assert (walked >= -slack).all()
    if "sizes" not in sample.kwargs:
        assert (walked.amin((1, 2)) >= seeds.amin((1, 2)) - slack).all()


def gradcheck() -> list[Sample]:
    g = generator(0)
    seeds = torch.rand(3, 5, 6, generator=g).double()
    levels = torch.randperm(60, generator=g).double().view(2, 5, 6) / 70 + 0.05
    index = torch.tensor([1, 0, 1])
    sizes = torch.tensor([[4, 6], [5, 3]])
    return [
        Sample((seeds, levels, index), {"radius": 3, "num_steps": 12, "tol": 0.0}),
        Sample((seeds, levels, index), {"radius": 3, "num_steps": 5, "method": "power", "sizes": sizes}),
        Sample((seeds, levels, index), {"radius": 5, "num_steps": 31, "tol": 0.0, "beta": 2.5}),
        Sample((seeds[:2], levels), {"radius": 2, "num_steps": 1, "beta": 1}),
    ]


def empty() -> list[Sample]:
    shapes = (((0, 4, 5), (2, 4, 5)), ((2, 0, 5), (2, 0, 5)), ((2, 4, 0), (1, 4, 0)), ((0, 4, 5), (0, 4, 5)))
    cases = [Sample(tuple(torch.zeros(shape) for shape in pair), {}) for pair in shapes[1:]]
    no_seeds = Sample((torch.zeros(0, 4, 5), torch.zeros(2, 4, 5), torch.zeros(0, dtype=torch.int64)))
    nothing_real = Sample(
        (torch.ones(2, 4, 5), torch.zeros(2, 4, 5)), {"sizes": torch.tensor([[0, 5], [4, 0]])}
    )
    return [*cases, no_seeds, nothing_real]


def in_float64(seeds: torch.Tensor, boundary: torch.Tensor, *args, **kwargs) -> torch.Tensor:
    """The oracle, free of the rounding of 256 float32 steps."""
    return reference.random_walk(seeds.double(), boundary.double(), *args, **kwargs)


SPEC = OpSpec(
    name="random_walk",
    op=ops.random_walk,
    reference=in_float64,
    samples=samples,
    bad_inputs=bad_inputs,
    calls=calls,
    invariants=invariants,
    rtol=2e-5,
    atol=4e-6,
    differentiable=(0, 1),
    gradcheck=gradcheck,
    empty=empty,
)
