"""Seed maps as a step: the same maps as the function, never made twice, nothing lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from wsis.data.dataset import open_data
from wsis.data.images import read_index_map
from wsis.errors import ConfigError
from wsis.labels import seeds
from wsis.labels.cam import multi_scale_cam
from wsis.steps import make_seed_labels
from wsis.training.checkpoint import load_network


def config(data, out, weights, **changes):
    base = {"scales": (1.0, 0.5), "batch_size": 3, "device": "cpu", "cam_weights": weights["cam_weights"]}
    return make_seed_labels.Config(data=data, out=str(out), **(base | changes))


def maps(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_maps_are_what_the_function_gives(tmp_path, scenes, weights):
    result = make_seed_labels.run(config(scenes, tmp_path / "seeds", weights))
    assert (result.made, result.kept, result.skipped, result.exit_code) == (6, 0, 0, 0)
    data, net = open_data(scenes), load_network(weights["cam_weights"])
    for index, name in enumerate(data.ids):
        image = torch.from_numpy(data.load_image(index)).permute(2, 0, 1)
        classes = torch.tensor(data[index].labels)
        want = seeds.seed_labels(image, multi_scale_cam(net, image, classes, (1.0, 0.5)).full, classes)
        got = read_index_map(tmp_path / "seeds" / f"{name}.png", len(data.categories))
        assert np.array_equal(got, want.numpy())


def test_nothing_is_made_twice_and_damage_is_mended(tmp_path, scenes, weights):
    out = tmp_path / "seeds"
    make_seed_labels.run(config(scenes, out, weights))
    whole = maps(out)
    again = make_seed_labels.run(config(scenes, out, weights, batch_size=1, workers=0))
    assert (again.made, again.kept) == (0, 6)
    first, second = sorted(whole)[:2]
    (out / first).unlink()
    damaged = bytearray(whole[second])
    damaged[-20] ^= 1
    (out / second).write_bytes(damaged)
    assert make_seed_labels.run(config(scenes, out, weights)).made == 2
    assert maps(out) == whole


def test_batches_and_workers_change_nothing(tmp_path, scenes, weights):
    make_seed_labels.run(config(scenes, tmp_path / "a", weights, batch_size=1, workers=0))
    make_seed_labels.run(config(scenes, tmp_path / "b", weights, batch_size=8, workers=2))
    assert maps(tmp_path / "a") == maps(tmp_path / "b")


def test_stopped_and_resumed_equals_straight(tmp_path, scenes, weights, monkeypatch):
    make_seed_labels.run(config(scenes, tmp_path / "straight", weights))
    made = seeds.seed_labels_batch

    def stop_here(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        monkeypatch.setattr(seeds, "seed_labels_batch", made)
        return made(*arguments)

    monkeypatch.setattr(seeds, "seed_labels_batch", stop_here)
    settings = config(scenes, tmp_path / "stopped", weights, batch_size=1)
    first = make_seed_labels.run(settings)
    assert (first.exit_code, first.made) == (75, 1)
    second = make_seed_labels.run(settings)
    assert (second.exit_code, second.made, second.kept) == (0, 5, 1)
    assert maps(tmp_path / "stopped") == maps(tmp_path / "straight")


def test_bad_images_are_recorded(tmp_path, photos, weights):
    names = sorted((Path(photos.root) / "JPEGImages").iterdir())
    names[0].write_bytes(b"")
    names[1].unlink()
    result = make_seed_labels.run(config(photos, tmp_path / "seeds", weights))
    assert (result.exit_code, result.made, result.skipped) == (3, 6, 2)
    assert result.reasons == {"E_DECODE": 1, "E_MISSING": 1}
    assert "E_MISSING" in result.summary()
    stopped = make_seed_labels.run(config(photos, tmp_path / "other", weights, max_faults=1))
    assert stopped.exit_code == 4


def test_problems_are_found_before_work(tmp_path, photos, weights):
    with pytest.raises(ConfigError) as caught:
        make_seed_labels.run(make_seed_labels.Config(data=photos))
    assert "out: is empty" in str(caught.value)
    assert "cam_weights: is empty" in str(caught.value)
    with pytest.raises(ConfigError, match="never overwritten"):
        make_seed_labels.run(config(photos, photos.root, weights))
    with pytest.raises(ConfigError, match="below background"):
        make_seed_labels.Config(seeds=seeds.Config(foreground=0.01))
    make_seed_labels.run(config(photos, tmp_path / "seeds", weights))
    with pytest.raises(ConfigError, match=r"seeds\.foreground was 0\.3 and is now 0\.5"):
        make_seed_labels.run(config(photos, tmp_path / "seeds", weights, seeds=seeds.Config(foreground=0.5)))
