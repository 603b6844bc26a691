"""Run folders and journals: who holds a run, what resumes it, what is damaged."""

import errno
import multiprocessing
import os

import pytest

from wsis.data.artifacts import Journal, RunFolder
from wsis.data.atomic import writer_host
from wsis.errors import ConfigError, SystemFault


def test_run_folder_resumes_the_same_and_names_what_differs(tmp_path):
    parts = {"config": {"beta": 10, "scales": [1.0, 0.5]}, "weights": "abc"}
    with RunFolder(tmp_path / "run", "label", parts) as run:
        assert not run.resumed
        first = run.fingerprint
    with RunFolder(tmp_path / "run", "label", {"weights": "abc", "config": parts["config"]}) as run:
        assert run.resumed
        assert run.fingerprint == first
    assert RunFolder.read(tmp_path / "run")["parts"] == parts
    other = {"config": {"beta": 8, "scales": [1.0]}, "weights": "abc", "extra": 1}
    with pytest.raises(ConfigError) as caught:
        RunFolder(tmp_path / "run", "label", other)
    text = str(caught.value)
    assert "config.beta was 10 and is now 8" in text
    assert "config.scales was [1.0, 0.5] and is now [1.0]" in text
    assert 'extra was "absent" and is now 1' in text
    assert "weights" not in text
    with pytest.raises(ConfigError, match="holds a label run, expected train_cam"):
        RunFolder(tmp_path / "run", "train_cam", parts)
    with RunFolder(tmp_path / "run", "label", parts) as run:
        assert run.resumed


def test_run_folder_is_held_by_one(tmp_path):
    holds = rf"run {os.getpid()} on host .* holds it"
    with RunFolder(tmp_path, "label", {}), pytest.raises(ConfigError, match=holds):
        RunFolder(tmp_path, "label", {})
    with RunFolder(tmp_path, "label", {}) as run:
        assert run.resumed


def _hold(path, ready):
    folder = RunFolder(path, "label", {})
    ready.set()
    ready.wait()
    import time

    time.sleep(60)
    folder.close()


def test_processes_forked_by_the_holder_do_not_hold_it(tmp_path):
    """Those that prepare training images live for seconds after their parent was killed."""
    folder = RunFolder(tmp_path, "label", {})
    (ready, begun), (end, ended) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ended)
        os.write(begun, b"x")
        os.read(end, 1)
        os._exit(0)
    folder.close()
    try:
        os.read(ready, 1)
        RunFolder(tmp_path, "label", {}).close()
    finally:
        os.close(ended)
        os.waitpid(child, 0)
        for handle in (ready, begun, end):
            os.close(handle)


def test_the_lock_dies_with_its_holder(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready))
    holder.start()
    try:
        assert ready.wait(20)
        with pytest.raises(ConfigError, match=f"run {holder.pid} on host"):
            RunFolder(tmp_path, "label", {})
    finally:
        holder.kill()
        holder.join()
    with RunFolder(tmp_path, "label", {}) as run:
        assert run.resumed


def test_run_folder_refuses_what_is_not_its_own(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_text("x")
    with pytest.raises(ConfigError, match=r"holds no run but a\.jpg"):
        RunFolder(tmp_path / "photos", "label", {})
    assert (tmp_path / "photos/a.jpg").read_text() == "x"
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="a file is in the way"):
        RunFolder(tmp_path / "file", "label", {})
    with pytest.raises(ConfigError, match=r"has no run\.json"):
        RunFolder.read(tmp_path / "photos")


def test_a_start_that_was_killed_is_no_obstacle(tmp_path):
    (tmp_path / "run.lock").write_text("")
    name = f".run.json.{writer_host()}-{os.getpid()}.tmp"
    (tmp_path / name).write_text("{")
    with RunFolder(tmp_path, "label", {}) as run:
        assert [path.name for path in run.removed] == [name]
        assert not run.resumed


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}', b'{"format": 9}', b"\xff\xfe"])
def test_a_damaged_run_file_is_named(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.json"):
        RunFolder(tmp_path, "label", {})


def test_a_changed_run_file_is_noticed(tmp_path):
    RunFolder(tmp_path, "label", {"a": 1}).close()
    text = (tmp_path / "run.json").read_text()
    (tmp_path / "run.json").write_text(text.replace('"a": 1', '"a": 2'))
    with pytest.raises(ConfigError, match="was changed"):
        RunFolder(tmp_path, "label", {"a": 2})


def test_unwritable_folder_is_bad_input(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ConfigError, match="is not writable"):
        RunFolder(tmp_path, "label", {})


def test_journal_keeps_rows(tmp_path):
    rows = [{"shard": n, "text": "ü\n"} for n in range(5)]
    with Journal(tmp_path / "j") as journal:
        for row in rows[:3]:
            journal.append(row)
    with Journal(tmp_path / "j") as journal:
        assert journal.cut == 0
        for row in rows[3:]:
            journal.append(row)
        assert list(journal) == rows
        with pytest.raises(ValueError, match="JSON compliant"):
            journal.append({"x": float("nan")})
        assert list(journal) == rows


def test_a_torn_last_line_is_cut_at_every_length(tmp_path):
    with Journal(tmp_path / "j") as journal:
        journal.append({"a": 1})
        journal.append({"b": "long enough"})
    data = (tmp_path / "j").read_bytes()
    first = data.index(b"\n") + 1
    for length in range(len(data)):
        (tmp_path / "j").write_bytes(data[:length])
        with Journal(tmp_path / "j") as journal:
            kept = first if length >= first else 0
            assert journal.cut == length - kept
            journal.append({"c": 2})
            assert list(journal) == ([{"a": 1}] if kept else []) + [{"c": 2}]


@pytest.mark.parametrize("middle", [b"{", b"7", b"\0\0\0", b'{"a": 1} {"b": 2}'])
def test_a_damaged_line_before_the_last_is_named(tmp_path, middle):
    (tmp_path / "j").write_bytes(b'{"a": 1}\n' + middle + b'\n{"b": 2}\n')
    with pytest.raises(ConfigError, match=r"j:2: not a JSON object"):
        Journal(tmp_path / "j")


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path, monkeypatch, call):
    journal = Journal(tmp_path / "j")
    journal.append({"a": 1})
    before = (tmp_path / "j").read_bytes()
    real = os.pwrite

    def failing(handle, *rest):
        if call == "pwrite":
            real(handle, rest[0][:4], rest[1])
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(SystemFault, match="bytes needed"):
        journal.append({"b": 2})
    monkeypatch.undo()
    assert (tmp_path / "j").read_bytes() == before
    journal.append({"c": 3})
    assert list(journal) == [{"a": 1}, {"c": 3}]
    journal.close()
