"""report: a page from a label run with fields and true masks, and from a run without either."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.label_runs import boxes, row_of, skipped_row, write_run
from wsis.data.artifacts import write_png
from wsis.data.categories import Categories
from wsis.data.dataset import DataConfig, open_data
from wsis.data.points import point_lines
from wsis.errors import ConfigError
from wsis.labels.points import center_points
from wsis.steps import report

SCENES = DataConfig(kind="scenes", num=6, num_classes=3, min_side=48, max_side=64)


def data_of(path) -> dict:
    html = Path(path).read_text()
    return json.loads(re.search(r'id="data">(.*?)</script>', html, re.S)[1])


def save_fields(folder: Path, name: str, size: tuple[int, int], classes: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    h, w = ((side - 1) // 4 + 1 for side in size)
    rng = np.random.default_rng(0)
    np.savez(
        folder / f"{name}.npz",
        classes=np.arange(classes),
        cam=rng.random((classes, h, w), np.float32),
        boundary=rng.random((h, w), np.float32),
        displacement=rng.normal(size=(2, h, w)).astype(np.float32),
        walk_class=rng.random((classes, h, w), np.float32) * 0.2,
        extra=np.zeros(3),
    )


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    data = open_data(SCENES)
    rows = [row_of(data[i].id, data.load_instances(i)) for i in range(5)]
    rows[4].score = [0.0] * len(rows[4])
    rows += [skipped_row("broken-1"), skipped_row("broken-2", "E_MISSING", "does not exist")]
    run = write_run(tmp_path_factory.mktemp("report") / "labels", rows, data.categories)
    for i in range(4):
        save_fields(run / "fields", data[i].id, data.load_instances(i).masks.shape[1:])
    return data, run


def test_page_of_a_run(case):
    data, run = case
    result = report.run(report.Config(run=str(run), data=SCENES))
    assert result.path == run / "report.html"
    assert (result.shown, result.left_out) == (5, 0)
    assert result.megabytes == pytest.approx(result.path.stat().st_size / 1e6)
    assert any(f"shown without layers: E_MISSING {data[4].id}" in note for note in result.notes)
    assert str(result.path) in result.summary()
    content = data_of(result.path)
    first = content["images"][0]
    assert [layer["name"] for layer in first["layers"]] == ["CAM", "Boundary", "Displacement", "Walk"]
    assert len(first["found"]) == len(first["truth"]) == len(data.load_instances(0))
    assert first["figures"] == {"uncertainty": 0.0, "best overlap": 1.0}
    assert content["images"][4]["found"] == []
    assert content["head"]["categories"] == list(data.categories.names)
    html = result.path.read_text()
    figures = ("E_TRUNCATED", "the file does not exist", "AP50", "propagation.radius")
    for text in (*figures, "Skipped", "By class", "IoU 0.75", "precision over recall"):
        assert text in html
    assert 0 < result.figures["map_50"] < 1


def test_without_masks_or_fields(case, tmp_path):
    _, run = case
    config = report.Config(run=str(run), data=SCENES, compare=False, output=str(tmp_path / "a" / "page.html"))
    result = report.run(config)
    assert result.path == tmp_path / "a" / "page.html"
    assert result.figures == {}
    assert data_of(result.path)["images"][0]["truth"] == []
    assert "mIoU" not in result.path.read_text().split("<script")[0]


def shown(case, tmp_path, **options) -> list[str]:
    _, run = case
    result = report.run(report.Config(run=str(run), data=SCENES, output=str(tmp_path / "p.html"), **options))
    return [image["id"] for image in data_of(result.path)["images"]]


def test_choices(case, tmp_path):
    data, _ = case
    ids = [data[i].id for i in range(5)]
    assert shown(case, tmp_path, num_images=2, choice="first") == ids[:2]
    assert shown(case, tmp_path, num_images=3) == [ids[0], ids[2], ids[4]]
    assert shown(case, tmp_path, num_images=1, choice="worst") == [ids[4]]
    assert shown(case, tmp_path, images=(ids[3], ids[1])) == [ids[3], ids[1]]
    assert shown(case, tmp_path, num_images=0) == []


def test_score_limit_decides_what_counts(case, tmp_path):
    _, run = case
    result = report.run(report.Config(run=str(run), data=SCENES, output=str(tmp_path / "p.html"), min_score=0.0))
    assert data_of(result.path)["images"][4]["found"]
    assert result.figures["map_50"] == 1.0


def test_damaged_fields_are_noted(case, tmp_path):
    data, run = case
    folder = tmp_path / "fields"
    folder.mkdir()
    (folder / f"{data[0].id}.npz").write_bytes(b"PK\x03\x04 no zip")
    np.savez(folder / f"{data[1].id}.npz", cam=np.zeros((3, 4)))
    np.savez(folder / f"{data[2].id}.npz", boundary=np.array([[object()]], dtype=object))
    np.savez(folder / f"{data[3].id}.npz", boundary=np.zeros((4, 4)))
    config = report.Config(run=str(run), data=SCENES, fields=str(folder), output=str(tmp_path / "p.html"))
    result = report.run(config)
    codes = [note.split(": ")[1].split()[0] for note in result.notes]
    assert codes == ["E_DECODE", "E_SHAPE", "E_DECODE", "E_MISSING"]
    layers = [[layer["name"] for layer in image["layers"]] for image in data_of(result.path)["images"]]
    assert layers == [[], [], [], ["Boundary"], []]


def test_images_outside_the_data_are_noted(case, tmp_path):
    data, _ = case
    rows = [row_of(data[0].id, data.load_instances(0)), row_of("other", boxes((9, 9)))]
    run = write_run(tmp_path / "run", rows, data.categories)
    result = report.run(report.Config(run=str(run), data=SCENES))
    assert result.notes == ("1 of 2 labelled images are not in the data",)
    foreign = write_run(tmp_path / "foreign", rows[1:], data.categories)
    with pytest.raises(ConfigError, match=r"none of the 1 images of .* give the data that was labelled"):
        report.run(report.Config(run=str(foreign), data=SCENES))


def test_run_without_images(case, tmp_path):
    data, _ = case
    run = write_run(tmp_path / "run", [skipped_row("x")], data.categories)
    result = report.run(report.Config(run=str(run), data=SCENES))
    assert result.shown == 0
    assert "E_TRUNCATED" in result.path.read_text()


def test_rejects(case, tmp_path):
    data, run = case
    with pytest.raises(ConfigError) as caught:
        report.Config(num_images=-1, choice="wrst", min_score=2.0, max_megabytes=0.1)
    for part in ("run: is empty", "num_images: got -1", "did you mean 'worst'?", "min_score", "max_megabytes"):
        assert part in str(caught.value)
    with pytest.raises(ConfigError, match="images: 'nothing' was not labelled"):
        report.run(report.Config(run=str(run), data=SCENES, images=("nothing",)))
    with pytest.raises(ConfigError, match="worst needs true masks"):
        report.run(report.Config(run=str(run), data=SCENES, choice="worst", compare=False))
    with pytest.raises(ConfigError, match=r"fields: .* is not a folder"):
        report.run(report.Config(run=str(run), data=SCENES, fields=str(tmp_path / "no")))
    other = write_run(tmp_path / "other", [row_of(data[0].id, boxes((4, 4)))], Categories(("a",)))
    with pytest.raises(ConfigError, match=r"data: its classes are .* those of .* are a \(1\)"):
        report.run(report.Config(run=str(other), data=SCENES))


def test_curves_of_a_training_are_on_the_page(case, tmp_path):
    _, run = case
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "validation.jsonl").write_text('{"step":5,"ap50":0.25}\n{"step":10,"ap50":0.5}\n')
    page = str(tmp_path / "page.html")
    report.run(report.Config(run=str(run), data=SCENES, training=(str(folder),), output=page))
    html = Path(page).read_text()
    assert 'id="training"' in html
    assert "net, step 10: 50.0" in html
    result = report.run(report.Config(run=str(run), data=SCENES, training=(str(tmp_path),), output=page))
    assert "has no validation.jsonl" in result.summary()


@pytest.fixture
def weak(case, tmp_path):
    """A run with the fields of a centre and offset network for its first two images, their maps and points."""
    data, _ = case
    run = write_run(tmp_path / "weak", [row_of(data[i].id, data.load_instances(i)) for i in range(3)], data.categories)
    for name in ("fields", "maps", "points"):
        (tmp_path / name).mkdir()
    for i in range(2):
        name, instances, semantic = data[i].id, data.load_instances(i), data.load_semantic(i)
        write_png(tmp_path / "maps" / f"{name}.png", semantic)
        (tmp_path / "points" / f"{name}.txt").write_bytes(point_lines(center_points(instances)))
        classes = np.unique(semantic[(semantic > 0) & (semantic < 255)]).astype(int) - 1
        shares = np.stack([semantic == label + 1 for label in classes]).astype(np.float16) * 0.9
        fields = {"probability": shares, "center": shares, "offset": np.zeros((2, *semantic.shape), np.float16)}
        small = {key: maps[:, ::4, ::4] for key, maps in fields.items()}
        np.savez(tmp_path / "fields" / f"{name}.npz", classes=classes, **small)
    folders = {name: str(tmp_path / name) for name in ("fields", "points")}
    return {"run": str(run), "data": SCENES, "semantic": str(tmp_path / "maps"), **folders}


def test_pseudo_labels_beside_refined_ones(case, weak, tmp_path):
    data, _ = case
    page = str(tmp_path / "page.html")
    result = report.run(report.Config(**weak, output=page))
    names = [[layer["name"] for layer in image["layers"]] for image in data_of(page)["images"]]
    assert names == [["Classes", "Centres", "Offsets", "Pseudo labels", "Refined labels"]] * 2 + [[]]
    assert [note.split(":")[0] for note in result.notes] == ["shown without layers"]
    (tmp_path / "points" / f"{data[0].id}.txt").write_text("1 2\n")
    (tmp_path / "fields" / f"{data[1].id}.npz").unlink()
    result = report.run(report.Config(**weak, output=page, supervision="point"))
    names = [[layer["name"] for layer in image["layers"]] for image in data_of(page)["images"]]
    assert names == [["Classes", "Centres", "Offsets"], ["Pseudo labels"], []]
    assert f"shown without pseudo labels: E_DECODE {data[0].id}" in result.summary()


def test_weak_labels_that_cannot_be_shown(weak):
    with pytest.raises(ConfigError, match="semantic and points go together"):
        report.Config(**{**weak, "points": ""})
    with pytest.raises(ConfigError, match="supervision: got 'box'"):
        report.Config(**weak, supervision="box")
    with pytest.raises(ConfigError, match="semantic: none is not a folder"):
        report.run(report.Config(**{**weak, "semantic": "none"}))
    with pytest.raises(ConfigError, match="neither a folder"):
        report.run(report.Config(**{**weak, "points": "none"}))
