"""Runs that several processes share: parts, leases, the journal of a whole run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.label_runs import boxes, row_of
from wsis.data.artifacts import Journal, RunFolder
from wsis.errors import ConfigError
from wsis.runtime.inputs import split_units
from wsis.runtime.leases import Leases
from wsis.runtime.ledger import finished_units, journal_path, seal
from wsis.runtime.parts import Part, local_rank, parse_part
from wsis.runtime.shards import adopt_shard, write_shard

FINGERPRINT = "f" * 64


@pytest.mark.parametrize(("units", "of"), [(0, 1), (1, 3), (7, 3), (16, 8), (1000, 7)])
def test_parts_cover_the_units_once(units, of):
    whole = split_units(units, 1)
    chosen = [unit for index in range(of) for unit in Part(index, of).choose(whole)]
    assert chosen == whole
    sizes = [len(Part(index, of).choose(whole)) for index in range(of)]
    assert max(sizes) - min(sizes) <= 1


def test_part_texts():
    assert parse_part("") is None
    assert parse_part("0/1") == Part(0, 1)
    assert parse_part("7/8") == Part(7, 8)
    assert parse_part("auto", {"RANK": "3", "WORLD_SIZE": "4"}) == Part(3, 4)
    assert parse_part("auto", {"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}) == Part(0, 2)
    assert local_rank({"LOCAL_RANK": "2"}) == local_rank({"SLURM_LOCALID": "2"}) == 2
    assert local_rank({}) is None
    for wrong in ("8/8", "1", "-1/2", "1/0", "a/b", "0 / 2", "1/2/3"):
        with pytest.raises(ConfigError, match="expected i/n"):
            parse_part(wrong)
    with pytest.raises(ConfigError, match="neither RANK/WORLD_SIZE nor SLURM"):
        parse_part("auto", {})


def test_a_unit_is_leased_once_and_freed_by_death(tmp_path):
    with Leases(tmp_path) as one, Leases(tmp_path) as two:
        assert one.take(5)
        assert not two.take(5, patience=0.1)
        assert two.take(6)
        one.release(5)
        assert two.take(5)
        pid = os.fork()
        if pid == 0:
            Leases(tmp_path).take(9)
            os._exit(0)
        os.waitpid(pid, 0)
        assert one.take(9)


def test_a_part_has_one_process(tmp_path):
    path = tmp_path / "journal-0000-of-0002.jsonl"
    with Journal(path, alone=True), pytest.raises(ConfigError, match="another process does this part"):
        Journal(path, alone=True)
    Journal(path, alone=True).close()


def test_shared_and_exclusive_runs_exclude_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr("wsis.data.run_folder._PATIENCE", 0.2)
    with RunFolder(tmp_path, "label", {"a": 1}, shared=True) as one:
        with RunFolder(tmp_path, "label", {"a": 1}, shared=True) as two:
            assert two.resumed
            with pytest.raises(ConfigError, match="holds it"):
                RunFolder(tmp_path, "label", {"a": 1})
            assert not two.become_alone()
        assert one.become_alone()
        with pytest.raises(ConfigError, match="holds it"):
            RunFolder(tmp_path, "label", {"a": 1}, shared=True)


def _shard(run: Path, unit: int) -> dict:
    rows = [row_of(f"image{unit}_{k}", boxes((8, 9), (1, 1, 4, 5, 0, 0.5))) for k in range(2)]
    return write_shard(run, unit, 2 * unit, rows, FINGERPRINT).to_json()


def test_the_sealed_journal_does_not_tell_who_did_what(tmp_path):
    for name, shares in (("a", {None: (0, 1, 2, 3)}), ("b", {Part(1, 2): (3, 2, 2), Part(0, 2): (1, 0)})):
        run = tmp_path / name
        run.mkdir()
        for part, numbers in shares.items():
            with Journal(journal_path(run, part)) as journal:
                for number in numbers:
                    journal.append(_shard(run, number))
        done, wrong = finished_units(run, "hash")
        assert (list(done), wrong) == ([0, 1, 2, 3], {})
        seal(run, done)
        seal(run, done)
    trees = [{path.name: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()} for name in "ab"]
    assert trees[0] == trees[1]
    assert json.loads(trees[0]["summary.json"])["instances"] == 8


def test_any_journal_that_is_right_counts(tmp_path):
    old = _shard(tmp_path, 0)
    with Journal(tmp_path / "journal-0000-of-0001.jsonl") as journal:
        journal.append({**old, "sha256": "0" * 64})
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.append(old)
    os.utime(tmp_path / "journal.jsonl", (1, 1))
    done, wrong = finished_units(tmp_path, "hash")
    assert (list(done), wrong) == ([0], {})


def test_a_shard_without_its_journal_line_is_adopted(tmp_path):
    want = _shard(tmp_path, 3)
    assert adopt_shard(tmp_path, 3, 6, 2, FINGERPRINT).to_json() == want
    assert adopt_shard(tmp_path, 2, 4, 2, FINGERPRINT) is None
    assert adopt_shard(tmp_path, 3, 6, 3, FINGERPRINT) is None
    assert adopt_shard(tmp_path, 3, 6, 2, "0" * 64) is None
    path = tmp_path / "shards" / "shard-000003.parquet"
    path.write_bytes(path.read_bytes()[:-4])
    assert adopt_shard(tmp_path, 3, 6, 2, FINGERPRINT) is None
