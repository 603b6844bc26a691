"""Columns of long lists: a few arrays instead of an object for every image.

A list of a million ids with their tags takes about 30 MB this way, and its objects are made when they are asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np
import pyarrow as pa

__all__ = ["Coded", "Table", "Texts"]

_CHUNK = 10_000

T = TypeVar("T", bound=Hashable)


class Texts(Sequence[str]):
    """Strings in one buffer, ``[N]``.

    Single strings are read without Arrow, so that a process that was forked may read them, too.

    Args:
        array: the strings, without nulls.
    """

    def __init__(self, array: pa.StringArray | pa.LargeStringArray) -> None:
        _, offsets, data = array.buffers()
        kind = np.int64 if pa.types.is_large_string(array.type) else np.int32
        none = np.zeros(1, dtype=kind)
        last = array.offset + len(array) + 1
        self._offsets = none if offsets is None else np.frombuffer(offsets, kind, last)[array.offset :]
        self._data = memoryview(b"" if data is None else data)
        self.array = array

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """Any strings as such a column; a column as it is."""
        return texts if isinstance(texts, Texts) else cls(pa.array(list(texts), pa.large_string()))

    @property
    def buffer(self) -> np.ndarray:
        """``[bytes]`` uint8: all strings in UTF-8, one after the other."""
        whole = np.frombuffer(self._data, np.uint8)
        return whole[self._offsets[0] : self._offsets[-1]]

    @property
    def starts(self) -> np.ndarray:
        """``[N + 1]``: where each string begins in :attr:`buffer`, and where the last one ends."""
        return self._offsets - self._offsets[0]

    def part(self, first: int, last: int) -> pa.StringArray:
        """The strings ``first .. last - 1`` as Arrow's plain strings."""
        return self.array[first:last].cast(pa.string())

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if not isinstance(index, slice):
            place = range(len(self))[index]
            return str(self._data[self._offsets[place] : self._offsets[place + 1]], "utf-8")
        places = range(len(self))[index]
        if places.step != 1:
            return [self[place] for place in places]
        offsets = self._offsets[places.start : places.stop + 1].tolist() if places else [0]
        first = offsets[0]
        text = str(self._data[first : offsets[-1]], "utf-8")
        if len(text) == offsets[-1] - first:
            return [text[start - first : end - first] for start, end in itertools.pairwise(offsets)]
        return [str(self._data[start:end], "utf-8") for start, end in itertools.pairwise(offsets)]

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _CHUNK):
            yield from self[first : first + _CHUNK]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other))

    __hash__ = None

    def __reduce__(self) -> tuple[type[Texts], tuple[Any]]:
        return Texts, (self.array,)

    def __repr__(self) -> str:
        return f"Texts({self[:3]!r}, {len(self)} of them)"


class Coded(Sequence[T], Generic[T]):
    """A column of few different values, ``[N]``.

    Args:
        codes: ``[N]`` integers, places in ``values``.
        values: the different values.
    """

    def __init__(self, codes: np.ndarray, values: Sequence[T]) -> None:
        self.codes, self.values = codes, tuple(values)

    @classmethod
    def of(cls, items: Iterable[T], first: T) -> Coded[T]:
        """Any values as such a column, ``first`` being the value of code 0; a column as it is."""
        if isinstance(items, Coded):
            return items
        known: dict[T, int] = {first: 0}
        codes = np.fromiter((known.setdefault(item, len(known)) for item in items), dtype=np.int32)
        return cls(codes, tuple(known))

    @classmethod
    def same(cls, value: T, count: int) -> Coded[T]:
        """``value``, ``count`` times."""
        return cls(np.zeros(count, dtype=np.int32), (value,))

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self.values[code] for code in self.codes[index].tolist()]
        return self.values[self.codes[index]]

    def __iter__(self) -> Iterator[T]:
        for first in range(0, len(self), _CHUNK):
            yield from self[first : first + _CHUNK]


class Table(Mapping[str, T], Generic[T]):
    """A mapping of names to few different values, kept as columns.

    Args:
        names: different ones.
        items: the value of each.
    """

    def __init__(self, names: Texts, items: Coded[T]) -> None:
        self.names, self.items_of = names, items
        self._places: dict[str, int] | None = None

    @classmethod
    def of(cls, mapping: Mapping[str, T], first: T) -> Table[T]:
        """A mapping as columns; ``first`` is the value of code 0."""
        return mapping if isinstance(mapping, Table) else cls(Texts.of(mapping), Coded.of(mapping.values(), first))

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, name: str) -> T:
        if self._places is None:
            self._places = {other: place for place, other in enumerate(self.names)}
        return self.items_of[self._places[name]]
