"""Shards come back as they were written, and a damaged one is never taken for done."""

from __future__ import annotations

import dataclasses

import pytest

from wsis.data.run_folder import Journal, RunFolder
from wsis.errors import ConfigError
from wsis.runtime.shards import (
    Row,
    iterate_rows,
    read_shard,
    run_categories,
    shard_path,
    verify_shard,
    write_shard,
)

ROWS = [
    Row(
        "a",
        "a.jpg",
        4,
        6,
        label=[1, 0],
        score=[0.1, 1.0],
        bbox_xywh=[[0, 0, 2, 2], [1, 1, 3, 3]],
        area=[4, 9],
        counts=[b"0428", b"PPQ\xff"],
    ),
    Row("sub/b ä", "b.png", 5, 5, "ok_empty"),
    Row("c", "c.jpg", status="skipped", code="E_DECODE", text="bytes are not an image"),
]


def make_run(path, units=2):
    parts = {"units": units, "categories": {"names": ["cat", "dog"], "ids": [1, 2]}}
    with RunFolder(path, "label", parts) as folder, Journal(path / "journal.jsonl") as journal:
        for unit in range(units):
            rows = [dataclasses.replace(row, image_id=f"{unit}/{row.image_id}") for row in ROWS]
            journal.append(write_shard(path, unit, 3 * unit, rows, folder.fingerprint).to_json())


def test_rows_come_back(tmp_path):
    entry = write_shard(tmp_path, 7, 21, ROWS, "f" * 64)
    rows, note = read_shard(shard_path(tmp_path, 7))
    assert note["unit"] == 7
    assert note["first"] == 21
    assert note["fingerprint"] == "f" * 64
    assert rows[1:] == ROWS[1:]
    assert rows[0].score == pytest.approx(ROWS[0].score, abs=1e-7)
    assert dataclasses.replace(rows[0], score=ROWS[0].score) == ROWS[0]
    assert rows[0].rles()[1] == {"size": [4, 6], "counts": b"PPQ\xff"}
    assert (entry.count, entry.instances) == (3, 2)
    assert entry.status == {"ok": 1, "ok_empty": 1, "skipped": 1}
    assert entry.codes == {"E_DECODE": 1}


def test_same_rows_same_bytes(tmp_path):
    one = write_shard(tmp_path / "x", 0, 0, ROWS, "f")
    two = write_shard(tmp_path / "y", 0, 0, ROWS, "f")
    assert one == two


def test_every_flipped_bit_and_every_truncation_is_noticed(tmp_path):
    entry = write_shard(tmp_path, 0, 0, ROWS, "f")
    path = shard_path(tmp_path, 0)
    whole = path.read_bytes()
    assert verify_shard(tmp_path, entry) is None
    for position in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[position] ^= 4
        path.write_bytes(damaged)
        assert "sha256" in verify_shard(tmp_path, entry)
    for length in range(0, len(whole), 131):
        path.write_bytes(whole[:length])
        assert "bytes, expected" in verify_shard(tmp_path, entry, "size")
        with pytest.raises(ConfigError, match="damaged"):
            read_shard(path)
    path.unlink()
    assert verify_shard(tmp_path, entry) == "is missing"
    with pytest.raises(ConfigError, match="does not exist"):
        read_shard(path)


def test_run_is_read_in_order(tmp_path):
    make_run(tmp_path)
    assert [row.image_id for row in iterate_rows(tmp_path)] == [
        "0/a",
        "0/sub/b ä",
        "0/c",
        "1/a",
        "1/sub/b ä",
        "1/c",
    ]
    assert run_categories(tmp_path).names == ("cat", "dog")


def test_unfinished_run_is_named(tmp_path):
    make_run(tmp_path)
    lines = (tmp_path / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "journal.jsonl").write_bytes(lines[0] + lines[1][:20])
    with pytest.raises(ConfigError, match="1 of 2 units are missing"):
        list(iterate_rows(tmp_path))
    assert len(list(iterate_rows(tmp_path, incomplete=True))) == 3
    assert (tmp_path / "journal.jsonl").read_bytes() == lines[0] + lines[1][:20]


def test_damaged_shard_stops_the_reader(tmp_path):
    make_run(tmp_path)
    shard_path(tmp_path, 1).write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match="shard-000001"):
        list(iterate_rows(tmp_path))


def test_not_a_label_run(tmp_path):
    with pytest.raises(ConfigError, match=r"run\.json"):
        list(iterate_rows(tmp_path))
    RunFolder(tmp_path, "train_cam", {}).close()
    with pytest.raises(ConfigError, match="expected a label run"):
        list(iterate_rows(tmp_path))
