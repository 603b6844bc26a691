"""What the look at all points finds, and when it refuses to go on; the codes of maps that cannot be used."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from wsis.data.artifacts import write_png
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.data.points import open_points, point_lines
from wsis.data.weak_survey import survey_points
from wsis.errors import ConfigError, DataFault
from wsis.labels.points import center_points
from wsis.training.center_offset_training import CenterOffsetSamples


@pytest.fixture
def case(tmp_path):
    data = open_data(DataConfig(kind="scenes", num=5, num_classes=2, min_side=40, max_side=56))
    (tmp_path / "points").mkdir()
    for index, name in enumerate(data.ids):
        write_png(tmp_path / f"{name}.png", data.load_semantic(index))
        (tmp_path / "points" / f"{name}.txt").write_bytes(point_lines(center_points(data.load_instances(index))))
    return data, tmp_path


def survey(case, confidence=0.7):
    data, folder = case
    return survey_points(open_points(folder / "points", data.categories), data, str(folder), confidence)


def test_points_left_out_are_counted(case):
    data, folder = case
    whole = survey(case)
    assert whole.notes == {}
    assert whole.faults == ()
    assert whole.points == sum(len(data.load_instances(index)) for index in range(len(data)))
    name = data.ids[0]
    height, width = data.load_image(0).shape[:2]
    label = data[0].labels[0]
    other = {0, 1} - set(data[0].labels)
    text = f"0 0 {label} 1\n0 0 {label} 0.9\n{width} 3 {label} 1\n{width - 1} {height - 1} {label} 1\n2 2 {label} 0.7\n"
    text += "".join(f"1 1 {one} 1\n" for one in other)
    (folder / "points" / f"{name}.txt").write_text(text)
    found = survey(case)
    assert found.notes == {"duplicate": 1, "outside": 1, **({"class not in image labels": 1} if other else {})}
    assert found.points == whole.points - len(data.load_instances(0)) + 2
    assert ", 1 duplicate" in found.lines()[0]
    assert survey(case, 1.0).without == 5


def test_images_that_cannot_be_used_are_named_and_too_many_refused(case):
    data, folder = case
    (folder / "points" / f"{data.ids[0]}.txt").write_text("1 2 0\n")
    (folder / f"{data.ids[1]}.png").write_bytes(b"")
    found = survey(case)
    assert [(fault.code.value, fault.subject) for fault in found.faults] == [
        ("E_DECODE", data.ids[0]),
        ("E_DECODE", data.ids[1]),
    ]
    assert found.to_json()["faults"][0]["text"].startswith("line 1 has 3 columns")
    assert found.lines()[1].startswith(f"E_DECODE {data.ids[0]}")
    (folder / "points" / f"{data.ids[2]}.txt").write_text("5 999 0 1\n")
    with pytest.raises(ConfigError) as caught:
        survey(case)
    assert "3 of 5 images have maps or points that cannot be used" in str(caught.value)
    assert "are x and y swapped?" in str(caught.value)


def put_map(path, kind, size):
    height, width = size
    if kind == "missing":
        path.unlink()
    elif kind == "size":
        write_png(path, np.zeros((height, width + 1), np.uint8))
    elif kind == "colours":
        Image.new("RGB", (width, height)).save(path)
    elif kind == "jpeg":
        Image.new("L", (width, height)).save(path, "JPEG")
    elif kind == "range":
        write_png(path, np.full((height, width), 3, np.uint8))
    elif kind == "16 bit":
        Image.fromarray(np.full((height, width), 257, np.uint16)).save(path)
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("missing", "E_MISSING", "does not exist"),
        ("size", "E_SHAPE", "like its image"),
        ("colours", "E_MODE", "has pixel format RGB, expected indices"),
        ("jpeg", "E_MODE", "does not keep indices"),
        ("range", "E_RANGE", "3"),
        ("16 bit", "E_RANGE", "257"),
        ("truncated", "E_TRUNCATED", "ends"),
    ],
)
def test_maps_that_cannot_be_used(case, kind, code, words):
    data, folder = case
    size = data.load_image(0).shape[:2]
    put_map(folder / f"{data.ids[0]}.png", kind, size)
    with pytest.raises(DataFault) as caught:
        samples(case).weak_labels(0, size)
    assert (caught.value.code.value, caught.value.subject) == (code, data.ids[0])
    assert words in caught.value.text


def samples(case):
    data, folder = case
    points = open_points(folder / "points", data.categories)
    return CenterOffsetSamples(data, str(folder), points, 0.7, frozenset(), ((0.0,) * 3, (1.0,) * 3), 65, 64, 0)


def test_maps_of_nothing_and_of_ignore_are_maps(case):
    data, folder = case
    size = data.load_image(0).shape[:2]
    for value in (0, 255):
        write_png(folder / f"{data.ids[0]}.png", np.full(size, value, np.uint8))
        assert (samples(case).weak_labels(0, size)[0] == value).all()
    assert samples(case)(0, 0)["semantic"].shape == (64, 64)


def test_points_follow_their_pixels(case):
    """After scaling, cropping and mirroring, the class beside a point is still the point's."""
    data, _ = case
    kept = 0
    for index in range(len(data)):
        for epoch in range(4):
            sample = samples(case)(epoch, index)
            for x, y, label, _ in sample["points"]:
                window = sample["semantic"][max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
                assert (window == label + 1).any()
                kept += 1
    assert kept > 10
