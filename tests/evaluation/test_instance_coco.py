"""COCO mask AP: by hand, both libraries alike, and nothing unchecked reaches them."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pycocotools import mask as codec

from tests.golden_cases import SEEDS, bestie_instances, load_scene, true_instances
from wsis.data import rle
from wsis.evaluation.instance_coco import CocoAP, checked_rles, evaluate
from wsis.structures import Instances

BACKENDS = ["pycocotools", "faster-coco-eval"]


@pytest.fixture(params=BACKENDS)
def backend(request):
    if request.param == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")
    return request.param


def box(*edges: int, size=(20, 20)) -> torch.Tensor:
    top, left, bottom, right = edges
    mask = torch.zeros(size, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def instances(*rows: tuple) -> Instances:
    if not rows:
        return Instances.empty((20, 20))
    return Instances(
        torch.stack([row[0] for row in rows]),
        torch.tensor([row[1] for row in rows]),
        torch.tensor([float(row[2]) if len(row) > 2 else 1.0 for row in rows]),
    )


def test_perfect(backend):
    truth = [instances((box(0, 0, 10, 10), 0), (box(10, 10, 20, 20), 2))]
    result = evaluate(truth, truth, backend=backend)
    assert [result[name] for name in ("map", "map_50", "map_75", "mar_100")] == pytest.approx([1.0] * 4)
    assert result["ap"].tolist()[::2] == pytest.approx([1.0, 1.0])
    assert math.isnan(result["ap"][1])
    assert math.isnan(result["map_large"])
    assert result["map_small"] == pytest.approx(1.0)
    assert result["backend"] == backend


@pytest.mark.parametrize(("rows", "levels"), [(15, 6), (10, 1), (9, 0), (19, 10)])
def test_share_of_thresholds_reached(backend, rows, levels):
    """A prediction of some of an object's 20 rows: IoU rows / 20 passes 0.50, 0.55, .. up to itself."""
    result = evaluate([instances((box(0, 0, rows, 20), 0))], [instances((box(0, 0, 20, 20), 0))], backend=backend)
    assert result["map"] == pytest.approx(levels / 10)
    assert result["map_50"] == pytest.approx(float(rows >= 10))
    assert result["map_75"] == pytest.approx(float(rows >= 15))


def test_takes_a_second_best_object_unlike_voc(backend):
    """Both predictions fit the first object best; COCO lets the second take the other object."""
    true = [instances((box(0, 0, 8, 1), 0), (box(8, 0, 16, 1), 0))]
    found = [instances((box(0, 0, 8, 1), 0, 0.9), (box(0, 0, 16, 1), 0, 0.8))]
    assert evaluate(found, true, backend=backend)["map_50"] == pytest.approx(1.0)


def test_no_predictions_and_no_truth(backend):
    truth = [instances((box(0, 0, 5, 5), 1))]
    result = evaluate([instances()], truth, backend=backend)
    assert result["map"] == 0.0
    assert result["ap"].tolist()[1] == 0.0
    nothing = evaluate(truth, [instances()], backend=backend)
    assert math.isnan(nothing["map"])
    assert all(math.isnan(v) for v in nothing["ap"])
    assert math.isnan(evaluate([], [], backend=backend)["map"])


def test_crowd_regions_do_no_harm(backend):
    region = SimpleNamespace(
        masks=torch.stack([box(0, 0, 4, 4), box(10, 0, 20, 20)]),
        labels=torch.tensor([0, 0]),
        crowd=torch.tensor([False, True]),
    )
    found = [instances((box(12, 2, 15, 9), 0, 0.9), (box(0, 0, 4, 4), 0, 0.5))]
    assert evaluate(found, [region], backend=backend)["map"] == pytest.approx(1.0)


def test_both_libraries_agree_on_golden_and_random_scenes():
    pytest.importorskip("faster_coco_eval")
    scenes = [load_scene(seed) for seed in SEEDS]
    found, true = [bestie_instances(s) for s in scenes], [true_instances(s) for s in scenes]
    rng = np.random.default_rng(0)
    for _ in range(15):
        pair = []
        for count in rng.integers(0, 12, 2):
            rows = []
            for _ in range(count):
                top, left = rng.integers(0, 15, 2)
                bottom, right = top + rng.integers(1, 20), left + rng.integers(1, 20)
                rows.append((box(top, left, bottom, right), int(rng.integers(0, 4)), rng.integers(0, 5) / 4))
            pair.append(instances(*rows))
        found.append(pair[0])
        true.append(pair[1])
    one, two = (evaluate(found, true, num_classes=6, backend=b) for b in BACKENDS)
    for name, value in one.items():
        if name == "backend":
            continue
        np.testing.assert_allclose(np.asarray(value), np.asarray(two[name]), atol=1e-12, err_msg=name)
    assert 0 < one["map"] < 1


def test_matches_pycocotools_used_directly(tmp_path):
    """Through files and ``loadRes``, as the library's own documentation does it."""
    import json

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    scenes = [load_scene(seed) for seed in SEEDS]
    found, true = [bestie_instances(s) for s in scenes], [true_instances(s) for s in scenes]
    tables = []
    for side in (true, found):
        rows = []
        for image, one in enumerate(side):
            for mask, label, score in zip(one.masks, one.labels, one.scores):
                rle = codec.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
                rle["counts"] = rle["counts"].decode()
                row = {"image_id": image + 1, "category_id": int(label) + 1, "segmentation": rle}
                rows.append(row | {"score": float(score)})
        tables.append(rows)
    dataset = {
        "images": [{"id": i + 1, "height": 48, "width": 64} for i in range(len(scenes))],
        "categories": [{"id": k + 1, "name": str(k)} for k in range(4)],
        "annotations": [
            row | {"id": i + 1, "iscrowd": 0, "area": float(codec.area(row["segmentation"]))}
            for i, row in enumerate(tables[0])
        ],
    }
    for name, content in (("truth.json", dataset), ("found.json", tables[1])):
        (tmp_path / name).write_text(json.dumps(content))
    truth = COCO(str(tmp_path / "truth.json"))
    evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / "found.json")), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    result = evaluate(found, true, num_classes=4, backend="pycocotools")
    names = ["map", "map_50", "map_75", "map_small", "map_medium", "map_large"]
    names += ["mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large"]
    for name, value in zip(names, evaluation.stats):
        expected = math.nan if value == -1 else value
        assert result[name] == pytest.approx(expected, abs=1e-12, nan_ok=True), name


GOOD = {"size": [4, 5], "counts": [3, 17]}
BAD_RLE = {
    "no mapping": [1],
    "no counts": {"size": [4, 5]},
    "size zero": GOOD | {"size": [0, 0]},
    "size huge": GOOD | {"size": [65537, 5]},
    "size text": GOOD | {"size": ["4", 5]},
    "size float": GOOD | {"size": [4.0, 5]},
    "other image": GOOD | {"size": [5, 4]},
    "sum short": GOOD | {"counts": [3, 16]},
    "sum long": GOOD | {"counts": [3, 18]},
    "empty": GOOD | {"counts": b""},
    "negative": GOOD | {"counts": [-1, 21]},
    "float runs": GOOD | {"counts": [3.0, 17.0]},
    "nested": GOOD | {"counts": [[3, 17]]},
    "character": GOOD | {"counts": b"3!A"},
    "high character": GOOD | {"counts": b"3p"},
    "no end": GOOD | {"counts": b"3P"},
    "too long": GOOD | {"counts": b"P" * 20 + b"0"},
    "not ascii": GOOD | {"counts": "3é"},
    "number": GOOD | {"counts": 20},
}


@pytest.mark.parametrize("case", BAD_RLE)
@pytest.mark.parametrize("side", ["prediction", "ground truth"])
def test_no_malformed_mask_reaches_a_library(case, side):
    """Each of these would overrun, divide by zero or abort in pycocotools."""
    masks = ([BAD_RLE[case]], [GOOD]) if side == "prediction" else ([GOOD], [BAD_RLE[case]])
    with pytest.raises(ValueError, match=rf"CocoAP.add: image 0: {side}: .*rles\[0\]"):
        CocoAP().add(masks[0], [0], [1.0], masks[1], [0], size=(4, 5))


def test_lists_and_text_are_compressed():
    packed = rle.encode_counts([3, 17])
    for counts in ([3, 17], packed, packed.decode(), np.array([3, 17])):
        safe, areas = checked_rles([{"size": (4, 5), "counts": counts}], (4, 5), "x")
        assert safe == [{"size": [4, 5], "counts": packed}]
        assert areas.tolist() == [17]
        assert codec.decode(safe[0]).sum() == 17


def test_rejects_arguments():
    one = instances((box(0, 0, 5, 5), 0))
    with pytest.raises(ValueError, match="backend must be 'auto'"):
        evaluate([one], [one], backend="fast")
    with pytest.raises(ValueError, match="ground_truth ended after 0"):
        evaluate([one], [])
    with pytest.raises(ValueError, match="masks of image 0 must have one size"):
        evaluate([one], [Instances(torch.ones((1, 5, 5)), torch.tensor([0]))])
    with pytest.raises(ValueError, match="labels must be below num_classes = 1, got 1"):
        evaluate([instances((box(0, 0, 5, 5), 1))], [one], num_classes=1)
    with pytest.raises(ValueError, match="scores must be finite"):
        CocoAP().add([GOOD], [0], [math.inf], [], [])
    with pytest.raises(ValueError, match=r"crowd must be \[M\] with M = 1"):
        CocoAP().add([], [], [], [GOOD], [0], crowd=[True, False])


def test_missing_library_is_named(monkeypatch):
    monkeypatch.setattr("wsis.evaluation.instance_coco.find_spec", lambda name: None)
    assert CocoAP().backend == "pycocotools"
    with pytest.raises(ModuleNotFoundError, match="pip install faster-coco-eval"):
        CocoAP(backend="faster-coco-eval")
