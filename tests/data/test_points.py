"""Points files and tables: what is read, what is left out and counted, what is refused."""

from __future__ import annotations

import pytest

from wsis.data.categories import Categories
from wsis.data.points import MAX_POINTS, open_points, point_lines, read_points, write_point_table
from wsis.errors import ConfigError, DataFault

CATEGORIES = Categories(("ball", "crate", "tent"))
SIZE = (40, 60)


def put(tmp_path, text, name="a.txt"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read(tmp_path, text, labels=None):
    return read_points(put(tmp_path, text), SIZE, 3, labels)


def test_points_come_back_as_written(tmp_path):
    rows = ((0, 0, 0, 0.5), (59, 39, 2, 1.0), (7, 30, 1, 0.123))
    assert read(tmp_path, point_lines(rows)).rows == rows
    assert read(tmp_path, point_lines(rows)).above(0.5) == (rows[1],)
    assert read(tmp_path, "").rows == ()
    assert read(tmp_path, "\n  \n3.9 4.2 1 0.5\r\n").rows == ((3, 4, 1, 0.5),)


def test_points_on_the_border_are_kept_and_those_outside_counted(tmp_path):
    found = read(tmp_path, "0 5 0 1\n5 0 0 1\n59 39 0 1\n60 5 0 1\n5 40 0 1\n-1 5 0 1\n")
    assert [row[:2] for row in found.rows] == [(0, 5), (5, 0), (59, 39)]
    assert found.notes == {"outside": 3}


def test_more_than_128_points_of_a_class(tmp_path):
    rows = [(k % 60, k // 60, 0, 0.9) for k in range(200)]
    assert len(read(tmp_path, point_lines(rows)).rows) == 200


def test_duplicates_and_contradictions_are_counted(tmp_path):
    found = read(tmp_path, "5 5 0 0.8\n5 5 0 0.9\n5 5 1 0.7\n6 6 2 0.7\n", labels=(0, 1))
    assert found.rows == ((5, 5, 0, 0.9), (5, 5, 1, 0.7))
    assert found.notes == {"duplicate": 1, "class not in image labels": 1, "two classes on one pixel": 1}


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("1 2 0\n", "E_DECODE", "line 1 has 3 columns, expected x y class confidence"),
        ("1 2 0 0.5\n1 2 0 0.5 9\n", "E_DECODE", "line 2 has 5 columns"),
        ("1 2 cat 0.5\n", "E_DECODE", "holds no numbers"),
        ("1 2 0 nan\n", "E_DECODE", "confidence from 0 to 1"),
        ("1 2 0 inf\n", "E_DECODE", "confidence from 0 to 1"),
        ("1e400 2 0 0.5\n", "E_DECODE", "expected pixels"),
        ("1 2 0 -0.5\n", "E_DECODE", "confidence from 0 to 1"),
        ("1 2 0 1.5\n", "E_DECODE", "confidence from 0 to 1"),
        ("1 2 0.5 0.5\n", "E_DECODE", "a whole class"),
        ("1 2 -1 0.5\n", "E_RANGE", "class -1, expected 0 to 2"),
        ("1 2 3 0.5\n", "E_RANGE", "are its classes counted from 1?"),
        ("1 2 7 0.5\n", "E_RANGE", "class 7, expected 0 to 2"),
        ("1 2 0 0.5\n3 4 1 0", "E_TRUNCATED", "line 2 does not end with a newline"),
        ("50 45 0 1\n50 50 0 1\n5 5 0 1\n", "E_SHAPE", "are x and y swapped?"),
        (b"\xff\xfe1 2", "E_DECODE", "UTF-16"),
        (b"1 2 0 0.\xff\n", "E_DECODE", "UTF-8"),
        ("1 2 0 0.5\n" * (MAX_POINTS + 1), "E_TOO_LARGE", "expected at most"),
    ],
)
def test_what_cannot_be_right_is_refused(tmp_path, text, code, words):
    with pytest.raises(DataFault) as caught:
        read(tmp_path, text)
    assert caught.value.code.value == code
    assert words in caught.value.text


def test_a_missing_file_is_a_fault_or_empty(tmp_path):
    put(tmp_path, "", "a.txt")
    with pytest.raises(DataFault, match="has no points in"):
        open_points(tmp_path, CATEGORIES).read("b", SIZE)
    assert open_points(tmp_path, CATEGORIES, "empty").read("b", SIZE).rows == ()
    assert open_points(tmp_path, CATEGORIES).has("a")


def test_a_table_and_a_folder_say_the_same(tmp_path):
    rows = {"x/a": [(1, 2, 0, 0.9), (3, 4, 2, 0.25)], "b": [(5, 6, 1, 1.0)]}
    write_point_table(tmp_path / "points.csv", rows, CATEGORIES)
    table = open_points(tmp_path / "points.csv", CATEGORIES)
    for name, points in rows.items():
        (tmp_path / "f" / name).parent.mkdir(parents=True, exist_ok=True)
        put(tmp_path / "f", point_lines(points), name + ".txt")
        assert table.read(name, SIZE).rows == open_points(tmp_path / "f", CATEGORIES).read(name, SIZE).rows
    assert not table.has("c")


def test_values_of_a_table_are_looked_at_like_those_of_a_file(tmp_path):
    text = "image,x,y,class,confidence\na,1,2,ball,0.5\nb,nan,2,0,0.5\nc,1,2,9,0.5\nd,1,1e400,ball,1\ne,5,50,ball,1\n"
    source = open_points(put(tmp_path, text, "points.csv"), CATEGORIES)
    assert source.read("a", SIZE).rows == ((1, 2, 0, 0.5),)
    faults = {"b": "points.csv:3: 'nan 2 0 0.5'", "c": "class 9", "d": "points.csv:5", "e": "swapped", "f": "no points"}
    for name, words in faults.items():
        with pytest.raises(DataFault) as caught:
            source.read(name, SIZE)
        assert words in caught.value.text
        assert caught.value.subject == name


def test_every_problem_of_a_table_is_named(tmp_path):
    path = put(tmp_path, "image,x,y,class\na,1,2,bal\na,1,2\nb,3,4,1\n", "points.csv")
    with pytest.raises(ConfigError) as caught:
        open_points(path, CATEGORIES)
    assert "points.csv:3: has 3 columns, expected 4" in str(caught.value)
    assert "points.csv:2: class 'bal' is unknown: did you mean 'ball'?" in str(caught.value)
    put(tmp_path, "image,x,y,class\na,1,2,ball\na,1,2,1", "points.csv")
    with pytest.raises(ConfigError, match=r"points\.csv:3: does not end with a newline; was the file cut off\?"):
        open_points(path, CATEGORIES)
    put(tmp_path, "image;x;y;class\n", "points.csv")
    with pytest.raises(ConfigError, match=r"points\.csv:1: header is"):
        open_points(path, CATEGORIES)
    with pytest.raises(ConfigError, match="neither a folder"):
        open_points(tmp_path / "none", CATEGORIES)
    with pytest.raises(ConfigError, match="missing = 'maybe', expected refuse or empty"):
        open_points(tmp_path, CATEGORIES, "maybe")
