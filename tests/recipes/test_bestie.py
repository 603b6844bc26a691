"""The recipes of BESTIE: the paper's numbers, what each option brings or saves, and the whole road in miniature."""

from __future__ import annotations

import json

import pytest

from wsis.__main__ import main
from wsis.data.categories import Categories
from wsis.data.config import DataConfig
from wsis.data.points import open_points
from wsis.errors import ConfigError
from wsis.recipes import RECIPES, BestieOptions


def by_name(stages):
    return {stage.name: stage.config for stage in stages}


def test_bestie_has_the_numbers_of_the_paper():
    stages = by_name(RECIPES["bestie"](BestieOptions(DataConfig(kind="voc", root="VOC2012"))))
    peaks, points, net = stages["train_peaks"], stages["make_points"].points, stages["train_center_offset"]
    assert (peaks.backbone, peaks.alpha, peaks.width, peaks.side, peaks.crop) == ("vgg16", 0.7, 512, 384, 321)
    optim = peaks.optim
    assert (optim.optimizer, optim.lr, optim.new_layers, optim.weight_decay) == ("nesterov", 1e-3, 10, 5e-4)
    assert (optim.epochs, optim.batch_size, optim.milestones) == (15, 10, (4 / 15, 9 / 15))
    assert (points.side, points.window, points.top, points.threshold) == (321, 15, 25, 0.1)
    assert (net.architecture, net.long_side, net.crop, net.point_confidence) == ("hrnet_w48", 449, 416, 0.7)
    optim = net.optim
    assert (optim.optimizer, optim.lr, optim.new_layers, optim.weight_decay) == ("adam", 5e-5, 1, 0)
    assert (optim.steps, optim.batch_size, optim.power) == (50_000, 16, 0.9)
    assert (optim.warmup, optim.warmup_from) == (2000, 1e-3)
    assert net.refine
    assert net.data.split == peaks.data.split == "train_aug"
    assert stages["label"].data.split == "val"
    labels = stages["label"].center_offset
    assert labels == net.labels
    assert (labels.window, labels.sigma, labels.threshold, labels.refine_threshold) == (41, 6, 0.1, 0.3)
    assert (labels.min_area, labels.weak_offset, labels.cluster_area, labels.max_centers) == (50, 2.5, 21, 5)


@pytest.mark.parametrize("name", ["bestie", "bestie_voc", "bestie_small"])
def test_stages_read_what_earlier_ones_write(name):
    stages = by_name(RECIPES[name](BestieOptions(out="X", seed=3)))
    net = stages["train_center_offset"]
    assert stages["make_semantic"].cam_weights == stages["train_cam"].out + "/cam.safetensors"
    assert stages["make_semantic"].irnet_weights == stages["train_irnet"].out + "/irnet.safetensors"
    assert not stages["make_semantic"].instances
    assert net.semantic == stages["make_semantic"].semantic
    assert stages["make_points"].peak_weights == stages["train_peaks"].out + "/peaks.safetensors"
    assert net.points == stages["make_points"].out
    assert stages["label"].center_offset_weights == net.out + "/center_offset.safetensors"
    assert stages["export"].run == stages["report"].run == stages["label"].out == stages["evaluate"].runs[0]
    assert stages["report"].fields == stages["label"].dump_fields
    assert stages["report"].training == (net.out,)
    assert net.data == stages["make_semantic"].data == stages["make_points"].data
    assert {config.seed for config in stages.values() if hasattr(config, "seed")} == {3}


def test_maps_and_points_of_others_replace_stages():
    options = {"out": "X", "num_pictures": 0}
    own = list(by_name(RECIPES["bestie_small"](BestieOptions(**options))))
    assert own[:6] == ["train_cam", "make_seed_labels", "train_irnet", "make_semantic", "train_peaks", "make_points"]
    stages = by_name(RECIPES["bestie_small"](BestieOptions(**options, semantic="maps", points="points.csv")))
    assert list(stages) == ["train_cam", "train_center_offset", "label", "export", "evaluate"]
    assert stages["train_center_offset"].cam_weights == stages["train_cam"].out + "/cam.safetensors"
    assert (stages["train_center_offset"].semantic, stages["train_center_offset"].points) == ("maps", "points.csv")
    stages = by_name(
        RECIPES["bestie_small"](BestieOptions(**options, semantic="maps", supervision="point", compare=False))
    )
    assert list(stages) == ["train_cam", "make_points", "train_center_offset", "label", "export"]
    assert stages["make_points"].from_masks
    assert stages["train_center_offset"].supervision == "point"
    assert stages["label"].points == stages["train_center_offset"].points == stages["make_points"].out
    with pytest.raises(ConfigError, match="supervision: got 'boxes', expected image or point"):
        BestieOptions(supervision="boxes")


SCENES = ["--data.kind=scenes", "--data.num=6", "--data.min_side=64", "--data.max_side=72", "--device=cpu"]
NETWORK = [f"--train_center_offset.{word}" for word in ("long_side=65", "crop=64", "validate_every=2", "holdout=0.2")]
NETWORK += [f"--train_center_offset.optim.{word}" for word in ("steps=2", "batch_size=2", "warmup=0")]
CLASSIFIER = [f"--train_cam.{word}" for word in ("crop=48", "min_side=48", "max_side=64", "optim.steps=2")]
CLASSIFIER += ["--train_cam.optim.batch_size=3"]


def test_the_whole_road_in_miniature(tmp_path, capsys):
    """Six scenes, two training steps each: maps, peaks, labels, export, comparison and page; then the same maps with
    points in the middle of the masks. A second call has nothing to do."""
    out = tmp_path / "run"
    words = ["run", "bestie_small", f"--out={out}", "--backbone=tiny", "--workers=0", *SCENES, *NETWORK]
    words += [*CLASSIFIER, "--train_irnet.crop=76", "--train_irnet.mean_crop=64"]
    words += [ "--train_irnet.optim.steps=2", "--train_irnet.optim.batch_size=3"]
    words += ["--make_semantic.min_side=64", "--make_semantic.propagation.walk_steps=16"]
    words += ["--train_peaks.side=72", "--train_peaks.crop=64", "--train_peaks.width=16"]
    words += ["--train_peaks.optim.steps=2", "--train_peaks.optim.batch_size=3", "--make_points.points.side=64"]
    words += ["--num_pictures=2"]
    assert main(words) == 0
    assert len(list((out / "semantic_maps" / "maps").glob("*.png"))) == 6
    assert len(list((out / "points").glob("*.txt"))) == 6
    assert len(json.loads((out / "instances.json").read_text())["images"]) == 6
    assert len(json.loads((out / "evaluation.json").read_text())["runs"]) == 1
    assert (out / "report.html").stat().st_size > 10_000
    assert (out / "predict.yaml").exists()
    capsys.readouterr()
    assert main(words) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert all("skipped" in line for line in lines)

    other = [f"--out={tmp_path / 'points'}", f"--semantic={out / 'semantic_maps' / 'maps'}", "--supervision=point"]
    words = ["run", "bestie_small", *other, "--backbone=tiny", "--workers=0", "--num_pictures=0", *SCENES, *NETWORK]
    words += CLASSIFIER
    assert main(words) == 0
    names = (out / "semantic_maps" / "maps").glob("*.png")
    points = open_points(tmp_path / "points" / "points", Categories(tuple(map(str, range(100)))))
    assert all(points.has(path.stem) for path in names)
