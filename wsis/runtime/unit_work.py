"""What is under way for one work unit, and the threads that carry it."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import torch

from wsis.runtime.inputs import Unit
from wsis.runtime.shards import Row

__all__ = ["BatchLimit", "NetThreads", "UnitWork", "net_threads"]

_BEHIND = 2


class UnitWork:
    """What is under way for one unit; ``dropped`` once it is not to be finished any more.

    Args:
        unit: the unit.
        nets: threads of the CPU that compute batches; None: the calling thread does.
        encoder: one thread that turns batches into rows.
        writers: threads that make and write files.
    """

    def __init__(
        self, unit: Unit, nets: NetThreads | None, encoder: ThreadPoolExecutor, writers: ThreadPoolExecutor
    ) -> None:
        self.unit = unit
        self.dropped = False
        self.rows: dict[int, Row] = {}
        self.batches: deque[Future[None]] = deque()
        self._nets, self._encoder, self._writers = nets, encoder, writers
        self._encoding: deque[Future[None]] = deque()
        self._files: deque[Future[None]] = deque()

    def batch_size(self, wanted: int) -> int:
        """Images of a batch: small ones where threads share the unit, so that none has to wait long at its end."""
        return wanted if self._nets is None else max(1, wanted // self._nets.count)

    def compute(self, function: Callable[..., None], *args: Any) -> None:
        """Have a batch labelled; waits while too many are under way."""
        if self._nets is None:
            function(*args)
            return
        while len(self.batches) > self._nets.count:
            self.batches.popleft().result()
        self.batches.append(self._nets.pool.submit(function, *args))

    def computed(self) -> None:
        """Wait until all batches are labelled; raises what went wrong."""
        while self.batches:
            self.batches.popleft().result()

    def encode(self, function: Callable[..., None], *args: Any) -> None:
        """Have a batch encoded; waits while too many are under way."""
        while len(self._encoding) >= _BEHIND:
            with contextlib.suppress(IndexError):
                self._encoding.popleft().result()
        self._encoding.append(self._encoder.submit(function, *args))

    def write(self, function: Callable[..., None], *args: Any) -> None:
        """Have a file written."""
        self._files.append(self._writers.submit(function, *args))

    def finish(self) -> None:
        """Wait until all is encoded and written; raises what went wrong."""
        for queue in (self._encoding, self._files):
            while queue:
                queue.popleft().result()

    def cancel(self) -> None:
        """Drop what has not begun and wait for the rest, whose errors no longer matter."""
        for queue in (self.batches, self._encoding, self._files):
            for future in queue:
                future.cancel()
            wait(queue)


class NetThreads(NamedTuple):
    """Threads that compute batches, each alone."""

    pool: ThreadPoolExecutor
    count: int


@contextlib.contextmanager
def net_threads(device: torch.device) -> Iterator[NetThreads | None]:
    """On the CPU as many threads as torch has, each of which computes in one thread."""
    if device.type != "cpu":
        yield None
        return
    count = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, thread_name_prefix="nets", initializer=torch.set_num_threads, initargs=(1,))
    try:
        with pool:
            yield NetThreads(pool, count)
    finally:
        torch.set_num_threads(count)


class BatchLimit:
    """How many images of a size fitted into the device's memory.

    Args:
        most: where nothing is known.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._known: dict[int, int] = {}

    def at(self, pixels: int) -> int:
        """Images of ``pixels`` pixels that may go together."""
        return min((limit for size, limit in self._known.items() if size <= pixels), default=self.most)

    def failed(self, pixels: int, images: int) -> None:
        """``images`` together did not fit."""
        self._known[pixels] = max(1, images // 2)
