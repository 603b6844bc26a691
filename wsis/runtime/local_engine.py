"""Units done in this process: taken, labelled, written."""

from __future__ import annotations

import contextlib
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from wsis.errors import SystemFault
from wsis.runtime.inputs import Unit
from wsis.runtime.label_units import LabelUnits
from wsis.runtime.leases import Leases
from wsis.runtime.ledger import ShardEntry, shard_path
from wsis.runtime.progress import StageClock
from wsis.runtime.shards import Row, adopt_shard, write_shard

__all__ = ["LocalEngine"]

_MIN_FREE = 64 << 20
_PATIENCE = 60.0


class LocalEngine:
    """Labels units one after the other and writes their shards.

    Args:
        run: folder of the run.
        fingerprint: of the run.
        label: makes the rows of units.
        clock: stage ``write``.
        shared: other processes work on the run, and a unit that one of them holds is left to it; else such a
            holder can only be one that is about to end, and is waited for.
    """

    def __init__(self, run: Path, fingerprint: str, label: LabelUnits, clock: StageClock, shared: bool = False) -> None:
        self.folder, self.fingerprint, self.label, self.clock = run, fingerprint, label, clock
        self.patience = 0.0 if shared else _PATIENCE

    def run(
        self, units: Sequence[Unit], stopping: Callable[[], bool], overdue: Callable[[], bool]
    ) -> Iterator[tuple[Unit, ShardEntry | None]]:
        """See :class:`wsis.runtime.job.Engine`."""
        ready: deque[tuple[Unit, ShardEntry | None]] = deque()
        with Leases(self.folder) as leases:
            rows_of = self.label(self._take(units, leases, ready), stopping, overdue)
            with contextlib.closing(rows_of):
                for unit, rows in rows_of:
                    while ready:
                        yield ready.popleft()
                    yield unit, self._write(unit, rows)
                    leases.release(unit.number)
            yield from ready

    def _take(
        self, units: Sequence[Unit], leases: Leases, ready: deque[tuple[Unit, ShardEntry | None]]
    ) -> Iterator[Unit]:
        """The units that are to be labelled here, each taken just before its first picture is decoded."""
        for unit in units:
            if not leases.take(unit.number, self.patience):
                ready.append((unit, None))
                continue
            entry = adopt_shard(self.folder, unit.number, unit.first, unit.count, self.fingerprint)
            if entry is None:
                yield unit
            else:
                ready.append((unit, entry))
                leases.release(unit.number)

    def _write(self, unit: Unit, rows: list[Row]) -> ShardEntry:
        if len(rows) != unit.count:
            raise AssertionError(f"unit {unit.number}: {len(rows)} rows for {unit.count} images")
        free = shutil.disk_usage(self.folder).free
        if free < _MIN_FREE:
            path = shard_path(self.folder, unit.number)
            raise SystemFault(f"writing {path}: {free:,} bytes free, {_MIN_FREE:,} needed; make room")
        with self.clock("write"):
            return write_shard(self.folder, unit.number, unit.first, rows, self.fingerprint)
