"""Lists, class files and tag files: what is accepted, and every problem with its file and line."""

import json
import random

import pytest

from wsis.data.categories import VOC, Categories
from wsis.data.layout import find_split, find_tags, list_images, read_image_list
from wsis.data.lists import check_ids, read_classes, read_json, read_lines, read_text
from wsis.data.tags import read_tags, read_xml_tags
from wsis.errors import ConfigError

ANIMALS = Categories(("cat", "dog", "cow"))


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def problems(function, *args):
    with pytest.raises(ConfigError) as caught:
        function(*args)
    return [str(problem) for problem in caught.value.problems]


# lists


def test_byte_order_mark_crlf_blank_lines_blanks_and_comments(tmp_path):
    content = (
        b"\xef\xbb\xbf# a comment\r\n\r\n  2007_000032  \r\n\tIMG 1\t\n# x\n\r"
        + "sub/füß\n".encode()
        + b"last"
    )
    ids, suffixes = read_image_list(write(tmp_path / "l.txt", content))
    assert ids == ["2007_000032", "IMG 1", "sub/füß", "last"]
    assert list(suffixes) == [""] * 4


def test_ids_are_kept_exactly(tmp_path):
    names = ["000000000139", "2007_000032", "a b", "日本/写真", "x.y.z", "a'b", "(1)", "...", "é", "e\u0301"]
    ids, _ = read_image_list(write(tmp_path / "l.txt", "\n".join(names)))
    assert ids == names


def test_suffixes_are_taken_off_and_remembered(tmp_path):
    for more in ("", "\nfüß"):
        ids, suffixes = read_image_list(write(tmp_path / "l.txt", "a.jpg\nsub/b.PNG\nc\nd.tif\n" + more))
        assert ids[:4] == ["a", "sub/b", "c", "d.tif"]
        assert suffixes[:4] == [".jpg", ".PNG", "", ""]
    found = problems(read_image_list, write(tmp_path / "l.txt", "a.jpg\na.png\n"))
    assert found == [f"{tmp_path}/l.txt:2: id 'a' stands also at {tmp_path}/l.txt:1"]


def test_one_id_is_a_list(tmp_path):
    assert read_image_list(write(tmp_path / "l.txt", "one"))[0] == ["one"]


@pytest.mark.parametrize("content", ["", "\n \n", "# only\n", b"\xef\xbb\xbf"])
def test_an_empty_list_is_refused(tmp_path, content):
    assert "holds no id" in problems(read_image_list, write(tmp_path / "l.txt", content))[0]


def test_every_problem_of_a_list_at_once(tmp_path):
    lines = [
        "ok",
        "../up",
        "/JPEGImages/2007_1.jpg /SegmentationClass/2007_1.png",
        "ok",
        "OK",
        "-x",
        "a\tb",
        "a//b",
    ]
    found = problems(read_image_list, write(tmp_path / "l.txt", "\n".join(lines)))
    where = f"{tmp_path}/l.txt"
    assert [text.split(": ")[0] for text in found] == [f"{where}:{n}" for n in (2, 3, 4, 5, 6, 7, 8)]
    assert "'..'" in found[0]
    assert "write 2007_1 instead" in found[1]
    assert f"stands also at {where}:1" in found[2]
    assert "differ only in case" in found[3]


def test_text_that_is_no_utf8_is_named_with_its_line(tmp_path):
    assert ":3: byte" in problems(read_text, write(tmp_path / "l", b"a\nb\n\xff\n"))[0]
    assert "UTF-16" in problems(read_text, write(tmp_path / "l", "a".encode("utf-16")))[0]


def test_missing_files_name_the_current_folder(tmp_path):
    assert "does not exist (the current folder is" in problems(read_text, tmp_path / "none")[0]
    assert "is not a regular file" in problems(read_text, tmp_path)[0]


def test_check_ids_finds_unicode_case_collisions():
    assert "differ only in case" in problems(check_ids, ["straße", "STRASSE"], str)[0]
    check_ids(["a/b", "a/c", "b"], str)


def test_line_numbers_count_every_line(tmp_path):
    assert list(read_lines(write(tmp_path / "l", "\n#\na\r\n\r\nb"))) == [(3, "a"), (5, "b")]


# splits, tag files, pictures


def test_find_split_looks_in_the_usual_places_and_names_them(tmp_path):
    write(tmp_path / "ImageSets/Segmentation/train.txt", "a")
    write(tmp_path / "ImageSets/Main/test.txt", "a")
    write(tmp_path / "ImageSets/mini.txt", "a")
    write(tmp_path / "own.txt", "a")
    write(tmp_path / "classes.txt", "a")
    for name in ("train", "test", "mini", "own"):
        assert find_split(tmp_path, name).stem == name
    assert "did you mean 'train'" in problems(find_split, tmp_path, "tarin")[0]
    assert "known: mini, own, test, train" in problems(find_split, tmp_path, "classes")[0]


def test_two_tag_files_are_ambiguous(tmp_path):
    assert find_tags(tmp_path) is None
    write(tmp_path / "tags.csv", "a,b")
    assert find_tags(tmp_path).name == "tags.csv"
    write(tmp_path / "image_labels.json", "{}")
    assert "several tag files (image_labels.json, tags.csv)" in problems(find_tags, tmp_path)[0]


def test_list_images_takes_pictures_only(tmp_path):
    for name in (
        "b.jpg",
        "a/x.PNG",
        "a/y.jpeg",
        ".hidden.jpg",
        ".git/z.jpg",
        "skip/m.png",
        "a/skip/n.png",
        "t.txt",
    ):
        write(tmp_path / name, "x")
    (tmp_path / "loop").symlink_to(tmp_path)
    ids, suffixes = list_images(tmp_path, ("skip",))
    assert ids == ["a/skip/n", "a/x", "a/y", "b"]
    assert list(suffixes) == [".png", ".PNG", ".jpeg", ".jpg"]
    write(tmp_path / "b.png", "x")
    write(tmp_path / "A/X.png", "x")
    found = problems(list_images, tmp_path, ("skip",))
    assert any("'b' stands also at" in text for text in found)
    assert any("differ only in case" in text for text in found)
    (tmp_path / "empty").mkdir()
    assert "holds no picture" in problems(list_images, tmp_path / "empty")[0]


# classes


def test_classes(tmp_path):
    assert read_classes(write(tmp_path / "c.txt", "cat\r\n# x\ndog\n")).names == ("cat", "dog")
    assert read_classes(write(tmp_path / "c.json", '["cat", "dog"]')).names == ("cat", "dog")
    assert problems(read_classes, write(tmp_path / "c.txt", "a\nb\na\n")) == [
        f"{tmp_path}/c.txt:3: class 'a' stands also at line 1"
    ]
    assert "expected a list" in problems(read_classes, write(tmp_path / "c.json", "[1]"))[0]
    assert "no class given" in problems(read_classes, write(tmp_path / "c.txt", ""))[0]
    many = "\n".join(f"c{n}" for n in range(300))
    assert "expected at most 254" in problems(read_classes, write(tmp_path / "c.txt", many))[0]


# JSON


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", ":1: not JSON"),
        ('{"a": [1],\n "b": }', ":2: not JSON"),
        ('{"a": [NaN]}', "holds NaN"),
        ('{"a": [-Infinity]}', "holds -Infinity"),
        ('{"a": [1], "a": [2]}', "key 'a' stands twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": [' + "9" * 6000 + "]}", "not JSON"),
        (b'{"a": "\xff"}', "is not UTF-8"),
    ],
)
def test_bad_json(tmp_path, content, text):
    path = write(tmp_path / "x.json", content)
    assert text in problems(read_json, path)[0]


# tags


def test_the_same_tags_in_every_format(tmp_path):
    expected = {"a.jpg": (0, 1), "sub/b": (2,), "c": ()}
    rows = [("a.jpg", ["dog", "cat"]), ("sub/b", ["cow"]), ("c", [])]
    contents = {
        "t.json": json.dumps(dict(rows)),
        "n.json": '{"a.jpg": [1, 0], "sub/b": [2], "c": []}',
        "o.json": json.dumps([{"name": name, "tags": tags} for name, tags in rows]),
        "t.jsonl": "\n".join(json.dumps({"image": name, "labels": tags}) for name, tags in rows),
        "t.csv": "name,tags\r\na.jpg,dog;cat\r\n# x\r\n\r\nsub/b, cow \r\nc,\r\n",
        "q.csv": '"a.jpg","dog; cat"\n"sub/b",2,\nc,""\n',
        "t.tsv": "a.jpg\tdog;cat\nsub/b\tcow\nc\t\n",
        "t.txt": "a.jpg dog cat\nsub/b 2\nc\n",
    }
    for name, content in contents.items():
        table = read_tags(write(tmp_path / name, content), ANIMALS)
        assert table.labels == expected, name
        assert table.categories == ANIMALS


@pytest.mark.parametrize(
    "head",
    ["name,tags", "Image Name,Tags", "file_name,class", "filename,Class_Name", "image-id,label", "path,labels",
     "image,category", "PHOTO,Categories", "imagepath,class names"],
)  # fmt: skip
@pytest.mark.parametrize("quote", ["", '"'])
def test_a_head_is_no_image_and_no_class(tmp_path, head, quote):
    head = ",".join(f"{quote}{cell}{quote}" for cell in head.split(","))
    table = read_tags(write(tmp_path / "t.csv", f"{head}\nx.jpg,pear\n"))
    assert (table.categories.names, table.labels) == (("pear",), {"x.jpg": (0,)})


@pytest.mark.parametrize("row", ["dog,dog", "image.jpg,label", "names,cat", "x,tags", "class,cat", "name5,label"])
def test_an_image_is_no_head(tmp_path, row):
    name = row.split(",")[0]
    assert read_tags(write(tmp_path / "t.csv", f"{row}\ny,pear\n")).labels.keys() == {name, "y"}


def test_a_row_without_a_name_is_no_head(tmp_path):
    assert "is empty" in problems(read_tags, write(tmp_path / "t.csv", ",label\nx,pear\n"))[0]


def test_columns_between_semicolons_are_named(tmp_path):
    (text,) = problems(read_tags, write(tmp_path / "t.csv", "x.jpg;dog\n"))
    assert "got 1 column, expected 2: name,tag;tag (the columns are separated by ; here" in text


def test_without_classes_the_sorted_tags_are_the_classes(tmp_path):
    table = read_tags(write(tmp_path / "t.csv", "x,pear;apple\ny,fig\n"))
    assert table.categories.names == ("apple", "fig", "pear")
    assert table.labels == {"x": (0, 2), "y": (1,)}
    assert "differ only in case" in problems(read_tags, write(tmp_path / "t.csv", "x,Pear\ny,pear\n"))[0]
    assert "no image has a tag" in problems(read_tags, write(tmp_path / "t.csv", "x,\ny,\n"))[0]
    assert "the classes are not known" in problems(read_tags, write(tmp_path / "t.json", '{"x": [3]}'))[0]


def test_every_problem_of_a_tag_file_at_once(tmp_path):
    lines = [
        "a,dgo",
        "b,3",
        "c,-1",
        "d,1.0",
        "e,dog;dog",
        "f,dog;1",
        "g",
        "h,cat,dog",
        "a,cat",
        "../x,cat",
        ",cat",
    ]
    where = f"{tmp_path}/t.csv"
    path = write(tmp_path / "t.csv", "\n".join(lines))
    assert [text.split(": ")[0] for text in problems(read_tags, path, ANIMALS)] == [
        f"{where}:7",
        f"{where}:8",
    ]
    del lines[6:8]
    path = write(path, "\n".join(lines))
    assert [text.split(": ")[0] for text in problems(read_tags, path, ANIMALS)] == [
        f"{where}:7",
        f"{where}:8",
        f"{where}:9",
    ]
    path = write(path, "\n".join(lines[:6]))
    found = problems(read_tags, path, ANIMALS)
    assert found[0] == f"{where}:1: unknown class 'dgo' (did you mean 'dog'?)"
    assert found[1] == f"{where}:2: class number 3 is out of range, expected 0..2"
    assert found[2] == f"{where}:3: class number -1 is out of range, expected 0..2"
    assert found[3].startswith(f"{where}:4: unknown class '1.0'")
    assert found[4] == f"{where}:5: class 'dog' is given twice"
    assert found[5] == f"{where}:6: class 'dog' is given twice"


@pytest.mark.parametrize("value", ["1.0", "true", "null", "[1]", '"1.5"', "1e400", "1e2", '{"a": 1}'])
def test_tags_that_are_no_classes(tmp_path, value):
    found = problems(read_tags, write(tmp_path / "t.json", f'{{"x": [{value}]}}'), ANIMALS)
    assert found[0].startswith(f"{tmp_path}/t.json: x: ")


def test_counting_from_one_is_noticed(tmp_path):
    found = problems(read_tags, write(tmp_path / "t.json", '{"x": [1], "y": [3]}'), ANIMALS)
    assert "counted from 1?" in found[-1]
    found = problems(read_tags, write(tmp_path / "t.json", '{"x": [0], "y": [3]}'), ANIMALS)
    assert "counted from 1?" not in found[-1]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("t.json", "7", "expected an object"),
        ("t.json", '{"a": "dog"}', "expected a list"),
        ("t.json", "[[1]]", "expected an object like"),
        ("t.json", "{}", "holds no image"),
        ("t.jsonl", '{"name": "a", "tags": ["dog"]}\n{', ":2: not JSON"),
        ("t.jsonl", '{"name": 3, "tags": []}', ":1: expected an object"),
        ("t.csv", 'a,"dog\nb,cat\n', "not CSV"),
        ("t.csv", "", "holds no image"),
        ("t.npy", b"\x93NUMPY", "is a pickle"),
        ("t.xlsx", "x", "unknown kind of tag file"),
    ],
)
def test_bad_tag_files(tmp_path, name, content, text):
    assert any(text in problem for problem in problems(read_tags, write(tmp_path / name, content), ANIMALS))


def test_random_garbage_gives_problems_never_anything_else(tmp_path):
    alphabet = [
        b",",
        b";",
        b"\n",
        b"\r",
        b'"',
        b"a",
        b"dog",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b"1",
        b"\0",
        b"\xff",
        b" ",
    ]
    generator = random.Random(0)
    for trial in range(80):
        content = b"".join(generator.choices(alphabet, k=generator.randrange(40)))
        for suffix in (".csv", ".json", ".txt", ".jsonl"):
            path = write(tmp_path / f"t{suffix}", content)
            try:
                table = read_tags(path, ANIMALS)
            except ConfigError:
                continue
            assert all(0 <= c < 3 for labels in table.labels.values() for c in labels), trial


# VOC annotations


def annotation(*names, extra=""):
    objects = "".join(
        f"<object><name>{n}</name><difficult>1</difficult><part><name>head</name></part></object>\n"
        for n in names
    )
    return f"<annotation>\n{extra}{objects}</annotation>"


def test_xml_counts_objects_not_parts_and_difficult_ones_too(tmp_path):
    write(tmp_path / "a.xml", annotation("person", "dog", "person"))
    write(
        tmp_path / "b.xml",
        b'<?xml version="1.0" encoding="ISO-8859-1"?>' + annotation("cat").encode(),
    )
    write(tmp_path / "c.xml", annotation())
    table = read_xml_tags(tmp_path, ["a", "b", "c", "d"], VOC)
    assert table.labels == {"a": (11, 14), "b": (7,), "c": ()}


def test_every_problem_of_the_xml_at_once(tmp_path):
    write(tmp_path / "a.xml", "<annotation>\n<object>")
    write(tmp_path / "b.xml", annotation("persn", ""))
    write(tmp_path / "c.xml", '<!DOCTYPE x [<!ENTITY e "x">]>' + annotation("dog"))
    write(tmp_path / "d.xml", "")
    found = problems(read_xml_tags, tmp_path, "abcd", VOC)
    assert found[0].startswith(f"{tmp_path}/a.xml:2: malformed XML")
    assert "unknown class 'persn' (did you mean 'person'?)" in found[1]
    assert "expected a class name" in found[2]
    assert "DTD" in found[3]
    assert "malformed" in found[4]


def test_xml_attacks_are_refused(tmp_path):
    laughs = '<!ENTITY a "ha">' + "".join(f'<!ENTITY b{n} "{"&a;" * 50}">' for n in range(9))
    for head in (f"<!DOCTYPE x [{laughs}]>", '<!DOCTYPE x SYSTEM "file:///etc/passwd">', "<!DOCTYPE x>"):
        write(tmp_path / "a.xml", head + annotation("dog"))
        assert "refused" in problems(read_xml_tags, tmp_path, ["a"], VOC)[0]
