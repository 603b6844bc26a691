"""Detectors: training on labels and on true masks, regions that do not count, prediction, and what is refused."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from wsis.data import rle
from wsis.data.dataset import open_data
from wsis.errors import ConfigError, DataFault
from wsis.evaluation.compare import Found
from wsis.formats.sources import Source
from wsis.models import CamNet, build_backbone
from wsis.models.detector import DETECTORS, Detector, build_detector
from wsis.models.detector_heads import open_share, use_open_pixels
from wsis.runtime.shards import iterate_rows
from wsis.steps import evaluate, label, predict, train_detector
from wsis.training.batches import BatchPlan, CropData
from wsis.training.checkpoint import load_network, read_meta, save_network
from wsis.training.config import MachineConfig, OptimConfig
from wsis.training.detector_training import DetectorSamples, DetectorTraining, Filters
from wsis.training.fit import fit

SMALL = "maskrcnn_mobilenet_v2_fpn"
MACHINE = MachineConfig(device="cpu", workers=0, log_every=1, checkpoint_every=1)
OPTIM = OptimConfig("momentum", lr=1e-3, new_layers=1.0, steps=2, batch_size=2)


@pytest.fixture
def labels(photos, tmp_path):
    """The exact masks of the scenes as a COCO file."""
    data = open_data(photos)
    table = {"images": [], "annotations": [], "categories": []}
    table["categories"] = [{"id": k + 1, "name": name} for k, name in enumerate(data.categories.names)]
    for index in range(len(data)):
        found = data.load_instances(index)
        height, width = found.masks.shape[1:]
        table["images"].append({"id": index, "file_name": f"{data[index].id}.jpg", "height": height, "width": width})
        for code, name in zip(rle.encode_masks(found.masks.numpy()), found.labels.tolist()):
            segmentation = {"size": code["size"], "counts": code["counts"].decode()}
            row = {"image_id": index, "category_id": name + 1, "segmentation": segmentation}
            table["annotations"].append({"id": len(table["annotations"]) + 1, "score": 0.9, **row})
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(table))
    return path


def config(labels, photos, out, **changes):
    base = {"architecture": SMALL, "min_side": 64, "max_side": 96, "anchor": 8, "optim": OPTIM, "machine": MACHINE}
    return train_detector.Config(str(labels), photos, str(out), **(base | changes))


def test_train_label_evaluate_and_predict(labels, photos, tmp_path):
    result = train_detector.run(config(labels, photos, tmp_path / "net", ema=0.9))
    assert result.steps == 2
    assert read_meta(result.network)["kind"] == "detector"
    again = train_detector.run(config(labels, photos, tmp_path / "net", ema=0.9))
    assert again.resumed_from == again.steps
    found = {"min_score": 0.0, "nms": 0.5}
    thresholds = label.detector_labeller.Config(**found)
    made = label.run(
        label.Config(
            data=photos,
            out=str(tmp_path / "run"),
            method="detector",
            detector_weights=str(result.network),
            detector=thresholds,
            semantic=str(tmp_path / "maps"),
            device="cpu",
        )
    )
    assert made.exit_code == 0
    rows = list(iterate_rows(tmp_path / "run"))
    assert len(rows) == len(open_data(photos))
    assert sum(map(len, rows)) > 0
    figures = evaluate.run(evaluate.Config(runs=(str(tmp_path / "run"),), data=photos, coco="none")).figures
    assert figures["runs"][0]["missing"] == 0
    data = open_data(photos)
    seen = predict.run(
        predict.Config(
            photos=(str(data[0].image_path),),
            detector_weights=str(result.network),
            detector=thresholds,
            tags=(data.categories.names[1],),
            min_score=0.0,
            device="cpu",
        )
    )
    assert seen.pictures[0].is_file()
    assert set(seen.rows[0].label) <= {1}


def test_true_masks_are_one_flag_away(labels, photos, tmp_path):
    result = train_detector.run(
        config(labels, photos, tmp_path / "net", true_masks=True, optim=dataclasses.replace(OPTIM, steps=1))
    )
    assert read_meta(result.network)["training"]["true_masks"] is True
    with pytest.raises(ConfigError, match="true_masks"):
        train_detector.run(config(labels, photos, tmp_path / "net"))


def test_interrupted_equals_straight(photos, tmp_path):
    data = open_data(photos)
    samples = DetectorSamples(data, None, Filters(), "", 64, 96, 0.2, 0)

    def train(folder, stop_at=None):
        torch.manual_seed(0)
        net = build_detector(SMALL, len(data.categories), min_side=64, max_side=96, anchor=8)
        training = DetectorTraining(net, OPTIM, 2, 0, ema=0.5)
        folder.mkdir(exist_ok=True)
        fit(training, CropData(samples, len(data)), BatchPlan(len(data), 2, 2, 0), folder, MACHINE, stop_at)
        training.finish()
        return net.state_dict()

    straight = train(tmp_path / "a")
    train(tmp_path / "b", stop_at=1)
    resumed = train(tmp_path / "b")
    assert all(torch.equal(value, resumed[key]) for key, value in straight.items())


def _found(scores, area=100):
    masks = np.zeros((len(scores), 20, 20), dtype=bool)
    masks[:, : area // 10, :10] = True
    return Found((20, 20), rle.encode_masks(masks), np.zeros(len(scores), np.int64), np.array(scores, np.float32))


def test_filters_at_their_bounds():
    found = _found([0.5, 0.3, 0.7, 0.29])
    assert Filters(0.5, 0.3).split(found) == ([2, 0], [1])
    assert Filters(0.5).split(found) == ([2, 0], [])
    assert Filters(0.0, top=1).split(found) == ([2], [0, 1, 3])
    assert Filters(0.0, min_area=100).split(found)[0] == [2, 0, 1, 3]
    assert Filters(0.0, min_area=101).split(found) == ([], [])


def test_ignored_instances_become_open_pixels(photos):
    data = open_data(photos)
    height, width = data.load_image(0).shape[:2]
    masks = np.zeros((2, height, width), dtype=bool)
    masks[0, :20, :20] = True
    masks[1, 10:30, 10:30] = True
    found = Found((height, width), rle.encode_masks(masks), np.array([1, 2]), np.array([0.9, 0.2], np.float32))
    source = Source("a", None, "label run", lambda name, size: found)
    samples = DetectorSamples(data, source, Filters(0.5, 0.1), "", min(height, width), 500, 0.0, 0)
    sample = samples(0, 0)["sample"]
    assert sample["labels"].tolist() == [2]
    assert int(sample["open"].sum()) == 300
    assert not bool((sample["open"] & (sample["masks"][0] > 0)).any())
    wrong = Found((height + 1, width), found.rles, found.labels, found.scores)
    bad = DetectorSamples(data, Source("a", None, "label run", lambda n, s: wrong), Filters(), "", 64, 96, 0.0, 0)
    with pytest.raises(DataFault, match="labels are for"):
        bad(0, 0)


def test_open_share_of_boxes():
    pixels = torch.zeros(10, 12, dtype=torch.bool)
    pixels[:, 6:] = True
    boxes = torch.tensor([[0.0, 0, 12, 10], [6, 0, 12, 10], [0, 0, 6, 10], [-10, -10, 7, 5], [20, 20, 30, 30]])
    assert open_share(pixels, boxes).tolist() == pytest.approx([0.5, 1.0, 0.0, 1 / 7, 0.0])


def test_without_open_pixels_the_losses_are_torchvisions(photos):
    from torchvision.models.detection.roi_heads import RoIHeads
    from torchvision.models.detection.rpn import RegionProposalNetwork

    torch.manual_seed(0)
    net = build_detector(SMALL, 5, min_side=64, max_side=96, anchor=8).train()
    samples = DetectorSamples(open_data(photos), None, Filters(), "", 64, 96, 0.0, 0)
    batch = [samples(0, index)["sample"] for index in range(2)]
    targets = [{**sample, "open": torch.zeros_like(sample["open"])} for sample in batch]

    def losses():
        torch.manual_seed(1)
        with torch.no_grad():
            return net([sample["image"] for sample in batch], targets)

    own = losses()
    net.rcnn.rpn.__class__, net.rcnn.roi_heads.__class__ = RegionProposalNetwork, RoIHeads
    theirs = losses()
    assert own.keys() == theirs.keys()
    for name, value in theirs.items():
        assert float(own[name]) == pytest.approx(float(value), rel=1e-5), name
    use_open_pixels(net.rcnn)
    targets = [{**target, "open": torch.ones_like(target["open"])} for target in targets]
    assert float(losses()["loss_mask"]) == 0.0
    anchors = [torch.tensor([[0.0, 0, 8, 8], [0, 0, 4, 8]])] * 2
    assigned, _ = net.rcnn.rpn.assign_targets_to_anchors(anchors, targets)
    assert not any(bool((label == 0).any()) for label in assigned)


def test_images_without_instances_teach_the_background():
    net = build_detector(SMALL, 3, min_side=64, max_side=96, anchor=8).train()
    target = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 64, 64, dtype=torch.uint8),
        "open": torch.zeros(64, 64, dtype=torch.bool),
    }
    losses = net([torch.rand(3, 64, 64)], [target])
    assert all(torch.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()


@pytest.mark.parametrize("name", DETECTORS)
def test_every_architecture_is_built_and_detects(name):
    net = Detector(name, 3, 64, 96, 8, True).eval()
    found = net.detect([torch.zeros(3, 40, 50, dtype=torch.uint8)], min_score=0.0)[0]
    assert found.masks.shape[1:] == (40, 50)
    assert not any(module.training for module in net.train().body.modules() if isinstance(module, torch.nn.BatchNorm2d))


def test_saved_detectors_come_back_as_they_were(labels, photos, tmp_path):
    path = train_detector.run(config(labels, photos, tmp_path / "n", optim=dataclasses.replace(OPTIM, steps=1))).network
    net = load_network(path, kind="detector")
    assert net.spec == {"num_classes": 5, "min_side": 64, "max_side": 96, "anchor": 8, "frozen_norm": False}
    with pytest.raises(ConfigError, match="expected a cam_net"):
        load_network(path, kind="cam_net")


def test_body_of_a_classifier(labels, photos, tmp_path):
    names = list(open_data(photos).categories.names)
    torch.manual_seed(1)
    cam = CamNet(build_backbone("mobilenet_v2"), len(names))
    file = save_network(tmp_path / "cam", cam, {"backbone": "mobilenet_v2", "categories": names})
    optim = dataclasses.replace(OPTIM, steps=1, lr=1e-12)
    given = {"cam_weights": str(file), "fixed": ("0", "1"), "optim": optim}
    net = load_network(train_detector.run(config(labels, photos, tmp_path / "net", **given)).network)
    assert net.frozen_norm
    want = cam.backbone.state_dict()
    for key, value in net.body.state_dict().items():
        assert torch.allclose(value, want["features." + key], atol=1e-6)
    image = torch.rand(1, 3, 64, 64)
    for first, second in zip(cam.backbone.eval()(image)[1:4], list(net.body.eval()(image).values())):
        assert torch.allclose(first, second, atol=1e-4)
    other = {**given, "architecture": "maskrcnn_mobilenet_v3_large_fpn"}
    with pytest.raises(ConfigError, match="has backbone mobilenet_v2, expected mobilenet_v3_large"):
        train_detector.run(config(labels, photos, tmp_path / "other", **other))
    with pytest.raises(ConfigError, match="together with weights"):
        config(labels, photos, tmp_path / "other", weights="a.pth", cam_weights=str(file))


def test_the_pictures_are_scaled_as_the_weights_want_them():
    for name, mean in ((SMALL, 128 / 255), ("maskrcnn_resnet50_fpn", 0.485)):
        assert Detector(name, 3, 64, 96, 8, True).rcnn.transform.image_mean[0] == pytest.approx(mean)


def test_random_bodies_learn_their_statistics():
    norms = [m for m in Detector(SMALL, 3, 64, 96, 8, False).train().body.modules() if hasattr(m, "running_mean")]
    before = [norm.running_mean.clone() for norm in norms]
    assert all(type(norm) is torch.nn.BatchNorm2d and norm.training for norm in norms)
    norms[0](torch.rand(2, 32, 4, 4))
    assert not torch.equal(before[0], norms[0].running_mean)


def test_problems_are_found_before_work(labels, photos, tmp_path):
    with pytest.raises(ConfigError) as caught:
        train_detector.Config(architecture="maskrcnn_resnet50", jitter=1.0, min_side=900, filters=Filters(min_score=2))
    for word in ("architecture", "did you mean", "jitter", "min_side", "filters.min_score"):
        assert word in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        train_detector.run(config("nowhere.json", photos, "", weights="gone.pth", uncertain="nothing"))
    for word in ("out", "nowhere.json", "gone.pth", "nothing"):
        assert word in str(caught.value)
    with pytest.raises(ConfigError, match=r"optim.batch_size: got 2, expected at most the 0 images"):
        train_detector.run(config(labels, photos, tmp_path / "net", filters=Filters(min_score=0.95)))
    text = json.loads(labels.read_text())
    text["annotations"][3]["image_id"] = 99
    labels.write_text(json.dumps(text))
    with pytest.raises(ConfigError, match=r"annotations\[3\].image_id"):
        train_detector.run(config(labels, photos, tmp_path / "net"))
