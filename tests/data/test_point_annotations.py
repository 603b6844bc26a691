"""Points from LabelMe and Label Studio: read like points files, and refused with the place of what is wrong."""

from __future__ import annotations

import json

import pytest

from wsis.data.categories import Categories
from wsis.data.points import open_points
from wsis.errors import ConfigError, DataFault

CATEGORIES = Categories(("ball", "crate", "tent"))
SIZE = (40, 60)


def shape(label="ball", point=(5, 6), kind="point"):
    return {"label": label, "points": [list(point)], "shape_type": kind, "group_id": None, "flags": {}}


def labelme(tmp_path, shapes, height=40, width=60):
    value = {"version": "5.5.0", "shapes": shapes, "imagePath": "a.jpg", "imageHeight": height, "imageWidth": width}
    (tmp_path / "a.json").write_text(json.dumps(value))
    return open_points(tmp_path, CATEGORIES)


def test_points_of_labelme(tmp_path):
    shapes = [shape("tent", (5.9, 0.2)), shape("1", (59, 39)), shape(kind="polygon"), shape(point=(60, 1))]
    source = labelme(tmp_path, shapes)
    assert source.has("a")
    found = source.read("a", SIZE)
    assert found.rows == ((5, 0, 2, 1.0), (59, 39, 1, 1.0))
    assert found.notes == {"not a point": 1, "outside": 1}
    assert labelme(tmp_path, [], None, None).read("a", SIZE).rows == ()
    (tmp_path / "a.txt").write_text("1 2 0 0.5\n")
    assert source.read("a", SIZE).rows == ((1, 2, 0, 0.5),)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("{", "E_TRUNCATED", "ends before its content does"),
        ('{"shapes": [}', "E_DECODE", "a.json:1: not JSON"),
        ("[1]", "E_DECODE", "no file of LabelMe"),
        ('{"shapes": 3}', "E_DECODE", "no file of LabelMe"),
        ('{"shapes": [{"shape_type": "point", "label": "ball", "points": [[1, 2], [3, 4]]}]}', "E_DECODE", "shapes[0]"),
        ('{"shapes": [{"shape_type": "point", "label": "ball", "points": [["1", 2]]}]}', "E_DECODE", "shapes[0]"),
        ('{"shapes": [{"shape_type": "point", "label": "ball", "points": [[NaN, 2]]}]}', "E_DECODE", "NaN"),
        ('{"shapes": [{"shape_type": "point", "label": "ball", "points": [[1e999, 2]]}]}', "E_DECODE", "pixels"),
        (json.dumps({"shapes": [shape("bal")]}), "E_LABEL", "shapes[0]: class 'bal' is unknown: did you mean 'ball'?"),
        (json.dumps({"shapes": [shape("7")]}), "E_RANGE", "class 7, expected 0 to 2"),
        (json.dumps({"shapes": [], "imageHeight": 60, "imageWidth": 40}), "E_SHAPE", "60 x 40, the image has 40 x 60"),
        (json.dumps({"shapes": [shape(point=(5, 50))] * 3}), "E_SHAPE", "are x and y swapped?"),
    ],
)
def test_labelme_files_that_cannot_be_right(tmp_path, text, code, words):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataFault) as caught:
        open_points(tmp_path, CATEGORIES).read("a", SIZE)
    assert caught.value.code.value == code
    assert words in caught.value.text


def key_point(x, y, *names, **changes):
    value = {"x": x, "y": y, "width": 0.4, "keypointlabels": list(names)}
    base = {"type": "keypointlabels", "value": value, "original_width": 60, "original_height": 40, "image_rotation": 0}
    return {**base, **changes}


def task(image, *results, **changes):
    annotations = [{"result": result, "was_cancelled": False} | changes for result in results]
    return {"id": 1, "data": {"image": image}, "annotations": annotations, "predictions": []}


def studio(tmp_path, tasks):
    path = tmp_path / "project.json"
    path.write_text(json.dumps(tasks))
    return path


def test_key_points_of_label_studio(tmp_path):
    every_pixel = [key_point(100 * x / 60, 100 * (x % 40) / 40, "ball") for x in range(60)]
    tasks = [
        task("/data/upload/3/1a2b3c4d-a.jpg", [key_point(50, 0, "tent"), {"type": "choices"}]),
        task("/data/local-files/?d=cats/7%20b.png", [key_point(0, 97.5, "ball", "crate")]),
        task("https://host/dogs/7 b.png?token=x", []),
        task("s3://bucket/c.jpg", every_pixel),
        task("d.jpg", [key_point(1, 1, "ball")], was_cancelled=True),
    ]
    source = open_points(studio(tmp_path, tasks), CATEGORIES)
    found = source.read("a", SIZE)
    assert (found.rows, found.notes) == (((30, 0, 2, 1.0),), {"not a point": 1})
    assert source.read("cats/7 b", SIZE).rows == ((0, 39, 0, 1.0), (0, 39, 1, 1.0))
    assert source.read("dogs/7 b", SIZE).rows == ()
    assert [row[0] for row in source.read("c", SIZE).rows] == list(range(60))
    assert [name for name in ("7 b", "d", "1a2b3c4d-a", "upload") if source.has(name)] == ["1a2b3c4d-a"]
    with pytest.raises(DataFault, match="was annotated at 40 x 60, the image has 60 x 40"):
        source.read("a", SIZE[::-1])


def test_the_newest_annotation_counts(tmp_path):
    one = task("a.jpg", [key_point(10, 10, "ball")], [key_point(50, 50, "tent")])
    assert open_points(studio(tmp_path, [one]), CATEGORIES).read("a", SIZE).rows == ((30, 20, 2, 1.0),)
    one["annotations"][0]["updated_at"] = "2024-05-02T10:00:00Z"
    one["annotations"][1]["updated_at"] = "2024-05-01T10:00:00Z"
    assert open_points(studio(tmp_path, [one]), CATEGORIES).read("a", SIZE).rows == ((6, 4, 0, 1.0),)


def test_every_problem_of_an_export_is_named(tmp_path):
    tasks = [
        task("a.jpg", [key_point(1, 1, "bal"), key_point("1", 1, "ball"), key_point(1, 1, "ball", image_rotation=90)]),
        {"image": "b.jpg", "label": []},
        task("c.jpg", [key_point(1, 1, "ball"), key_point(1, 1, "ball", original_width=61)]),
        task("d.jpg", [key_point(1, 1, "ball", original_width=None)]),
        task("e.jpg", None),
    ]
    with pytest.raises(ConfigError) as caught:
        open_points(studio(tmp_path, tasks), CATEGORIES)
    text = str(caught.value)
    for words in (
        "project.json: [0].annotations[0].result[0]: class 'bal' is unknown: did you mean 'ball'?",
        "[0].annotations[0].result[1]: expected x, y, keypointlabels",
        "[0].annotations[0].result[2]: the picture was rotated",
        "[1]: has no data with the image's path, or no annotations (export from Label Studio as JSON, not JSON-MIN)",
        "[2].annotations[0].result: names several sizes of one picture: [(40, 60), (40, 61)]",
        "[3].annotations[0].result[0]: expected x, y",
        "[4].annotations[0].result: expected a list, got None",
    ):
        assert words in text
    with pytest.raises(ConfigError, match="expected a list of tasks"):
        open_points(studio(tmp_path, {"a": 1}), CATEGORIES)
    (tmp_path / "project.json").write_text('[{"data"')
    with pytest.raises(ConfigError, match="not JSON"):
        open_points(tmp_path / "project.json", CATEGORIES)


def coco(*annotations, images=({"id": 7, "file_name": "cats/a.jpg", "height": 40, "width": 60},)):
    names = [{"id": 1, "name": "ball"}, {"id": 90, "name": "tent"}, {"id": 5, "name": "bowl"}]
    rows = [{"image_id": 7, "category_id": 1, "keypoints": [1, 2, 2]} | one for one in annotations]
    return {"images": list(images), "annotations": rows, "categories": names}


def test_key_points_of_coco(tmp_path):
    images = [
        {"id": 7, "file_name": "cats/a.jpg", "height": 40, "width": 60},
        {"id": 3, "file_name": "dogs/a.jpg"},
        {"id": 4, "file_name": "b.png"},
    ]
    value = coco(
        {"keypoints": [0, 0, 0, 59.5, 0, 1, 3, 3, 2], "category_id": 90},
        {"keypoints": [4, 39, 2], "image_id": 3},
        {"keypoints": [0, 0, 0]},
        {"keypoints": None, "bbox": [1, 2, 3, 4]},
        images=images,
    )
    source = open_points(studio(tmp_path, value), CATEGORIES)
    found = source.read("cats/a", SIZE)
    assert (found.rows, found.notes) == (((59, 0, 2, 1.0),), {"not a point": 1})
    assert source.read("dogs/a", SIZE).rows == ((4, 39, 0, 1.0),)
    assert source.read("b", SIZE).rows == ()
    assert not source.has("a")
    with pytest.raises(DataFault, match="was annotated at 40 x 60"):
        source.read("cats/a", SIZE[::-1])


def test_every_problem_of_a_coco_file_is_named(tmp_path):
    bad = coco(
        {"image_id": 8},
        {"category_id": 2},
        {"category_id": True},
        {"keypoints": [1, 2]},
        {"keypoints": ["1", 2, 2]},
        {"category_id": 5},
    )
    bad["images"] += [{"id": 7, "file_name": "b.jpg"}, {"id": 8.0, "file_name": "c.jpg"}, 3]
    with pytest.raises(ConfigError) as caught:
        open_points(studio(tmp_path, bad), CATEGORIES)
    for words in (
        "project.json: annotations[0].image_id: 8 is no image of the file",
        "annotations[1].category_id: 2 is no category of the file",
        "annotations[2].category_id: True is no category",
        "annotations[3].keypoints: expected triples x, y, visibility, got [1, 2]",
        "annotations[4].keypoints: expected triples",
        "annotations[5].category_id: class 'bowl' is unknown",
        "images[1].id: 7 stands there twice",
        "images[2]: needs a whole id and a file_name",
        "images[3]: needs a whole id",
    ):
        assert words in str(caught.value)
    for value in ({"annotations": []}, 3, "text"):
        with pytest.raises(ConfigError, match=r"Label Studio\), or lists of images, annotations and categories"):
            open_points(studio(tmp_path, value), CATEGORIES)
