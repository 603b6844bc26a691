"""Argument checks shared by the operators: every message names op, argument, got and expected."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = [
    "FLOATS",
    "INTEGERS",
    "check_device",
    "check_finite",
    "check_float",
    "check_index",
    "check_int",
    "check_sizes",
    "check_tensor",
]

FLOATS = (torch.float32, torch.float64)
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def _names(dtypes: Sequence[torch.dtype]) -> str:
    return ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)


def check_tensor(
    op: str, name: str, value: Tensor, shape: Sequence[int | str], dtypes: Sequence[torch.dtype]
) -> None:
    """``shape`` holds lengths, or letters for free dimensions: ``("B", 2, "h", "w")``.

    Raises:
        TypeError: not a tensor, or of another dtype.
        ValueError: another shape, or a layout that is not strided.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {type(value).__name__}")
    fits = value.dim() == len(shape) and all(
        isinstance(want, str) or got == want for got, want in zip(value.shape, shape)
    )
    if not fits:
        wanted = f"[{', '.join(map(str, shape))}]"
        raise ValueError(f"{op}: {name} must have shape {wanted}, got {list(value.shape)}")
    if value.layout != torch.strided:
        raise ValueError(f"{op}: {name} must be a dense tensor, got layout {value.layout}")
    if value.dtype not in dtypes:
        raise TypeError(f"{op}: {name} must be {_names(dtypes)}, got {_names([value.dtype])}")
    if value.is_cuda and value.dtype == torch.float64:
        raise TypeError(
            f"{op}: {name} on a CUDA device must be float32, got float64 (which runs on the CPU only)"
        )


def check_device(op: str, **tensors: Tensor | None) -> None:
    """All tensors given must lie on one device, a CPU or a GPU.

    Raises:
        ValueError: two devices, or one without kernels.
    """
    given = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    first_name, first = next(iter(given.items()))
    if first.device.type not in ("cpu", "cuda", "meta"):
        raise ValueError(f"{op}: {first_name} must be on a CPU or CUDA device, got {first.device}")
    for name, tensor in given.items():
        if tensor.device != first.device:
            raise ValueError(
                f"{op}: {name} must be on the device of {first_name} ({first.device}), got {tensor.device}"
            )


def check_int(op: str, name: str, value: int, low: int, high: int) -> None:
    """Raises: TypeError: not an integer (a bool is none); ValueError: outside ``low..high``."""
    if isinstance(value, bool) or not isinstance(value, (int, torch.SymInt)):
        raise TypeError(f"{op}: {name} must be an integer, got {type(value).__name__} {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{op}: {name} must be {low}..{high}, got {value}")


def check_float(op: str, name: str, value: float, low: float, high: float = math.inf) -> None:
    """Raises: TypeError: not a number; ValueError: NaN, or outside ``[low, high]``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{op}: {name} must be a number, got {type(value).__name__} {value!r}")
    if not low <= value <= high or abs(value) == math.inf:
        raise ValueError(f"{op}: {name} must be finite and {low:g}..{high:g}, got {value}")


def check_finite(op: str, name: str, value: Tensor) -> None:
    """Raises: ValueError: a NaN or an infinity, with how many and where the first is.

    Reads one flag back from the device; skipped while a graph is traced or captured.
    """
    if value.is_meta or torch.compiler.is_compiling():
        return
    if value.is_cuda and torch.cuda.is_current_stream_capturing():
        return
    if value.numel() == 0 or all(map(math.isfinite, torch.stack(torch.aminmax(value.detach())).tolist())):
        return
    where = (~torch.isfinite(value)).nonzero()
    raise ValueError(
        f"{op}: {name} must be finite, got {where.shape[0]} NaN or infinite values, "
        f"first at {where[0].tolist()}"
    )


def check_index(op: str, name: str, value: Tensor, bound: int, what: str) -> None:
    """Raises: ValueError: an entry outside ``0..bound-1``. Skipped where :func:`check_finite` is."""
    if value.numel() == 0 or value.is_meta or torch.compiler.is_compiling():
        return
    if value.is_cuda and torch.cuda.is_current_stream_capturing():
        return
    low, high = (int(v) for v in torch.aminmax(value))
    if low < 0 or high >= bound:
        raise ValueError(f"{op}: {name} must be 0..{bound - 1} ({what}), got {low if low < 0 else high}")


def check_sizes(op: str, sizes: Tensor | None, batch: int, height: int, width: int) -> Tensor | None:
    """The table of true sizes of padded images, ``[B, 2]`` (height, width), as int32, or None.

    Raises:
        TypeError, ValueError: another shape or dtype; a size under 0 or over the padded one.
    """
    if sizes is None:
        return None
    check_tensor(op, "sizes", sizes, (batch, 2), (torch.int32, torch.int64))
    check_index(op, "sizes[:, 0]", sizes[:, 0], height + 1, f"at most the padded height {height}")
    check_index(op, "sizes[:, 1]", sizes[:, 1], width + 1, f"at most the padded width {width}")
    return sizes.to(torch.int32)
