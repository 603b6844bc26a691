"""Faults and how they are told apart: bad data, bad input, a bad machine.

* :class:`DataFault`: one record cannot be used. It is recorded with its code and the run goes on.
* :class:`ConfigError`: what the user gave cannot work. Found before any work, every problem listed at once,
  exit code 2.
* :class:`SystemFault`: the machine failed (disk full, I/O error, too many open files, out of memory). The run
  stops, can be resumed, exit code 5. A system fault is never called a bad image.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from pathlib import Path

__all__ = [
    "MAX_PROBLEMS",
    "Code",
    "ConfigError",
    "DataFault",
    "ExitCode",
    "Problem",
    "Problems",
    "SystemFault",
    "did_you_mean",
    "is_system_error",
    "system_fault",
]

MAX_PROBLEMS = 50


class Code(str, Enum):
    """Why a record was not used; the same names in the manifest, on the console and in the documentation."""

    E_MISSING = "E_MISSING"
    E_NOT_FILE = "E_NOT_FILE"
    E_PERM = "E_PERM"
    E_PATH = "E_PATH"
    E_DECODE = "E_DECODE"
    E_TRUNCATED = "E_TRUNCATED"
    E_HASH = "E_HASH"
    E_MODE = "E_MODE"
    E_TOO_LARGE = "E_TOO_LARGE"
    E_TOO_SMALL = "E_TOO_SMALL"
    E_POISON = "E_POISON"
    E_CHANGED = "E_CHANGED"
    E_SHAPE = "E_SHAPE"
    E_RANGE = "E_RANGE"
    E_LABEL = "E_LABEL"
    E_NUMERIC = "E_NUMERIC"

    def __str__(self) -> str:
        return self.value

    @property
    def meaning(self) -> str:
        """One sentence for the documentation and the report."""
        return _MEANINGS[self]


_MEANINGS = {
    Code.E_MISSING: "the file does not exist",
    Code.E_NOT_FILE: "the path is not a regular file (a folder, a FIFO, a loop of links)",
    Code.E_PERM: "the file may not be read",
    Code.E_PATH: "the path leads outside the data folder",
    Code.E_DECODE: "the bytes are not an image of an accepted format",
    Code.E_TRUNCATED: "the file ends before its content does",
    Code.E_HASH: "the content does not have the recorded sha256",
    Code.E_MODE: "the pixel format has no defined conversion (animated, float, colours for indices)",
    Code.E_TOO_LARGE: "more pixels, a longer side or more bytes than the limit",
    Code.E_TOO_SMALL: "a side is shorter than the step needs",
    Code.E_POISON: "a worker died twice on this record",
    Code.E_CHANGED: "the file changed while the run was going on",
    Code.E_SHAPE: "the sizes of a map and its image differ",
    Code.E_RANGE: "a map holds values that are neither a class nor 255",
    Code.E_LABEL: "the labels of the record contradict each other or are missing",
    Code.E_NUMERIC: "the computation gave values that are not finite",
}


class ExitCode(IntEnum):
    """Exit codes of every command."""

    OK = 0
    BAD_INPUT = 2
    WITH_FAULTS = 3
    TOO_MANY_FAULTS = 4
    SYSTEM = 5
    STOPPED = 75


class DataFault(Exception):
    """One record cannot be used.

    Attributes:
        code: :class:`Code`.
        subject: the record's id, or the path where no id is known.
        stage: what was being done (``read``, ``label``, ...).
        text: what was found, in words.
    """

    def __init__(self, code: Code, subject: str | os.PathLike[str], stage: str, text: str) -> None:
        self.code = Code(code)
        self.subject = os.fspath(subject)
        self.stage = stage
        self.text = text
        super().__init__(f"{self.code} {self.subject} ({stage}): {text}")

    def __reduce__(self) -> tuple:
        return type(self), (self.code, self.subject, self.stage, self.text)

    def renamed(self, subject: str) -> DataFault:
        """The same fault under a record's id."""
        return type(self)(self.code, subject, self.stage, self.text)

    def to_row(self) -> dict[str, str]:
        """As a row of a manifest."""
        return {"id": self.subject, "stage": self.stage, "code": self.code.value, "text": self.text}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the input.

    Attributes:
        where: ``file:line``, a JSON path, or the name of an argument.
        text: what was got and what was expected.
        hint: what to type or change to mend it; may be empty.
    """

    where: str
    text: str
    hint: str = ""

    def __str__(self) -> str:
        head = f"{self.where}: {self.text}" if self.where else self.text
        return f"{head} ({self.hint})" if self.hint else head


class ConfigError(ValueError):
    """What was given cannot work; ``problems`` lists everything that was found.

    The message shows at most :data:`MAX_PROBLEMS` of them and says how many more there are.
    """

    def __init__(self, problems: str | Problem | Iterable[str | Problem]) -> None:
        if isinstance(problems, (str, Problem)):
            problems = [problems]
        self.problems: list[Problem] = [p if isinstance(p, Problem) else Problem("", p) for p in problems]
        if not self.problems:
            raise ValueError("ConfigError: problems must not be empty")
        lines = [str(p) for p in self.problems[:MAX_PROBLEMS]]
        left = len(self.problems) - len(lines)
        if left:
            lines.append(f"... and {left} more")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple:
        return type(self), (self.problems,)


class SystemFault(RuntimeError):
    """The machine failed, not the data; the same command resumes the run once the cause is mended."""


class Problems:
    """Collects problems so that they can be reported together."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def __len__(self) -> int:
        return len(self.found)

    def add(self, where: str | os.PathLike[str], text: str, hint: str = "") -> None:
        self.found.append(Problem(os.fspath(where), text, hint))

    def extend(self, error: ConfigError) -> None:
        self.found.extend(error.problems)

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """Collect the :class:`ConfigError` of the body instead of raising it."""
        try:
            yield
        except ConfigError as error:
            self.extend(error)

    def raise_if_any(self) -> None:
        """Raise :class:`ConfigError` with everything collected, if anything was."""
        if self.found:
            raise ConfigError(self.found)


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """``did you mean 'dog'?`` for the known name nearest to ``name``, else the first few known names."""
    by_fold = {k.casefold(): k for k in known}
    near = difflib.get_close_matches(name.strip().casefold(), by_fold, n=1, cutoff=0.6)
    if near:
        return f"did you mean {by_fold[near[0]]!r}?"
    shown = ", ".join(list(known)[:8])
    return f"known: {shown}{', ...' if len(known) > 8 else ''}"


_SYSTEM_NAMES = """
EIO ENOSPC EDQUOT EMFILE ENFILE ENOMEM ESTALE EROFS EFBIG ENODEV ENXIO ETIMEDOUT EAGAIN EBUSY EINTR ENOLCK
EREMOTEIO ENOTCONN EHOSTDOWN EHOSTUNREACH ECONNRESET
"""
_SYSTEM_ERRNOS = {getattr(errno, name) for name in _SYSTEM_NAMES.split() if hasattr(errno, name)}


_TORCH_FAILED = re.compile(r"DefaultCPUAllocator|out of memory|CUDA error|CUDA driver error|ECC error")


def is_system_error(error: BaseException) -> bool:
    """Whether ``error`` tells of the machine (disk, memory, descriptors, GPU) and not of one file."""
    if isinstance(error, RuntimeError):  # PyTorch has no class of its own for most of them
        return _TORCH_FAILED.search(str(error)) is not None
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _SYSTEM_ERRNOS)


def system_fault(
    error: BaseException, doing: str, path: str | os.PathLike[str], needed: int | None = None
) -> SystemFault:
    """A :class:`SystemFault` for ``error``; for a full disk it names the needed and the free bytes.

    Args:
        error: the ``OSError`` or ``MemoryError``.
        doing: what was being done, as in "writing".
        path: the file concerned.
        needed: bytes that were to be written, where known.
    """
    text = f"{doing} {os.fspath(path)}: {error.__class__.__name__}: {error}"
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        want = f"{needed:,} bytes needed, " if needed is not None else ""
        text += f"; {want}{_free_bytes(path)} free; make room and give the same command again"
    elif number in (errno.EMFILE, errno.ENFILE):
        text += "; raise the limit of open files (ulimit -n) or lower the number of workers"
    return SystemFault(text)


def _free_bytes(path: str | os.PathLike[str]) -> str:
    folder = Path(path).absolute().parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return f"{shutil.disk_usage(folder).free:,} bytes"
    except OSError:
        return "an unknown number of bytes"
