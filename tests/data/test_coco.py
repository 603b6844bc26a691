"""COCO layout: labels and masks from the instances file, class numbers with gaps, and what malformed files are told."""

from __future__ import annotations

import contextlib
import io
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.label_runs import row_of, write_run
from wsis.data import coco, rle
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.errors import ConfigError, DataFault
from wsis.steps import data_check, evaluate, export

SIZE = (20, 30)


def square(image: int, category: int, number: int, box=(2, 3, 10, 8), **more) -> dict:
    x, y, w, h = box
    polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
    return {
        "id": number, "image_id": image, "category_id": category, "bbox": list(box), "area": w * h, "iscrowd": 0,
        "segmentation": [polygon], **more,
    }  # fmt: skip


def content() -> dict:
    crowd = np.zeros(SIZE, bool)
    crowd[:, :4] = True
    counts = rle.decode_counts(rle.encode_mask(crowd)).tolist()
    return {
        "info": {"description": "né [1, {"},
        "images": [
            {"id": 139, "file_name": "000000000139.png", "height": 20, "width": 30},
            {"id": 9, "file_name": "000000000009.png", "height": 20, "width": 30},
            {"id": 7, "file_name": "000000000007.png", "height": 20, "width": 30},
        ],
        "annotations": [
            square(139, 90, 1),
            square(139, 1, 2, (12, 1, 4, 4)),
            square(9, 13, 3),
            square(9, 1, 4, segmentation={"size": list(SIZE), "counts": counts}, iscrowd=1),
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "pérson"}, {"id": 13, "name": "stop sign"}],
    }


def write(root: Path, value: object) -> DataConfig:
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    (root / "annotations" / "instances_val2017.json").write_text(text, encoding="utf-8")
    for number in (7, 9, 139):
        Image.new("RGB", SIZE[::-1], (number, 9, 9)).save(root / "val2017" / f"{number:012d}.png")
    return DataConfig(root=str(root), split="val2017")


@pytest.fixture
def config(tmp_path) -> DataConfig:
    return write(tmp_path / "coco", content())


def test_labels_and_masks(config):
    data = open_data(config)
    assert list(data.ids) == ["000000000007", "000000000009", "000000000139"]
    assert data.categories.names == ("pérson", "stop sign", "toothbrush")
    assert data.categories.ids == (1, 13, 90)
    assert [data[i].labels for i in range(3)] == [(), (0, 1), (0, 2)]
    assert data.load_image(0).shape == (*SIZE, 3)
    assert len(data.load_instances(0)) == 0
    two = data.load_instances(2)
    assert two.labels.tolist() == [2, 0]
    assert two.masks[0, 3:11, 2:12].all()
    assert int(two.masks[0].sum()) == 80
    assert data.load_instances(1).labels.tolist() == [1]
    semantic = data.load_semantic(1)
    assert set(np.unique(semantic)) == {0, 2, 255}
    assert (semantic[:, 0] == 255).all()
    assert (semantic[3:11, 2:12] == 2).all()


def test_crowds_neither_help_nor_harm_in_coco_ap(config, tmp_path):
    """The same figures as the COCO tools give for the file, with a prediction that lies on the crowd."""
    data = open_data(config)
    crowd = data.load_crowds(1)
    assert crowd.labels.tolist() == [0]
    assert len(data.load_crowds(2)) == 0
    found = []
    for number, image in ((9, 1), (139, 2)):
        true = data.load_instances(image)
        for mask, label in zip(true.masks.numpy(), true.labels.tolist()):
            code = rle.encode_mask(mask)
            found.append((number, data.categories.ids[label], code, 0.5))
    part = crowd.masks[0].numpy().copy()
    part[9:] = False
    found.append((9, 1, rle.encode_mask(part), 0.9))
    keys = ("image_id", "category_id", "segmentation", "score")
    rows = [dict(zip(keys, row)) for row in found]
    for row in rows:
        row["segmentation"] = {"size": list(SIZE), "counts": row["segmentation"]["counts"].decode()}
    (tmp_path / "found.json").write_text(json.dumps(rows))
    result = evaluate.run(evaluate.Config(runs=(str(tmp_path / "found.json"),), data=config, coco="pycocotools"))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(Path(config.root) / "annotations" / "instances_val2017.json"))
        one = COCOeval(truth, truth.loadRes(rows), "segm")
        one.evaluate()
        one.accumulate()
        one.summarize()
    assert result.figures["runs"][0]["coco"]["map"] == pytest.approx(one.stats[0])
    assert one.stats[0] == pytest.approx(1.0)


def test_results_call_images_by_the_numbers_of_the_file(tmp_path):
    """An instances file whose numbers are not those in the names of its pictures."""
    value = content()
    numbers = {"000000000007": 9, "000000000009": 139, "000000000139": 0}
    before = {image["id"]: numbers[image["file_name"][:-4]] for image in value["images"]}
    for image in value["images"]:
        image["id"] = before[image["id"]]
    for annotation in value["annotations"]:
        annotation["image_id"] = before[annotation["image_id"]]
    config = write(tmp_path / "coco", value)
    data = open_data(config)
    rows = [row_of(data[i].id, data.load_instances(i)) for i in range(3)]
    run = write_run(tmp_path / "run", rows, data.categories)
    head = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(head | {"data": vars(config)}))
    results = export.run(export.Config(run=str(run), format="coco-results")).path
    assert [row["image_id"] for row in json.loads(results.read_text())] == [139, 0, 0]
    (one,) = evaluate.run(evaluate.Config(runs=(str(results),), data=config)).figures["runs"]
    assert one["voc"]["map_75"] == 1.0
    assert one["missing"] == 1


def test_small_blocks_give_the_same(config, monkeypatch):
    want = open_data(config)
    monkeypatch.setattr(coco, "_BLOCK", 7)
    got = open_data(config)
    assert got.fingerprint() == want.fingerprint()
    for i in range(3):
        assert (got.load_semantic(i) == want.load_semantic(i)).all()


def test_a_byte_order_mark_is_passed_over(config):
    want = [open_data(config).load_semantic(i) for i in range(3)]
    file = Path(config.root) / "annotations" / "instances_val2017.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    data = open_data(config)
    for i in range(3):
        np.testing.assert_array_equal(data.load_semantic(i), want[i])


def test_list_and_single_split(config, tmp_path):
    (tmp_path / "few.txt").write_text("000000000139\n")
    assert list(open_data(DataConfig(root=config.root, list=str(tmp_path / "few.txt"))).ids) == ["000000000139"]
    (tmp_path / "few.txt").write_text("000000000140\n")
    with pytest.raises(ConfigError, match="'000000000140' is not in"):
        open_data(DataConfig(root=config.root, list=str(tmp_path / "few.txt")))
    with pytest.raises(ConfigError, match=r"no instances file.*did you mean 'val2017'"):
        open_data(DataConfig(kind="coco", root=config.root, split="val2014"))


def test_data_check(config):
    result = data_check.run(data_check.Config(**vars(config)))
    assert result.exit_code == 0
    assert [row["instances"] for row in result.classes] == [1, 1, 1]
    assert result.warnings["labelled as empty"] == ["000000000007"]


def test_test_dev_has_images_and_nothing_else(config):
    root = Path(config.root)
    value = {key: rows for key, rows in content().items() if key != "annotations"}
    (root / "annotations" / "image_info_test-dev2017.json").write_text(json.dumps(value))
    (root / "val2017").rename(root / "test2017")
    data = open_data(DataConfig(root=config.root, split="test-dev2017"))
    assert (data[2].labels, data.has_masks, data.categories.ids) == (None, False, (1, 13, 90))
    assert data[2].image_path == root / "test2017" / "000000000139.png"
    assert data.load_image(2).shape == (*SIZE, 3)


def broken(**changes) -> dict:
    value = content()
    for key, (number, name, item) in changes.items():
        value[key][number][name] = item
    return value


BAD = {
    "dangling image": (broken(annotations=(2, "image_id", 8)), r"annotations\[2\]\.image_id: 8 is no image"),
    "dangling class": (broken(annotations=(2, "category_id", 2)), r"annotations\[2\]\.category_id: 2 is no category"),
    "id twice": (broken(annotations=(2, "id", 1)), r"annotations\[2\]\.id: 1 stands there twice"),
    "image twice": (broken(images=(2, "id", 9)), r"images\[2\]\.id: 9 stands there twice"),
    "file twice": (broken(images=(2, "file_name", "000000000009.jpg")), r"images\[2\]\.file_name"),
    "no size": (broken(images=(0, "height", None)), r"images\[0\]: height and width are None and 30"),
    "leaves the folder": (broken(images=(0, "file_name", "../x.jpg")), "would leave the data folder"),
    "no name": (broken(images=(0, "file_name", "/")), "is an absolute path"),
    "a dot": (broken(images=(0, "file_name", ".")), "has the part '.'"),
    "bool id": (broken(annotations=(0, "image_id", True)), r"annotations\[0\]: image_id and category_id are True"),
    "box beside": (
        broken(annotations=(2, "bbox", [40, 3, 5, 5])),
        r"annotations\[2\]\.bbox: \[40, 3, 5, 5\] lies outside of its image, height 20, width 30",
    ),
    "box turned": (broken(annotations=(2, "bbox", [20, 3, -5, 5])), r"annotations\[2\]\.bbox"),
    "box text": (broken(annotations=(2, "bbox", [1, 2, "3", 4])), r"annotations\[2\]: bbox is \[1, 2, '3', 4\]"),
    "bad box": (broken(annotations=(0, "bbox", [1, 2])), r"annotations\[0\]: bbox is \[1, 2\]"),
    "class twice": (broken(categories=(1, "id", 90)), r"categories\[1\]"),
    "cut": (json.dumps(content())[:-40], "not the JSON of COCO"),
    "nan": (json.dumps(content()).replace('"area": 80', '"area": NaN'), "it holds NaN"),
    "list": ("[]", r"got '\[', expected '\{'"),
    "empty": ("", "the file ends too early"),
    "deep": ('{"info": ' + "[" * 100_000 + "]" * 100_000 + "}", "not the JSON of COCO"),
    "other": ("{}", "has no categories"),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_files_are_named(tmp_path, name):
    value, text = BAD[name]
    with pytest.raises(ConfigError, match=text):
        open_data(write(tmp_path / "coco", value))


@pytest.mark.parametrize(
    "segmentation",
    [
        [],
        [[1, 2, 3]],
        [[0, 0, 1e9, 0, 1, 1]],
        {"size": [20, 31], "counts": [620]},
        {"size": [20, 30], "counts": "x"},
        7,
    ],
)
def test_bad_masks_cost_one_image(tmp_path, segmentation):
    data = open_data(write(tmp_path / "coco", broken(annotations=(0, "segmentation", segmentation))))
    assert data[2].labels == (0, 2)
    with pytest.raises(DataFault, match=r"E_RANGE 000000000139 .*annotations\[0\]\.segmentation"):
        data.load_instances(2)
    assert len(data.load_instances(1)) == 1


def test_a_mask_without_a_pixel_costs_one_image(tmp_path):
    nothing = {"size": [20, 30], "counts": [600]}
    data = open_data(write(tmp_path / "coco", broken(annotations=(0, "segmentation", nothing))))
    with pytest.raises(DataFault, match=r"E_SHAPE 000000000139 .*annotations\[0\] has no pixel"):
        data.load_instances(2)
    assert set(np.unique(data.load_semantic(2))) == {0, 1}


def test_a_long_file_is_not_held(tmp_path, monkeypatch):
    """Of an annotation a class and a place are kept, not its polygon."""
    monkeypatch.setattr(coco, "_BLOCK", 1 << 14)
    value = content()
    value["annotations"] = [
        square(139, 90, number, segmentation=[[2.5, 3.5] * 700 + [12, 3, 12, 11, 2, 11]]) for number in range(160)
    ]
    config = write(tmp_path / "coco", value)
    tracemalloc.start()
    data = open_data(config)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert data[2].labels == (2,)
    assert peak < (tmp_path / "coco/annotations/instances_val2017.json").stat().st_size / 2
