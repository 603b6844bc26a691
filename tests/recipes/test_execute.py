"""Stages: done once, verified, made again when their inputs change, never thrown away without being asked."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shutil
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from wsis.data.config import DataConfig
from wsis.errors import ConfigError
from wsis.recipes import execute
from wsis.recipes.execute import run_stages
from wsis.recipes.stages import FILES, Stage, StepFiles


@dataclass(frozen=True)
class Config:
    source: str = ""
    out: str = ""
    number: int = 1
    workers: int = 0
    data: DataConfig = dataclasses.field(default_factory=DataConfig)


@dataclass(frozen=True)
class Result:
    exit_code: int = 0

    def summary(self) -> str:
        return "made"


@pytest.fixture
def calls(monkeypatch):
    """A step named ``probe`` that copies its source; the names of the folders it has made."""
    made: list[str] = []

    def run(config):
        out = Path(config.out)
        out.mkdir(parents=True, exist_ok=True)
        text = Path(config.source).read_text() if config.source else ""
        (out / "result.txt").write_text(f"{text}{config.number}")
        (out / "log.jsonl").write_text("a log is no result")
        made.append(out.name)
        return Result({7: 3, 8: 4}.get(config.number, 0))

    module = types.ModuleType("wsis.steps.probe")
    module.run = run
    monkeypatch.setitem(sys.modules, "wsis.steps.probe", module)
    monkeypatch.setitem(FILES, "probe", StepFiles(("source",), ("out",), ("workers",)))
    return made


def stages(root: Path, first: int = 1, second: int = 2, workers: int = 0) -> list[Stage]:
    return [
        Stage("one", "probe", Config("", str(root / "one"), first, workers)),
        Stage("two", "probe", Config(str(root / "one" / "result.txt"), str(root / "two"), second, workers)),
    ]


def test_done_stages_are_skipped(tmp_path, calls, capsys):
    first = run_stages(tmp_path, stages(tmp_path))
    assert [outcome.how for outcome in first.outcomes] == ["made", "made"]
    second = run_stages(tmp_path, stages(tmp_path, workers=4))
    assert [outcome.how for outcome in second.outcomes] == ["skipped", "skipped"]
    assert calls == ["one", "two"]
    assert "one: done and verified" in capsys.readouterr().err
    assert "skipped" in second.summary()


@pytest.mark.parametrize("step", FILES)
def test_every_file_that_a_step_takes_is_known(step):
    """One that is not is compared by its name alone, and a stage made from an older content is called done."""
    files, config = FILES[step], importlib.import_module(f"wsis.steps.{step}").Config
    taken = ("weights", "seeds", "semantic", "points", "point_list", "run", "runs", "fields")
    kinds = {item.name: type(item.default) for item in dataclasses.fields(config)}
    texts, many = ({name for name, kind in kinds.items() if kind is want} for want in (str, tuple))
    wanted = {name for name in texts | many if name in taken} | {name for name in texts if name.endswith("_weights")}
    assert wanted <= {*files.reads, *files.writes}


def test_a_record_of_a_field_that_was_a_setting_still_counts(tmp_path, calls, monkeypatch):
    monkeypatch.setitem(FILES, "probe", StepFiles((), ("out",)))
    run_stages(tmp_path, stages(tmp_path))
    monkeypatch.setitem(FILES, "probe", StepFiles(("source",), ("out",), ("workers",)))
    run_stages(tmp_path, stages(tmp_path, workers=4))
    assert calls == ["one", "two"]


def test_damaged_and_missing_outputs_are_made_again(tmp_path, calls):
    run_stages(tmp_path, stages(tmp_path))
    (tmp_path / "two" / "log.jsonl").write_text("another log")
    run_stages(tmp_path, stages(tmp_path))
    assert calls == ["one", "two"]
    (tmp_path / "two" / "result.txt").write_text("changed")
    run_stages(tmp_path, stages(tmp_path))
    assert calls == ["one", "two", "two"]
    assert (tmp_path / "two" / "result.txt").read_text() == "12"


def test_changed_settings_are_refused_by_name(tmp_path, calls):
    run_stages(tmp_path, stages(tmp_path))
    with pytest.raises(ConfigError, match=r"one: its settings or .*number was 1 and is now 5.*--force=one"):
        run_stages(tmp_path, stages(tmp_path, first=5))
    assert (tmp_path / "one" / "result.txt").read_text() == "1"


def photographs(root: Path, tags: str) -> DataConfig:
    root.mkdir(exist_ok=True)
    for name in ("a", "b"):
        Image.new("RGB", (8, 8)).save(root / f"{name}.png")
    (root / "tags.csv").write_text(tags)
    return DataConfig(kind="folder", root=str(root))


def with_data(root: Path, data: DataConfig) -> list[Stage]:
    return [dataclasses.replace(stage, config=dataclasses.replace(stage.config, data=data)) for stage in stages(root)]


def test_edited_tags_are_refused_by_name(tmp_path, calls):
    """The path of the tags is the same; what was made from the old ones is not called done."""
    data = photographs(tmp_path / "photos", "file,tags\na.png,cat\nb.png,dog\n")
    run_stages(tmp_path, with_data(tmp_path, data))
    assert [outcome.how for outcome in run_stages(tmp_path, with_data(tmp_path, data)).outcomes] == ["skipped"] * 2
    photographs(tmp_path / "photos", "file,tags\na.png,cat dog\nb.png,dog\n")
    with pytest.raises(ConfigError, match=r"one: .*its images, their tags or the classes.*--force=one[\s\S]*two: "):
        run_stages(tmp_path, with_data(tmp_path, data))
    assert calls == ["one", "two"]
    again = run_stages(tmp_path, with_data(tmp_path, data), ["one", "two"])
    assert [outcome.how for outcome in again.outcomes] == ["made again"] * 2
    assert [outcome.how for outcome in run_stages(tmp_path, with_data(tmp_path, data)).outcomes] == ["skipped"] * 2


def test_data_that_is_gone_or_was_not_recorded_does_not_undo_a_stage(tmp_path, calls):
    data = photographs(tmp_path / "photos", "file,tags\na.png,cat\nb.png,dog\n")
    run_stages(tmp_path, with_data(tmp_path, data))
    for name in ("one", "two"):
        path = tmp_path / "stages" / f"{name}.json"
        record = json.loads(path.read_text())
        assert len(record.pop("data")) == 64
        path.write_text(json.dumps(record))
    run_stages(tmp_path, with_data(tmp_path, data))
    shutil.rmtree(tmp_path / "photos")
    run_stages(tmp_path, with_data(tmp_path, data))
    assert calls == ["one", "two"]


def test_forced_stage_and_what_depends_on_it(tmp_path, calls):
    run_stages(tmp_path, stages(tmp_path))
    run_stages(tmp_path, stages(tmp_path, first=5), ["one"])
    assert calls == ["one", "two", "one", "two"]
    assert (tmp_path / "two" / "result.txt").read_text() == "52"
    same = run_stages(tmp_path, stages(tmp_path, first=5), ["one"])
    assert [outcome.how for outcome in same.outcomes] == ["made again", "skipped"]


def test_unknown_stage_to_force(tmp_path, calls):
    with pytest.raises(ConfigError, match="did you mean 'two'"):
        run_stages(tmp_path, stages(tmp_path), ["tow"])
    assert calls == []


def test_faults_go_on_and_too_many_stop(tmp_path, calls):
    assert run_stages(tmp_path / "a", stages(tmp_path / "a", first=7)).exit_code == 3
    assert run_stages(tmp_path / "a", stages(tmp_path / "a", first=7)).exit_code == 3
    assert calls == ["one", "two"]
    assert run_stages(tmp_path / "b", stages(tmp_path / "b", first=8)).exit_code == 4
    assert calls == ["one", "two", "one"]


def test_damaged_record_is_no_record(tmp_path, calls):
    run_stages(tmp_path, stages(tmp_path))
    (tmp_path / "stages" / "two.json").write_text("{")
    run_stages(tmp_path, stages(tmp_path))
    assert calls == ["one", "two", "two"]


def test_every_step_of_the_recipes_has_its_files_listed():
    import importlib

    for step, files in FILES.items():
        config = importlib.import_module(f"wsis.steps.{step}").Config
        names = set(config.__dataclass_fields__)
        assert {*files.reads, *files.writes, *files.free} <= names, step


def test_content_of_folders(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a").write_text("1")
    before = execute.content_sha256(tmp_path / "x")
    (tmp_path / "x" / "run.lock").write_text("held")
    assert execute.content_sha256(tmp_path / "x") == before
    (tmp_path / "x" / "a").rename(tmp_path / "x" / "b")
    assert execute.content_sha256(tmp_path / "x") != before
    assert execute.content_sha256(tmp_path / "nothing") == "absent"
