"""Affinity of neighbouring pixels from a boundary map (IRNet, CVPR 2019, section 4.1, equation 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from wsis import _library
from wsis.ops._autograd import refuse_second_derivative
from wsis.ops._checks import FLOATS, check_int, check_tensor

__all__ = ["MAX_RADIUS", "edge_to_affinity", "neighbor_offsets"]

_library.load()

MAX_RADIUS = 16
_OP = "edge_to_affinity"


def _paths(radius: int) -> list[tuple[int, int, int]]:
    """``(cells on the path, dy, dx)`` of every offset of the half disc, in the order of the op."""
    rows = []
    for dy in range(radius):
        for dx in range(1 if dy == 0 else 1 - radius, radius):
            if dy * dy + dx * dx < radius * radius:
                columns = range(min(dx, 0), max(dx, 0) + 1)
                cells = sum(
                    (dy * x - dx * y) ** 2 < dy * dy + dx * dx for y in range(dy + 1) for x in columns
                )
                rows.append((cells, dy, dx))
    return sorted(rows)


def neighbor_offsets(radius: int) -> Tensor:
    """The neighbours that count as near, one of each unordered pair.

    Args:
        radius: 1..16; ``(dy, dx)`` belongs when ``dy^2 + dx^2 < radius^2`` (strictly) and ``dy > 0``, or
            ``dy == 0`` and ``dx > 0``.

    Returns:
        ``[P, 2]`` int64 of ``(dy, dx)``, ordered by the number of path cells, then ``dy``, then ``dx``: the
        order of the planes of :func:`edge_to_affinity`. ``P`` is 34 for radius 5 and 152 for radius 10.

    Raises:
        TypeError, ValueError: ``radius`` is no integer of 1..16.
    """
    check_int("neighbor_offsets", "radius", radius, 1, MAX_RADIUS)
    return torch.tensor([(dy, dx) for _, dy, dx in _paths(radius)], dtype=torch.int64).reshape(-1, 2)


def edge_to_affinity(boundary: Tensor, radius: int = 5) -> Tensor:
    """One minus the largest boundary value on the straight path between two pixels.

    The path from ``(0, 0)`` to ``(dy, dx)`` holds the integer cells of their bounding rectangle with
    ``(dy x - dx y)^2 < dy^2 + dx^2``, both ends included.

    Args:
        boundary: ``[B, h, w]`` float32 (float64 on the CPU), probabilities of a class boundary. A NaN on a
            path makes its affinity NaN.
        radius: 1..16, pairs at a distance below it.

    Returns:
        ``[B, P, h, w]`` in the dtype of ``boundary``: affinity of pixel ``(y, x)`` and its neighbour
        ``(y, x) + neighbor_offsets(radius)[p]``; 0 where that lies outside. Differentiable: the gradient goes
        to one maximal cell of the path, of equal ones to that with the largest ``|y| + |x|``, then the
        smallest ``y``, then ``x``.

    Raises:
        TypeError, ValueError: ``boundary`` or ``radius`` is not as described.
    """
    check_tensor(_OP, "boundary", boundary, ("B", "h", "w"), FLOATS)
    check_int(_OP, "radius", radius, 1, MAX_RADIUS)
    return torch.ops.wsis.edge_to_affinity.default(boundary, radius)


@torch.library.register_fake("wsis::edge_to_affinity")
def _(boundary: Tensor, radius: int) -> Tensor:
    batch, height, width = boundary.shape
    return boundary.new_empty(batch, len(_paths(radius)), height, width)


@torch.library.register_fake("wsis::edge_to_affinity_backward")
def _(grad_affinity: Tensor, boundary: Tensor, radius: int) -> Tensor:
    return torch.empty_like(boundary, memory_format=torch.contiguous_format)


def _backward(ctx, grad_affinity: Tensor) -> tuple[Tensor, None]:
    (boundary,) = ctx.saved_tensors
    return torch.ops.wsis.edge_to_affinity_backward.default(grad_affinity, boundary, ctx.radius), None


def _setup_context(ctx, inputs, output) -> None:
    boundary, ctx.radius = inputs
    ctx.save_for_backward(boundary)


torch.library.register_autograd("wsis::edge_to_affinity", _backward, setup_context=_setup_context)
refuse_second_derivative(_OP)
