"""Special cases of ``random_walk`` and ``propagate_to_edge``; the generic suite covers the rest."""

from __future__ import annotations

import pytest
import torch

import wsis
from tests import golden_cases
from wsis import ops
from wsis.reference.random_walk import random_walk as reference


def relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got.double() - expected.double()).abs().max() / expected.double().abs().max())


@pytest.mark.parametrize("seed", golden_cases.SEEDS)
def test_propagate_to_edge_matches_golden(seed):
    scene = golden_cases.load_scene(seed)
    cams, edge = golden_cases.tensor(scene, "in_cams"), golden_cases.tensor(scene, "in_edge")
    expected = golden_cases.tensor(scene, "walked_semantic")
    walked = wsis.propagate_to_edge(cams, edge)
    assert walked.shape == (len(cams), 1, *edge.shape)
    assert relative_error(walked[:, 0], expected) <= 1e-4


def golden_walk(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Instance-wise CAMs off the boundary, the boundary ``[1, h, w]``, and the reference program's walk."""
    scene = golden_cases.load_scene(seed)
    cams, clusters = golden_cases.tensor(scene, "in_cams"), golden_cases.tensor(scene, "cluster_map")
    edge = golden_cases.tensor(scene, "in_edge")[None]
    instances = torch.stack([clusters == i for i in range(int(clusters.max()) + 1)])
    seeds = (cams[:, None] * instances[None]).flatten(0, 1) * (1 - edge)
    return seeds, edge, golden_cases.tensor(scene, "walked")


@pytest.mark.parametrize("seed", golden_cases.SEEDS)
@pytest.mark.parametrize("method", ["chebyshev", "power"])
def test_random_walk_matches_golden(seed, method):
    seeds, edge, expected = golden_walk(seed)
    assert relative_error(ops.random_walk(seeds, edge, method=method), expected) <= 1e-4


def test_random_walk_is_nearer_to_exact_steps_than_plain_float32():
    seeds, edge, _ = golden_walk(0)
    exact, plain = reference(seeds.double(), edge.double()), reference(seeds, edge)
    for method in ("chebyshev", "power"):
        walked = ops.random_walk(seeds, edge, method=method)
        assert relative_error(walked, exact) <= 2 * relative_error(plain, exact)


def test_no_step_passes_gradients_of_the_seeds_only():
    seeds, boundary = (torch.rand(1, 6, 7, requires_grad=True) for _ in range(2))
    walked = ops.random_walk(seeds, boundary, num_steps=0)
    grad_seeds, grad_boundary = torch.autograd.grad(walked.sum(), (seeds, boundary))
    assert torch.equal(walked, seeds)
    assert torch.equal(grad_seeds, torch.ones_like(seeds))
    assert not grad_boundary.any()


def test_gradient_of_the_default_walk_matches_reference():
    generator = torch.Generator().manual_seed(0)
    seeds = torch.rand(11, 9, 13, generator=generator)
    boundary = torch.rand(2, 9, 13, generator=generator) * 0.5
    index = torch.tensor([0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    weight = torch.rand(11, 9, 13, generator=generator)
    grads = []
    for function, dtype in (
        (ops.random_walk, torch.float32),
        (reference, torch.float32),
        (reference, torch.float64),
    ):
        inputs = [t.to(dtype).requires_grad_() for t in (seeds, boundary)]
        grads.append(torch.autograd.grad((function(*inputs, index) * weight).sum(), inputs))
    for ours, plain, exact in zip(*grads):
        assert relative_error(ours, exact) <= max(3 * relative_error(plain, exact), 2e-5)


def test_gradient_of_the_seeds_alone_equals_that_of_both():
    seeds, boundary = torch.rand(3, 20, 18), torch.rand(1, 20, 18)
    weight = torch.rand(3, 20, 18)
    both = [seeds.clone().requires_grad_(), boundary.clone().requires_grad_()]
    alone = seeds.clone().requires_grad_()
    (expected, _) = torch.autograd.grad((ops.random_walk(*both) * weight).sum(), both)
    (got,) = torch.autograd.grad((ops.random_walk(alone, boundary) * weight).sum(), alone)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_second_derivative_is_refused():
    seeds, boundary = (torch.rand(1, 6, 7, requires_grad=True) for _ in range(2))
    (grad,) = torch.autograd.grad(ops.random_walk(seeds, boundary).square().sum(), seeds, create_graph=True)
    with pytest.raises(RuntimeError, match="random_walk: second derivatives"):
        grad.sum().backward()


@pytest.mark.parametrize("num_steps", [2, 255, 256, 1001])
@pytest.mark.parametrize("tol", [1e-2, 1e-5])
def test_series_is_within_its_tolerance(num_steps, tol):
    generator = torch.Generator().manual_seed(num_steps)
    seeds = torch.zeros(3, 12, 14, dtype=torch.float64)
    seeds.view(3, -1)[torch.arange(3), torch.tensor([0, 80, 167])] = 1
    boundary = torch.rand(1, 12, 14, generator=generator).double()
    exact = ops.random_walk(seeds, boundary, num_steps=num_steps, method="power")
    series = ops.random_walk(seeds, boundary, num_steps=num_steps, tol=tol)
    assert (series - exact).abs().max() <= tol * 69**0.5


def test_a_million_steps_reach_the_stationary_mean():
    seeds, boundary = torch.rand(2, 9, 10), torch.zeros(1, 9, 10)
    walked = ops.random_walk(seeds, boundary, num_steps=1_000_000)
    degree = ops.edge_to_affinity(boundary)  # 1 for every pair inside
    weight = torch.ones(9, 10)
    for plane, (dy, dx) in zip(degree[0], ops.neighbor_offsets(5).tolist()):
        weight += plane
        weight += torch.roll(plane, (dy, dx), (0, 1))
    expected = (seeds * weight).sum((1, 2)) / weight.sum()
    torch.testing.assert_close(walked, expected[:, None, None].expand_as(walked), rtol=1e-3, atol=0)


@pytest.mark.parametrize("method", ["chebyshev", "power"])
def test_result_does_not_depend_on_the_company(method):
    seeds, boundary = torch.rand(7, 21, 19), torch.rand(2, 21, 19)
    index = torch.tensor([1, 0, 0, 1, 0, 0, 0])
    together = ops.random_walk(seeds, boundary, index, method=method)
    for m, image in enumerate(index.tolist()):
        alone = ops.random_walk(seeds[m : m + 1], boundary[image : image + 1], method=method)
        assert torch.equal(alone[0], together[m])


def test_non_finite_values_are_survived_where_they_cannot_be_refused():
    seeds, boundary = torch.rand(2, 8, 9), torch.rand(1, 8, 9)
    index = torch.zeros(2, dtype=torch.int64)
    for value in (float("nan"), float("inf"), -float("inf"), 1e30, -1e30):
        bad = boundary.clone()
        bad[0, 3, 4] = value
        walked = torch.ops.wsis.random_walk(seeds, bad, index, None, 5, 10.0, 256, 1e-5, False)
        assert walked.shape == seeds.shape


def test_propagate_to_edge_accepts_the_shapes_of_the_original():
    edge = torch.rand(1, 11, 12)
    x = torch.rand(2, 3, 11, 12)
    walked = wsis.propagate_to_edge(x, edge, radius=4, beta=8, exp_times=3)
    assert walked.shape == (6, 1, 11, 12)
    again = wsis.propagate_to_edge(x.flatten(0, 1), edge[0], radius=4, beta=8, exp_times=3)
    assert torch.equal(walked, again)
    assert wsis.propagate_to_edge(x[0, 0], edge).shape == (1, 1, 11, 12)
    assert not wsis.propagate_to_edge(x.requires_grad_(), edge).requires_grad


@pytest.mark.parametrize(
    ("x", "edge", "kwargs", "match"),
    [
        (torch.rand(2, 4, 5), torch.rand(2, 4, 5), {}, r"edge must have shape \[1, h, w\], got \[2, 4, 5\]"),
        (torch.rand(2, 4, 6), torch.rand(1, 4, 5), {}, r"x must have shape \[..., 4, 5\].*got \[2, 4, 6\]"),
        (torch.rand(5), torch.rand(1, 4, 5), {}, r"x must have shape"),
        (torch.rand(2, 4, 5), torch.rand(1, 4, 5), {"exp_times": 20}, "exp_times must be 0..19, got 20"),
    ],
)
def test_propagate_to_edge_rejects(x, edge, kwargs, match):
    with pytest.raises(ValueError, match=f"propagate_to_edge: {match}"):
        wsis.propagate_to_edge(x, edge, **kwargs)
