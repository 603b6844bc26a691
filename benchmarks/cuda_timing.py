"""Timing on a GPU: events around each call, inputs rotated so that the cache holds none of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import torch

__all__ = ["copy_bandwidth", "event_seconds", "fp32_flops", "rotations"]


def rotations(bytes_per_input: int, limit: int = 64) -> int:
    """How many copies of an input fill twice the GPU's second-level cache; 2 to ``limit``."""
    cache = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    return max(2, min(limit, -(-2 * cache // max(1, bytes_per_input))))


def event_seconds(calls: Sequence[Callable[[], object]], repeats: int = 50, warm_up: int = 5) -> list[float]:
    """Time of each call between two CUDA events, in seconds; the calls take turns."""
    for i in range(warm_up):
        calls[i % len(calls)]()
    torch.cuda.synchronize()
    pairs = []
    for i in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        calls[i % len(calls)]()
        end.record()
        pairs.append((begin, end))
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) / 1e3 for begin, end in pairs]


def copy_bandwidth(gibibytes: float = 1.0) -> float:
    """Bytes read and written per second by a large copy: the ceiling that kernels bound by memory are held to."""
    source = torch.empty(int(gibibytes * 2**30), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / statistics.median(event_seconds([lambda: target.copy_(source)], 20))


def fp32_flops(size: int = 8192) -> float:
    """Operations per second of a plain float32 matrix product (no TF32)."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        a, b = torch.randn(2, size, size, device="cuda")
        return 2 * size**3 / statistics.median(event_seconds([lambda: a @ b], 10))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
