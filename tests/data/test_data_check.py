"""``wsis data check``: everything at once, for people and for programs, with the right exit code."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsis.data.artifacts import write_png
from wsis.data.scenes import SceneSet, write_scenes
from wsis.errors import Code, ConfigError, ExitCode, SystemFault
from wsis.steps import data_check
from wsis.steps.data_check import Config, run


def check(**options):
    result = run(Config(**options))
    return result, result.summary()


@pytest.fixture
def root(tmp_path):
    write_scenes(tmp_path / "data", [SceneSet(8, min_side=40, max_side=56)])
    return tmp_path / "data"


def test_a_sound_data_set(root, tmp_path):
    report = tmp_path / "report.json"
    result, text = check(root=str(root), split="train", report=str(report))
    assert result.exit_code == ExitCode.OK
    assert (result.images, result.ok) == (8, 8)
    assert not result.problems
    assert not result.faults
    scenes = SceneSet(8, min_side=40, max_side=56)
    for number, row in enumerate(result.classes):
        assert row["name"] == scenes.categories.names[number]
        assert row["images"] == sum(number in scenes[i].labels for i in range(8))
        assert row["instances"] == sum(scenes.scene(i).classes.count(number) for i in range(8))
    assert "without fault" in text
    assert json.loads(report.read_text()) == json.loads(json.dumps(result.to_json()))
    made, _ = check(kind="scenes", num=8, min_side=40, max_side=56)
    assert made.classes == result.classes
    assert made.sizes == result.sizes


def test_every_fault_of_every_record_and_file_at_once(root):
    images = sorted((root / "JPEGImages").iterdir())
    images[0].write_bytes(b"<html>404</html>")
    images[1].write_bytes(images[1].read_bytes()[:400])
    images[2].unlink()
    write_png(root / "SegmentationClass/train_000003.png", np.full((5, 5), 1, np.uint8))
    size = Image.open(images[4]).size[::-1]
    write_png(root / "SegmentationClass/train_000004.png", np.full(size, 77, np.uint8))
    (root / "SegmentationClass/train_000005.png").unlink()
    write_png(root / "SegmentationObject/train_000006.png", np.zeros((*size, 3), np.uint8))
    lines = "".join(f"train_{n:06d}\n" for n in range(8))
    (root / "ImageSets/Segmentation/train.txt").write_text(lines + "../up\n")
    (root / "list.txt").write_text(lines)
    labels = json.loads((root / "image_labels.json").read_text())
    labels["train_000007"] = ["unicorn"]
    (root / "tags.json").write_text(json.dumps(labels))
    options = {"root": str(root), "list": str(root / "list.txt"), "tags": str(root / "tags.json")}
    result, text = check(**options)
    assert result.exit_code == ExitCode.BAD_INPUT
    assert [problem.text for problem in result.problems] == ["unknown class 'unicorn'"]
    assert {(fault.subject[-1], fault.code) for fault in result.faults} == {
        ("0", Code.E_DECODE),
        ("1", Code.E_TRUNCATED),
        ("2", Code.E_MISSING),
        ("3", Code.E_SHAPE),
        ("4", Code.E_RANGE),
        ("5", Code.E_MISSING),
        ("6", Code.E_MODE),
    }
    assert result.ok == 1
    for fault in result.faults:
        assert str(fault.code) in text
    options["tags"] = ""
    (root / "tags.json").unlink()
    assert check(**options)[0].exit_code == ExitCode.WITH_FAULTS
    result, text = check(root=str(root), split="train")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "train.txt:9: id '../up'" in text


def test_oddities_are_warnings(root):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("L", (9, 8)).save(root / "JPEGImages/odd.jpg", exif=exif)
    labels = json.loads((root / "image_labels.json").read_text())
    first = set(labels["train_000000"])
    labels["train_000000"] = sorted(set(range(5)) - first)
    labels["train_000001"] = []
    (root / "image_labels.json").write_text(json.dumps(labels))
    result, text = check(root=str(root))
    assert result.exit_code == ExitCode.OK
    assert result.warnings["no image label"] == ["odd"]
    assert result.warnings["EXIF rotation, which is ignored (as in masks)"] == ["odd"]
    assert result.warnings["converted from L to RGB"] == ["odd"]
    assert result.warnings["labelled as empty"] == ["train_000001"]
    assert len(result.warnings["the mask shows a class that the tags do not name"]) == 2
    assert "train_000000" in result.warnings["the tags name a class that the mask does not show"]
    assert "EXIF" in text
    result, text = check(root=str(root), split="train", masks=False, smallest=41)
    assert "1 pictures in" in text
    assert {fault.code for fault in result.faults} <= {Code.E_TOO_SMALL}
    assert not any(row["instances"] for row in result.classes)


def test_long_lists_are_cut_for_people_only(root):
    with (root / "ImageSets/Segmentation/train.txt").open("a") as file:
        file.writelines(f"missing_{n}\n" for n in range(60))
    result, text = check(root=str(root), split="train")
    assert len(result.faults) == 60
    assert "... and 10 more faults" in text
    assert len(result.to_json()["faults"]) == 60


def test_results_do_not_depend_on_the_number_of_threads(root, monkeypatch):
    monkeypatch.setattr(data_check, "_CHUNK", 3)
    (root / "JPEGImages/train_000003.png").write_bytes(b"x")
    one, many = (check(root=str(root), workers=n)[0].to_json() for n in (1, 4))
    assert one == many


def test_faults_of_the_machine_stop_the_check(root, monkeypatch):
    def refuse(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(data_check, "inspect_data", lambda config, problems: SceneFiles(root))
    with pytest.raises(SystemFault, match="Input/output error"):
        check(root=str(root))


class SceneFiles:
    """The least that the check needs: one picture on a broken disk."""

    notes = ()
    ids = ("x",)

    def __init__(self, root):
        self.path = Path(root) / "JPEGImages/train_000000.png"

    def __len__(self):
        return 1

    def __getitem__(self, index):
        from wsis.data.image_set import Record

        return Record("x", self.path, ())

    def load_image(self, index):
        from wsis.data.images import read_image

        return read_image(self.path)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"smallest": 0}, "smallest"),
        ({"workers": -1}, "workers"),
        ({"kind": "x"}, "data.kind"),
        ({"report": "/none/x.json"}, "report"),
    ],
)
def test_bad_settings(options, text):
    with pytest.raises(ConfigError, match=text):
        Config(**options)


def test_tags_that_teach_nothing_are_pointed_out(root):
    names = sorted(path.name for path in (root / "JPEGImages").iterdir())
    same = "".join(f"{name},ball;crate\n" for name in names[1:])
    (root / "same.csv").write_text(same + f"{names[0]},ball\n")
    _, text = check(root=str(root), tags=str(root / "same.csv"), kind="folder", masks=False)
    assert f"{len(names) - 1} of {len(names)} images have the same tags (ball, crate)" in " ".join(text.split())
    _, text = check(root=str(root), split="train")
    assert "have the same tags" not in text


def test_points_are_looked_at_with_the_pictures(root, tmp_path):
    scenes = SceneSet(8, min_side=40, max_side=56)
    table = tmp_path / "points.csv"
    lines = ["image,x,y,class"]
    for k in range(8):
        names = scenes.categories.select(scenes[k].labels)
        lines += [f"{scenes[k].id},{3 + n},5,{name}" for n, name in enumerate(names)]
    table.write_text("\n".join(lines) + "\n")
    result, text = check(root=str(root), split="train", points=str(table))
    assert (result.exit_code, result.points) == (ExitCode.OK, len(lines) - 1)
    assert "points that can be used" in text
    assert result.to_json()["points"] == len(lines) - 1
    names = [row.split(",")[0] for row in lines[1:]]
    extra = [f"{names[0]},4000,5,ball", f"{names[0]},3,5,{lines[1].split(',')[3]}"]
    kept = [row for row in lines if not row.startswith(names[-1])]
    table.write_text("\n".join(kept + extra) + "\n")
    result, text = check(root=str(root), split="train", points=str(table))
    assert [(fault.code, fault.subject) for fault in result.faults] == [(Code.E_MISSING, names[-1])]
    assert result.warnings["points: outside"] == [f"{names[0]}: 1"]
    assert result.warnings["points: duplicate"] == [f"{names[0]}: 1"]
    table.write_text("image,x,y,class\na,1,2,bal\n")
    result, text = check(root=str(root), split="train", points=str(table))
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "points.csv:2" in text
    assert result.points is None
