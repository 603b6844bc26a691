"""What was measured while networks were trained, from the folders of their trainings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from wsis.errors import ConfigError, Problems
from wsis.viz.curves import Chart, Curve

__all__ = ["training_charts"]

MEASURED = "validation.jsonl"
TITLES = {"ap25": "AP25", "ap50": "AP50", "ap75": "AP75", "recall": "Instances found"}


def training_charts(folders: Sequence[str]) -> tuple[list[Chart], list[str]]:
    """One chart for each figure, with a curve for each training, named after its folder; and what is missing.

    Args:
        folders: of trainings, each with a ``validation.jsonl``; one that was not measured has none. Where a step was
            measured again after a resume, the later row counts.

    Raises:
        ConfigError: no such folder, or a damaged file; all are named.
    """
    problems, runs, notes = Problems(), {}, []
    for folder in map(Path, folders):
        path = folder / MEASURED
        if not folder.is_dir():
            problems.add("training", f"{folder} is not a folder (the current folder is {Path.cwd()})")
            continue
        if not path.is_file():
            notes.append(f"training not drawn: {folder} has no {MEASURED}")
            continue
        with problems.collecting():
            runs[_name(folder, runs)] = _read(path)
    problems.raise_if_any()
    keys = dict.fromkeys(key for rows in runs.values() for row in rows for key in row if key != "step")
    return [Chart(_title(key), [_curve(name, rows, key) for name, rows in runs.items()]) for key in keys], notes


def _curve(name: str, rows: Sequence[dict[str, float]], key: str) -> Curve:
    return Curve(name, [row["step"] for row in rows], [row.get(key, float("nan")) for row in rows])


def _name(folder: Path, taken: dict[str, list]) -> str:
    """The folder's name, with its parent's where another has the same."""
    folder = folder.resolve()
    return folder.name if folder.name not in taken else f"{folder.parent.name}/{folder.name}"


def _title(key: str) -> str:
    return TITLES.get(key, key.replace("_", " ").capitalize())


def _read(path: Path) -> list[dict[str, float]]:
    """The rows by step; a last line without an end, of a training that runs or was killed, is not read."""
    rows: dict[int, dict[str, float]] = {}
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            row = json.loads(line)
            rows[int(row["step"])] = {key: float(value) for key, value in row.items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"{path}:{number}: not a row of measurements; the file is damaged") from error
    return [row for _, row in sorted(rows.items())]
