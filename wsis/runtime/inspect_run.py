"""Judging a label run from the outside: every shard against the journal and the frozen list, every row against
itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wsis.data import rle
from wsis.data.artifacts import RunFolder, file_sha256, fingerprint
from wsis.errors import Code, ConfigError
from wsis.runtime.inputs import Unit, split_units
from wsis.runtime.shards import STATUSES, Row, ShardEntry, read_entries, read_shard, shard_path

__all__ = ["Finding", "RunState", "inspect_run", "journals"]

KINDS = ("missing", "damaged", "doubled", "unrecorded", "extra", "outdated")
_CODES = {code.value for code in Code}


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        kind: missing (not done yet, or gone), damaged, doubled, unrecorded (a good shard without its journal
            line), extra (belongs to no unit) or outdated (the summary).
        subject: the file or unit.
        text: what was found.
        rebuilt: whether ``--rebuild`` mends it without labelling anything again.
        harmless: whether every reader and the label command cope with it.
    """

    kind: str
    subject: str
    text: str
    rebuilt: bool = False
    harmless: bool = False

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject} {self.text}"


@dataclass
class RunState:
    """What a run's folder holds.

    Attributes:
        run: the folder; head: its ``run.json``.
        units: how the input list is divided.
        entries: what the journal should say of every unit that is whole.
        bad: units whose shard is there and cannot be used.
        findings: everything that is not as it should be.
    """

    run: Path
    head: dict[str, Any]
    units: list[Unit]
    entries: dict[int, ShardEntry] = field(default_factory=dict)
    bad: list[int] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    inputs_bad: bool = False

    @property
    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` says of the units that are whole: ``images``, ``units``, ``instances``, how many
        images ended in which ``status``, and for which ``reasons`` the skipped ones were skipped."""
        entries = self.entries.values()
        return {
            "images": sum(entry.count for entry in entries),
            "units": len(self.entries),
            "instances": sum(entry.instances for entry in entries),
            "status": _sum(entry.status for entry in entries),
            "reasons": _sum(entry.codes for entry in entries),
        }

    @property
    def whole(self) -> bool:
        """Whether every unit is there and nothing needs mending."""
        return len(self.entries) == len(self.units) and all(one.harmless for one in self.findings)


def inspect_run(run: str | Path) -> RunState:
    """Look at every file of a label run; nothing is changed.

    Raises:
        ConfigError: no label run, or ``run.json`` is damaged.
        SystemFault: the machine failed.
    """
    run = Path(run)
    head = RunFolder.read(run)
    if head["kind"] != "label":
        raise ConfigError(f"{run} holds a {head['kind']} run, expected a label run")
    parts = head["parts"]
    found: list[Finding] = []
    ids, inputs_bad = _frozen_ids(run, parts, found)
    journal, journal_bad = _journal(run, found)
    state = RunState(run, head, _division(parts, journal, found), findings=found, inputs_bad=inputs_bad)
    seen: dict[str, int] = {}
    for unit in state.units:
        _inspect_unit(state, unit, journal.get(unit.number), ids, seen, journal_bad)
    _extra_files(state, journal)
    _summary(state)
    return state


def journals(run: Path) -> list[Path]:
    """The journals of a run: its own, and those of its parts where several processes share the work."""
    paths = [*sorted(run.glob("journal-*-of-*.jsonl")), run / "journal.jsonl"]
    return [path for path in paths if path.exists()]


def _division(parts: dict[str, Any], journal: dict[int, ShardEntry], found: list[Finding]) -> list[Unit]:
    size = parts.get("config", {}).get("unit_size") or max((entry.count for entry in journal.values()), default=0)
    units = split_units(parts["images"], size or max(1, parts["images"]))
    if len(units) != parts["units"]:
        text = f"says {parts['units']} units; {parts['images']} images in units of {size} are {len(units)}"
        found.append(Finding("damaged", "run.json", text))
    return units


def _frozen_ids(run: Path, parts: dict[str, Any], found: list[Finding]) -> tuple[list[str] | None, bool]:
    """The ids of the frozen list, None where it cannot be used."""
    path = run / "inputs.parquet"
    if not path.exists():
        found.append(Finding("missing", path.name, "is gone; the label command freezes the list again"))
        return None, False
    try:
        table = pq.ParquetFile(path).read(["image_id", "labels"])
        ids, labels = table.column("image_id").to_pylist(), table.column("labels").to_pylist()
        whole = {"categories": parts["categories"], "rows": [[name, tags] for name, tags in zip(ids, labels)]}
        problem = None if fingerprint(whole) == parts["inputs"] else "lists other images or tags than run.json names"
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        problem = f"cannot be read: {str(error).splitlines()[0]}"
    if problem is None:
        return ids, False
    found.append(Finding("damaged", path.name, problem, rebuilt=True))
    return None, True


def _journal(run: Path, found: list[Finding]) -> tuple[dict[int, ShardEntry], bool]:
    """The newest readable entry of every unit; damaged lines are named."""
    entries: dict[int, ShardEntry] = {}
    paths = journals(run)
    bad = not paths
    if not paths:
        found.append(Finding("missing", "journal.jsonl", "is gone", rebuilt=True))
    for path in paths:
        lines = path.read_bytes().split(b"\n")
        if lines.pop():
            text = "ends in a torn line, which is cut when it is opened"
            found.append(Finding("damaged", path.name, text, True, True))
        for number, line in enumerate(lines, start=1):
            try:
                entries.update(read_entries([json.loads(line)]))
            except (ValueError, KeyError, TypeError, AttributeError):
                found.append(Finding("damaged", f"{path.name}:{number}", "is no entry of a journal", rebuilt=True))
                bad = True
    return entries, bad


def _inspect_unit(
    state: RunState,
    unit: Unit,
    entry: ShardEntry | None,
    ids: Sequence[str] | None,
    seen: dict[str, int],
    journal_bad: bool,
) -> None:
    """One shard: there, whole, of this run and place, its rows those of the list and consistent."""
    path = shard_path(state.run, unit.number)
    last = unit.first + unit.count - 1
    where = f"shards/{path.name}"
    if not path.is_file():
        text = f"is {'gone' if entry else 'not done yet'} (images {unit.first} to {last})"
        state.findings.append(Finding("missing", where, text))
        return
    problems = []
    try:
        rows, note = read_shard(path)
        if note.get("fingerprint") != state.head["fingerprint"]:
            problems.append("was made by another run")
        elif (note.get("unit"), note.get("first"), len(rows)) != (unit.number, unit.first, unit.count):
            problems.append(f"holds {len(rows)} rows from {note.get('first')}, expected {unit.count} from {unit.first}")
        else:
            problems += _problems_of(rows, unit, ids, len(state.head["parts"]["categories"]["names"]))
    except ConfigError as error:
        problems.append(str(error).removeprefix(f"shard {path} "))
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        state.findings.append(Finding("damaged", where, problems[0] + more))
        state.bad.append(unit.number)
        return
    doubled = [row.image_id for row in rows if seen.setdefault(row.image_id, unit.number) != unit.number]
    if doubled:
        text = f"holds {doubled[0]!r}, which unit {seen[doubled[0]]} holds, too ({len(doubled)} such rows)"
        state.findings.append(Finding("doubled", where, text))
        state.bad.append(unit.number)
        return
    now = _entry(path, unit, rows)
    state.entries[unit.number] = now
    if entry is None:
        text = "is whole and has no line in the journal"
        state.findings.append(Finding("unrecorded", where, text, rebuilt=True))
    elif entry != now and not journal_bad:
        text = "is whole and is not the file that the journal describes"
        state.findings.append(Finding("unrecorded", where, text, rebuilt=True))


def _problems_of(rows: Sequence[Row], unit: Unit, ids: Sequence[str] | None, classes: int) -> list[str]:
    problems = []
    names = [row.image_id for row in rows]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        problems.append(f"holds {twice!r} twice")
    if ids is not None and names != list(ids[unit.first : unit.first + unit.count]):
        places = zip(names, ids[unit.first : unit.first + unit.count])
        at, (got, want) = next((n, pair) for n, pair in enumerate(places) if pair[0] != pair[1])
        problems.append(f"row {at} is {got!r}, the frozen list has {want!r}")
    for row in rows:
        problems += [f"row {row.image_id!r}: {text}" for text in _row_problems(row, classes)]
    return problems


def _row_problems(row: Row, classes: int) -> Iterator[str]:
    columns = (row.score, row.bbox_xywh, row.area, row.counts)
    if row.status not in STATUSES:
        yield f"status {row.status!r}, expected {', '.join(STATUSES)}"
    elif any(len(column) != len(row) for column in columns):
        yield "its instance columns differ in length"
    elif row.status != "ok" and len(row):
        yield f"is {row.status} and has {len(row)} instances"
    elif row.status == "skipped" and row.code not in _CODES:
        yield f"was skipped for {row.code!r}, which is no known reason"
    elif len(row):
        if not all(0 <= label < classes for label in row.label):
            yield f"classes {sorted(set(row.label))}, expected 0 to {classes - 1}"
        if not all(0 <= score <= 1 for score in row.score):
            yield "scores outside of 0 to 1"
        try:
            areas, boxes = rle.area(row.rles()), rle.box_xywh(row.rles())
            if areas.tolist() != row.area or not np.array_equal(boxes, row.bbox_xywh):
                yield "areas or boxes are not those of the masks"
        except (ValueError, TypeError) as error:
            yield f"a mask is malformed: {error}"


def _extra_files(state: RunState, journal: dict[int, ShardEntry]) -> None:
    folder = state.run / "shards"
    known = {shard_path(state.run, unit.number).name for unit in state.units}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.endswith(".tmp") and path.name.startswith("."):
            text = "was left by a process that is gone, or is being written; the label command removes it"
            state.findings.append(Finding("extra", f"shards/{path.name}", text, True, True))
        elif path.name not in known and not path.name.endswith(".lock"):
            text = "belongs to no unit of this run; nothing reads it"
            state.findings.append(Finding("extra", f"shards/{path.name}", text, harmless=True))
    beyond = sorted(set(journal) - {unit.number for unit in state.units})
    if beyond:
        text = f"has lines for units {beyond[:5]}, the run has {len(state.units)}"
        state.findings.append(Finding("doubled", "journal.jsonl", text, rebuilt=True))


def _summary(state: RunState) -> None:
    """The summary of a finished run, where there is one."""
    path = state.run / "summary.json"
    if not path.exists():
        return
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        value = None
    if value != state.summary:
        state.findings.append(Finding("outdated", path.name, "is not what the shards add up to", True, True))


def _entry(path: Path, unit: Unit, rows: Sequence[Row]) -> ShardEntry:
    """What the journal is to say of a whole shard."""
    codes = _sum({row.code: 1} for row in rows if row.code)
    status = _sum({row.status: 1} for row in rows)
    instances = sum(len(row) for row in rows)
    size, sha256 = path.stat().st_size, file_sha256(path)
    return ShardEntry(unit.number, unit.first, len(rows), size, sha256, instances, status, codes)


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))
