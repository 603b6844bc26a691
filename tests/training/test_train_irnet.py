"""The train-irnet step on made-up scenes, and the mean displacement it stores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wsis.data.artifacts import write_png
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.errors import ConfigError
from wsis.models import IRNet, build_backbone
from wsis.steps import train_irnet
from wsis.training.checkpoint import load_network, read_meta
from wsis.training.config import MachineConfig, OptimConfig
from wsis.training.mean_shift import measure_mean_displacement

DATA = DataConfig(kind="scenes", num=6, num_classes=2, min_side=64, max_side=80)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    data = open_data(DATA)
    for index in range(len(data)):
        target = folder / (data[index].id + ".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_png(target, data.load_semantic(index))
    return folder


def _config(tmp_path, folder, **changes):
    base = {
        "data": DATA,
        "seeds": str(folder),
        "out": str(tmp_path / "irnet"),
        "backbone": "tiny",
        "crop": 80,
        "mean_crop": 96,
        "optim": OptimConfig(optimizer="adamw", lr=1e-3, steps=2, batch_size=2),
        "machine": MachineConfig(device="cpu", workers=0, log_every=1),
    }
    return train_irnet.Config(**{**base, **changes})


def test_train_irnet_writes_a_network_with_its_mean_displacement(tmp_path, seeds):
    result = train_irnet.run(_config(tmp_path, seeds))
    net = load_network(result.network, kind="irnet")
    stored = net.mean_shift.running_mean
    assert torch.isfinite(stored).all()
    assert bool((stored != 0).any())
    assert stored.tolist() == read_meta(result.network)["mean_displacement_yx"]
    again = train_irnet.run(_config(tmp_path, seeds))
    assert "nothing to do" in again.summary()


def test_missing_seed_maps_are_named(tmp_path, seeds):
    with pytest.raises(ConfigError, match="6 of 6 images have no seed map"):
        train_irnet.run(_config(tmp_path, seeds, seeds=str(tmp_path)))


@pytest.mark.parametrize(
    ("change", "words"),
    [({"crop": 64}, "crop: got 64"), ({"min_scale": 2.0}, "min_scale"), ({"backbone": "vgg"}, "backbone")],
)
def test_config_names_what_is_wrong(tmp_path, seeds, change, words):
    with pytest.raises(ConfigError, match=words):
        _config(tmp_path, seeds, **change)


def test_mean_displacement_is_the_mean_of_batch_means():
    torch.manual_seed(0)
    net = IRNet(build_backbone("tiny"))
    crops = [torch.from_numpy(np.random.default_rng(i).normal(size=(3, 32, 32))).float() for i in range(35)]
    measured = measure_mean_displacement(net, crops)
    net.mean_shift.running_mean.zero_()
    with torch.no_grad():
        means = [net.eval()(crop[None]).displacement.mean((0, 2, 3)) for crop in crops]
    expected = (torch.stack(means[:32]).mean(0) + torch.stack(means[32:]).mean(0)) / 2
    torch.testing.assert_close(measured, expected)


def test_a_seed_map_of_another_size_is_a_fault(tmp_path):
    """It was stretched to the picture."""
    data = open_data(DATA)
    for index in range(len(data)):
        target = tmp_path / "seeds" / (data[index].id + ".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_png(target, data.load_semantic(index)[:-1])
    with pytest.raises(ConfigError, match="E_SHAPE"):
        train_irnet.run(_config(tmp_path, tmp_path / "seeds"))
