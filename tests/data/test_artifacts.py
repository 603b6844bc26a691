"""The one writer: whole or not at all, at every system call; safe paths."""

import errno
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsis.data.artifacts import (
    atomic_file,
    check_relative,
    encode_png,
    file_sha256,
    fingerprint,
    make_folder,
    remove_stale,
    safe_join,
    write_bytes,
    write_json,
    write_png,
    write_with,
)
from wsis.data.atomic import writer_host
from wsis.data.images import read_image, read_index_map
from wsis.errors import ConfigError, SystemFault


def files(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def test_write_and_read_back(tmp_path):
    write_bytes(tmp_path / "a", b"one")
    write_bytes(tmp_path / "a", b"two")
    write_json(tmp_path / "b.json", {"ü": [1, 2.5, None]})
    assert (tmp_path / "a").read_bytes() == b"two"
    assert json.loads((tmp_path / "b.json").read_text("utf-8")) == {"ü": [1, 2.5, None]}
    write_with(tmp_path / "c", lambda path: path.write_text("three"))
    assert (tmp_path / "c").read_text() == "three"
    assert files(tmp_path) == ["a", "b.json", "c"]
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "d", {"x": float("nan")})
    assert file_sha256(tmp_path / "a") == "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"


def test_png_and_back(tmp_path):
    rng = np.random.default_rng(0)
    color = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    small = rng.integers(0, 256, (5, 7), dtype=np.uint8)
    large = rng.integers(0, 65536, (5, 7), dtype=np.uint16)
    write_png(tmp_path / "c.png", color)
    assert np.array_equal(read_image(tmp_path / "c.png"), color)
    palette = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    for name, array, colors in (
        ("p", small, palette),
        ("g", small, None),
        ("l", large, None),
        ("b", small > 9, None),
    ):
        write_png(tmp_path / f"{name}.png", array, colors)
        assert np.array_equal(read_index_map(tmp_path / f"{name}.png"), array), name
    assert np.array_equal(np.array(Image.open(tmp_path / "p.png").convert("RGB")), palette[small])


@pytest.mark.parametrize(
    ("array", "error"),
    [
        (np.zeros((2, 2), np.int64), TypeError),
        (np.zeros((2, 2), np.float32), TypeError),
        (np.zeros((2, 2, 4), np.uint8), ValueError),
        (np.zeros((0, 2), np.uint8), ValueError),
        (np.zeros((2, 2, 3), np.uint16), ValueError),
        (np.zeros(4, np.uint8), ValueError),
    ],
)
def test_png_never_wraps_or_guesses(array, error):
    with pytest.raises(error, match="encode_png: array must be"):
        encode_png(array)


def test_png_palette_only_for_maps():
    with pytest.raises(ValueError, match="palette"):
        encode_png(np.zeros((2, 2), np.uint16), np.zeros((256, 3), np.uint8))


def test_a_body_that_raises_leaves_the_old_file(tmp_path):
    write_bytes(tmp_path / "a", b"old")

    def write():
        with atomic_file(tmp_path / "a") as file:
            file.write(b"new")
            raise KeyError("x")

    with pytest.raises(KeyError):
        write()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert files(tmp_path) == ["a"]


CALLS = ("fsync", "replace", "open")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EMFILE, errno.EROFS])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("nth", [0, 1])
def test_a_failing_call_leaves_old_or_new_and_no_temporary(tmp_path, monkeypatch, call, number, nth):
    write_bytes(tmp_path / "a", b"old")
    real, count = getattr(os, call), [0]

    def failing(*args, **options):
        count[0] += 1
        if count[0] == nth + 1:
            raise OSError(number, os.strerror(number))
        return real(*args, **options)

    monkeypatch.setattr(os, call, failing)
    text = ""
    try:
        write_bytes(tmp_path / "a", b"new")
    except SystemFault as fault:
        text = str(fault)
    failed = bool(text)
    monkeypatch.undo()
    assert "writing" in text or not failed
    if failed and number in (errno.ENOSPC, errno.EDQUOT):
        assert "3 bytes needed" in text
        assert "bytes free" in text
    assert files(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() in ((b"old", b"new") if failed else (b"new",))
    write_bytes(tmp_path / "a", b"again")
    assert (tmp_path / "a").read_bytes() == b"again"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("nth", [0, 1])
def test_killed_at_any_call_leaves_old_or_new_whole(tmp_path, call, after, nth):
    """A real process that ends at the call, without any clean-up."""
    write_bytes(tmp_path / "a", b"old" * 1000)
    program = f"""
        import os
        from wsis.data.atomic import write_bytes
        real, count = os.{call}, 0
        def dying(*args, **options):
            global count
            count += 1
            if count == {nth} + 1:
                if {after}:
                    real(*args, **options)
                os._exit(9)
            return real(*args, **options)
        os.{call} = dying
        write_bytes({str(tmp_path / "a")!r}, b"new" * 1000)
        os._exit(0)
    """
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert process.returncode in (0, 9)
    assert (tmp_path / "a").read_bytes() in (b"old" * 1000, b"new" * 1000)
    if process.returncode == 0:
        assert (tmp_path / "a").read_bytes() == b"new" * 1000
    remove_stale(tmp_path)
    assert files(tmp_path) == ["a"]


def test_file_size_limit_is_a_system_fault(tmp_path):
    program = f"""
        import resource, sys
        from wsis.data.atomic import write_bytes
        from wsis.errors import SystemFault
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_bytes({str(tmp_path / "a")!r}, b"x" * 5000)
        except SystemFault as fault:
            print(fault)
            sys.exit(5)
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], check=False, capture_output=True, text=True
    )
    assert process.returncode == 5, process.stderr
    assert files(tmp_path) == []


def test_missing_folder_is_a_system_fault_naming_it(tmp_path):
    with pytest.raises(SystemFault, match="its folder does not exist any more"):
        write_bytes(tmp_path / "gone" / "a", b"x")


def test_a_folder_in_the_way_is_bad_input_and_leaves_nothing(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(ConfigError, match="x: is a folder, expected the name of a file"):
        write_bytes(tmp_path / "x", b"")
    assert files(tmp_path) == ["x"]


def test_a_device_or_a_pipe_is_written_to_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    link = tmp_path / "link"
    link.symlink_to(pipe)
    write_json(pipe, {"a": 1})
    write_bytes(link, b"more")
    assert os.read(reader, 100) == b'{\n "a": 1\n}\nmore'
    os.close(reader)
    assert pipe.is_fifo()
    assert files(tmp_path) == ["link", "pipe"]


def test_json_keeps_names_that_are_no_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "a.json", {name: "\u00e9"})
    assert json.loads((tmp_path / "a.json").read_bytes().decode("utf-8")) == {name: "\u00e9"}


def test_long_names_get_a_short_temporary(tmp_path):
    name = "ü" * 127
    write_bytes(tmp_path / name, b"x")
    assert files(tmp_path) == [name]


def test_stale_temporaries_of_the_dead_are_removed_only(tmp_path):
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], check=True, capture_output=True
    )
    pid = int(dead.stdout)
    (tmp_path / "sub").mkdir()
    host = writer_host()
    for name in (
        f".a.{host}-{pid}.tmp",
        f".b.{host}-{os.getpid()}.tmp",
        f".c.{host}-1.tmp",
        "d.tmp",
        ".e.tmp",
        f"sub/.f.{host}-{pid}.tmp",
        f".g.00000000-{pid}.tmp",
    ):
        (tmp_path / name).write_text("x")
    removed = {path.name for path in remove_stale(tmp_path)}
    assert removed == {f".a.{host}-{pid}.tmp", f".b.{host}-{os.getpid()}.tmp", f".f.{host}-{pid}.tmp"}
    assert files(tmp_path) == [f".c.{host}-1.tmp", ".e.tmp", f".g.00000000-{pid}.tmp", "d.tmp", "sub"]
    remove_stale(tmp_path, alone=True)
    assert files(tmp_path) == [f".c.{host}-1.tmp", ".e.tmp", "d.tmp", "sub"]


def test_make_folder(tmp_path):
    assert make_folder(tmp_path / "a/b").is_dir()
    (tmp_path / "file").write_text("x")
    for bad in (tmp_path / "file", tmp_path / "file/sub"):
        with pytest.raises(ConfigError, match="a file is in the way"):
            make_folder(bad)


ATTACKS = ["", "..", ".", "a/..", "../a", "a/../../b", "/etc/passwd", "//a", "a//b", "a/", "a\0b", "a\nb"]
ATTACKS += ["a\x7fb", "-rf", "a/-x", "a\\b", "..\\a", "C:/x", "./a", "x" * 256, "a\ud800"]


@pytest.mark.parametrize("name", ATTACKS)
def test_unsafe_names_are_refused(tmp_path, name):
    assert check_relative(name)
    with pytest.raises(ConfigError, match="path "):
        safe_join(tmp_path, name)


@pytest.mark.parametrize(
    "name", ["a", "a/b.c", "ü ñ", "...", "..a", "a..", "2007_000032", "x" * 255, "a-b", "~x"]
)
def test_safe_names_are_kept(tmp_path, name):
    assert check_relative(name) is None
    assert safe_join(tmp_path, name) == tmp_path / name


def test_links_out_of_the_folder_are_refused(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root-2").mkdir()
    (tmp_path / "root/out").symlink_to(tmp_path / "root-2")
    (tmp_path / "root/in").symlink_to(tmp_path / "root/deep")
    with pytest.raises(ConfigError, match="leads through a link"):
        safe_join(tmp_path / "root", "out/x")
    assert safe_join(tmp_path / "root", "in/x")
    (tmp_path / "alias").symlink_to(tmp_path / "root")
    assert safe_join(tmp_path / "alias", "x") == tmp_path / "alias/x"


def test_fingerprint_knows_content_not_order():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint({"a": [1, 2]}) != fingerprint({"a": [2, 1]})
    with pytest.raises(ValueError, match="JSON compliant"):
        fingerprint({"a": float("inf")})
