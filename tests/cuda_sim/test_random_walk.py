"""The CUDA kernels of ``random_walk`` against the CPU operator, in every order of threads."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
import torch

import wsis.ops  # noqa: F401  registers the operators
from tests.cuda_sim.simulator import SimulatorFault, Struct

H, W = 11, 35
INDEX = torch.tensor([1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1])
SIZES = torch.tensor([[11, 20], [9, 35]], dtype=torch.int32)
CASES = (
    (5, 10.0, 7, False, None),
    (3, 2.5, 6, False, SIZES),
    (8, 1.0, 3, True, SIZES),
    (12, 4.0, 2, False, None),
    (1, 10.0, 4, False, None),
    (5, 10.0, 0, True, SIZES),
)


def _input(tensor: torch.Tensor | None) -> np.ndarray | None:
    if tensor is None:
        return None
    array = tensor.detach().contiguous().numpy().copy()
    array.flags.writeable = False
    return array


def _polynomial(num_steps: int, exact: bool) -> Struct:
    """The whole series of ``lambda ** num_steps``."""
    coefficients = np.zeros(num_steps + 1)
    if exact:
        coefficients[-1] = 1
    else:
        for k in range(num_steps % 2, num_steps + 1, 2):
            coefficients[k] = comb(num_steps, (num_steps - k) // 2) / 2.0 ** (num_steps - (k > 0))
    coefficients.flags.writeable = False
    return Struct(coefficients, num_steps, not exact)


def _scratch(channels: int, batch: int, offsets: int) -> Struct:
    """``WalkScratch``, full of NaN where nothing was written yet."""
    shapes = [(batch, offsets, H, W), (batch, H, W), (batch, H, W), (channels, H, W), (channels, H, W)]
    table = np.full(channels + 2 * (batch + 1) + 3 * (channels + batch), -(2**62))
    return Struct(*(np.full(shape, np.nan, np.float32) for shape in shapes), table)


def _maps() -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    seeds, grad = (torch.rand(len(INDEX), H, W, generator=g) for _ in range(2))
    return [seeds, grad, torch.rand(2, H, W, generator=g) * 0.6]


@pytest.mark.parametrize(("radius", "beta", "num_steps", "exact", "sizes"), CASES)
def test_random_walk(kernels, order, radius, beta, num_steps, exact, sizes):
    seeds, grad, boundary = _maps()
    offsets = sum(dy * dy + dx * dx < radius**2 for dy in range(radius) for dx in range(-15, 16) if dy or dx > 0)
    shape = Struct(len(INDEX), 2, H, W, np.int32(radius))
    settings = (INDEX, sizes, radius, beta, num_steps, 0.0, exact)
    polynomial = _polynomial(num_steps, exact)
    tables = (_input(boundary), _input(INDEX), _input(sizes))
    walked, grad_seeds = np.empty_like(seeds), np.empty_like(seeds)
    for maps, result, transposed in ((seeds, walked, False), (grad, grad_seeds, True)):
        kernels.call(
            "random_walk_cuda", _input(maps), *tables, result, shape, beta, polynomial, transposed, 0,
            _scratch(len(INDEX), 2, offsets), None, order=order,
        )  # fmt: skip
    want = torch.ops.wsis.random_walk(seeds, boundary, *settings)
    np.testing.assert_allclose(walked, want.numpy(), rtol=2e-6, atol=1e-6)
    want = torch.ops.wsis.random_walk_backward(grad, seeds, boundary, *settings, True)
    np.testing.assert_allclose(grad_seeds, want[0].numpy(), rtol=2e-6, atol=2e-6)

    length = max(1, int(num_steps**0.5))
    terms = 2 * max(1, -(-num_steps // length)) + 2 * (length + 2) + 1
    gradient = Struct(
        *(np.full(size, np.nan, np.float32) for size in ((terms, *seeds.shape), (2, offsets, H, W), (2, H, W)))
    )
    got = [np.full(t.shape, np.nan, np.float32) for t in want]
    kernels.call(
        "random_walk_backward_cuda", _input(grad), _input(seeds), *tables, *got, shape, beta, polynomial,
        _scratch(len(INDEX), 2, offsets), gradient, None, order=order,
    )  # fmt: skip
    for a, b in zip(got, want):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-4, atol=2e-5)


def _walk(kernels, maps, boundary, sizes, polynomial, transposed, blocks, order):
    """``random_walk_cuda`` of radius 5 on the maps of :data:`INDEX`."""
    result = np.full(maps.shape, np.nan, np.float32)
    shape = Struct(len(INDEX), 2, H, W, np.int32(5))
    kernels.call(
        "random_walk_cuda", _input(maps), _input(boundary), _input(INDEX), _input(sizes), result, shape, 10.0,
        polynomial, transposed, blocks, _scratch(len(INDEX), 2, 34), None, order=order,
    )  # fmt: skip
    return result


@pytest.mark.parametrize("blocks", [1, 2, 4, 16])
@pytest.mark.parametrize("sizes", [None, SIZES])
def test_clusters_give_the_bits_of_single_terms(kernels, order, blocks, sizes):
    """Also where a block has fewer rows than the walk reaches (4 and 16 blocks of 3 rows and 1), or none."""
    seeds, grad, boundary = _maps()
    cases = ((seeds, False, 5, False), (grad, True, 3, True), (seeds, False, 0, True))
    for maps, transposed, num_steps, exact in cases:
        settings = (maps, boundary, sizes, _polynomial(num_steps, exact), transposed)
        want = _walk(kernels, *settings, 0, "forward")
        assert np.array_equal(_walk(kernels, *settings, blocks, order), want)


def test_clusters_are_chosen_where_an_image_fits(kernels):
    seeds, _, boundary = _maps()
    settings = (seeds, boundary, None, _polynomial(4, False), False)
    assert np.array_equal(_walk(kernels, *settings, -1, "forward"), _walk(kernels, *settings, 2, "random"))
    with pytest.raises(SimulatorFault, match="CUDA error 9"):  # a degree above 256
        _walk(kernels, *settings[:3], _polynomial(257, True), False, 2, "forward")


def test_a_photograph_fills_a_cluster_of_sixteen_blocks(kernels):
    """94 x 125 cells, the strided map of 375 x 500 pixels: 6 rows a block, 4 channels, 215 KB of shared memory."""
    g = torch.Generator().manual_seed(1)
    seeds, boundary = torch.rand(4, 94, 125, generator=g), 0.6 * torch.rand(1, 94, 125, generator=g)
    index, walked = torch.zeros(4, dtype=torch.int64), np.full((4, 94, 125), np.nan, np.float32)
    planes = [np.full(shape, np.nan, np.float32) for shape in ((34, 94, 125), (94, 125), (94, 125), (4,), (4,))]
    scratch = Struct(*planes, np.full(4 + 4 + 15, -(2**62)))
    kernels.call(
        "random_walk_cuda", _input(seeds), _input(boundary), _input(index), None, walked,
        Struct(4, 1, 94, 125, np.int32(5)), 10.0, _polynomial(2, False), False, -1, scratch, None, order="random",
    )  # fmt: skip
    want = torch.ops.wsis.random_walk(seeds, boundary, index, None, 5, 10.0, 2, 0.0, False)
    np.testing.assert_allclose(walked, want.numpy(), rtol=2e-6, atol=1e-6)
