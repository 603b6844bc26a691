"""trace_displacement against the golden scenes and where traces rest, turn in circles or meet the border."""

from __future__ import annotations

import pytest
import torch

from tests.golden_cases import SEEDS, load_scene, tensor
from wsis import ops
from wsis.reference.trace_displacement import trace_displacement as oracle


def _grid(height: int, width: int) -> torch.Tensor:
    rows, columns = torch.arange(height, dtype=torch.int32), torch.arange(width, dtype=torch.int32)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]


@pytest.mark.parametrize("seed", SEEDS)
def test_ends_are_those_of_the_reference_program(seed):
    scene = load_scene(seed)
    ends = ops.trace_displacement(tensor(scene, "in_dp")[None].float())
    assert torch.equal(ends[0].double(), tensor(scene, "centroids").double())


@pytest.mark.parametrize("seed", SEEDS)
def test_double_precision_ends_in_the_same_cells(seed):
    field = tensor(load_scene(seed), "in_dp")[None]
    assert torch.equal(ops.trace_displacement(field.double()), ops.trace_displacement(field.float()))


@pytest.mark.parametrize("num_steps", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 64, 299, 300])
@pytest.mark.parametrize("period", [2, 3, 4])
def test_a_cycle_ends_where_plain_stepping_ends(num_steps, period):
    """Pixels that go round the corners of a square, or to and fro, for ever."""
    moves = {2: [(0, 3), (0, -3)], 3: [(0, 2), (2, -1), (-2, -1)], 4: [(0, 2), (2, 0), (0, -2), (-2, 0)]}[
        period
    ]
    field = torch.zeros(1, 2, 8, 8)
    y, x = 3, 3
    for dy, dx in moves:
        field[0, :, y, x] = torch.tensor([dy, dx])
        y, x = y + dy, x + dx
    assert (y, x) == (3, 3)
    assert torch.equal(ops.trace_displacement(field, num_steps), oracle(field, num_steps))


def test_half_a_cell_rounds_to_the_even_cell():
    field = torch.zeros(1, 2, 1, 6)
    field[0, 1] = 0.5
    assert ops.trace_displacement(field, 1)[0, 1, 0].tolist() == [0, 2, 2, 4, 4, 5]


@pytest.mark.parametrize("value", [1e30, -1e30, torch.finfo(torch.float32).max])
def test_huge_moves_stop_at_the_border(value):
    field = torch.full((1, 2, 5, 7), value)
    ends = ops.trace_displacement(field, 3)
    assert ends[0, 0].unique().tolist() == ([4] if value > 0 else [0])
    assert ends[0, 1].unique().tolist() == ([6] if value > 0 else [0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_the_kernel_survives_what_the_function_refuses(value):
    """Opposite infinities make NaN positions; the kernel itself must keep inside the grid."""
    field = torch.randn(2, 2, 9, 11, generator=torch.Generator().manual_seed(0))
    field[0, :, ::2, ::3] = value
    field[0, 0, 1::2] = float("inf")
    ends = torch.ops.wsis.trace_displacement(field, None, 20)
    assert (ends >= 0).all()
    assert (ends[:, 0] < 9).all()
    assert (ends[:, 1] < 11).all()
    assert torch.equal(ends[1:], ops.trace_displacement(field[1:], 20)), "the other image is untouched"


def test_padding_stays_where_it_is_and_moves_nobody():
    field = 3 * torch.randn(3, 2, 12, 10, generator=torch.Generator().manual_seed(1))
    sizes = torch.tensor([[12, 10], [7, 4], [0, 9]])
    ends = ops.trace_displacement(field, 50, sizes=sizes)
    alone = ops.trace_displacement(field[1:2, :, :7, :4], 50)
    assert torch.equal(ends[0], ops.trace_displacement(field[:1], 50)[0])
    assert torch.equal(ends[1, :, :7, :4], alone[0])
    outside = torch.ones(12, 10, dtype=torch.bool)
    outside[:7, :4] = False
    assert torch.equal(ends[1][:, outside], _grid(12, 10)[0][:, outside])
    assert torch.equal(ends[2], _grid(12, 10)[0])


def test_a_size_beyond_the_padded_one_counts_as_that():
    """The function refuses it, but cannot while a graph is traced or captured."""
    field = 3 * torch.randn(2, 2, 6, 7, generator=torch.Generator().manual_seed(2))
    sizes = torch.tensor([[2**31 - 1, 4], [5, 8]], dtype=torch.int32)
    ends = torch.ops.wsis.trace_displacement(field, sizes, 40)
    assert torch.equal(ends, ops.trace_displacement(field, 40, sizes=torch.tensor([[6, 4], [5, 7]])))
