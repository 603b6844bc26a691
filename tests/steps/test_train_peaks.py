"""train-peaks on made-up scenes: what it writes, resuming, and what it refuses."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from wsis.__main__ import main
from wsis.data.dataset import open_data
from wsis.errors import ConfigError
from wsis.steps import train_peaks
from wsis.training import frame
from wsis.training.checkpoint import load_network
from wsis.training.config import MachineConfig, OptimConfig
from wsis.training.peak_training import PeakSamples


def config(data, out, **changes):
    base = {
        "backbone": "tiny",
        "width": 8,
        "side": 48,
        "crop": 40,
        "optim": OptimConfig("nesterov", lr=1e-3, new_layers=10.0, steps=4, batch_size=3, milestones=(0.5,)),
        "machine": MachineConfig(device="cpu", workers=0, checkpoint_every=2, log_every=1),
    }
    return train_peaks.Config(data=data, out=str(out), **(base | changes))


def test_it_trains_and_does_not_repeat_itself(tmp_path, scenes, monkeypatch):
    settings = config(scenes, tmp_path / "run", alpha=0.55)
    result = train_peaks.run(settings)
    assert result.steps == 4
    net = load_network(tmp_path / "run" / "peaks", kind="peak_net", categories=open_data(scenes).categories)
    assert (net.alpha, net.classifier.weight.shape[:2]) == (0.55, (5, 8))
    meta = json.loads((tmp_path / "run" / "peaks.json").read_text())
    assert (meta["backbone"], meta["training"]["alpha"]) == ("tiny", 0.55)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines][-4:] == [1, 2, 3, 4]
    monkeypatch.setattr(frame, "fit", None)
    assert train_peaks.run(settings).network == result.network
    with pytest.raises(ConfigError, match=r"alpha was 0\.55 and is now 0\.7"):
        train_peaks.run(config(scenes, tmp_path / "run"))


def test_killed_and_resumed_equals_straight(tmp_path, scenes, monkeypatch):
    train_peaks.run(config(scenes, tmp_path / "straight"))
    whole = frame.fit

    class Killed(Exception):
        pass

    def killed(*arguments, **options):
        whole(*arguments, **options, stop_at=2)
        raise Killed

    monkeypatch.setattr(frame, "fit", killed)
    with pytest.raises(Killed):
        train_peaks.run(config(scenes, tmp_path / "stopped"))
    monkeypatch.setattr(frame, "fit", whole)
    assert train_peaks.run(config(scenes, tmp_path / "stopped")).resumed_from == 2
    one, other = (load_network(tmp_path / name / "peaks").state_dict() for name in ("straight", "stopped"))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_samples_are_crops_of_a_square(scenes):
    data = open_data(scenes)
    samples = PeakSamples(data, ((0.0,) * 3, (255.0,) * 3), 48, 40, 0)
    one, again, later = samples(0, 1), samples(0, 1), samples(1, 1)
    assert one["image"].shape == (3, 40, 40)
    assert torch.equal(one["image"], again["image"])
    assert not torch.equal(one["image"], later["image"])
    assert torch.equal(one["labels"], torch.from_numpy(data.label_vector(1)))


def test_every_problem_is_named(tmp_path, scenes, capsys):
    with pytest.raises(ConfigError) as caught:
        train_peaks.Config(backbone="vgg17", alpha=1.5, width=0, crop=500)
    for words in ("did you mean 'vgg16'", "alpha: got 1.5", "width: got 0", "at most side = 384"):
        assert words in str(caught.value)
    many = dataclasses.replace(config(scenes, "").optim, batch_size=7)
    with pytest.raises(ConfigError) as caught:
        train_peaks.run(config(scenes, "", optim=many, weights="none.pth"))
    for words in ("out: is empty", "none.pth does not exist", "expected at most the number of training images, 6"):
        assert words in str(caught.value)
    assert main(["train-peaks", "--alfa=0.5"]) == 2
    assert "did you mean alpha?" in capsys.readouterr().err
