"""Export: files that other programs accept, unique ids, mapped categories, nothing overwritten unasked."""

import base64
import gc
import io
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pycocotools.coco import COCO

from tests.label_runs import boxes, row_of, skipped_row, write_run
from wsis.data import rle
from wsis.data.categories import COCO as COCO_CATEGORIES
from wsis.data.categories import Categories
from wsis.data.dataset import DataConfig, open_data
from wsis.data.image_set import instances_from_maps
from wsis.data.images import read_index_map
from wsis.data.scenes import SceneSet, write_scenes
from wsis.errors import ConfigError
from wsis.formats import WRITERS
from wsis.formats.coco_reader import read_coco
from wsis.formats.labelstudio import brush_decode
from wsis.steps import export
from wsis.structures import Instances

CLASSES = Categories(("cat", "dog", "bird"), (3, 7, 90))


def sample_rows():
    return [
        row_of("b/two", boxes((20, 30), (0, 0, 10, 10, 0, 0.9), (5, 5, 15, 25, 2, 0.4)), "b/two.jpg"),
        skipped_row("broken"),
        row_of("none", boxes((5, 6)), "none.JPEG"),
        row_of("edge", boxes((8, 8), (0, 0, 4, 4, 1, 1e-5), (4, 4, 8, 8, 1, 9e-6), (6, 0, 8, 2, 1, 0.0))),
    ]


@pytest.fixture
def labels(tmp_path) -> Path:
    return write_run(tmp_path / "labels", sample_rows(), CLASSES, unit_size=2)


def read(result) -> dict:
    return json.loads(Path(result.path).read_text())


def test_coco_content(labels):
    result = export.run(export.Config(run=str(labels)))
    assert result.path == labels / "exports" / "coco.json"
    assert (result.images, result.instances, result.dropped, result.skipped) == (3, 3, 2, 1)
    assert "3 instances on 3 images" in result.summary()
    content = read(result)
    assert [c["id"] for c in content["categories"]] == [3, 7, 90]
    assert [c["name"] for c in content["categories"]] == ["cat", "dog", "bird"]
    assert content["images"] == [
        {"id": 1, "file_name": "b/two.jpg", "height": 20, "width": 30},
        {"id": 2, "file_name": "none.JPEG", "height": 5, "width": 6},
        {"id": 3, "file_name": "edge.png", "height": 8, "width": 8},
    ]
    rows = content["annotations"]
    assert [r["id"] for r in rows] == [1, 2, 3]
    assert [r["image_id"] for r in rows] == [1, 1, 3]
    assert [r["category_id"] for r in rows] == [3, 90, 7]
    assert rows[1]["bbox"] == [5, 5, 20, 10]
    assert rows[1]["area"] == 200
    assert rows[1]["score"] == pytest.approx(0.4)
    assert rows[2]["score"] == pytest.approx(1e-5)
    assert content["info"]["run_fingerprint"]


def test_coco_loads_in_pycocotools(labels):
    path = export.run(export.Config(run=str(labels))).path
    dataset = COCO(str(path))
    assert len(dataset.anns) == 3
    annotation = dataset.loadAnns(2)[0]
    mask = dataset.annToMask(annotation)
    assert mask.shape == (20, 30)
    assert mask.sum() == annotation["area"]
    assert mask[5:15, 5:25].all()
    assert dataset.getImgIds(catIds=[3]) == [1]
    results = export.run(export.Config(run=str(labels), format="coco-results")).path
    found = dataset.loadRes(str(results))
    assert [found.anns[k]["score"] for k in sorted(found.anns)] == [0.9, 0.4, 1e-5]


def test_numeric_ids_keep_their_number(tmp_path):
    rows = [row_of(f"{n:012d}", boxes((4, 4), (0, 0, 2, 2, 0, 1.0))) for n in (139, 285)]
    run = write_run(tmp_path / "run", rows, COCO_CATEGORIES)
    content = read(export.run(export.Config(run=str(run))))
    assert [i["id"] for i in content["images"]] == [139, 285]
    mixed = write_run(tmp_path / "mixed", [*rows, row_of("7", boxes((4, 4)))], COCO_CATEGORIES)
    assert [i["id"] for i in read(export.run(export.Config(run=str(mixed))))["images"]] == [139, 285, 7]


@pytest.mark.parametrize("names", [("7", "007"), ("COCO_train2014_07", "COCO_val2014_07"), ("7", "b")])
def test_numbers_that_do_not_tell_images_apart_are_not_kept(tmp_path, names):
    rows = [row_of(name, boxes((4, 4), (0, 0, 2, 2, 0, 1.0))) for name in names]
    run = write_run(tmp_path / "run", rows, COCO_CATEGORIES)
    assert [i["id"] for i in read(export.run(export.Config(run=str(run))))["images"]] == [1, 2]
    path = export.run(export.Config(run=str(run), format="coco-results")).path
    assert read_coco(path, COCO_CATEGORIES, names) == {}, "no number is taken for another image's"


def test_numbers_of_all_lengths_come_back(tmp_path):
    names = sorted(str(n) for n in range(8, 13))
    rows = [row_of(name, boxes((4, 4), *[(0, 0, 2, 2, 0, 1.0)] * k)) for k, name in enumerate(names, 1)]
    run = write_run(tmp_path / "run", rows, COCO_CATEGORIES)
    path = export.run(export.Config(run=str(run), format="coco-results")).path
    again = read_coco(path, COCO_CATEGORIES, names)
    assert {name: len(rows) for name, rows in again.items()} == {name: k for k, name in enumerate(names, 1)}


def test_names_of_2014_keep_their_number(tmp_path):
    rows = [row_of(f"COCO_val2014_{n:012d}", boxes((4, 4), (0, 0, 2, 2, 79, 1.0))) for n in (42, 73)]
    run = write_run(tmp_path / "run", rows, COCO_CATEGORIES)
    found = read(export.run(export.Config(run=str(run), format="coco-results")))
    assert [(one["image_id"], one["category_id"]) for one in found] == [(42, 90), (73, 90)]
    path = run / "exports" / "coco-results.json"
    again = read_coco(path, COCO_CATEGORIES, [row.image_id for row in rows])
    assert {name: len(rows) for name, rows in again.items()} == {row.image_id: 1 for row in rows}


def test_pictures_that_someone_put_beside_an_export_stay(tmp_path):
    """Without the data's folder the pictures are the user's to put there; linked ones are the export's."""
    for name in ("a.jpg", "b/c.jpg"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(b"picture")
    rows = [row_of(name, boxes((4, 4), (0, 0, 2, 2, 0, 1.0)), f"{name}.jpg") for name in ("a", "b/c")]
    run = write_run(tmp_path / "run", rows, CLASSES)
    config = export.Config(run=str(run), format="yolo", output=str(tmp_path / "out"), overwrite=True)
    images = tmp_path / "out" / "images"
    export.run(replace(config, pictures=str(tmp_path / "data")))
    assert images.joinpath("a.jpg").is_symlink()
    assert images.joinpath("b", "c.jpg").is_symlink()
    export.run(config)
    assert not images.exists()
    images.mkdir()
    (images / "a.jpg").write_bytes(b"mine")
    (images / "more.txt").write_bytes(b"mine")
    export.run(replace(config, pictures=str(tmp_path / "data")))
    assert (images / "a.jpg").read_bytes() == (images / "more.txt").read_bytes() == b"mine"
    assert images.joinpath("b", "c.jpg").is_symlink()
    export.run(config)
    assert sorted(path.name for path in images.rglob("*")) == ["a.jpg", "more.txt"]


def test_empty_run(tmp_path):
    run = write_run(tmp_path / "run", [skipped_row("a")], CLASSES)
    content = read(export.run(export.Config(run=str(run))))
    assert content["images"] == content["annotations"] == []
    assert read(export.run(export.Config(run=str(run), format="coco-results"))) == []


def test_voc_pairs(labels, tmp_path):
    result = export.run(export.Config(run=str(labels), format="voc", output=str(tmp_path / "out")))
    assert (result.images, result.instances, result.dropped, result.skipped) == (3, 3, 2, 1)
    semantic = Image.open(tmp_path / "out" / "SegmentationClass" / "b" / "two.png")
    assert semantic.mode == "P"
    assert semantic.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
    values = np.array(semantic)
    assert values[0, 0] == 1
    assert values[7, 7] == 1, "the higher score lies on top"
    assert values[12, 20] == 3
    objects = read_index_map(tmp_path / "out" / "SegmentationObject" / "b" / "two.png")
    back = instances_from_maps(objects, values)
    assert back.labels.tolist() == [0, 2]
    assert back.masks[0].sum() == 100
    assert back.masks[1].sum() == 200 - 25
    assert not np.array(Image.open(tmp_path / "out" / "SegmentationClass" / "none.png")).any()
    assert (tmp_path / "out" / "ImageSets/Segmentation/exported.txt").read_text() == "b/two\nnone\nedge\n"
    assert (tmp_path / "out" / "classes.txt").read_text() == "cat\ndog\nbird\n"
    assert json.loads((tmp_path / "out" / "export.json").read_text())["instances"] == 3
    assert not (tmp_path / "out" / "SegmentationClass" / "broken.png").exists()


def many(count: int) -> Instances:
    masks = torch.zeros((count, 20, 20), dtype=torch.bool)
    masks.view(count, -1)[range(count), range(count)] = True
    return Instances(masks, torch.zeros(count, dtype=torch.int64), torch.ones(count))


@pytest.mark.parametrize(("count", "dtype"), [(254, np.uint8), (255, np.uint16), (300, np.uint16)])
def test_many_objects_never_wrap(tmp_path, count, dtype):
    run = write_run(tmp_path / "run", [row_of("x", many(count))], CLASSES)
    path = export.run(export.Config(run=str(run), format="voc")).path
    objects = read_index_map(path / "SegmentationObject" / "x.png")
    assert objects.dtype == dtype
    assert sorted(np.unique(objects)) == list(range(count + 1))


def test_many_objects_are_refused_on_request(tmp_path):
    run = write_run(tmp_path / "run", [row_of("x", many(255))], CLASSES)
    with pytest.raises(ConfigError, match="'x' has 255 objects, an 8-bit map holds 254"):
        export.run(export.Config(run=str(run), format="voc", many_objects="refuse"))
    high = export.Config(run=str(run), format="coco", min_score=1.0)
    assert export.run(high).instances == 255


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_overwritten_unasked(labels, name):
    first = export.run(export.Config(run=str(labels), format=name))
    with pytest.raises(ConfigError, match=r"output: .*(exists|not empty); give overwrite=true"):
        export.run(export.Config(run=str(labels), format=name))
    again = export.run(export.Config(run=str(labels), format=name, overwrite=True))
    assert again == first


def test_foreign_folders_are_left_alone(labels, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.txt").write_text("x")
    with pytest.raises(ConfigError, match="is no earlier export"):
        export.run(export.Config(run=str(labels), format="voc", output=str(tmp_path / "mine"), overwrite=True))
    with pytest.raises(ConfigError, match="is a folder, expected the name of a json file"):
        export.run(export.Config(run=str(labels), output=str(tmp_path / "mine")))
    assert (tmp_path / "mine" / "photo.txt").exists()


def test_damaged_masks_are_named(tmp_path):
    row = row_of("x", boxes((8, 8), (0, 0, 4, 4, 1, 1.0)))
    row.counts[0] = b"0000"
    run = write_run(tmp_path / "run", [row], CLASSES)
    for name in WRITERS:
        with pytest.raises(ConfigError, match=r"image 'x', instance 0: .*must add up to .* the label run is damaged"):
            export.run(export.Config(run=str(run), format=name, output=str(tmp_path / f"{name}.out")))
    assert not list(tmp_path.glob("*.tmp"))
    assert not (tmp_path / "coco.out").exists()


def test_ids_cannot_leave_the_folder(tmp_path):
    run = write_run(tmp_path / "run", [row_of("../x", boxes((4, 4)))], CLASSES)
    for name in ("coco", "voc", "yolo", "labelme", "labelstudio"):
        with pytest.raises(ConfigError, match=r"\.\./x.*would leave the data folder"):
            export.run(export.Config(run=str(run), format=name))


def test_config_names_every_problem():
    with pytest.raises(ConfigError) as caught:
        export.Config(format="cocoo", min_score=2.0, many_objects="wrap")
    text = str(caught.value)
    for part in ("run: is empty", "did you mean 'coco'?", "min_score: got 2.0", "many_objects: got 'wrap'"):
        assert part in text


def test_needs_a_label_run(tmp_path):
    with pytest.raises(ConfigError, match=r"has no run\.json"):
        export.run(export.Config(run=str(tmp_path)))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / max(1, (a | b).sum())


def scenes_run(tmp_path):
    """Ten scenes as files, and a run whose instances are the true ones."""
    root = tmp_path / "voc"
    write_scenes(root, [SceneSet(4, min_side=48, max_side=64)])
    data = open_data(DataConfig(kind="voc", root=str(root), split="train"))
    masks = [data.load_instances(i) for i in range(4)]
    rows = [row_of(data[i].id, masks[i], f"JPEGImages/{data[i].id}.png") for i in range(4)]
    return root, data, masks, write_run(tmp_path / "run", rows, data.categories)


def painted_polygon(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return rle.to_masks([rle.from_polygons([points.reshape(-1).tolist()], size)])[0]


def test_yolo_round_trip(tmp_path):
    root, data, masks, run = scenes_run(tmp_path)
    result = export.run(export.Config(run=str(run), format="yolo", pictures=str(root), tolerance=0.0))
    table = yaml.safe_load((result.path / "data.yaml").read_text())
    assert list(table["names"].values()) == list(data.categories.names)
    assert Path(table["path"]) == result.path
    for i in range(4):
        picture = result.path / table["train"] / f"{data[i].id}.png"
        assert picture.read_bytes() == (root / "JPEGImages" / f"{data[i].id}.png").read_bytes()
        label = Path(str(picture).replace("/images/", "/labels/")).with_suffix(".txt")
        lines = [line.split() for line in label.read_text().splitlines()]
        assert [int(words[0]) for words in lines] == masks[i].labels.tolist()
        height, width = size = masks[i].masks.shape[1:]
        for words, mask in zip(lines, masks[i].masks.numpy()):
            points = np.array(words[1:], float).reshape(-1, 2)
            assert points.min() >= 0
            assert points.max() <= 1
            assert iou(painted_polygon(points * (width, height), size), mask) > 0.9


def test_yolo_empty_images_have_empty_files(labels):
    result = export.run(export.Config(run=str(labels), format="yolo"))
    assert (result.images, result.instances, result.skipped) == (3, 3, 1)
    assert (result.path / "labels" / "none.txt").read_text() == ""
    assert (result.path / "labels" / "b" / "two.txt").read_text().splitlines()[0] == (
        "0 0.333333 0 0.333333 0.5 0 0.5 0 0"
    )
    assert not (result.path / "labels" / "broken.txt").exists()
    assert not (result.path / "images").exists()


@pytest.mark.parametrize("shape", ["mask", "polygon"])
def test_labelme_round_trip(tmp_path, shape):
    root, data, masks, run = scenes_run(tmp_path)
    result = export.run(export.Config(run=str(run), format="labelme", shape=shape, pictures=str(root), tolerance=0.0))
    for i in range(4):
        file = result.path / "labels" / f"{data[i].id}.json"
        content = json.loads(file.read_text())
        size = (content["imageHeight"], content["imageWidth"])
        assert size == masks[i].masks.shape[1:]
        assert (file.parent / content["imagePath"]).resolve() == root / "JPEGImages" / f"{data[i].id}.png"
        for number, mask in enumerate(masks[i].masks.numpy(), start=1):
            shapes = [one for one in content["shapes"] if one["group_id"] == number]
            assert {one["label"] for one in shapes} == {data.categories.names[masks[i].labels[number - 1]]}
            back = np.zeros(size, bool)
            for one in shapes:
                if shape == "mask":
                    (left, top), (right, bottom) = one["points"]
                    inside = np.array(Image.open(io.BytesIO(base64.b64decode(one["mask"])))) > 0
                    back[top : bottom + 1, left : right + 1] |= inside
                else:
                    back |= painted_polygon(np.array(one["points"]), size)
            assert iou(back, mask) == 1.0 if shape == "mask" else iou(back, mask) > 0.9


def test_labelstudio_round_trip(tmp_path):
    _, data, masks, run = scenes_run(tmp_path)
    result = export.run(export.Config(run=str(run), format="labelstudio", image_url="https://host/"))
    assert result.path.name == "labelstudio.json"
    tasks = read(result)
    interface = result.path.with_suffix(".xml").read_text()
    assert all(f'<Label value="{name}"/>' in interface for name in data.categories.names)
    for i, task in enumerate(tasks):
        assert task["data"]["image"] == f"https://host/{data[i].id}.png"
        (prediction,) = task["predictions"]
        assert len(prediction["result"]) == len(masks[i])
        for region, mask, label in zip(prediction["result"], masks[i].masks.numpy(), masks[i].labels.tolist()):
            assert region["value"]["brushlabels"] == [data.categories.names[label]]
            assert (region["original_height"], region["original_width"]) == mask.shape
            np.testing.assert_array_equal(brush_decode(region["value"]["rle"], mask.shape), mask)
    polygons = read(export.run(export.Config(run=str(run), format="labelstudio", shape="polygon", overwrite=True)))
    region = polygons[0]["predictions"][0]["result"][0]
    assert region["type"] == "polygonlabels"
    assert 0 <= np.min(region["value"]["points"]) <= np.max(region["value"]["points"]) <= 100


def test_coco_polygons_load_in_pycocotools(tmp_path):
    _, _, masks, run = scenes_run(tmp_path)
    dataset = COCO(str(export.run(export.Config(run=str(run), shape="polygon", tolerance=0.0)).path))
    every = np.concatenate([one.masks.numpy().reshape(len(one), -1).sum(1) for one in masks])
    for annotation, area in zip(dataset.loadAnns(sorted(dataset.anns)), every):
        mask = dataset.annToMask(annotation)
        assert abs(int(mask.sum()) - area) <= 0.1 * area + 4


def test_pictures_that_are_not_there_are_named(tmp_path):
    _, _, _, run = scenes_run(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("yolo", "labelme"):
        with pytest.raises(ConfigError, match=r"pictures: .*JPEGImages.* does not exist; is this the data's root\?"):
            export.run(export.Config(run=str(run), format=name, pictures=str(tmp_path / "empty")))


@pytest.mark.parametrize("name", WRITERS)
def test_memory_does_not_grow_with_the_run(tmp_path, name):
    """The rows of a run are never held together: what grows is the journal, by less than 500 bytes an image.

    Modules are loaded before anything is measured, and what a busy machine adds to one export (garbage that waits, a
    progress line) it does not add to each of three."""
    runs = {}
    for count in (40, 400):
        rows = [row_of(f"i{n:05d}", boxes((6, 6), (0, 0, 3, 3, 0, 0.9))) for n in range(count)]
        runs[count] = write_run(tmp_path / str(count), rows, CLASSES, unit_size=20)
    _peak(runs[40], name)
    least = _peak(runs[40], name)
    most = next(filter(lambda peak: peak < least + 500 * 360, (_peak(runs[400], name) for _ in range(3))), None)
    assert most is not None


def _peak(run, name):
    """Bytes that an export holds at most."""
    gc.collect()
    tracemalloc.start()
    export.run(export.Config(run=str(run), format=name, overwrite=True))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
