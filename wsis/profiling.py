"""Names for what takes time: seen by ``torch.profiler`` and, on a GPU, by Nsight Systems as NVTX ranges.

Operators need nothing of this: the profiler shows them as ``wsis::<op>``, and the compiled library puts an NVTX
range of that name around each on a GPU. :func:`span` names what lies above them, steps and stages.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["span"]


@contextlib.contextmanager
def span(name: str) -> Iterator[None]:
    """A range ``wsis.<name>`` around a block; costs a few microseconds."""
    name = f"wsis.{name}"
    on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    with torch.profiler.record_function(name), torch.cuda.nvtx.range(name) if on_gpu else contextlib.nullcontext():
        yield
