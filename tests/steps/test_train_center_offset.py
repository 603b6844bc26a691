"""Training the centre and offset network on made-up scenes, and labelling and predicting with it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from wsis.__main__ import main
from wsis.data.artifacts import write_png
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.data.points import point_lines
from wsis.errors import ConfigError, ExitCode
from wsis.labels.center_offset.network import network_fields
from wsis.labels.points import center_points
from wsis.models import CamNet, build_backbone, build_center_offset_net
from wsis.runtime.shards import iterate_rows
from wsis.steps import label, predict, train_center_offset
from wsis.training.center_offset_training import CenterOffsetTraining
from wsis.training.checkpoint import load_network, save_network
from wsis.training.config import MachineConfig, OptimConfig

DATA = DataConfig(kind="scenes", num=10, num_classes=2, min_side=48, max_side=64)
MACHINE = MachineConfig(device="cpu", workers=0, checkpoint_every=2, log_every=1)


@pytest.fixture(scope="module")
def weak(tmp_path_factory):
    """True semantic maps and one point in the middle of every object."""
    folder = tmp_path_factory.mktemp("weak")
    data = open_data(DATA)
    (folder / "points").mkdir()
    for index, name in enumerate(data.ids):
        write_png(folder / f"{name}.png", data.load_semantic(index))
        (folder / "points" / f"{name}.txt").write_bytes(point_lines(center_points(data.load_instances(index))))
    return folder


def config(weak, out, **changes):
    base = {
        "data": DATA,
        "semantic": str(weak),
        "points": str(weak / "points"),
        "out": str(out),
        "architecture": "tiny",
        "long_side": 65,
        "crop": 64,
        "holdout": 0.2,
        "validate_every": 3,
        "optim": OptimConfig("adamw", lr=1e-3, steps=5, batch_size=4),
        "machine": MACHINE,
    }
    return train_center_offset.Config(**{**base, **changes})


@pytest.fixture(scope="module")
def trained(weak, tmp_path_factory):
    return train_center_offset.run(config(weak, tmp_path_factory.mktemp("straight") / "net"))


def weights(path):
    return load_network(path, kind="center_offset_net").state_dict()


def test_it_trains_measures_and_does_not_repeat_itself(weak, trained):
    folder = trained.network.parent
    rows = [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 5]
    assert set(rows[0]) == {"step", "ap25", "ap50"}
    meta = json.loads(trained.network.with_suffix(".json").read_text())
    assert (meta["kind"], meta["backbone"]) == ("center_offset_net", "tiny")
    assert meta["best"]["step"] in (3, 5)
    parts = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert {"loss", "semantic", "center", "offset"} <= set(parts[-1])
    assert "nothing to do" in train_center_offset.run(config(weak, folder)).summary()


@pytest.mark.parametrize("supervision", ["image", "point"])
def test_killed_and_resumed_equals_straight(weak, tmp_path, supervision, monkeypatch):
    straight = train_center_offset.run(config(weak, tmp_path / "a", supervision=supervision))
    step = CenterOffsetTraining.training_step

    def dies(self, batch, batch_idx):
        if self.step == 3:
            raise ConnectionAbortedError("killed")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(CenterOffsetTraining, "training_step", dies)
        with pytest.raises(ConnectionAbortedError):
            train_center_offset.run(config(weak, tmp_path / "b", supervision=supervision))
    resumed = train_center_offset.run(config(weak, tmp_path / "b", supervision=supervision))
    assert resumed.resumed_from == 2
    want = weights(straight.network)
    assert all(torch.equal(value, want[name]) for name, value in weights(resumed.network).items())


def test_refinement_and_supervision_change_what_is_learnt(weak, trained, tmp_path):
    listed = tmp_path / "listed.txt"
    listed.write_text("\n".join(open_data(DATA).ids[::2]) + "\n")
    others = {
        "off": {"refine": False},
        "point": {"supervision": "point"},
        "mixture": {"supervision": "mixture", "point_list": str(listed)},
        "hardest": {"hardest": 1.0},
        "guidance": {"guidance": False},
    }
    seen = [weights(trained.network)["offset.1.weight"]]
    for name, changes in others.items():
        made = train_center_offset.run(config(weak, tmp_path / name, keep="last", **changes))
        seen.append(weights(made.network)["offset.1.weight"])
    for one, first in enumerate(seen):
        assert not any(torch.equal(first, second) for second in seen[:one])


def test_it_begins_with_a_classifier_and_leaves_its_first_stages_alone(weak, tmp_path):
    classifier = CamNet(build_backbone("tiny"), 2)
    names = list(open_data(DATA).categories.names)
    save_network(tmp_path / "cam", classifier, {"backbone": "tiny", "categories": names})
    changes = {"cam_weights": str(tmp_path / "cam"), "trainable_from": 2}
    made = weights(train_center_offset.run(config(weak, tmp_path / "net", **changes)).network)
    first = {id(p) for p in classifier.backbone.parameters()} - {id(p) for p in classifier.backbone.stage_parameters(2)}
    assert first
    for name, value in classifier.backbone.named_parameters():
        assert torch.equal(value, made[f"body.backbone.{name}"]) == (id(value) in first), name
    with pytest.raises(ConfigError, match=r"cam_weights: got architecture hrnet_w32, .*\n.*trainable_from: got"):
        config(weak, tmp_path, architecture="hrnet_w32", **changes)
    with pytest.raises(ConfigError, match=r"checkpoint: .* has backbone tiny, expected mobilenet_v2"):
        train_center_offset.run(config(weak, tmp_path / "other", architecture="mobilenet_v2", **changes))


def test_the_best_state_may_be_chosen_on_the_test_set_if_that_is_asked_for(weak, tmp_path):
    made = train_center_offset.run(config(weak, tmp_path / "net", select_on_test="val"))
    assert json.loads(made.network.with_suffix(".json").read_text())["training"]["select_on_test"] == "val"


def test_every_problem_is_named(weak, tmp_path):
    with pytest.raises(ConfigError) as caught:
        train_center_offset.Config(architecture="hrnet", supervision="box", keep="best", holdout=0.0)
    for words in ("did you mean", "supervision: got 'box'", "nothing is measured"):
        assert words in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        train_center_offset.run(config(weak, "", semantic="none", points="none.csv"))
    for words in ("out: is empty", "none is not a folder", "none.csv"):
        assert words in str(caught.value)
    (tmp_path / "points").mkdir()
    with pytest.raises(ConfigError) as caught:
        train_center_offset.run(config(tmp_path, tmp_path / "net", points=str(tmp_path / "points")))
    for words in ("10 images have no map", "10 images have no points", "--missing_points=empty"):
        assert words in str(caught.value)
    with pytest.raises(ConfigError, match="goes with supervision = mixture"):
        config(weak, tmp_path, point_list="x")


def test_a_map_of_another_size_is_recorded_and_replaced(weak, tmp_path):
    data = open_data(DATA)
    for name in data.ids:
        (tmp_path / f"{name}.png").write_bytes((weak / f"{name}.png").read_bytes())
    write_png(tmp_path / f"{data.ids[0]}.png", np.zeros((7, 7), np.uint8))
    made = train_center_offset.run(
        config(tmp_path, tmp_path / "net", points=str(weak / "points"), holdout=0.0, keep="last")
    )
    faults = [
        row for line in (made.network.parent / "log.jsonl").open() if (row := json.loads(line)).get("event") == "fault"
    ]
    assert any("7 x 7" in row["text"] and data.ids[0] in row["text"] for row in faults)


def certain(path, shift):
    """A network that calls everything the first class, with the same centre value everywhere and no offsets."""
    net = build_center_offset_net("tiny", 2)
    for value in net.state_dict().values():
        if value.is_floating_point():
            value.mul_(0.0)
    net.semantic[1].bias.data[1] = 5.0
    net.center[1].bias.data[0] = shift
    save_network(path, net.eval(), {"backbone": "tiny", "categories": ["ball", "crate"]})
    return path


def test_label_and_predict_decode_it(tmp_path):
    path = certain(tmp_path / "net.safetensors", 0.05)
    words = {"data": DATA, "method": "center_offset", "center_offset_weights": str(path), "device": "cpu"}
    tagged = label.run(label.Config(out=str(tmp_path / "a"), semantic=str(tmp_path / "maps"), **words))
    free = label.run(label.Config(out=str(tmp_path / "b"), use_tags=False, mirror=True, batch_size=1, **words))
    data = open_data(DATA)
    assert (tagged.exit_code, free.exit_code) == (0, 0)
    for index, (one, other) in enumerate(zip(iterate_rows(tagged.out), iterate_rows(free.out))):
        present = 0 in data[index].labels
        assert bool(one.label) == present
        assert set(other.label) == {0}
        assert sum(other.area) == one.height * one.width
        assert other.bbox_xywh[0] == [0, 0, one.width, one.height]
    write_png(tmp_path / "photo.png", data.load_image(0))
    made = predict.run(predict.Config((str(tmp_path / "photo.png"),), center_offset_weights=str(path), device="cpu"))
    assert made.exit_code == 0
    assert made.rows[0].label == [0]
    assert made.pictures[0].is_file()
    with pytest.raises(ConfigError, match="was given together with cam_weights"):
        predict.Config(center_offset_weights="a", cam_weights="b")


def test_points_given_to_label_are_its_instances(tmp_path, capsys):
    path, data = certain(tmp_path / "net.safetensors", 0.05), open_data(DATA)
    (tmp_path / "points").mkdir()
    for name in data.ids:
        (tmp_path / "points" / f"{name}.txt").write_text("3 20 0 1.000\n40 20 0 1.000\n")
    (tmp_path / "points" / f"{data.ids[1]}.txt").unlink()
    (tmp_path / "points" / f"{data.ids[2]}.txt").write_text("3 20 7 1.000\n")
    words = {"data": DATA, "method": "center_offset", "center_offset_weights": str(path), "device": "cpu"}
    made = label.run(
        label.Config(out=str(tmp_path / "a"), points=str(tmp_path / "points"), use_tags=False, max_faults=2, **words)
    )
    assert made.exit_code == ExitCode.WITH_FAULTS
    rows = list(iterate_rows(made.out))
    assert [(row.status, row.code) for row in rows[1:3]] == [("skipped", "E_MISSING"), ("skipped", "E_RANGE")]
    for row in (rows[0], *rows[3:]):
        assert row.label == [0, 0]
        left, right = row.bbox_xywh
        assert left[0] == 0
        assert right[0] == left[2] > 0
        assert left[2] + right[2] == row.width, "every pixel goes to the nearer point"
    with pytest.raises(ConfigError, match="points: method irnet takes none"):
        label.Config(points="x")
    with pytest.raises(ConfigError, match=r"none\.csv"):
        label.run(label.Config(out=str(tmp_path / "b"), points="none.csv", **words))


def test_the_network_may_see_pictures_at_the_size_of_its_training():
    net = build_center_offset_net("tiny", 2).eval()
    seen = []
    net.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape[2:])))
    with torch.no_grad():
        net.offset[-1].weight.zero_()
        net.offset[-1].bias.copy_(torch.tensor([3.0, -5.0]))
        fields = network_fields(net, torch.zeros(1, 3, 100, 200, dtype=torch.uint8), long_side=64)
        plain = network_fields(net, torch.zeros(1, 3, 100, 200, dtype=torch.uint8))
    assert seen == [(32, 64), (128, 224)]
    assert fields.semantic.shape[2:] == plain.semantic.shape[2:] == (100, 200)
    torch.testing.assert_close(fields.offset[0, :, 50, 100], torch.tensor([3.0, -5.0]) * 200 / 64)
    torch.testing.assert_close(plain.offset[0, :, 50, 100], torch.tensor([3.0, -5.0]))


def test_the_command_names_the_network_that_is_missing(tmp_path, capsys):
    words = ["label", "--method=center_offset", "--data.kind=scenes", f"--out={tmp_path}"]
    assert main(words) == 2
    assert "--center_offset_weights=PATH" in capsys.readouterr().err
