"""What a second core adds on this machine where memory is all there is to do: the yardstick for the operators' figures.

Each case moves the same bytes with one thread and with two, which take turns; ``gain`` is the ratio of their times. The
small size fits the last-level cache, the large one does not. Fresh memory is mapped, written once and given back, in
small pages or in huge ones where the system grants them: what a large result costs beside its values. The last case
tells what a huge page costs that nobody has used for a while: much, where a host must bring it first.
"""

from __future__ import annotations

import functools
import mmap
import time
from collections.abc import Callable

import pytest
import torch

from benchmarks.bench_scaling import wall_seconds
from benchmarks.cost import HUGE_PAGE, cache_bytes, touch_fresh_memory

SIZES = {"within the cache": cache_bytes() // 4, "beyond the cache": 4 * cache_bytes()}


def read(size: int) -> Callable[[], object]:
    return torch.ones(size // 4).sum


def fill(size: int) -> Callable[[], object]:
    values = torch.ones(size // 4)
    return lambda: values.fill_(2.0)


def copy(size: int) -> Callable[[], object]:
    source, target = torch.ones(size // 8), torch.ones(size // 8)
    return lambda: target.copy_(source)


def fresh(size: int, advice: str) -> Callable[[], object]:
    def call() -> None:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(getattr(mmap, advice))
        torch.frombuffer(memory, dtype=torch.float32).fill_(1.0)

    return call


MOVES = {
    "read": read,
    "fill": fill,
    "copy": copy,
    "fill fresh small pages": functools.partial(fresh, advice="MADV_NOHUGEPAGE"),
    "fill fresh huge pages": functools.partial(fresh, advice="MADV_HUGEPAGE"),
}


@pytest.mark.skipif(torch.get_num_threads() < 2, reason="needs two threads")
@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="needs Linux")
@pytest.mark.parametrize("where", SIZES)
@pytest.mark.parametrize("move", MOVES)
@pytest.mark.benchmark(group="memory of this machine, two cores instead of one")
def test_two_cores(benchmark, move, where):
    call, before = MOVES[move](SIZES[where]), torch.get_num_threads()
    try:
        seconds = wall_seconds(call)
        speed = {f"gb_per_s_{threads}": SIZES[where] / taken / 1e9 for threads, taken in seconds.items()}
        benchmark.extra_info.update(threads=2, gain=seconds[1] / seconds[2], **speed)
        benchmark.pedantic(call, rounds=3)
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="needs Linux")
@pytest.mark.benchmark(group="first touch of free memory")
def test_first_touch(benchmark):
    """A GiB, after a wait in which a host can take back what lies free."""
    size = 1 << 30
    time.sleep(5)
    first, again = touch_fresh_memory(size), touch_fresh_memory(size)
    pages = size // HUGE_PAGE
    benchmark.extra_info.update(threads=1, us_a_page_at_first=1e6 * first / pages, us_a_page_again=1e6 * again / pages)
    benchmark.pedantic(touch_fresh_memory, (size // 4,), rounds=1)
