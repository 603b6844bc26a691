"""A run's folder: ``run.json`` (what was asked for), ``run.lock`` (by whom), ``journal.jsonl``."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wsis.data.atomic import PathLike, file_sha256, fingerprint, make_folder, remove_stale, write_json
from wsis.errors import ConfigError, Problems, system_fault

__all__ = ["Journal", "RunFolder", "source_key"]

_FORMAT = 1
_PATIENCE = 10.0


def source_key(path: str) -> str:
    """What stands for maps or points in a fingerprint: what made them, their content, or their place."""
    if Path(path).is_file():
        return file_sha256(path)
    if (Path(path) / "run.json").is_file():
        return RunFolder.read(path)["fingerprint"]
    return fingerprint({"folder": str(Path(path).resolve())})


class RunFolder:
    """A folder that belongs to one run, locked while the object is open.

    ``run.json`` is written first and holds ``parts`` (config, versions, weights, input list, ...) with their
    fingerprint. Opening a folder whose fingerprint differs is an error that names the keys that differ. What
    decides nothing but is good to know later stands beside them (``notes``) as it was when the folder was made.

    Attributes:
        path: the folder.
        kind: what kind of run it is (``label``, ``train_cam``, ...).
        parts: what the fingerprint is made from.
        fingerprint: hex sha256 over kind and parts.
        resumed: whether the folder held this run already.
        removed: stale temporaries that were removed on opening.
    """

    def __init__(
        self,
        path: PathLike,
        kind: str,
        parts: Mapping[str, Any],
        shared: bool = False,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        """Create or reopen.

        Args:
            path: the folder; made if missing. It must be empty or hold the same run.
            kind: name of the step.
            parts: JSON-like mapping of everything that decides the output.
            shared: others that say the same may have it open too; they share the work among themselves.
            notes: JSON-like mapping that is written beside ``parts`` and does not enter the fingerprint.

        Raises:
            ConfigError: a file is in the way, the folder is not writable, holds other files, another run, or
                is held by a living process.
            SystemFault: the machine failed.
        """
        self.path = make_folder(path)
        self.kind = kind
        self.parts = json.loads(json.dumps(parts, allow_nan=False))
        self.fingerprint = fingerprint({"kind": kind, "parts": self.parts})
        self._lock = _lock(self.path / "run.lock", shared)
        _OPEN.add(self)
        try:
            self.removed = remove_stale(self.path, alone=not shared)
            self.resumed = self._compare()
            if not self.resumed:
                value = {
                    **(notes or {}),
                    "format": _FORMAT,
                    "kind": kind,
                    "fingerprint": self.fingerprint,
                    "parts": self.parts,
                }
                write_json(self.path / "run.json", value)
        except BaseException:
            self.close()
            raise

    def _compare(self) -> bool:
        """Whether the folder holds this run; raises if it holds something else."""
        file = self.path / "run.json"
        if not file.exists():
            names = (path.name for path in self.path.iterdir())
            others = sorted(name for name in names if name != "run.lock" and not name.endswith(".tmp"))
            if others:
                raise ConfigError(
                    f"folder {self.path} holds no run but {', '.join(others[:5])}"
                    f"{', ...' if len(others) > 5 else ''}; give an empty or new folder"
                )
            return False
        old = self.read(self.path)
        if old["fingerprint"] == self.fingerprint:
            return True
        problems = Problems()
        if old["kind"] != self.kind:
            problems.add(str(file), f"holds a {old['kind']} run, expected {self.kind}", "give another folder")
        else:
            for key, was, now in _differences(old["parts"], self.parts):
                problems.add(str(file), f"{key} was {was} and is now {now}")
            problems.add(
                str(file), "the folder holds another run", "give another folder, or the old settings"
            )
        problems.raise_if_any()
        return False

    @staticmethod
    def read(path: PathLike) -> dict[str, Any]:
        """The content of ``run.json``; ``ConfigError`` if there is none or it is damaged."""
        file = Path(path) / "run.json"
        try:
            value = json.loads(file.read_bytes())
            if value["format"] != _FORMAT:
                raise ConfigError(
                    f"{file}: written in format {value['format']}, this version reads {_FORMAT}"
                )
            if fingerprint({"kind": value["kind"], "parts": value["parts"]}) != value["fingerprint"]:
                raise ConfigError(f"{file}: its content does not have its own fingerprint; it was changed")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ConfigError(f"{Path(path)} is not the folder of a run: it has no run.json") from error
        except OSError as error:
            raise system_fault(error, "reading", file) from error
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{file}: damaged ({error})") from error
        return value

    def become_alone(self) -> bool:
        """Give up a shared lock for an exclusive one; False where others have the folder open, and then the
        lock is gone."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            return False
        except OSError as error:
            raise system_fault(error, "locking", self.path / "run.lock") from error
        return True

    def close(self) -> None:
        """Let go of the lock; ``run.lock`` stays and means nothing without its lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_OPEN: weakref.WeakSet[RunFolder] = weakref.WeakSet()


def _let_go_in_child() -> None:
    """A process forked from one that holds a run shares its lock, and would keep it should the holder die."""
    for folder in list(_OPEN):
        folder.close()


os.register_at_fork(after_in_child=_let_go_in_child)


class Journal:
    """An append-only file of JSON lines, each flushed to the disk before ``append`` returns.

    A last line that was torn by a crash is cut when the journal is opened.

    Attributes:
        path: the file.
        cut: bytes of a torn last line that were cut on opening.
    """

    def __init__(self, path: PathLike, alone: bool = False) -> None:
        """Open or create.

        Args:
            path: the file.
            alone: refuse if another process has it open in this way.

        Raises:
            ConfigError: a line before the last one is damaged, or another process holds the journal.
            SystemFault: the machine failed.
        """
        self.path = Path(path)
        self._file = None
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            if alone:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            data = self.path.read_bytes()
            keep = data.rfind(b"\n") + 1
            self.cut = len(data) - keep
            if self.cut:
                os.ftruncate(self._file, keep)
                os.fsync(self._file)
        except OSError as error:
            self.close()
            if isinstance(error, BlockingIOError):
                raise ConfigError(f"{self.path}: another process does this part of the run") from error
            raise system_fault(error, "opening", self.path) from error
        self._end = keep
        try:
            for _ in self:
                pass
        except BaseException:
            self.close()
            raise

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one row; on a fault of the disk the file is as it was and ``SystemFault`` is raised."""
        line = json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        try:
            written = 0
            while written < len(line):
                written += os.pwrite(self._file, line[written:], self._end + written)
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._end)
            raise system_fault(error, "writing", self.path, len(line)) from error
        self._end += len(line)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    row = json.loads(line)
                except ValueError:
                    row = None
                if not isinstance(row, dict):
                    raise ConfigError(f"{self.path}:{number}: not a JSON object; the journal is damaged")
                yield row

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _lock(path: Path, shared: bool = False) -> int:
    """A lock on ``path`` that the kernel frees when its holder dies; the file descriptor. A shared one waits a
    moment for an exclusive holder that may only be finishing the run."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ConfigError(f"folder {path.parent} is not writable: {error.strerror}") from error
        raise system_fault(error, "opening", path) from error
    try:
        if shared:
            _wait_shared(handle)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
        os.pwrite(handle, holder.encode(), 0)
    except BlockingIOError:
        text = os.pread(handle, 4096, 0).decode("utf-8", "replace")
        os.close(handle)
        try:
            holder = json.loads(text)
            who = f"run {holder['pid']} on host {holder['host']}"
        except (ValueError, KeyError, TypeError):
            who = "another run"
        raise ConfigError(
            f"folder {path.parent}: {who} holds it; wait for it or give another folder"
        ) from None
    except OSError as error:
        os.close(handle)
        raise system_fault(error, "locking", path) from error
    return handle


def _wait_shared(handle: int) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def _differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, str, str]]:
    """``(dotted key, old value, new value)`` wherever two JSON-like values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            dotted = f"{key}.{name}" if key else name
            yield from _differences(old.get(name, "absent"), new.get(name, "absent"), dotted)
    elif old != new:
        yield key, _shorten(old), _shorten(new)


def _shorten(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
