"""verify: a whole run is called whole, every kind of damage is named, and after the mending commands the folder is
byte for byte what it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from wsis.__main__ import main
from wsis.data.run_folder import RunFolder
from wsis.errors import ConfigError, ExitCode
from wsis.runtime.shards import read_shard, shard_path, write_shard
from wsis.steps import label, verify


@pytest.fixture(scope="module")
def straight(tmp_path_factory, scenes, weights):
    out = tmp_path_factory.mktemp("verify") / "run"
    config = label.Config(data=scenes, out=str(out), unit_size=2, min_side=32, scales=(1.0,), **weights)
    label.run(config)
    check(out, rebuild=True)
    return config


@pytest.fixture
def run(straight, tmp_path):
    """A copy of the run."""
    return Path(shutil.copytree(straight.out, tmp_path / "run"))


def content(folder) -> dict[str, bytes]:
    skip = ("run.lock", "log.jsonl")
    return {p.name: p.read_bytes() for p in Path(folder).rglob("*") if p.is_file() and p.name not in skip}


def check(folder, **options) -> verify.Result:
    return verify.run(verify.Config(run=str(folder), **options))


def label_again(straight, folder) -> None:
    label.run(label.Config(**{**vars(straight), "out": str(folder)}))


def test_whole_run(run):
    before = content(run)
    result = check(run)
    assert result.findings == ()
    assert result.exit_code == ExitCode.OK
    assert result.counts["images"] == 6
    assert sum(result.counts["status"].values()) == 6
    assert "nothing is missing, damaged or doubled" in result.summary()
    assert check(run, rebuild=True).done == ()
    assert content(run) == before


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap_shards(run: Path) -> None:
    one, two = shard_path(run, 0), shard_path(run, 1)
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)


def other_row(run: Path, **changes) -> None:
    """A whole shard of this run with a row that is not right."""
    rows, note = read_shard(shard_path(run, 1))
    for name, value in changes.items():
        setattr(rows[0], name, value)
    write_shard(run, 1, note["first"], rows, note["fingerprint"])


def stranger(run: Path) -> None:
    rows, note = read_shard(shard_path(run, 1))
    write_shard(run, 1, note["first"], rows, "f" * 64)


def cut_journal(run: Path) -> None:
    path = run / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{'no': json}\n" + lines[2])


DAMAGE = {
    "shard gone": (lambda run: shard_path(run, 1).unlink(), "missing: shards/shard-000001.parquet is gone"),
    "bit": (lambda run: flip(shard_path(run, 1)), "damaged: shards/shard-000001.parquet"),
    "empty": (lambda run: shard_path(run, 1).write_bytes(b""), "damaged: shards/shard-000001.parquet"),
    "swapped": (swap_shards, "holds 2 rows from 2, expected 2 from 0"),
    "other run": (stranger, "was made by another run"),
    "renamed": (lambda run: other_row(run, image_id="x"), "row 0 is 'x', the frozen list has"),
    "status": (lambda run: other_row(run, status="fine"), "status 'fine', expected ok"),
    "code": (lambda run: other_row(run, status="skipped", code="E_ODD", label=[], score=[], bbox_xywh=[], area=[],
                                   counts=[]), "was skipped for 'E_ODD'"),
    "mask": (lambda run: other_row(run, status="ok", label=[0], score=[1.0], bbox_xywh=[[0, 0, 1, 1]], area=[1],
                                   counts=[b"0000"]), "a mask is malformed"),
    "class": (lambda run: other_row(run, status="ok", label=[9], score=[1.0], bbox_xywh=[[0, 0, 1, 1]], area=[1],
                                    counts=[b"0000"]), "classes [9], expected 0 to 4"),
    "journal gone": (lambda run: (run / "journal.jsonl").unlink(), "missing: journal.jsonl is gone"),
    "journal line": (cut_journal, "damaged: journal.jsonl:2"),
    "inputs": (lambda run: flip(run / "inputs.parquet"), "damaged: inputs.parquet"),
    "inputs gone": (lambda run: (run / "inputs.parquet").unlink(), "missing: inputs.parquet is gone"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_and_mended(run, straight, name):
    before = content(straight.out)
    damage, text = DAMAGE[name]
    damage(run)
    found = check(run)
    assert text in found.summary()
    assert found.exit_code == ExitCode.WITH_FAULTS
    assert found.mend()
    after = check(run, rebuild=True)
    assert not any(one.kind == "damaged" for one in after.findings)
    if not after.whole:
        assert after.mend() == [f"the same wsis label command with --out={run}"]
        label_again(straight, run)
    check(run, rebuild=True)
    assert check(run).findings == ()
    now = content(run)
    assert now.keys() == before.keys()
    assert [name for name in now if now[name] != before[name]] == []


def test_unrecorded_shard_gets_its_line(run, straight):
    path = run / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]))
    assert "unrecorded: shards/shard-000002.parquet" in check(run).summary()
    assert check(run, rebuild=True).whole
    assert content(run) == content(straight.out)


def test_torn_line_and_stale_files_are_harmless(run, straight):
    with open(run / "journal.jsonl", "ab") as file:
        file.write(b'{"unit": 9')
    (run / "shards" / ".shard-000001.parquet.0123abcd-999999999.tmp").write_bytes(b"x")
    (run / "shards" / "notes.txt").write_bytes(b"mine")
    found = check(run)
    assert found.whole
    assert {one.kind for one in found.findings} == {"damaged", "extra"}
    check(run, rebuild=True)
    assert (run / "shards" / "notes.txt").read_bytes() == b"mine"
    (run / "shards" / "notes.txt").unlink()
    assert content(run) == content(straight.out)


def test_doubled_images(run):
    (run / "inputs.parquet").unlink()
    first, _ = read_shard(shard_path(run, 0))
    other_row(run, image_id=first[1].image_id)
    found = check(run)
    assert any(one.kind == "doubled" and first[1].image_id in one.text for one in found.findings)
    assert not check(run, rebuild=True).whole


def test_report_and_command_line(run, tmp_path, capsys):
    shard_path(run, 2).unlink()
    assert main(["verify", str(run), f"--report={tmp_path / 'found.json'}"]) == ExitCode.WITH_FAULTS
    assert "to mend: the same wsis label command" in capsys.readouterr().out
    told = json.loads((tmp_path / "found.json").read_text())
    assert told["whole"] is False
    assert told["summary"]["units"] == 2


def test_command_of_the_log_is_told(run):
    with open(run / "log.jsonl", "a") as file:
        file.write('{"event": "start", "command": "wsis label --out=there"}\n{"event": "unit"}\n')
    shard_path(run, 2).unlink()
    assert check(run).mend() == ["wsis label --out=there"]


def test_a_held_run_is_not_rebuilt(run):
    head = RunFolder.read(run)
    with RunFolder(run, "label", head["parts"]):
        assert check(run).whole
        with pytest.raises(ConfigError, match="holds it"):
            check(run, rebuild=True)


def test_refuses_what_is_no_label_run(tmp_path):
    with pytest.raises(ConfigError, match=r"run: is empty"):
        verify.Config()
    with pytest.raises(ConfigError, match=r"no run\.json"):
        check(tmp_path)
    RunFolder(tmp_path, "train_cam", {}).close()
    for rebuild in (False, True):
        with pytest.raises(ConfigError, match="holds a train_cam run, expected a label run"):
            check(tmp_path, rebuild=rebuild)
