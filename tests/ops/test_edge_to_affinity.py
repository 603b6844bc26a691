"""Special cases of ``edge_to_affinity``; the generic suite covers the rest."""

from __future__ import annotations

import math

import pytest
import torch

from tests import golden_cases
from wsis import ops
from wsis.reference.edge_to_affinity import path


@pytest.mark.parametrize("seed", golden_cases.SEEDS)
@pytest.mark.parametrize("radius", [5, 10])
def test_edge_to_affinity_matches_golden(seed, radius):
    scene = golden_cases.load_scene(seed)
    edge = golden_cases.tensor(scene, "in_edge")
    height, width = edge.shape
    rows, columns = slice(height - radius + 1), slice(radius - 1, width - radius + 1)
    affinity = ops.edge_to_affinity(edge[None], radius)[0, :, rows, columns]
    ours = {tuple(offset): p for p, offset in enumerate(ops.neighbor_offsets(radius).tolist())}
    (offsets,) = (scene[name] for name in scene if name.endswith("_offsets") and f"r{radius}" in name)
    order = [ours[tuple(offset)] for offset in offsets.tolist()]
    expected = golden_cases.tensor(scene, f"affinity_r{radius}")
    torch.testing.assert_close(affinity[order].flatten(1), expected, rtol=1e-4, atol=1e-6)


def test_nan_on_a_path_makes_its_affinity_nan_and_no_other():
    boundary = torch.rand(1, 9, 9)
    boundary[0, 4, 4] = math.nan
    affinity = ops.edge_to_affinity(boundary, 2)
    for p, (dy, dx) in enumerate(ops.neighbor_offsets(2).tolist()):
        expected = torch.zeros(9, 9, dtype=torch.bool)
        for y, x in path(dy, dx):
            expected[4 - y, 4 - x] = True
        assert torch.equal(affinity[0, p].isnan(), expected)


def test_gradient_of_a_tie_goes_to_one_cell():
    boundary = torch.full((1, 3, 8), 0.5, requires_grad=True)
    affinity = ops.edge_to_affinity(boundary, 5)
    p = ops.neighbor_offsets(5).tolist().index([0, 4])
    (grad,) = torch.autograd.grad(affinity[0, p, 1, 2], boundary)
    assert grad[0, 1].tolist() == [0, 0, 0, 0, 0, 0, -1, 0]
    assert grad.sum() == -1


def test_second_derivative_is_refused():
    boundary = torch.rand(1, 6, 7, requires_grad=True)
    (grad,) = torch.autograd.grad(ops.edge_to_affinity(boundary).square().sum(), boundary, create_graph=True)
    with pytest.raises(RuntimeError, match="edge_to_affinity: second derivatives"):
        grad.sum().backward()


def test_a_result_in_pages_of_its_own_is_the_same():
    """Above 32 MiB the float32 result does not come from malloc; that in float64 always does."""
    boundary = torch.rand(2, 240, 520, generator=torch.Generator().manual_seed(0))
    assert 4 * 34 * boundary.numel() > 32 << 20
    assert torch.equal(ops.edge_to_affinity(boundary, 5), ops.edge_to_affinity(boundary.double(), 5).float())
