"""Which units of a run are done: its journals, and the one journal and summary of a run that is whole.

While it works, a process appends to a journal of its own: ``journal.jsonl``, or with ``--shard``
``journal-0002-of-0008.jsonl``. When all units are done the last one writes ``journal.jsonl`` anew in the order of
the units and removes the others, so that a finished run does not tell how many workers, kills and resumes it took.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from wsis.data.artifacts import file_sha256, write_bytes, write_json
from wsis.errors import ConfigError, system_fault
from wsis.runtime.parts import Part

__all__ = [
    "ShardEntry",
    "finished_units",
    "journal_path",
    "read_entries",
    "run_entries",
    "seal",
    "shard_path",
    "verify_shard",
]


@dataclass(frozen=True)
class ShardEntry:
    """A finished shard as the journal knows it.

    Attributes:
        unit: number of the work unit; first, count: its range in the input list.
        size, sha256: of the file.
        instances: rows of all its instance columns together.
        status: how many images ended in which status.
        codes: how many images were skipped for which reason.
    """

    unit: int
    first: int
    count: int
    size: int
    sha256: str
    instances: int
    status: dict[str, int]
    codes: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)}


def shard_path(run: str | Path, unit: int) -> Path:
    return Path(run) / "shards" / f"shard-{unit:06d}.parquet"


def verify_shard(run: str | Path, entry: ShardEntry, how: str = "hash") -> str | None:
    """Why a shard is not what the journal says, or None if it is; ``how`` is ``size`` or ``hash``."""
    path = shard_path(run, entry.unit)
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != entry.size:
        return f"has {size} bytes, expected {entry.size}"
    if how == "hash" and file_sha256(path) != entry.sha256:
        return f"does not have sha256 {entry.sha256[:12]}..."
    return None


def journal_path(run: Path, part: Part | None) -> Path:
    return Path(run) / (f"journal-{part.name}.jsonl" if part else "journal.jsonl")


def read_entries(journal: Iterable[dict[str, Any]]) -> dict[int, ShardEntry]:
    """The newest entry of every unit in a journal."""
    names = [item.name for item in fields(ShardEntry)]
    return {row["unit"]: ShardEntry(*(row[name] for name in names)) for row in journal if "unit" in row}


def finished_units(run: Path, verify: str) -> tuple[dict[int, ShardEntry], dict[int, str]]:
    """The units whose shard is what a journal says, and for each other one that a journal knows what is wrong.

    Args:
        run: the folder.
        verify: ``size`` or ``hash``.
    """
    done: dict[int, ShardEntry] = {}
    wrong: dict[int, str] = {}
    for path in _journals(run):
        for number, entry in read_entries(_whole_lines(path)).items():
            if number in done:
                continue
            problem = verify_shard(run, entry, verify)
            if problem is None:
                done[number] = entry
                wrong.pop(number, None)
            else:
                wrong[number] = problem
    return dict(sorted(done.items())), dict(sorted(wrong.items()))


def run_entries(run: Path) -> dict[int, ShardEntry]:
    """The entry of every unit that a journal knows; ``ConfigError`` where a shard is missing or has another size."""
    done, wrong = finished_units(run, "size")
    for number, problem in wrong.items():
        raise ConfigError(f"{shard_path(run, number)} {problem}; give the label command again to redo it")
    return done


def seal(run: Path, done: Mapping[int, ShardEntry]) -> None:
    """Write the journal and ``summary.json`` of a run whose units are all done, and remove the journals of its
    parts; files that are right already are left alone. Nobody else may have the run open."""
    body = "".join(
        json.dumps(done[number].to_json(), ensure_ascii=False, separators=(",", ":")) + "\n" for number in sorted(done)
    ).encode()
    main = journal_path(run, None)
    if not main.exists() or main.read_bytes() != body:
        write_bytes(main, body)
    status, reasons = Counter(), Counter()
    for entry in done.values():
        status.update(entry.status)
        reasons.update(entry.codes)
    summary = {
        "images": sum(entry.count for entry in done.values()),
        "units": len(done),
        "instances": sum(entry.instances for entry in done.values()),
        "status": dict(sorted(status.items())),
        "reasons": dict(sorted(reasons.items())),
    }
    path = Path(run) / "summary.json"
    if not path.exists() or _json(path) != summary:
        write_json(path, summary)
    for journal in _journals(run):
        if journal != main:
            journal.unlink(missing_ok=True)


def _journals(run: Path) -> list[Path]:
    """The journals of a run, newest first."""
    paths = [
        path for path in (journal_path(run, None), *sorted(Path(run).glob("journal-*-of-*.jsonl"))) if path.exists()
    ]
    return sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a journal, read without touching it; a torn last line is left out."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise system_fault(error, "reading", path) from error
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise ConfigError(f"{path}:{number}: not a JSON object; the journal is damaged")
        yield row
