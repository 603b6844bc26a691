"""Text files of plain rows, read in columns: the way of a million lines.

Only what is plain is read here: ASCII, names of letters, digits and ``_.-() ``, no quotes. Everything else gives
``None`` and is read line by line, by readers that know what to say about it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wsis.data.columns import Coded, Texts

__all__ = ["plain_and_different", "plain_csv", "plain_lines"]

_MAX_NAME = 200
_MAX_CELL = 100_000
_BLANKS = " \t\n\v\f\r"
_MARK = b"\xef\xbb\xbf"
_FIRST = np.zeros(256, dtype=bool)
_FIRST[[*b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"]] = True
_INSIDE = _FIRST.copy()
_INSIDE[[*b". ()-/"]] = True


def plain_lines(data: bytes) -> Texts | None:
    """The lines of a file that hold something, without blanks around them and without comments."""
    lines = _rows(data)
    return None if lines is None else Texts(pc.ascii_trim_whitespace(lines))


def plain_csv(data: bytes, delimiter: str, is_header: Callable[[str, str], bool]) -> tuple[Texts, Coded[str]] | None:
    """The two columns of a file: names, and what stands beside them.

    Args:
        data: its content.
        delimiter: between the columns.
        is_header: whether a first row of such cells is none.
    """
    lines = None if b'"' in data else _rows(data, _BLANKS.replace(delimiter, ""))
    cells = None if lines is None else _split(Texts(lines), delimiter)
    if cells is None:
        return None
    del lines
    count = len(cells) // 2
    names = pc.ascii_trim_whitespace(cells.take(pa.array(np.arange(0, 2 * count, 2))))
    beside = pc.ascii_trim(cells.take(pa.array(np.arange(1, 2 * count, 2))), delimiter + _BLANKS).dictionary_encode()
    texts, codes = beside.dictionary.to_pylist(), beside.indices.to_numpy()
    if is_header(names[0].as_py(), texts[codes[0]]):
        names, codes = names[1:], codes[1:]
    if not len(names) or max(map(len, texts)) > _MAX_CELL:
        return None
    used, codes = np.unique(codes, return_inverse=True)
    return Texts(names), Coded(codes.astype(np.int32), [texts[code].strip() for code in used])


def plain_and_different(names: Texts) -> bool:
    """Whether the names are plain relative paths, and different ones also where case does not count."""
    starts, buffer = names.starts, names.buffer
    lengths = np.diff(starts)
    if not len(names) or lengths.min() < 1 or lengths.max() > _MAX_NAME:
        return False
    slashes = np.flatnonzero(buffer == ord("/"))
    if len(slashes) and slashes[-1] == len(buffer) - 1:
        return False
    if not (_INSIDE[buffer].all() and _FIRST[buffer[starts[:-1]]].all() and _FIRST[buffer[slashes + 1]].all()):
        return False
    if (buffer[starts[1:] - 1] == ord("/")).any():
        return False
    lower = pc.ascii_lower(names.array)
    if pc.all(pc.less(lower[:-1], lower[1:])).as_py():
        return True
    return pc.count_distinct(lower).as_py() == len(names)


def _rows(data: bytes, blanks: str = _BLANKS) -> pa.LargeStringArray | None:
    """The lines with their ends, but for comments and those that hold nothing but ``blanks``."""
    data = data.removeprefix(_MARK)
    if not data.isascii() or b"\0" in data:
        return None
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    offsets = np.concatenate([[0], ends, [len(data)]]).astype(np.int64)
    lines = pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))
    bare = pc.ascii_trim(lines, blanks)
    return lines.filter(pc.and_not(pc.not_equal(bare, ""), pc.starts_with(bare, "#")))


def _split(lines: Texts, delimiter: str) -> pa.LargeStringArray | None:
    """Two cells of every line, the second one with the delimiter before it; None unless every line has just one."""
    buffer, starts = lines.buffer, lines.starts
    places = np.flatnonzero(buffer == ord(delimiter))
    if len(places) != len(lines) or not len(lines) or not ((starts[:-1] <= places) & (places < starts[1:])).all():
        return None
    offsets = np.empty(2 * len(lines) + 1, dtype=np.int64)
    offsets[::2], offsets[1::2] = starts, places
    return pa.LargeStringArray.from_buffers(2 * len(lines), pa.py_buffer(offsets), pa.py_buffer(buffer))
