"""Carrying out the stages of a recipe: skip what is done and verified, make again what has changed, record
the rest."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wsis import __version__
from wsis.data.artifacts import file_sha256, make_folder, write_bytes, write_json
from wsis.data.config import DataConfig
from wsis.data.dataset import inspect_data
from wsis.errors import ExitCode, Problems, did_you_mean
from wsis.models.fetch import IMAGENET, PINNED
from wsis.profiling import span
from wsis.recipes.stages import FILES, Stage
from wsis.runtime.progress import say
from wsis.steps.label import NEEDS

__all__ = ["Outcome", "RunResult", "content_sha256", "run_stages", "write_predict"]

_NO_RESULT = ("run.lock", "log.jsonl", "journal.jsonl", "inputs.parquet")


@dataclass(frozen=True)
class Outcome:
    """How one stage ended: ``skipped``, ``made`` or ``made again``; what the step returned, if it ran."""

    name: str
    how: str
    seconds: float
    exit_code: int
    result: Any = None


@dataclass(frozen=True)
class RunResult:
    """All stages that were carried out, and the exit code of the whole."""

    outcomes: tuple[Outcome, ...]
    exit_code: int

    def summary(self) -> str:
        width = max(len(outcome.name) for outcome in self.outcomes)
        return "\n".join(
            f"{outcome.name:<{width}}  {outcome.how:<10} {outcome.seconds:8.1f} s" for outcome in self.outcomes
        )

    def result(self, name: str) -> Any:
        """What the step of a stage returned; None if it was skipped."""
        return next(outcome.result for outcome in self.outcomes if outcome.name == name)


def run_stages(out: str | Path, stages: Sequence[Stage], force: Sequence[str] = ()) -> RunResult:
    """Carry out stages in order.

    A stage is skipped if its record in ``OUT/stages`` has the fingerprint of its present settings and
    inputs, and its outputs are what they were. If only its inputs have changed (an earlier stage was made
    again), it is made again. If its settings have changed, or the list of its images, their tags or the
    classes, nothing is thrown away: the answer is an error that names ``--force``. Pictures are not looked
    into.

    Args:
        out: folder of the run.
        stages: in order.
        force: names of stages to make again.

    Raises:
        ConfigError: an unknown stage in ``force``, changed settings, or what a step refuses.
    """
    names = [stage.name for stage in stages]
    problems = Problems()
    for name in force:
        if name not in names:
            problems.add("force", f"got {name!r}, expected stages of the recipe", did_you_mean(name, names))
    for stage in stages:
        if stage.problem():
            fetched = stage.pretrained in PINNED
            whole = f", or --weights={IMAGENET} to fetch torchvision's, with their sha256 pinned" if fetched else ""
            problems.add(f"{stage.name}.weights", stage.problem(), f"give --{stage.name}.weights=FILE{whole}")
    problems.raise_if_any()
    records = make_folder(Path(out) / "stages")
    contents = _data_contents(stages)
    for stage in stages:
        changed = "" if stage.name in force else _changed(records, stage, contents.get(stage.name))
        if changed:
            text = f"its settings or data have changed since it was made ({changed})"
            problems.add(stage.name, text, f"give --force={stage.name} to make it again, or another --out")
    problems.raise_if_any()
    outcomes: list[Outcome] = []
    code = int(ExitCode.OK)
    for stage in stages:
        outcome = _carry_out(records, stage, stage.name in force, contents.get(stage.name))
        outcomes.append(outcome)
        code = max(code, outcome.exit_code)
        if outcome.exit_code not in (ExitCode.OK, ExitCode.WITH_FAULTS):
            break
    return RunResult(tuple(outcomes), code)


def _data_contents(stages: Sequence[Stage]) -> dict[str, str]:
    """Fingerprint of images, tags and classes by name of stage, of those whose data can be read."""
    known: dict[DataConfig, str] = {}
    for data in {getattr(stage.config, "data", None) for stage in stages}:
        if isinstance(data, DataConfig) and (data.root or data.kind == "scenes"):
            problems = Problems()  # the step itself says what is wrong with its data
            images = inspect_data(data, problems)
            if images is not None and not problems:
                known[data] = images.fingerprint()
    return {stage.name: known[data] for stage in stages if (data := getattr(stage.config, "data", None)) in known}


def _carry_out(records: Path, stage: Stage, force: bool, content: str | None) -> Outcome:
    start = time.monotonic()
    path, settings = records / f"{stage.name}.json", _settings(stage)
    record = _read(path)
    inputs = {name: content_sha256(file) for name, file in _paths(stage, "reads")}
    same = record is not None and _same_inputs(record, inputs)
    if same and not force and _old_settings(record, stage) == settings:
        problem = next((why for name in record["outputs"] if (why := _not_what_it_was(record, name))), None)
        if problem is None:
            say(f"{stage.name}: done and verified ({path.parent.parent}), skipped")
            return Outcome(stage.name, "skipped", time.monotonic() - start, record["exit_code"])
        say(f"{stage.name}: {problem}; it is made again")
    again = force or record is not None
    if force or (record and not same):
        say(f"{stage.name}: {'asked for' if force else 'its inputs have changed'}, made again")
        _clear(stage)
    path.unlink(missing_ok=True)
    say(f"{stage.name}: begins")
    step = importlib.import_module(f"wsis.steps.{stage.step}")
    with span(f"steps.{stage.step}"):
        result = step.run(stage.config)
    code = int(getattr(result, "exit_code", None) or 0)
    with contextlib.suppress(AttributeError):
        say(f"{stage.name}: {result.summary()}")
    if code in (ExitCode.OK, ExitCode.WITH_FAULTS):
        outputs = {str(file): content_sha256(file) for _, file in _paths(stage, "writes")}
        value = {"settings": settings, "inputs": inputs, "outputs": outputs, "exit_code": code, "data": content}
        write_json(path, {**value, "seconds": round(time.monotonic() - start, 1)})
    return Outcome(stage.name, "made again" if again else "made", time.monotonic() - start, code, result)


def _settings(stage: Stage) -> dict[str, Any]:
    """What decides the output of a stage beside its inputs."""
    options = json.loads(json.dumps({"step": stage.step, "version": __version__, **dataclasses.asdict(stage.config)}))
    return _without_files(options, stage)


def _without_files(options: dict[str, Any], stage: Stage) -> dict[str, Any]:
    files = FILES[stage.step]
    return {name: value for name, value in options.items() if name not in (*files.reads, *files.writes, *files.free)}


def _old_settings(record: dict[str, Any], stage: Stage) -> dict[str, Any]:
    """Those of a record, without fields that were settings when it was written and are files by now."""
    return _without_files(record["settings"], stage)


def _same_inputs(record: dict[str, Any], inputs: dict[str, str]) -> bool:
    """Whether a record was made from these; the content of what it took for settings is not known."""
    return record["inputs"] == {name: sha for name, sha in inputs.items() if name not in record["settings"]}


def _changed(records: Path, stage: Stage, content: str | None) -> str:
    """What of a stage that was done differs from now, in words; empty if nothing. Records of data that cannot be read,
    and those of earlier versions, do not tell."""
    record = _read(records / f"{stage.name}.json")
    if record is None:
        return ""
    old, new = _flat(_old_settings(record, stage)), _flat(_settings(stage))
    differing = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    words = [f"{name} was {old.get(name)} and is now {new.get(name)}" for name in differing[:5]]
    if not words and content and record.get("data") not in (None, content):
        words.append("the list of its images, their tags or the classes are no longer the same")
    return ", ".join(words)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    found: dict[str, Any] = {}
    for name, item in value.items():
        found |= _flat(item, f"{prefix}.{name}" if prefix else name)
    return found


def _read(path: Path) -> dict[str, Any] | None:
    """The record of a stage; None if there is none or it is damaged."""
    try:
        record = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    keys = {"settings", "inputs", "outputs", "exit_code"}
    return record if isinstance(record, dict) and keys <= record.keys() else None


def _paths(stage: Stage, which: str) -> list[tuple[str, Path]]:
    """Field name and path of the files that a stage reads or writes."""
    found = []
    for name in getattr(FILES[stage.step], which):
        value = getattr(stage.config, name)
        for text in (value,) if isinstance(value, str) else value:
            if text and text != IMAGENET:
                found.append((name, Path(text)))
    return found


def _not_what_it_was(record: dict[str, Any], name: str) -> str | None:
    path = Path(name)
    if not path.exists():
        return f"{path} is missing"
    return None if content_sha256(path) == record["outputs"][name] else f"{path} is not what was written"


def _clear(stage: Stage) -> None:
    """Remove what a stage has made."""
    for _, path in _paths(stage, "writes"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def content_sha256(path: Path) -> str:
    """Hex sha256 over a file, or over the names and contents of the files of a folder but locks, logs and
    states.

    For networks of this library the hash in the JSON beside them is not trusted: the file itself is read.
    """
    if not path.exists():
        return "absent"
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        if file.is_file() and file.name not in _NO_RESULT and not {"tensorboard", "checkpoints"} & set(inside.parts):
            digest.update(f"{inside.as_posix()}\0{file_sha256(file)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def write_predict(out: Path, stages: Sequence[Stage]) -> None:
    """``OUT/predict.yaml``: what ``wsis predict --config`` needs to use the run's networks on a
    photograph."""
    config = next((stage.config for stage in stages if stage.name == "label"), None)
    if config is None or not all(Path(getattr(config, name)).exists() for name in NEEDS[config.method]):
        return
    values = {name: str(Path(getattr(config, name)).resolve()) for name in NEEDS[config.method]}
    if config.method == "center_offset":
        values["center_offset"] = dataclasses.asdict(config.center_offset)
    else:
        values |= {
            "scales": list(config.scales),
            "min_side": config.min_side,
            "propagation": dataclasses.asdict(config.propagation),
        }
    write_bytes(out / "predict.yaml", yaml.safe_dump(values, sort_keys=False).encode())
