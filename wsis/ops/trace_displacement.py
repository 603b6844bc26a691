"""Pixels follow the displacement field to the centroid of their instance (IRNet, CVPR 2019, section 4.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from wsis import _library
from wsis.ops._checks import FLOATS, check_device, check_finite, check_int, check_sizes, check_tensor

__all__ = ["trace_displacement"]

_library.load()

_OP = "trace_displacement"
_MAX_SIDE = 2**24
_MAX_STEPS = 2**31 - 1


def trace_displacement(displacement: Tensor, num_steps: int = 300, *, sizes: Tensor | None = None) -> Tensor:
    """Where every pixel ends when it moves ``num_steps`` times by the displacement it stands on.

    A pixel starts at its own coordinate. One step adds the displacement sampled bilinearly at its position
    (the same sample position for ``y`` and ``x``) and clamps the result to the grid. Positions have the dtype
    of ``displacement``. Traces that come to rest, or repeat themselves, cost no further steps; the result is
    that of plain stepping.

    Args:
        displacement: ``[B, 2, h, w]`` float32 (float64 on the CPU), ``(y, x)`` in cells, finite; ``h`` and
            ``w`` under ``2**24``.
        num_steps: number of moves, 0 or more.
        sizes: ``[B, 2]`` int32 or int64, true height and width of images padded to ``h, w``; traces stay
            inside, and a cell of the padding ends where it is.

    Returns:
        ``[B, 2, h, w]`` int32, the cell ``(y, x)`` in which each pixel ended: the position rounded half to
        even. The same bits on every device. Not differentiable.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    check_tensor(_OP, "displacement", displacement, ("B", 2, "h", "w"), FLOATS)
    batch, _, height, width = displacement.shape
    if max(height, width) >= _MAX_SIDE:
        raise ValueError(f"{_OP}: displacement must have h and w under {_MAX_SIDE}, got {height} and {width}")
    check_int(_OP, "num_steps", num_steps, 0, _MAX_STEPS)
    check_device(_OP, displacement=displacement, sizes=sizes)
    sizes = check_sizes(_OP, sizes, batch, height, width)
    check_finite(_OP, "displacement", displacement)
    return torch.ops.wsis.trace_displacement.default(displacement, sizes, num_steps)


@torch.library.register_fake("wsis::trace_displacement")
def _(displacement: Tensor, sizes: Tensor | None, num_steps: int) -> Tensor:
    return displacement.new_empty(displacement.shape, dtype=torch.int32)
