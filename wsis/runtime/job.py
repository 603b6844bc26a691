"""The labelling job on one machine: units in order, each written and recorded before the next begins.

A unit is a contiguous range of the frozen input list. Its rows go into one shard, then one line into the
journal; a unit without a journal line, or whose shard does not verify, is not done. Output does not depend
on how often the job was stopped and taken up again.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wsis.data.run_folder import Journal, RunFolder
from wsis.errors import ExitCode, SystemFault
from wsis.runtime.faults import FaultCount
from wsis.runtime.inputs import Unit, split_units
from wsis.runtime.progress import RunLog, StageClock, Watch, say
from wsis.runtime.shards import Row, ShardEntry, read_entries, shard_path, verify_shard, write_shard
from wsis.runtime.stop import StopRequest

__all__ = ["JobResult", "run_job"]

_MIN_FREE = 64 << 20


@dataclass(frozen=True)
class JobResult:
    """How a job ended.

    Attributes:
        images: of the whole run; ok, ok_empty, skipped: how they ended; instances: found in all of them.
        reasons: skipped images by code.
        seconds: by stage, of this call.
        rate: images a second of this call.
        exit_code: see :class:`wsis.errors.ExitCode`.
        redone: what was found damaged and done again.
    """

    images: int
    ok: int
    ok_empty: int
    skipped: int
    instances: int
    reasons: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    rate: float = 0.0
    exit_code: int = 0
    redone: tuple[str, ...] = ()


def run_job(
    folder: RunFolder,
    total: int,
    unit_size: int,
    label_units: Callable[[Sequence[Unit], Callable[[], bool]], Iterator[tuple[Unit, list[Row]]]],
    *,
    title: str = "label",
    max_faults: int | None = None,
    clock: StageClock | None = None,
    verify: str = "hash",
) -> JobResult:
    """Do every unit that is not done.

    Args:
        folder: the open run folder.
        total: images.
        unit_size: images of a unit.
        label_units: takes the units to do and a function that tells whether to stop before the next one;
            gives each unit with its rows, in order.
        title: what the progress display says.
        max_faults: see :class:`FaultCount`.
        clock: stages to show.
        verify: how finished shards are checked at the start, ``size`` or ``hash``.

    Raises:
        SystemFault: the disk is full, or failed.
    """
    clock = clock or StageClock()
    units = split_units(total, unit_size)
    faults, log = FaultCount(max_faults), RunLog(folder.path / "log.jsonl")
    with Journal(folder.path / "journal.jsonl") as journal:
        done, redone = _finished(folder.path, journal, units, verify)
        for entry in done.values():
            faults.add(entry.count, entry.codes)
        todo = [unit for unit in units if unit.number not in done]
        if done:
            say(f"{title}: {len(done)} of {len(units)} units are there and verified, {len(todo)} to do")
        log.write("start", {"units": len(units), "done": len(done), "redone": list(redone)})
        before = sum(entry.count for entry in done.values())
        with StopRequest() as stop, Watch(total, before, title, clock) as watch:
            rows_of = label_units(todo, lambda: stop.asked or faults.too_many)
            with contextlib.closing(rows_of):
                for unit, rows in rows_of if not faults.too_many else ():
                    entry = _commit(folder, journal, unit, rows, clock)
                    done[unit.number] = entry
                    faults.add(entry.count, entry.codes)
                    watch.advance(entry.count, sum(item.instances for item in done.values()), faults.total)
                    log.write("unit", {**entry.to_json(), "stages": clock.seconds, "rate": round(watch.rate, 3)})
        result = _result(done, total, len(units), faults, clock, watch.rate, redone)
    log.write("end", {"exit_code": result.exit_code, "reasons": result.reasons, "stages": result.seconds})
    return result


def _finished(
    run: Path, journal: Journal, units: Sequence[Unit], verify: str
) -> tuple[dict[int, ShardEntry], tuple[str, ...]]:
    """The units whose shards are what the journal says, and a line for each that is not."""
    done, redone = {}, []
    ranges = {unit.number: (unit.first, unit.count) for unit in units}
    for number, entry in sorted(read_entries(journal).items()):
        problem = verify_shard(run, entry, verify)
        if ranges.get(number) != (entry.first, entry.count):
            problem = "belongs to another division of the input list"
        if problem is None:
            done[number] = entry
        else:
            redone.append(f"{shard_path(run, number).name} {problem}")
            say(f"wsis: {redone[-1]}; it is done again")
    return done, tuple(redone)


def _commit(folder: RunFolder, journal: Journal, unit: Unit, rows: list[Row], clock: StageClock) -> ShardEntry:
    """Shard first, journal line after it; nothing of a unit counts before its line."""
    if len(rows) != unit.count:
        raise AssertionError(f"unit {unit.number}: {len(rows)} rows for {unit.count} images")
    free = shutil.disk_usage(folder.path).free
    if free < _MIN_FREE:
        raise SystemFault(
            f"writing {shard_path(folder.path, unit.number)}: {free:,} bytes free, {_MIN_FREE:,} needed; make room"
        )
    with clock("write"):
        entry = write_shard(folder.path, unit.number, unit.first, rows, folder.fingerprint)
        journal.append(entry.to_json())
    return entry


def _result(
    done: dict[int, ShardEntry],
    total: int,
    units: int,
    faults: FaultCount,
    clock: StageClock,
    rate: float,
    redone: tuple[str, ...],
) -> JobResult:
    status = Counter()
    for entry in done.values():
        status.update(entry.status)
    code = faults.exit_code()
    if len(done) < units and code != ExitCode.TOO_MANY_FAULTS:
        code = ExitCode.STOPPED
    if len(done) == units and sum(status.values()) != total:
        raise AssertionError(f"{sum(status.values())} images are accounted for, expected {total}")
    return JobResult(
        total,
        status["ok"],
        status["ok_empty"],
        status["skipped"],
        sum(entry.instances for entry in done.values()),
        dict(sorted(faults.reasons.items())),
        {stage: round(spent, 3) for stage, spent in clock.seconds.items()},
        rate,
        int(code),
        redone,
    )
