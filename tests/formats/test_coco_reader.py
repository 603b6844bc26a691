"""COCO files from outside: what is accepted, and each way of being wrong with its place."""

import json

import numpy as np
import pytest

from wsis.data import rle
from wsis.data.categories import COCO, Categories
from wsis.errors import ConfigError, DataFault
from wsis.formats.coco_reader import read_coco

CLASSES = Categories(("cat", "dog"), (3, 7))
MASK = {"size": [4, 5], "counts": [3, 17]}


def annotation(**more) -> dict:
    return {"image_id": 1, "category_id": 3, "segmentation": MASK, "score": 0.5} | more


def content(*rows, **more) -> dict:
    return {
        "images": [{"id": 1, "file_name": "dir/a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "categories": [{"id": 3, "name": "dog"}],
        "annotations": list(rows),
    } | more


def read(tmp_path, value, ids=("a", "dir2/b"), categories=CLASSES):
    path = tmp_path / "c.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return read_coco(path, categories, ids)


def test_annotation_file_is_matched_by_names(tmp_path):
    table = read(tmp_path, content(annotation(), annotation(image_id=2)))
    assert set(table) == {"a", "dir2/b"}
    assert table["a"].labels == [1], "by name, not by number"
    assert rle.area([table["a"].mask(0, (4, 5))]).tolist() == [17]


def test_images_without_annotations_are_known(tmp_path):
    table = read(tmp_path, content())
    assert {name: len(rows) for name, rows in table.items()} == {"a": 0, "dir2/b": 0}


def test_results_use_the_numbers_of_the_table(tmp_path):
    rows = [{"image_id": 139, "category_id": 90, "segmentation": MASK, "score": 1}]
    table = read(tmp_path, rows, ids=("000000000139",), categories=COCO)
    assert table["000000000139"].labels == [79]


def test_images_that_the_data_lacks_are_left_out(tmp_path):
    assert set(read(tmp_path, content(annotation()), ids=("other",))) == set()


def test_short_names_that_two_images_share_match_neither(tmp_path):
    assert set(read(tmp_path, content(annotation()), ids=("x/a", "y/a", "b"))) == {"b"}


def test_polygons(tmp_path):
    table = read(tmp_path, content(annotation(segmentation=[[1, 1, 4, 1, 4, 3, 1, 3]])))
    mask = rle.to_masks([table["a"].mask(0, (4, 5))])[0]
    assert mask.shape == (4, 5)
    assert mask[1:3, 1:4].all()


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [0, 0], "counts": []},
        {"size": [4, 5], "counts": "zzzz"},
        [[1, 1, 2, 2]],
        [[1e8, 1, 2, 2, 3, 3]],
        [[0, 0, 1, None, 3, 3]],
        [7],
    ],
)
def test_bad_masks_are_faults_of_their_image(tmp_path, segmentation):
    table = read(tmp_path, content(annotation(segmentation=segmentation)))
    with pytest.raises(DataFault, match=r"E_RANGE a \(prediction\): mask 0 of the image"):
        table["a"].mask(0, (4, 5))


BAD = {
    "not json": ("{", r"c\.json:1: is not JSON"),
    "nan": ('[{"score": NaN}]', "holds NaN, expected finite numbers"),
    "deep": ("[" * 100_000, "is not JSON"),
    "number": ("3", "expected a list of results, or images, categories and annotations"),
    "no images": ({"annotations": []}, "images must be a list, got NoneType"),
    "no categories": ({"annotations": [], "images": []}, "categories must be a list"),
    "image twice": (content(images=[{"id": 1}, {"id": 1}]), r"images\[1\]\.id: 1 stands there twice"),
    "image without id": (content(images=[{"file_name": "a.jpg"}]), r"images\[0\]\.id"),
    "category unknown": (
        content(categories=[{"id": 1, "name": "bat"}]),
        r"categories\[0\]\.name: 'bat' is no class",
    ),
    "category twice": (
        content(categories=[{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]),
        r"categories\[1\]\.id: 1 stands there twice",
    ),
    "row": (content(7), r"annotations\[0\]: got int, expected an object"),
    "dangling": (
        content(annotation(), annotation(image_id=9)),
        r"annotations\[1\]\.image_id: 9 is not among",
    ),
    "image text": (content(annotation(image_id=None)), r"annotations\[0\]\.image_id: got None"),
    "category": (content(annotation(category_id=7)), r"annotations\[0\]\.category_id: got 7"),
    "category bool": (content(annotation(category_id=True)), r"annotations\[0\]\.category_id: got True"),
    "score": (content(annotation(score="x")), r"annotations\[0\]\.score: got 'x'"),
    "no mask": (content(annotation(segmentation=[])), r"annotations\[0\]\.segmentation"),
    "mask text": (content(annotation(segmentation="abc")), r"annotations\[0\]\.segmentation: got 'abc'"),
}


@pytest.mark.parametrize("case", BAD)
def test_rejects_with_place(tmp_path, case):
    value, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, value)


def test_all_problems_at_once_and_not_utf8(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, content(annotation(score=None), annotation(image_id=5), annotation(category_id=0)))
    assert len(caught.value.problems) == 3
    (tmp_path / "c.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        read_coco(tmp_path / "c.json", CLASSES, ("a",))


def test_a_file_that_is_too_long_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("wsis.formats.coco_reader.MAX_BYTES", 20)
    with pytest.raises(ConfigError, match=r"c\.json: has [\d,]+ bytes, expected at most 20"):
        read(tmp_path, content(annotation()))


@pytest.mark.parametrize("seed", range(2))
def test_mutated_files_are_read_or_refused(tmp_path, seed):
    rng = np.random.default_rng(seed)
    good = bytearray(json.dumps(content(annotation(), annotation(image_id=2))).encode())
    path = tmp_path / "c.json"
    for _ in range(200):
        text = bytearray(good)
        for _ in range(int(rng.integers(1, 4))):
            text[int(rng.integers(len(text)))] = int(rng.integers(32, 127))
        path.write_bytes(bytes(text))
        try:
            for rows in read_coco(path, CLASSES, ("a", "b")).values():
                for k in range(len(rows)):
                    rows.mask(k, (4, 5))
        except (ConfigError, DataFault):
            continue
