"""Who does which unit: locks that the kernel frees when their holder dies.

One file, one byte of it per unit, locked as an *open file description* where the system has that: a million
images need no thousands of lock files, and network file systems that know byte-range locks carry them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from pathlib import Path

from wsis.errors import SystemFault, system_fault

__all__ = ["Leases"]

_SET = getattr(fcntl, "F_OFD_SETLK", fcntl.F_SETLK)
_INPUTS = 0
_POLL = 0.05


class Leases:
    """The leases of a run, ``RUN/units.lock``; what is held is let go on ``close`` and when the process dies."""

    def __init__(self, run: Path) -> None:
        self.path = Path(run) / "units.lock"
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise system_fault(error, "opening", self.path) from error

    def take(self, unit: int, patience: float = 0.0) -> bool:
        """Take a unit; False if another holds it for longer than ``patience`` seconds."""
        return self._take(unit + 1, patience)

    def release(self, unit: int) -> None:
        self._set(fcntl.F_UNLCK, unit + 1)

    def take_inputs(self, patience: float) -> None:
        """The right to write the input list; ``SystemFault`` if another takes longer than ``patience`` seconds."""
        if not self._take(_INPUTS, patience):
            raise SystemFault(f"{self.path}: another worker has been listing the inputs for {patience:.0f} s")

    def release_inputs(self) -> None:
        self._set(fcntl.F_UNLCK, _INPUTS)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Leases:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, byte: int, patience: float) -> bool:
        end = time.monotonic() + patience
        while not self._set(fcntl.F_WRLCK, byte):
            if time.monotonic() >= end:
                return False
            time.sleep(_POLL)
        return True

    def _set(self, kind: int, byte: int) -> bool:
        try:
            fcntl.fcntl(self._file, _SET, struct.pack("@hhqqi4x", kind, os.SEEK_SET, byte, 1, 0))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise system_fault(error, "locking", self.path) from error
        return True
