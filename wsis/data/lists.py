"""Text files about a data set: lists of ids, class names, tags. Every problem of a file is reported at once.

Byte-order marks, CRLF, blank lines, blanks around a line and lines that begin with ``#`` are accepted.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from wsis.data.atomic import PathLike, check_relative
from wsis.data.categories import Categories
from wsis.data.columns import Texts
from wsis.data.plain_text import plain_and_different
from wsis.errors import ConfigError, Problems, system_fault

__all__ = [
    "MAX_TEXT_BYTES",
    "check_ids",
    "read_classes",
    "read_file",
    "read_json",
    "read_lines",
    "read_text",
]

MAX_TEXT_BYTES = 1 << 30


def read_file(path: PathLike) -> bytes:
    """A small file whole; ``ConfigError`` if it is missing, no regular file, too large or may not be read."""
    path = Path(path)
    try:
        if not path.is_file():
            what = "is not a regular file" if path.exists() else "does not exist"
            raise ConfigError(f"{path}: {what} (the current folder is {os.getcwd()})")
        if path.stat().st_size > MAX_TEXT_BYTES:
            size = path.stat().st_size
            raise ConfigError(f"{path}: has {size:,} bytes, expected at most {MAX_TEXT_BYTES:,}")
        return path.read_bytes()
    except PermissionError as error:
        raise ConfigError(f"{path}: may not be read") from error
    except OSError as error:
        raise system_fault(error, "reading", path) from error


def read_text(path: PathLike) -> str:
    """A UTF-8 file without its byte-order mark; ``ConfigError`` names the line if it is not UTF-8."""
    data = read_file(path)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ConfigError(f"{os.fspath(path)}:1: is UTF-16; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        bad = data[error.start : error.start + 1]
        text = f"byte {bad!r} is not UTF-8; save the file as UTF-8"
        raise ConfigError(f"{os.fspath(path)}:{line}: {text}") from error


def read_lines(path: PathLike) -> Iterator[tuple[int, str]]:
    """``(line number, text)`` of every line that holds something; numbers count from 1."""
    text = read_text(path)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip()
        if line and not line.startswith("#"):
            yield number, line


def read_json(path: PathLike) -> Any:
    """A JSON file; NaN, repeated keys and too deep nesting are refused, with the line where it is known."""
    path = Path(path)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    raise ConfigError(f"{path}: key {key!r} stands twice in one object")
                seen.add(key)
        return value

    def refuse(constant: str) -> None:
        raise ConfigError(f"{path}: holds {constant}, which is not JSON")

    try:
        return json.loads(read_text(path), object_pairs_hook=unique, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply") from error
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: not JSON: {error}") from error


def check_ids(ids: Sequence[str], where: Callable[[int], str]) -> None:
    """Refuse ids that are unsafe as paths, repeated, or equal but for their case.

    Args:
        ids: the ids.
        where: the place of the n-th of them, to name in the error.
    """
    with contextlib.suppress(UnicodeEncodeError):
        if plain_and_different(Texts.of(ids)):
            return
    problems = Problems()
    seen: dict[str, int] = {}
    for number, name in enumerate(ids):
        reason = check_relative(name)
        if reason:
            hint = ""
            if name.startswith("/JPEGImages/"):
                hint = f"write {Path(name.split()[0]).stem} instead"
            problems.add(where(number), f"id {name!r} {reason}", hint)
            continue
        first = seen.setdefault(name.casefold(), number)
        if first == number:
            continue
        if ids[first] == name:
            problems.add(where(number), f"id {name!r} stands also at {where(first)}")
        else:
            text = f"id {name!r} and {ids[first]!r} ({where(first)}) differ only in case"
            problems.add(where(number), text, "their files would overwrite each other on some disks")
    problems.raise_if_any()


def read_classes(path: PathLike) -> Categories:
    """The class list: one name per line, in the order of the class numbers; or a JSON list of names."""
    path = Path(path)
    if path.suffix.lower() == ".json":
        names = read_json(path)
        if not (isinstance(names, list) and all(isinstance(n, str) for n in names)):
            raise ConfigError(f"{path}: expected a list of class names")
        lines = [(number, name) for number, name in enumerate(names)]
    else:
        lines = list(read_lines(path))
    problems = Problems()
    seen: dict[str, int] = {}
    for number, name in lines:
        if name in seen:
            problems.add(f"{path}:{number}", f"class {name!r} stands also at line {seen[name]}")
        seen.setdefault(name, number)
    problems.raise_if_any()
    try:
        return Categories(tuple(name for _, name in lines))
    except ConfigError as error:
        raise ConfigError([f"{path}: {problem}" for problem in error.problems]) from error
