"""Pictures ahead of time: decoded in threads while the nets work, handed out in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from torch import Tensor

from wsis.errors import DataFault

__all__ = ["Decoded", "Picture", "group_by_size", "read_ahead"]

_WAITING_BYTES = 1 << 30

T = TypeVar("T")


class Picture(NamedTuple):
    """A decoded picture and its scaled copies.

    Attributes:
        pixels: ``[H, W, 3]`` uint8.
        pyramid: see :func:`wsis.labels.cam.image_pyramid`; None where it is to be made later, or not at all.
    """

    pixels: np.ndarray
    pyramid: list[Tensor] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pixels.shape

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes + sum(level.nbytes for level in self.pyramid or ())


P = TypeVar("P", np.ndarray, Picture)


class Decoded(Generic[T]):
    """One record: its place in the input list, what ``load`` made of it or why it could not, and the
    seconds."""

    __slots__ = ("fault", "index", "seconds", "value")

    def __init__(self, index: int, value: T | None, fault: DataFault | None, seconds: float) -> None:
        self.index, self.value, self.fault, self.seconds = index, value, fault, seconds


def read_ahead(load: Callable[[int], T], indices: Iterable[int], workers: int, window: int) -> Iterator[Decoded[T]]:
    """``load(index)`` for every index, in order.

    A :class:`DataFault` is handed out with its record; every other error ends the iteration.

    Args:
        load: called in a thread.
        indices: places in the input list.
        workers: threads; 0: in the caller's thread, nothing ahead.
        window: most records that wait decoded.
    """
    if workers == 0:
        for index in indices:
            yield _load(load, index)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        waiting: deque[Future[Decoded[T]]] = deque()
        try:
            for index in indices:
                waiting.append(pool.submit(_load, load, index))
                if len(waiting) >= max(window, workers):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def group_by_size(pictures: Iterable[Decoded[P]], batch_size: int) -> Iterator[list[Decoded[P]]]:
    """Lists of at most ``batch_size`` pictures of one size; a group that does not fill up comes at the end,
    or when too many bytes wait."""
    groups: dict[tuple[int, ...], list[Decoded[P]]] = {}
    waiting = 0
    for picture in pictures:
        size = picture.value.shape
        groups.setdefault(size, []).append(picture)
        waiting += picture.value.nbytes
        if len(groups[size]) == batch_size:
            waiting -= sum(member.value.nbytes for member in groups[size])
            yield groups.pop(size)
        elif waiting > _WAITING_BYTES:
            yield from groups.values()
            groups, waiting = {}, 0
    yield from groups.values()


def _load(load: Callable[[int], T], index: int) -> Decoded[T]:
    start = time.perf_counter()
    try:
        return Decoded(index, load(index), None, time.perf_counter() - start)
    except DataFault as fault:
        return Decoded(index, None, fault, time.perf_counter() - start)
