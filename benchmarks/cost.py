"""What one call costs on the CPU: processor time of one thread, memory at its peak, and how large the cache is."""

from __future__ import annotations

import ctypes
import gc
import math
import mmap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

__all__ = ["HUGE_PAGE", "cache_bytes", "exponent", "peak_bytes", "thread_seconds", "touch_fresh_memory"]

HUGE_PAGE = 2 << 20


def thread_seconds(call: Callable[[], object], budget: float = 0.2, most: int = 20) -> float:
    """Fewest processor seconds of several calls on one thread, which other work on the machine disturbs least."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times: list[float] = []
        while len(times) < 5 or (sum(times) < budget and len(times) < most):
            start = time.thread_time()
            call()
            times.append(time.thread_time() - start)
        return min(times)
    finally:
        torch.set_num_threads(before)


def _resident(key: str) -> int:
    """``VmRSS`` or ``VmHWM`` (its peak) of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key + ":"))


def peak_bytes(call: Callable[[], object]) -> int | None:
    """By how much a call raises the resident memory at its peak; None where the system does not tell (no Linux)."""
    try:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak becomes what is resident now
        before = _resident("VmRSS")
    except (OSError, AttributeError):
        return None
    result = call()
    peak = _resident("VmHWM")
    del result
    return max(0, peak - before)


def cache_bytes(most: int = 64 << 20) -> int:
    """The last-level cache that one core can use; ``most`` where it is larger or the system does not tell."""
    sizes = [most]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        sizes.append(int(text[:-1]) << {"K": 10, "M": 20}[text[-1]])
    return min(most, max(sizes[1:], default=most))


def touch_fresh_memory(size: int) -> float:
    """Seconds to touch every huge page of so much fresh memory, which is given back; 0 where there are none (no Linux).

    The host of a virtual machine may take back what the machine has free and bring it again, at some milliseconds for
    2 MiB, when it is touched. After this call as much is there, for a second or two.
    """
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return 0.0
    with mmap.mmap(-1, size + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        start = time.perf_counter()
        for at in range(0, size, HUGE_PAGE):
            memory[at] = 1
        return time.perf_counter() - start


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the least-squares line through the logarithms."""
    x, y = [math.log(n) for n in sizes], [math.log(max(t, 1e-12)) for t in values]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y)) / sum((a - mean_x) ** 2 for a in x)
