"""Training on made-up scenes: resume, damage, loss that is not finite, logs."""

from __future__ import annotations

import json

import pytest
import torch

from wsis.data.config import DataConfig
from wsis.errors import ConfigError
from wsis.models import CamNet, build_backbone
from wsis.steps import train_cam
from wsis.training.batches import BatchPlan, CropData
from wsis.training.checkpoint_io import SafetensorsIO, newest_state, read_state
from wsis.training.config import MachineConfig, OptimConfig
from wsis.training.fit import fit
from wsis.training.modules import CamTraining

MACHINE = MachineConfig(device="cpu", workers=0, checkpoint_every=2, log_every=1)


def _sample(epoch, index):
    generator = torch.Generator().manual_seed(1000 * epoch + index)
    return {
        "id": f"image-{index}",
        "image": torch.randn(3, 32, 32, generator=generator),
        "labels": (torch.arange(3) == index % 3).float(),
    }


def _train(folder, optimizer="adamw", stop_at=None, sample=_sample, steps=6):
    torch.manual_seed(0)
    net = CamNet(build_backbone("tiny"), 3)
    optim = OptimConfig(optimizer=optimizer, lr=0.01, steps=steps, batch_size=4)
    training = CamTraining(net, optim, steps, 0)
    folder.mkdir(exist_ok=True)
    figures = fit(training, CropData(sample, 10), BatchPlan(10, 4, steps, 0), folder, MACHINE, stop_at)
    return net.state_dict(), figures


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw"])
def test_interrupted_equals_straight(tmp_path, optimizer):
    straight, _ = _train(tmp_path / "a", optimizer)
    _train(tmp_path / "b", optimizer, stop_at=3)
    resumed, figures = _train(tmp_path / "b", optimizer)
    assert figures["resumed_from"] == 3
    assert all(torch.equal(value, resumed[key]) for key, value in straight.items())


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, capsys):
    straight, _ = _train(tmp_path / "a")
    _train(tmp_path / "b", stop_at=4)
    newest = tmp_path / "b" / "checkpoints" / "step-00000004.safetensors"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(bytes(data))
    resumed, figures = _train(tmp_path / "b")
    assert figures["resumed_from"] == 2
    assert "step-00000004.safetensors was changed" in capsys.readouterr().err
    assert all(torch.equal(value, resumed[key]) for key, value in straight.items())


def test_a_state_says_nothing_of_the_device_it_lay_on(tmp_path):
    """What a GPU or another precision wrote goes on here: tensors are kept as values alone, in no pickle."""
    straight, _ = _train(tmp_path / "a")
    _train(tmp_path / "b", stop_at=4)
    path = tmp_path / "b" / "checkpoints" / "step-00000004.safetensors"
    state = read_state(path)
    before = path.read_bytes(), path.with_suffix(".json").read_bytes()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    moved = torch.utils._pytree.tree_map_only(torch.Tensor, lambda value: value.to(device), state)
    SafetensorsIO().save_checkpoint(moved, path)
    assert (path.read_bytes(), path.with_suffix(".json").read_bytes()) == before
    assert not any(word in part for part in before for word in (b"cuda", b"device", b"cpu"))
    state["net"] = {key: value.double() if value.is_floating_point() else value for key, value in state["net"].items()}
    SafetensorsIO().save_checkpoint(state, path)
    resumed, figures = _train(tmp_path / "b")
    assert figures["resumed_from"] == 4
    assert all(torch.equal(value, resumed[key]) for key, value in straight.items())


def test_the_state_of_another_network_or_optimizer_is_refused(tmp_path):
    _train(tmp_path / "a", stop_at=2)
    path = tmp_path / "a" / "checkpoints" / "step-00000002.safetensors"
    state = read_state(path)
    groups = state["optimizer"]["param_groups"]
    last = groups[-1]["params"].pop()
    kept = state["optimizer"]["state"].pop(last)
    SafetensorsIO().save_checkpoint(state, path)
    with pytest.raises(ConfigError, match=r"step 2: its optimizer holds groups of \[.*\] parameters, expected \["):
        _train(tmp_path / "a")
    groups[-1]["params"].append(last)
    state["optimizer"]["state"][last] = kept
    del state["net"]["classifier.weight"]
    SafetensorsIO().save_checkpoint(state, path)
    with pytest.raises(ConfigError, match=r"step-00000002.safetensors: missing key classifier.weight"):
        _train(tmp_path / "a")


def test_loss_that_is_not_finite_stops_before_the_step_and_names_the_images(tmp_path):
    def poisoned(epoch, index):
        sample = _sample(epoch, index)
        if epoch == 1:
            sample["image"] = sample["image"] * float("nan")
        return sample

    with pytest.raises(ConfigError, match=r"loss of step 3 is not finite; its images are image-"):
        _train(tmp_path / "a", sample=poisoned)
    state, _ = newest_state(tmp_path / "a" / "checkpoints")
    assert state["step"] == 2
    assert all(torch.isfinite(v).all() for v in state["net"].values() if v.is_floating_point())


def test_the_first_loss_is_that_of_running_statistics(tmp_path):
    """Whatever the trainer does with modes, batch norm does not see the batch."""
    torch.manual_seed(0)
    net = CamNet(build_backbone("mobilenet_v2"), 3)
    batch = [_sample(0, i) for _, i in BatchPlan(10, 4, 1, 0).batch(0)]
    with torch.no_grad():
        logits = net.eval()(torch.stack([s["image"] for s in batch])).logits
    expected = torch.nn.functional.multilabel_soft_margin_loss(logits, torch.stack([s["labels"] for s in batch]))
    net.train()
    training = CamTraining(net, OptimConfig(lr=1e-9, steps=1, batch_size=4), 1, 3)
    figures = fit(training, CropData(_sample, 10), BatchPlan(10, 4, 1, 0), tmp_path, MACHINE)
    assert figures["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_log_and_checkpoints(tmp_path):
    _train(tmp_path / "a")
    rows = [json.loads(line) for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert list((tmp_path / "a" / "tensorboard").glob("events*"))
    kept = sorted(p.name for p in (tmp_path / "a" / "checkpoints").iterdir())
    assert kept == [f"step-0000000{i}.{end}" for i in (4, 6) for end in ("json", "safetensors")]


def test_any_tree_survives_the_checkpoint(tmp_path):
    tree = {
        "a": [1, 2.5, float("inf"), None, "x", True],
        3: (torch.arange(3), {"b": torch.ones(2, dtype=torch.bfloat16)}),
    }
    io = SafetensorsIO()
    io.save_checkpoint(tree, tmp_path / "c.ckpt")
    again = io.load_checkpoint(tmp_path / "c.ckpt")
    assert again["a"] == tree["a"]
    assert torch.equal(again[3][0], tree[3][0])
    assert again[3][1]["b"].dtype == torch.bfloat16
    with pytest.raises(TypeError, match="is a set"):
        io.save_checkpoint({"a": {1}}, tmp_path / "d.ckpt")
    io.remove_checkpoint(tmp_path / "c.ckpt")
    assert not list(tmp_path.iterdir())


def _config(tmp_path, **changes):
    base = {
        "data": DataConfig(kind="scenes", num=6, num_classes=2, min_side=48, max_side=64),
        "out": str(tmp_path / "cam"),
        "backbone": "tiny",
        "min_side": 40,
        "max_side": 64,
        "crop": 48,
        "optim": OptimConfig(steps=3, batch_size=2),
        "machine": MACHINE,
    }
    return train_cam.Config(**{**base, **changes})


def test_train_cam_writes_a_network_and_does_not_repeat_it(tmp_path):
    first = train_cam.run(_config(tmp_path))
    assert first.steps == 3
    assert first.network.is_file()
    again = train_cam.run(_config(tmp_path))
    assert again.resumed_from == 3
    assert "nothing to do" in again.summary()
    with pytest.raises(ConfigError, match="seed"):
        train_cam.run(_config(tmp_path, seed=1))


def test_train_cam_mends_a_damaged_network_from_its_checkpoint(tmp_path, capsys):
    first = train_cam.run(_config(tmp_path))
    data = first.network.read_bytes()
    first.network.write_bytes(data[:-10])
    again = train_cam.run(_config(tmp_path))
    assert again.network.read_bytes() == data
    assert "made again" in capsys.readouterr().err


def test_train_cam_names_every_problem(tmp_path):
    with pytest.raises(ConfigError) as caught:
        train_cam.run(_config(tmp_path, out="", weights="none.pth", optim=OptimConfig(batch_size=99)))
    text = str(caught.value)
    for word in ("out", "none.pth does not exist", "optim.batch_size: got 99"):
        assert word in text
