"""Exports read by the programs they are for; each test runs where its program is installed.

Seen with pycocotools 2.0.11, FiftyOne 1.22.1, datumaro 1.13.12 (what CVAT imports with), Ultralytics 8.4.190, the Label
Studio SDK 2.1.2, LabelMe 6.3.1 and X-AnyLabeling 4.2.1. Nothing here asks the network or starts a database.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.label_runs import row_of, write_run
from wsis.data.dataset import DataConfig, open_data
from wsis.data.scenes import SceneSet, write_scenes
from wsis.steps import export


class Case:
    """Scenes as files, and a run whose instances are the true ones."""

    def __init__(self, folder: Path):
        self.root = folder / "voc"
        write_scenes(self.root, [SceneSet(4, min_side=96, max_side=128)])
        self.data = open_data(DataConfig(kind="voc", root=str(self.root), split="train"))
        self.truth = {name: self.data.load_instances(k) for k, name in enumerate(self.data.ids)}
        rows = [row_of(name, one, f"JPEGImages/{name}.png") for name, one in self.truth.items()]
        self.run = write_run(folder / "run", rows, self.data.categories)
        self.output = folder / "exports"

    def export(self, name: str, suffix: str = "", **options) -> Path:
        output = self.output / (name + suffix)
        return export.run(export.Config(run=str(self.run), format=name, output=str(output), **options)).path

    def names(self, image: str) -> list[str]:
        return [self.data.categories.names[k] for k in self.truth[image].labels.tolist()]


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return Case(tmp_path_factory.mktemp("programs"))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / max(1, (a | b).sum())


def inside(mask: np.ndarray, left: float, top: float, size: tuple[int, int]) -> np.ndarray:
    """A mask of a box, put back into its picture."""
    whole = np.zeros(size, dtype=bool)
    y, x = round(top), round(left)
    whole[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    return whole


def test_fiftyone(case, monkeypatch, tmp_path):
    monkeypatch.setenv("FIFTYONE_DO_NOT_TRACK", "1")
    monkeypatch.setenv("FIFTYONE_DATABASE_DIR", str(tmp_path))
    coco = pytest.importorskip("fiftyone.utils.coco", exc_type=ImportError)
    path = case.export("coco", ".json")
    reader = coco.COCODetectionDatasetImporter(
        data_path=str(case.root / "JPEGImages"), labels_path=str(path), label_types="segmentations"
    )
    reader.setup()
    assert len(reader) == len(case.data)
    for picture, _, found in reader:
        truth = case.truth[Path(picture).stem]
        assert [one.label for one in found.detections] == case.names(Path(picture).stem)
        for one, mask in zip(found.detections, truth.masks.numpy()):
            height, width = mask.shape
            left, top, _, _ = one.bounding_box
            np.testing.assert_array_equal(inside(one.mask, left * width, top * height, mask.shape), mask)
            assert one.confidence == 1.0


@pytest.mark.parametrize("shape", ["mask", "polygon"])
def test_datumaro_as_cvat_uses_it(case, tmp_path, shape):
    datumaro = pytest.importorskip("datumaro", exc_type=ImportError)
    path = case.export("coco", f"-{shape}.json", shape=shape, tolerance=0.0)
    (tmp_path / "annotations").mkdir()
    shutil.copy(path, tmp_path / "annotations" / "instances_default.json")
    shutil.copytree(case.root / "JPEGImages", tmp_path / "images" / "default")
    found = datumaro.Dataset.import_from(str(tmp_path), "coco")
    assert len(found) == len(case.data)
    kind = {"mask": datumaro.AnnotationType.mask, "polygon": datumaro.AnnotationType.polygon}[shape]
    labels = found.categories()[datumaro.AnnotationType.label]
    for item in found:
        name = item.id
        truth = case.truth[name].masks.numpy()
        size = truth.shape[1:]
        assert item.media.data.shape[:2] == size
        shapes = [one for one in item.annotations if one.type == kind]
        whole = {number: np.zeros(size, dtype=bool) for number in range(len(truth))}
        order = sorted({one.group for one in shapes})
        for one in shapes:
            number = order.index(one.group)
            assert labels[one.label].name == case.names(name)[number]
            if shape == "mask":
                whole[number] |= one.image.astype(bool)
            else:
                whole[number] |= painted(np.array(one.points).reshape(-1, 2), size)
        for number, mask in enumerate(truth):
            assert overlap(whole[number], mask) >= (1.0 if shape == "mask" else 0.9)


def painted(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from wsis.data import rle

    return rle.to_masks([rle.from_polygons([points.reshape(-1).tolist()], size)])[0]


def test_ultralytics(case, monkeypatch, tmp_path):
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    dataset = pytest.importorskip("ultralytics.data.dataset", exc_type=ImportError)
    folder = case.export("yolo", pictures=str(case.root), tolerance=0.0)
    table = yaml.safe_load((folder / "data.yaml").read_text())
    assert list(table["names"].values()) == list(case.data.categories.names)
    table |= {"nc": len(table["names"]), "channels": 3}
    pictures = str(Path(table["path"]) / table["train"])
    found = dataset.YOLODataset(img_path=pictures, data=table, task="segment", augment=False, imgsz=128)
    assert len(found) == len(case.data)
    for row in found.labels:
        truth = case.truth[Path(row["im_file"]).stem]
        assert row["cls"][:, 0].astype(int).tolist() == truth.labels.tolist()
        height, width = row["shape"]
        for ring, mask in zip(row["segments"], truth.masks.numpy()):
            assert overlap(painted(ring * (width, height), mask.shape), mask) > 0.9
    assert len(found[0]["masks"]) >= 1


@pytest.mark.parametrize("shape", ["mask", "polygon"])
def test_label_studio(case, shape):
    interface = pytest.importorskip("label_studio_sdk.label_interface", exc_type=ImportError)
    brush = pytest.importorskip("label_studio_sdk.converter.brush", exc_type=ImportError)
    path = case.export("labelstudio", f"-{shape}.json", shape=shape)
    form = interface.LabelInterface(path.with_suffix(".xml").read_text())
    for task, (name, truth) in zip(json.loads(path.read_text()), case.truth.items()):
        (prediction,) = task["predictions"]
        assert form.validate_prediction(prediction)
        if shape == "polygon":
            continue
        assert [one["value"]["brushlabels"] for one in prediction["result"]] == [[n] for n in case.names(name)]
        for one, mask in zip(prediction["result"], truth.masks.numpy()):
            pixels = brush.decode_rle(one["value"]["rle"]).reshape(*mask.shape, 4)
            np.testing.assert_array_equal(pixels[:, :, 3] > 0, mask)


@pytest.mark.parametrize("shape", ["mask", "polygon"])
def test_labelme(case, shape, monkeypatch):
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    labelme = pytest.importorskip("labelme._label_file", exc_type=ImportError)
    folder = case.export("labelme", f"-{shape}", shape=shape, pictures=str(case.root), tolerance=0.0)
    for name, truth in case.truth.items():
        read = labelme.read_label_file(str(folder / "labels" / f"{name}.json"))
        size = truth.masks.shape[1:]
        whole = np.zeros(truth.masks.shape, dtype=bool)
        for one in read.shapes:
            assert one["label"] == case.names(name)[one["group_id"] - 1]
            part = (
                inside(one["mask"], *one["points"][0], size)
                if shape == "mask"
                else painted(np.array(one["points"]), size)
            )
            whole[one["group_id"] - 1] |= part
        for got, mask in zip(whole, truth.masks.numpy()):
            assert overlap(got, mask) >= (1.0 if shape == "mask" else 0.9)


def test_x_anylabeling(case, monkeypatch):
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    reader = pytest.importorskip("anylabeling.views.labeling.label_file", exc_type=ImportError)
    folder = case.export("labelme", "-x", pictures=str(case.root), tolerance=0.0)
    for name, truth in case.truth.items():
        read = reader.LabelFile(str(folder / "labels" / f"{name}.json"))
        whole = np.zeros(truth.masks.shape, dtype=bool)
        for one in read.shapes:
            assert one.label == case.names(name)[one.group_id - 1]
            points = np.array([[point.x(), point.y()] for point in one.points])
            whole[one.group_id - 1] |= painted(points, truth.masks.shape[1:])
        for got, mask in zip(whole, truth.masks.numpy()):
            assert overlap(got, mask) > 0.9
