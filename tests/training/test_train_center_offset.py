"""train-center-offset on made-up scenes: resume, kinds of supervision, what is measured, bad maps and points."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from wsis.data.artifacts import write_bytes, write_png
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.data.points import open_points, point_lines
from wsis.errors import ConfigError
from wsis.models import build_center_offset_net
from wsis.steps import train_center_offset
from wsis.training import fit as fit_module
from wsis.training.batches import BatchPlan, CropData
from wsis.training.center_offset_training import CenterOffsetSamples, CenterOffsetTraining, training_size
from wsis.training.checkpoint import load_network, read_meta
from wsis.training.checkpoint_io import newest_state
from wsis.training.config import MachineConfig, OptimConfig
from wsis.training.fit import fit

ROOT = Path(__file__).resolve().parents[2]
DATA = DataConfig(kind="scenes", num=8, num_classes=2, min_side=64, max_side=80)
MACHINE = MachineConfig(device="cpu", workers=0, checkpoint_every=2, log_every=1)
OPTIM = OptimConfig("adam", lr=1e-3, new_layers=1.0, weight_decay=0.0, steps=4, batch_size=2, warmup=2)


@pytest.fixture(scope="module")
def weak(tmp_path_factory):
    """True semantic maps, and a point in every instance."""
    folder, data = tmp_path_factory.mktemp("weak"), open_data(DATA)
    for index, name in enumerate(data.ids):
        (folder / "maps").mkdir(exist_ok=True)
        (folder / "points").mkdir(exist_ok=True)
        write_png(folder / "maps" / f"{name}.png", data.load_semantic(index))
        rows = []
        for mask, label in zip(data.load_instances(index).masks, data.load_instances(index).labels):
            inner = -torch.nn.functional.max_pool2d(-mask[None].float(), 5, 1, 2)[0] > 0
            places = (inner if bool(inner.any()) else mask).nonzero()
            y, x = places[len(places) // 2].tolist()
            rows.append((x, y, int(label), 1.0))
        write_bytes(folder / "points" / f"{name}.txt", point_lines(rows))
    return folder


def config_of(tmp_path, weak, **changes):
    base = {
        "data": DATA,
        "semantic": str(weak / "maps"),
        "points": str(weak / "points"),
        "out": str(tmp_path / "net"),
        "architecture": "tiny",
        "long_side": 65,
        "crop": 64,
        "holdout": 0.25,
        "validate_every": 2,
        "optim": OPTIM,
        "machine": MACHINE,
    }
    return train_center_offset.Config(**{**base, **changes})


def samples_of(weak, by_point=frozenset(), seed=0, crop=64):
    data = open_data(DATA)
    normalization = ((127.5,) * 3, (63.75,) * 3)
    points = open_points(weak / "points", data.categories)
    return CenterOffsetSamples(data, str(weak / "maps"), points, 0.7, by_point, normalization, 65, crop, seed)


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def train(folder, weak, stop_at=None, steps=4):
    """Straight or interrupted, with refinement, and with dropout in the network."""
    torch.manual_seed(0)
    net = build_center_offset_net("tiny", 2)
    net.center.insert(1, torch.nn.Dropout(0.5))
    training = CenterOffsetTraining(net, OPTIM, steps, seed=5)
    folder.mkdir(exist_ok=True)
    figures = fit(training, CropData(samples_of(weak), 8), BatchPlan(8, 2, steps, 0), folder, MACHINE, stop_at)
    return net.state_dict(), figures


def test_interrupted_equals_straight(tmp_path, weak):
    straight, _ = train(tmp_path / "a", weak)
    train(tmp_path / "b", weak, stop_at=3)
    resumed, figures = train(tmp_path / "b", weak)
    assert figures["resumed_from"] == 3
    assert all(torch.equal(value, resumed[key]) for key, value in straight.items())


def test_killed_and_resumed_equals_straight(tmp_path, weak):
    """The process is killed (SIGKILL) after its first checkpoint; the same call then gives the weights, the best state
    and the measurements of a training that nobody disturbed."""
    optim = dataclasses.replace(OPTIM, steps=10)
    straight = train_center_offset.run(config_of(tmp_path, weak, out=str(tmp_path / "straight"), optim=optim))
    config = config_of(tmp_path, weak, out=str(tmp_path / "killed"), optim=optim)
    words = [f"--{name}={getattr(config, name)}" for name in ("semantic", "points", "out", "architecture")]
    words += [f"--{name}={getattr(config, name)}" for name in ("long_side", "crop", "holdout", "validate_every")]
    for group in ("data", "optim", "machine"):
        default = dataclasses.asdict(getattr(train_center_offset.Config(), group))
        for name, value in dataclasses.asdict(getattr(config, group)).items():
            words += [f"--{group}.{name}={value}"] if value != default[name] else []
    command = [sys.executable, "-m", "wsis", "train-center-offset", *words]
    threads = str(torch.get_num_threads())
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    first = Path(config.out) / "checkpoints" / "step-00000002.json"
    deadline = time.monotonic() + 200
    while not first.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read().decode()[-2000:]
    resumed = train_center_offset.run(config)
    assert resumed.resumed_from in (2, 4, 6, 8)
    one, other = load_file(straight.network), load_file(resumed.network)
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    assert read_meta(resumed.network)["best"] == read_meta(straight.network)["best"]
    figures = [
        {row["step"]: row for row in rows_of(Path(r.network).parent / "validation.jsonl")} for r in (straight, resumed)
    ]
    assert figures[0] == figures[1]
    assert sorted(figures[0]) == [2, 4, 6, 8, 10]


def test_held_out_images_are_measured_and_not_trained_on(tmp_path, weak):
    config = config_of(tmp_path, weak)
    kept, held = train_center_offset._split(config, 8)
    assert len(held) == 2
    assert sorted(kept + held) == list(range(8))
    ids, data = [], open_data(DATA)
    loss = CenterOffsetTraining.loss

    def watched(self, batch):
        ids.extend(batch["id"])
        return loss(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CenterOffsetTraining, "loss", watched)
        result = train_center_offset.run(config)
    assert len(ids) == 8
    assert set(ids) <= {data.ids[index] for index in kept}
    assert [row["step"] for row in rows_of(tmp_path / "net" / "validation.jsonl")] == [2, 4]
    assert read_meta(result.network)["best"]["step"] in (2, 4)
    assert "nothing to do" in train_center_offset.run(config).summary()
    with pytest.raises(ConfigError, match="refine"):
        train_center_offset.run(dataclasses.replace(config, refine=False))


def test_selection_on_another_split_uses_its_masks(tmp_path, weak):
    seen = []
    measure = train_center_offset.measure_ap

    def watched(net, images, places, config, samples):
        seen.append((images.split, len(places), samples))
        return measure(net, images, places, config, samples)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_center_offset, "measure_ap", watched)
        train_center_offset.run(config_of(tmp_path, weak, select_on_test="val"))
    assert seen == [("val", 8, None)] * 2


def test_the_last_state_is_kept_on_request(tmp_path, weak):
    result = train_center_offset.run(config_of(tmp_path, weak, keep="last", holdout=0.0))
    state, _ = newest_state(tmp_path / "net" / "checkpoints")
    trained = load_network(result.network, kind="center_offset_net").state_dict()
    assert not (tmp_path / "net" / "validation.jsonl").exists()
    assert "best" not in read_meta(result.network)
    assert state["step"] == 4
    assert all(torch.equal(trained[key], value) for key, value in state["net"].items())


def test_a_mixed_batch_is_the_mean_of_its_kinds(weak):
    names = open_data(DATA).ids
    batches = {}
    for kind, by_point in (("image", frozenset()), ("point", None), ("mixture", frozenset(names[1:3]))):
        items = [samples_of(weak, by_point)(0, index) for index in (0, 1, 2, 3)]
        batches[kind] = fit_collate(items)
    assert batches["mixture"]["by_point"] == [False, True, True, False]
    torch.manual_seed(0)
    net = build_center_offset_net("tiny", 2).eval()
    training = CenterOffsetTraining(net, OPTIM, 4)

    def part(kind, members):
        batch = {
            k: v[members] if isinstance(v, torch.Tensor) else [v[i] for i in members] for k, v in batches[kind].items()
        }
        return training.loss(batch)

    mixed, image, point = training.loss(batches["mixture"]), part("image", [0, 3]), part("point", [1, 2])
    for name in ("loss", "semantic", "center", "offset"):
        torch.testing.assert_close(mixed[name], (image[name] + point[name]) / 2)
    assert not torch.allclose(point["center"], part("image", [1, 2])["center"])


def fit_collate(items):
    from wsis.training.batches import _collate

    return _collate([{**item, "faults": []} for item in items])


def test_refinement_changes_centre_and_offset_alone(weak):
    batch = fit_collate([samples_of(weak)(0, index) for index in range(4)])
    torch.manual_seed(0)
    net = build_center_offset_net("tiny", 2).eval()
    with torch.no_grad():
        net.center[-1].bias.fill_(0.5)
    off, on = (CenterOffsetTraining(net, OPTIM, 4, refine=refine).loss(batch) for refine in (False, True))
    assert torch.equal(off["semantic"], on["semantic"])
    assert not torch.allclose(off["center"], on["center"])
    assert not torch.allclose(off["offset"], on["offset"])


@pytest.mark.parametrize("crop", [48, 64, 120])
def test_points_stay_on_their_class_through_every_change(weak, crop):
    """Scale, padding, crop and mirror move map and points alike, up to the rounding of the nearest neighbour."""
    samples, hits, total = samples_of(weak, crop=crop), 0, 0
    for epoch in range(6):
        for index in range(8):
            sample = samples(epoch, index)
            assert sample["image"].shape == (3, crop, crop)
            assert sample["semantic"].shape == (crop, crop)
            for x, y, label, _ in sample["points"]:
                hits += int(sample["semantic"][y, x]) == label + 1
                total += 1
    assert total > 20
    assert hits >= 0.97 * total


def test_a_sample_is_a_function_of_pass_and_image(weak):
    first, again, other = (samples_of(weak)(epoch, 3) for epoch in (0, 0, 1))
    assert torch.equal(first["image"], again["image"])
    assert first["points"] == again["points"]
    assert not torch.equal(first["image"], other["image"])


@pytest.mark.parametrize(
    ("size", "expected"),
    [((375, 500), (353, 449)), ((500, 375), (449, 353)), ((333, 500), (321, 449)), ((500, 500), (449, 449))],
)
def test_training_size_is_that_of_the_paper(size, expected):
    assert training_size(size, 449) == expected


BAD_MAPS = {
    "E_MODE": lambda good: np.stack([good] * 3, 2),
    "E_SHAPE": lambda good: good[:-1],
    "E_RANGE": lambda good: np.where(good > 0, 77, 0).astype(np.uint8),
}


@pytest.mark.parametrize("code", BAD_MAPS)
def test_an_image_with_a_bad_map_is_recorded_and_passed_over(tmp_path, weak, code):
    folder, data = tmp_path / "maps", open_data(DATA)
    folder.mkdir()
    for index, name in enumerate(data.ids):
        good = data.load_semantic(index)
        write_png(folder / f"{name}.png", BAD_MAPS[code](good) if index == 0 else good)
    train_center_offset.run(config_of(tmp_path, weak, semantic=str(folder), holdout=0.0, keep="last"))
    faults = [row["text"] for row in rows_of(tmp_path / "net" / "log.jsonl") if row.get("event") == "fault"]
    assert faults
    assert all(code in text and data.ids[0] in text for text in faults)


def test_swapped_coordinates_are_recorded_and_passed_over(tmp_path, weak):
    folder = tmp_path / "points"
    folder.mkdir()
    for path in (weak / "points").iterdir():
        write_bytes(folder / path.name, path.read_bytes())
    name = open_data(DATA).ids[0]
    write_bytes(folder / f"{name}.txt", point_lines([(300, 5, 0, 1.0), (400, 9, 1, 1.0)]))
    train_center_offset.run(config_of(tmp_path, weak, points=str(folder), holdout=0.0, keep="last"))
    faults = [row["text"] for row in rows_of(tmp_path / "net" / "log.jsonl") if row.get("event") == "fault"]
    assert any("E_SHAPE" in text and name in text for text in faults)


def test_every_problem_is_named_before_work_begins(tmp_path, weak):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError) as caught:
        train_center_offset.run(config_of(tmp_path, weak, semantic=str(empty), points=str(empty)))
    assert "8 images have no map" in str(caught.value)
    assert "8 images have no points" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        train_center_offset.run(config_of(tmp_path, weak, out="", weights="none.pth", points=str(tmp_path / "none")))
    for word in ("out", "none.pth does not exist", "neither a folder"):
        assert word in str(caught.value)
    listed = tmp_path / "list.txt"
    listed.write_text("nobody\n")
    with pytest.raises(ConfigError, match=r"1 ids are not among the training images: nobody"):
        train_center_offset.run(config_of(tmp_path, weak, supervision="mixture", point_list=str(listed)))
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "hrnet_w31"}, "did you mean 'hrnet_w32'"),
        ({"supervision": "boxes"}, "supervision: got 'boxes', expected image or point or mixture"),
        ({"supervision": "mixture"}, "point_list"),
        ({"point_list": "x"}, "point_list"),
        ({"holdout": 0.0}, "keep: got best, but nothing is measured"),
        ({"point_confidence": 1.5}, "point_confidence: got 1.5"),
        ({"crop": 16}, "crop: got 16"),
    ],
)
def test_config_names_what_is_wrong(tmp_path, weak, changes, words):
    with pytest.raises(ConfigError, match=words):
        config_of(tmp_path, weak, **changes)


def test_batch_norm_is_synchronised_on_gpus(tmp_path, monkeypatch):
    """As handed to Lightning; statistics of several CPU processes stay their own, torch has none to share them."""
    asked = []
    monkeypatch.setattr(fit_module.pl, "Trainer", lambda **options: asked.append(options["sync_batchnorm"]))
    for device in ("cuda", "cpu"):
        monkeypatch.setattr(fit_module, "choose_device", lambda _, device=device: torch.device(device))
        for wanted in (CenterOffsetTraining.synchronised_norm, False):
            fit_module._trainer(tmp_path, MACHINE, [], 1, wanted)
    assert asked == [True, False, False, False]
