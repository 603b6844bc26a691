"""Long lists in columns: the same ids, labels and problems as line by line, and the same fingerprint."""

from __future__ import annotations

import json
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from wsis.data import layout, tags
from wsis.data.atomic import fingerprint
from wsis.data.categories import Categories
from wsis.data.columns import Coded, Table, Texts
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.data.plain_text import plain_and_different
from wsis.errors import ConfigError
from wsis.runtime.inputs import freeze_inputs

ODD = ("", "/a", "a/", "a//b", "../a", "a/.b", "-a", "a/-b", "ü", "a\tb", "a\\b")
ANIMALS = Categories(("cat", "dog", "cow"))


@pytest.mark.parametrize("words", [[], ["a"], ["", "a", ""], ["a", "füß", "日本", "b"], [f"{n}x" for n in range(23)]])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_texts_are_the_strings(words, kind):
    for column, want in ((Texts(pa.array(words, kind)), words), (Texts(pa.array(["x", *words], kind)[1:]), words)):
        assert column == want
        assert list(column) == [column[n] for n in range(len(want))] == want
        assert [column[-n - 1] for n in range(len(want))] == want[::-1]
        assert column[1:3] == want[1:3]
        assert column[::2] == want[::2]
        assert column.buffer.tobytes() == "".join(want).encode()
        assert column.part(1, 3).to_pylist() == want[1:3]
        assert pickle.loads(pickle.dumps(column)) == want
        with pytest.raises(IndexError):
            column[len(want)]


def test_coded_columns_and_tables_of_them():
    column = Coded.of(["x", "", "y", "x"], "")
    assert list(column) == ["x", "", "y", "x"]
    assert column[1:3] == ["", "y"]
    assert list(Coded.same(None, 2)) == [None, None]
    table = Table.of({"a": (1,), "b": (), "c": (1,)}, ())
    assert table == {"a": (1,), "b": (), "c": (1,)}
    assert len(table.items_of.values) == 2


@pytest.mark.parametrize(
    ("names", "plain"),
    [
        (["a", "b/c", "b/c d.(1)-x_"], True),
        (["b", "a"], True),
        (["a", "b", "a"], False),
        (["a", "A"], False),
        (["x" * 200], True),
        (["x" * 201], False),
        *(([name, "zz"], False) for name in ODD),
        *((["0", name], False) for name in ODD),
        ([], False),
    ],
)
def test_what_counts_as_plain(names, plain):
    assert plain_and_different(Texts.of(names)) == plain


def test_columns_and_lines_agree_on_random_files(tmp_path, monkeypatch):
    """The quick way gives what the careful one gives, problems with their places included."""
    generator = random.Random(5)
    quick = []
    from_columns = tags._from_columns

    def counted(*args):
        quick.append(from_columns(*args))
        return quick[-1]

    for trial in range(400):
        rows, end, mark = _random_rows(generator), generator.choice(ENDS), "\ufeff" * (generator.random() < 0.1)
        for suffix, delimiter in ((".csv", ","), (".tsv", "\t"), (".txt", "")):
            path = tmp_path / f"t{suffix}"
            text = mark + end.join(delimiter.join(row if delimiter else row[:1]) for row in rows)
            path.write_bytes(text.encode())
            with monkeypatch.context() as patch:
                patch.setattr(tags, "_from_columns", counted)
                got = _answer(path, ANIMALS if trial % 2 else None)
            with monkeypatch.context() as patch:
                patch.setattr(tags, "plain_csv", lambda *_: None)
                patch.setattr(layout, "plain_lines", lambda _: None)
                want = _answer(path, ANIMALS if trial % 2 else None)
            assert got == want, text
    assert sum(table is not None for table in quick) > 100


PIECES = ["a", "b.jpg", "c/d", "B", "E.PNG", "f g", "é", "#x", " ", "", "dog", "cat", "0", "2", "3", "x"]
ENDS = ["\n", "\r\n", "\n\n", "\r", " \n", "\t\n"]


def _random_rows(generator: random.Random) -> list[list[str]]:
    rows = []
    for number in range(generator.randrange(1, 6)):
        odd = generator.random() < 0.15
        name = generator.choice(PIECES) if odd else f"n{number}{generator.choice(['', '.jpg', '.PNG', 'x/y'])}"
        beside = ";".join(generator.choices(["dog", "cat", " cow ", "1", *PIECES * odd], k=generator.randrange(3)))
        rows.append([name] + [beside] * (1 if generator.random() < 0.9 else generator.randrange(3)))
    return [["name", "tags"]] * (generator.random() < 0.2) + rows


def _answer(path: Path, categories: Categories | None) -> object:
    try:
        if path.suffix == ".txt":
            return [list(column) for column in layout.read_image_list(path)]
        table = tags.read_tags(path, categories)
        return dict(table.labels), table.categories
    except ConfigError as error:
        return [str(problem) for problem in error.problems]


def _folder(root: Path, names: list[str], tag_names: list[str]) -> DataConfig:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    lines = [f"{name},{'dog;cat' if n % 2 else ''}\n" for n, name in enumerate(tag_names)]
    (root / "tags.csv").write_text("".join(lines))
    (root / "list.txt").write_text("".join(f"{os.path.splitext(name)[0]}\n" for name in names))
    return DataConfig(kind="folder", root=str(root), list=str(root / "list.txt"))


@pytest.mark.parametrize("odd", ["d/4.jpg", 'd/"4.jpg', "d/é.png"])
def test_fingerprint_stamps_and_frozen_list(tmp_path, odd):
    names = ["a/1.jpg", "a/2.png", "b/3.PNG", odd, "e.jpg"]
    data = open_data(_folder(tmp_path / "data", names, ["b/3", "a/1.jpg", "a/2", "other", "e.png", "e.jpg"]))
    labels = [data[n].labels for n in range(5)]
    assert labels == [(0, 1), (), (), None, (0, 1)]
    assert data.notes[1:] == ("1 of 5 images have no label in " + str(tmp_path / "data/tags.csv"),) + data.notes[2:]
    ids = [os.path.splitext(name)[0] for name in names]
    whole = {"categories": data.categories.to_json(), "rows": [[name, tag] for name, tag in zip(ids, labels)]}
    assert data.fingerprint() == fingerprint(json.loads(json.dumps(whole)))
    (tmp_path / "data" / "e.jpg").unlink()
    (tmp_path / "data" / "a/2.png").unlink()
    (tmp_path / "data" / "a/2.png").symlink_to("nowhere")
    (tmp_path / "data" / "a/2.PNG").write_bytes(b"xyz")
    files, stamps = data.stamped_files(0, 5)
    assert [Path(file).relative_to(tmp_path / "data").as_posix() for file in files] == names
    assert (stamps[:, 0] == [1, -1, 1, 1, -1]).all()
    frozen = freeze_inputs(tmp_path, data)
    assert np.array_equal(frozen.stamps, stamps)
    table = pa.parquet.read_table(tmp_path / "inputs.parquet")
    assert table.column("image_id").to_pylist() == ids
    assert table.column("labels").to_pylist() == [None if tag is None else list(tag) for tag in labels]
    assert table.column("file").to_pylist() == files
    assert np.array_equal(freeze_inputs(tmp_path, data).stamps, stamps)
