"""The labelling job: which units are to be done, by whatever engine, and the record of those that are.

A unit is a contiguous range of the frozen input list. Its rows go into one shard, then one line into the
journal; a unit without a journal line, or whose shard does not verify, is not done. Output does not depend
on how often the job was stopped and taken up again, nor on how many processes share the work.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from wsis.data.run_folder import Journal, RunFolder
from wsis.errors import ExitCode, system_fault
from wsis.runtime.command_line import called_as
from wsis.runtime.faults import FaultCount
from wsis.runtime.inputs import Unit, split_units
from wsis.runtime.ledger import ShardEntry, finished_units, journal_path, seal, shard_path
from wsis.runtime.parts import Part
from wsis.runtime.progress import RunLog, StageClock, Watch, say
from wsis.runtime.stop import StopRequest

__all__ = ["Engine", "JobResult", "run_job"]


class Engine(Protocol):
    """Does units, in any order and anywhere."""

    def run(
        self, units: Sequence[Unit], stopping: Callable[[], bool], overdue: Callable[[], bool]
    ) -> Iterator[tuple[Unit, ShardEntry | None]]:
        """Give each unit with its shard as soon as that is written, or with None where another process holds it.

        Args:
            units: to do.
            stopping: whether to begin no further unit.
            overdue: whether to drop those in hand.
        """


@dataclass(frozen=True)
class JobResult:
    """How a job ended.

    Attributes:
        images: of this call's part of the run, or of all of it; ok, ok_empty, skipped: how they ended;
            instances: found in all of them.
        reasons: skipped images by code.
        seconds: by stage, of this call.
        rate: images a second of this call.
        exit_code: see :class:`wsis.errors.ExitCode`.
        redone: what was found damaged and done again.
        whole: whether the run is finished, all parts of it.
        elsewhere: units of this part that another process was doing.
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
    whole: bool = True
    elsewhere: int = 0


def run_job(
    folder: RunFolder,
    total: int,
    unit_size: int,
    engine: Engine,
    stop: StopRequest,
    *,
    log: RunLog,
    part: Part | None = None,
    title: str = "label",
    max_faults: int | None = None,
    clock: StageClock | None = None,
    verify: str = "hash",
) -> JobResult:
    """Do every unit that is not done.

    Args:
        folder: the open run folder; shared where there is a ``part``.
        total: images.
        unit_size: images of a unit.
        engine: does the units.
        stop: tells whether a signal has come.
        log: gets a line per unit.
        part: do only this part of the units.
        title: what the progress display says.
        max_faults: see :class:`FaultCount`.
        clock: stages to show.
        verify: how finished shards are checked at the start, ``size`` or ``hash``.

    Raises:
        SystemFault: the disk is full, or failed.
    """
    clock, faults = clock or StageClock(), FaultCount(max_faults)
    whole = split_units(total, unit_size)
    units = part.choose(whole) if part else whole
    with Journal(journal_path(folder.path, part), alone=part is not None) as journal:
        done, redone = _finished(folder.path, units, verify)
        progress = _Progress(done, faults, log, clock)
        todo = [unit for unit in units if unit.number not in done]
        if done:
            say(f"{title}: {len(done)} of {len(units)} units are there and verified, {len(todo)} to do")
        begun = {"units": len(units), "done": len(done), "redone": list(redone), "part": str(part or "")}
        log.write("start", begun | {"command": called_as()})
        images = sum(unit.count for unit in units)
        with Watch(images, sum(entry.count for entry in done.values()), title, clock) as watch:
            results = engine.run(todo, lambda: stop.asked or faults.too_many, lambda: stop.overdue)
            with contextlib.closing(results):
                for unit, entry in results if not faults.too_many else ():
                    if entry is None:
                        progress.elsewhere += 1
                        continue
                    with clock("write"):
                        journal.append(entry.to_json())
                    progress.add(unit, entry, watch)
        result = progress.result(images, len(units), watch.rate, redone)
    finished = _seal(folder, len(whole), part)
    log.write("end", {"exit_code": result.exit_code, "reasons": result.reasons, "stages": result.seconds})
    return dataclasses.replace(result, whole=finished)


class _Progress:
    """The counts of a job while it goes on."""

    def __init__(self, done: dict[int, ShardEntry], faults: FaultCount, log: RunLog, clock: StageClock) -> None:
        self.faults, self.log, self.clock = faults, log, clock
        self.units, self.instances, self.elsewhere = 0, 0, 0
        self.status: Counter[str] = Counter()
        for entry in done.values():
            self._count(entry)

    def add(self, unit: Unit, entry: ShardEntry, watch: Watch) -> None:
        self._count(entry)
        watch.advance(unit.count, self.instances, self.faults.total)
        stages = {name: round(spent, 3) for name, spent in self.clock.seconds.items()}
        self.log.write("unit", {**entry.to_json(), "stages": stages, "rate": round(watch.rate, 3)})

    def _count(self, entry: ShardEntry) -> None:
        self.units += 1
        self.instances += entry.instances
        self.status.update(entry.status)
        self.faults.add(entry.count, entry.codes)

    def result(self, images: int, units: int, rate: float, redone: tuple[str, ...]) -> JobResult:
        counts = [self.status[name] for name in ("ok", "ok_empty", "skipped")]
        code = self.faults.exit_code()
        if self.units < units and code != ExitCode.TOO_MANY_FAULTS:
            code = ExitCode.STOPPED
        if self.units == units and sum(counts) != images:
            raise AssertionError(f"{sum(counts)} images are accounted for, expected {images}")
        reasons = dict(sorted(self.faults.reasons.items()))
        seconds = {stage: round(spent, 3) for stage, spent in self.clock.seconds.items()}
        return JobResult(
            images, *counts, self.instances, reasons, seconds, rate, int(code), redone, elsewhere=self.elsewhere
        )


def _finished(run: Path, units: Sequence[Unit], verify: str) -> tuple[dict[int, ShardEntry], tuple[str, ...]]:
    """Those of the units whose shards are what a journal says, and a line for each shard that is not; such a
    shard is removed."""
    redone = []
    ranges = {unit.number: (unit.first, unit.count) for unit in units}
    entries, wrong = finished_units(run, verify)
    done = {number: entry for number, entry in entries.items() if number in ranges}
    for number, entry in list(done.items()):
        if ranges[number] != (entry.first, entry.count):
            wrong[number] = "belongs to another division of the input list"
            del done[number]
    for number, problem in sorted(wrong.items()):
        if number not in ranges:
            continue
        path = shard_path(run, number)
        redone.append(f"{path.name} {problem}")
        say(f"wsis: {redone[-1]}; it is done again")
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise system_fault(error, "removing", path) from error
    return done, tuple(redone)


def _seal(folder: RunFolder, units: int, part: Part | None) -> bool:
    """Give a run that is whole its final journal and summary; whether it is whole. Of several processes that
    share a run the last one does it."""
    done, _ = finished_units(folder.path, "size")
    if len(done) < units or (part is not None and not folder.become_alone()):
        return False
    done, _ = finished_units(folder.path, "size")
    if len(done) == units:
        seal(folder.path, done)
    return len(done) == units
