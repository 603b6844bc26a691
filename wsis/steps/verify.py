"""Check a label run: every shard against the journal, every row against the frozen list and its own masks.

Says what is missing, damaged or doubled, and the command that mends it. With rebuild, what follows from the
shards is made anew (journal, summary), and damaged shards are dropped, so that the same label command makes
them again; nothing that is whole is touched.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsis.data.artifacts import RunFolder, write_bytes, write_json
from wsis.errors import Code, ConfigError, ExitCode, Problems
from wsis.runtime.command_line import last_command
from wsis.runtime.inspect_run import Finding, RunState, inspect_run, journals
from wsis.runtime.shards import shard_path

__all__ = ["Config", "Result", "run"]

_SHOWN = 50


@dataclass(frozen=True)
class Config:
    """What to check.

    Args:
        run: folder of the label run.
        rebuild: make the journal and the summary anew from the shards, and drop damaged shards.
        report: write the findings as JSON to this file; empty = do not.
    """

    run: str = ""
    rebuild: bool = False
    report: str = ""

    def __post_init__(self) -> None:
        problems = Problems()
        if not self.run:
            problems.add("run", "is empty, expected the folder of a label run")
        if self.report and not Path(self.report).absolute().parent.is_dir():
            problems.add("report", f"got {self.report}, whose folder does not exist")
        elif self.report and Path(self.report).is_dir():
            problems.add("report", f"got {self.report}, which is a folder, expected the name of a file")
        problems.raise_if_any()


@dataclass(frozen=True)
class Result:
    """What was found.

    Attributes:
        run: the folder.
        findings: what is not as it should be, now.
        counts: of the units that are whole, as in ``summary.json``; units: of the whole run.
        done: what ``rebuild`` did.
        command: the command that made the run, where the log knows it.
        whole: whether nothing is left to do.
    """

    run: Path
    findings: tuple[Finding, ...]
    counts: dict[str, Any]
    units: int
    done: tuple[str, ...] = ()
    command: str = ""
    whole: bool = True

    @property
    def exit_code(self) -> int:
        """0 everything is there and as it was written; 3 something is not."""
        return int(ExitCode.OK if self.whole else ExitCode.WITH_FAULTS)

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        rows = [
            {"kind": one.kind, "subject": one.subject, "text": one.text, "harmless": one.harmless}
            for one in self.findings
        ]
        told = {"whole": self.whole, "findings": rows, "done": list(self.done), "mend": self.mend()}
        return {"run": str(self.run), **told, "summary": self.counts}

    def mend(self) -> list[str]:
        """The commands that mend what was found, in order."""
        commands = []
        if any(one.rebuilt and not one.harmless for one in self.findings):
            commands.append(f"wsis verify {shlex.quote(str(self.run))} --rebuild")
        if any(not one.rebuilt and not one.harmless for one in self.findings):
            commands.append(self.command or f"the same wsis label command with --out={shlex.quote(str(self.run))}")
        return commands

    def _count_lines(self) -> list[str]:
        value, status = self.counts, self.counts["status"]
        ok, empty, skipped = (status.get(name, 0) for name in ("ok", "ok_empty", "skipped"))
        head = f"{value['units']:,} of {self.units:,} units are whole"
        counts = f"{ok:,} labelled, {empty:,} without objects, {skipped:,} skipped, {value['instances']:,} instances"
        lines = [f"{self.run}: {head}; {counts}"]
        width = max((len(code) for code in value["reasons"]), default=0)
        for code, count in sorted(value["reasons"].items(), key=lambda item: (-item[1], item[0])):
            lines.append(f"  {code:<{width}}  {count:>7,}  {Code(code).meaning}")
        return lines

    def summary(self) -> str:
        """For people: what was done and found, the counts, and the commands that mend."""
        lines = [*self.done, *(str(one) for one in self.findings[:_SHOWN])]
        if len(self.findings) > _SHOWN:
            lines.append(f"... and {len(self.findings) - _SHOWN} more")
        lines += self._count_lines()
        if self.whole:
            lines.append("nothing is missing, damaged or doubled")
        return "\n".join(lines + [f"to mend: {command}" for command in self.mend()])


def run(config: Config) -> Result:
    """Check, and mend where asked.

    Raises:
        ConfigError: no label run; with rebuild also: a living process holds it.
        SystemFault: the machine failed.
    """
    folder = Path(config.run)
    done: list[str] = []
    if config.rebuild:
        head = RunFolder.read(folder)
        if head["kind"] != "label":
            raise ConfigError(f"{folder} holds a {head['kind']} run, expected a label run")
        with RunFolder(folder, head["kind"], head["parts"]) as held:
            done += [f"removed {path.name}, left by a process that is gone" for path in held.removed]
            done += _rebuild(inspect_run(folder))
    state = inspect_run(folder)
    command = last_command(folder / "log.jsonl")
    findings = tuple(state.findings)
    result = Result(folder, findings, state.summary, len(state.units), tuple(done), command, state.whole)
    if config.report:
        write_json(config.report, result.to_json())
    return result


def _rebuild(state: RunState) -> list[str]:
    """Journal and summary from the whole shards; the others are dropped."""
    done = []
    for number in state.bad:
        path = shard_path(state.run, number)
        path.unlink()
        done.append(f"dropped shards/{path.name}; the label command makes it again")
    if state.inputs_bad:
        (state.run / "inputs.parquet").unlink()
        done.append("dropped inputs.parquet; the label command freezes the list again")
    rows = [state.entries[number].to_json() for number in sorted(state.entries)]
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n" for row in rows]
    content, path = "".join(lines).encode(), state.run / "journal.jsonl"
    if not path.exists() or path.read_bytes() != content:
        write_bytes(path, content)
        done.append(f"made journal.jsonl anew from {len(rows)} shards")
    for part in journals(state.run):
        if part != path:
            part.unlink()
            done.append(f"removed {part.name}; journal.jsonl holds what it said")
    summary = state.run / "summary.json"
    outdated = any(one.subject == summary.name for one in state.findings)
    if len(state.entries) == len(state.units) and (outdated or not summary.exists()):
        write_json(summary, state.summary)
        done.append("made summary.json anew")
    elif outdated:
        summary.unlink()
        done.append("removed summary.json until the run is finished")
    return done
