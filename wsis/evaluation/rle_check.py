"""COCO run lengths from outside, read with care before a C library sees them.

The compressed form writes each run length (from the fourth on, its difference to the one before the last) in
groups of five bits, low bits first, one character from ``"0"`` per group; bit 5 says that a group follows,
bit 4 of the last group is the sign. Runs go down the columns and begin with background.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["MAX_SIDE", "checked_rle", "decode_rle", "run_lengths"]

MAX_SIDE = 1 << 16
"""Largest height or width."""

MAX_GROUPS = 8
"""Groups of five bits that a run length of at most ``MAX_SIDE ** 2`` can need, with its sign."""


def checked_rle(
    rle: Any, size: tuple[int, int] | None = None, where: str = "rle"
) -> tuple[dict[str, Any], int]:
    """A run-length mask in compressed form that is safe to hand on, and its area.

    Args:
        rle: mapping with ``size`` (``[height, width]``) and ``counts``: compressed (bytes or ASCII text) or
            a list of run lengths.
        size: the image size that it must have.
        where: what errors call it.

    Returns:
        ``({"size": [h, w], "counts": bytes}, area)``.

    Raises:
        ValueError: unless the sides are in ``1..65536``, the size fits, every run is >= 0 and the runs
            add up to ``h * w``.
    """
    if not isinstance(rle, Mapping) or not {"size", "counts"} <= rle.keys():
        raise ValueError(f"{where} must be a mapping with size and counts, got {type(rle).__name__}")
    sides = rle["size"]
    if not (isinstance(sides, (list, tuple)) and len(sides) == 2 and all(_is_side(s) for s in sides)):
        raise ValueError(f"{where}: size must be [height, width], each in 1..{MAX_SIDE}, got {sides!r:.60}")
    height, width = (int(side) for side in sides)
    if size is not None and (height, width) != tuple(size):
        raise ValueError(f"{where}: size must be that of the image, {list(size)}, got {[height, width]}")
    counts = rle["counts"]
    if isinstance(counts, (list, tuple, np.ndarray)):
        runs = _listed_runs(counts, where)
        counts = _compress(runs)
    else:
        counts = _as_bytes(counts, where)
        runs = run_lengths(counts, where)
    if runs.min(initial=0) < 0 or int(runs.sum()) != height * width:
        raise ValueError(
            f"{where}: runs must be >= 0 and add up to {height} * {width} = {height * width}, "
            f"got a smallest of {int(runs.min(initial=0))} and a sum of {int(runs.sum())}"
        )
    return {"size": [height, width], "counts": counts}, int(runs[1::2].sum())


def decode_rle(rle: Mapping[str, Any]) -> np.ndarray:
    """A checked run-length mask (see :func:`checked_rle`) -> ``[H, W]`` bool."""
    height, width = rle["size"]
    runs = run_lengths(rle["counts"])
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(inside.reshape(width, height).T)


def run_lengths(counts: bytes, where: str = "rle") -> np.ndarray:
    """Compressed ``counts`` -> ``[R]`` int64 run lengths, background first; they may still be negative.

    Raises:
        ValueError: on characters outside ``"0".."o"``, a number that never ends or has too many groups.
    """
    codes = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    if not codes.size:
        return np.zeros(0, dtype=np.int64)
    if codes.min() < 0 or codes.max() > 63:
        bad = int(np.flatnonzero((codes < 0) | (codes > 63))[0])
        raise ValueError(
            f"{where}: counts must hold characters '0' to 'o', got {counts[bad : bad + 1]!r} at {bad}"
        )
    last = (codes & 32) == 0
    if not last[-1]:
        raise ValueError(f"{where}: counts must end with a whole number, got {counts[-8:]!r} at the end")
    starts = np.concatenate(([0], np.flatnonzero(last)[:-1] + 1))
    lengths = np.diff(np.concatenate((starts, [codes.size])))
    if lengths.max() > MAX_GROUPS:
        raise ValueError(
            f"{where}: numbers in counts must have at most {MAX_GROUPS} characters, got {lengths.max()}"
        )
    place = np.arange(codes.size) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes & 31) << (5 * place), starts)
    negative = (codes[last] & 16) != 0
    values -= np.where(negative, np.int64(1) << (5 * lengths), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _compress(runs: np.ndarray) -> bytes:
    """``[R]`` int64 run lengths -> compressed counts."""
    text = bytearray()
    for index, run in enumerate(runs.tolist()):
        value = run - int(runs[index - 2]) if index > 2 else run
        more = True
        while more:
            group = value & 31
            value >>= 5
            more = value != (-1 if group & 16 else 0)
            text.append(48 + (group | 32 if more else group))
    return bytes(text)


def _listed_runs(counts: Any, where: str) -> np.ndarray:
    runs = np.asarray(counts)
    if runs.ndim != 1 or (runs.size and not np.issubdtype(runs.dtype, np.integer)):
        raise ValueError(
            f"{where}: counts must be a flat list of integers, got {runs.dtype} {list(runs.shape)}"
        )
    if runs.size and (runs.min() < 0 or runs.max() > MAX_SIDE**2):
        raise ValueError(f"{where}: runs must be in 0..{MAX_SIDE**2}, got {runs.min()} to {runs.max()}")
    return runs.astype(np.int64)


def _as_bytes(counts: Any, where: str) -> bytes:
    if isinstance(counts, (bytes, bytearray, memoryview)):
        return bytes(counts)
    if isinstance(counts, str) and counts.isascii():
        return counts.encode("ascii")
    raise ValueError(f"{where}: counts must be bytes, ASCII text or a list, got {counts!r:.60}")


def _is_side(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and 1 <= value <= MAX_SIDE
