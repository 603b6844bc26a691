"""The recipes' numbers, how they are changed from the command line, and a whole road in miniature."""

from __future__ import annotations

import json

import pytest

from wsis.__main__ import main
from wsis.data.config import DataConfig
from wsis.errors import ConfigError
from wsis.recipes import OPTIONS, RECIPES, Options
from wsis.recipes.command import read_recipe


def by_name(stages):
    return {stage.name: stage.config for stage in stages}


def test_irnet_voc_has_the_numbers_of_the_paper():
    stages = by_name(RECIPES["irnet_voc"](Options(DataConfig(kind="voc", root="VOC2012"), weights="imagenet")))
    cam, irn, label = stages["train_cam"], stages["train_irnet"], stages["label"]
    assert (cam.backbone, cam.weights, cam.crop, cam.min_side, cam.max_side) == ("resnet50", "imagenet", 512, 320, 640)
    assert cam.data.split == irn.data.split == "train_aug"
    optim = cam.optim
    assert (optim.optimizer, optim.lr, optim.new_layers, optim.epochs, optim.batch_size) == ("sgd", 0.1, 10, 5, 16)
    assert (optim.weight_decay, optim.power, optim.warmup) == (1e-4, 0.9, 0)
    assert (irn.backbone, irn.weights, irn.cam_weights, irn.trainable_from) == ("resnet50", "imagenet", "", 5)
    assert (irn.crop, irn.min_scale, irn.max_scale, irn.radius, irn.mean_split) == (512, 0.5, 1.5, 10, "train")
    assert (irn.optim.optimizer, irn.optim.lr, irn.optim.epochs, irn.optim.batch_size) == ("sgd", 0.1, 3, 32)
    seeds = stages["make_seed_labels"]
    assert (seeds.seeds.foreground, seeds.seeds.background, seeds.scales) == (0.3, 0.05, (1.0, 0.5, 1.5, 2.0))
    assert (label.scales, label.min_side, label.data.split) == ((1.0, 0.5, 1.5, 2.0), 512, "train")
    walk = label.propagation
    assert (walk.background, walk.weak_displacement, walk.trace_steps, walk.min_area) == (0.25, 2.5, 300, 0.01)
    assert (walk.radius, walk.beta, walk.walk_steps) == (5, 10, 256)
    assert stages["label_cam"].cam_components.background == 0.15


@pytest.mark.parametrize("name", sorted(name for name in RECIPES if not name.startswith("bestie")))
def test_stages_read_what_earlier_ones_write(name):
    stages = by_name(RECIPES[name](Options(out="X")))
    cam = stages["train_cam"].out + "/cam.safetensors"
    assert stages["make_seed_labels"].cam_weights == stages["label"].cam_weights == cam
    assert stages["train_irnet"].seeds == stages["make_seed_labels"].out
    assert stages["label"].irnet_weights == stages["train_irnet"].out + "/irnet.safetensors"
    assert stages["export"].run == stages["report"].run == stages["label"].out
    assert stages["report"].fields == stages["label"].dump_fields
    assert "report" not in by_name(RECIPES[name](Options(out="X", num_pictures=0)))


@pytest.mark.parametrize("name", ["irnet_voc", "irnet_coco", "bestie", "bestie_coco"])
def test_the_papers_recipes_do_not_start_from_random_weights_unasked(tmp_path, capsys, name):
    assert main(["run", name, f"--data.root={tmp_path}", f"--out={tmp_path / 'out'}"]) == 2
    told = capsys.readouterr().err
    assert "train_cam.weights: is empty, and the published figures begin with resnet50's ImageNet weights" in told
    assert "--weights=imagenet to fetch torchvision's" in told
    assert ("train_center_offset.weights: is empty" in told) == ("bestie" in name)
    assert not (tmp_path / "out").exists()
    assert main(["run", name, f"--out={tmp_path / 'out'}", "--weights=none.pth"]) == 2
    assert "train_cam.weights: none.pth is no file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["irnet_coco", "bestie_coco"])
def test_coco_takes_the_data_as_they_are_given(name):
    config = OPTIONS[name](DataConfig(root="coco", split="train2017"), out="X")
    stages = by_name(RECIPES[name](config))
    assert {stage.data.split for key, stage in stages.items() if hasattr(stage, "data")} == {"train2017"}
    irnet = stages["train_irnet"]
    assert (irnet.backbone, irnet.mean_split, irnet.optim.batch_size) == ("resnet50", "", 32)
    if name == "bestie_coco":
        assert stages["train_center_offset"].architecture == "hrnet_w48"
        assert stages["train_center_offset"].optim.steps == 50_000


def test_options_reach_every_stage():
    options = Options(DataConfig(root="R"), out="O", device="cpu", precision="bf16", batch_size=3, workers=1, seed=9)
    stages = by_name(RECIPES["irnet"](options))
    assert stages["train_cam"].machine.device == stages["label"].device == "cpu"
    assert stages["train_irnet"].machine.precision == stages["make_seed_labels"].precision == "bf16"
    assert (stages["label"].batch_size, stages["label"].workers) == (3, 1)
    assert stages["train_cam"].seed == stages["train_irnet"].seed == 9
    assert stages["train_cam"].optim.batch_size == 16


def test_words_and_yaml_change_single_numbers(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("out: here\nbackbone: tiny\nlabel:\n  propagation:\n    background: 0.4\n")
    words = [f"--config={file}", "--train_cam.optim.epochs=2", "--force=label,export", "--seed=3"]
    options, stages, force = read_recipe(RECIPES["irnet_small"], words, "wsis run")
    stages = by_name(stages)
    assert (options.out, options.backbone, force) == ("here", "tiny", ("label", "export"))
    assert stages["label"].propagation.background == 0.4
    assert stages["label"].out.startswith("here")
    assert (stages["train_cam"].optim.epochs, stages["train_cam"].seed) == (2, 3)
    assert stages["train_cam"].backbone == "tiny"


def test_unknown_and_wrong_words_are_named(capsys):
    with pytest.raises(ConfigError) as caught:
        read_recipe(RECIPES["irnet"], ["--label.propagation.bckground=0.3", "--train_cam.crop=big"], "wsis run")
    text = str(caught.value)
    assert "did you mean label.propagation.background?" in text
    assert "--train_cam.crop: got 'big', expected a whole number" in text
    assert main(["run", "irnett"]) == 2
    assert "did you mean 'irnet'" in capsys.readouterr().err
    assert main(["run"]) == 2
    assert main(["run", "--help"]) == 0
    assert "custom_folder" in capsys.readouterr().out


def test_help_of_a_recipe_shows_every_number(capsys):
    assert main(["run", "irnet", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--train_cam.optim.lr LR learning rate" in text
    assert "--label.propagation.beta BETA power of the affinities. (type: float, default: 10.0)" in text


def test_the_whole_road_in_miniature(tmp_path, capsys):
    """Six scenes, a few training steps: labels, export, comparison, page; a second call has nothing to do."""
    words = ["run", "irnet_small", f"--out={tmp_path / 'run'}", "--backbone=tiny", "--data.kind=scenes"]
    words += ["--data.num=6", "--data.min_side=48", "--data.max_side=64", "--device=cpu", "--workers=0"]
    words += ["--train_cam.crop=48", "--train_cam.min_side=48", "--train_cam.max_side=64"]
    words += ["--train_cam.optim.steps=2", "--train_cam.optim.batch_size=3", "--train_irnet.crop=76"]
    words += ["--train_irnet.mean_crop=64", "--train_irnet.optim.steps=2", "--train_irnet.optim.batch_size=3"]
    words += ["--label.min_side=64", "--num_pictures=2"]
    assert main(words) == 0
    out = tmp_path / "run"
    coco = json.loads((out / "instances.json").read_text())
    assert len(coco["images"]) == 6
    figures = json.loads((out / "evaluation.json").read_text())
    assert len(figures["runs"]) == 2
    assert (out / "report.html").stat().st_size > 10_000
    assert (out / "predict.yaml").exists()
    capsys.readouterr()
    assert main(words) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert len(lines) == 8
    assert all("skipped" in line for line in lines)


def test_demo_in_miniature(tmp_path, capsys):
    words = ["demo", f"--out={tmp_path}", "--scenes=16", "--labelled=4", "--cam_steps=1", "--irnet_steps=1"]
    assert main([*words, "--pictures=2", "--device=cpu", "--workers=0"]) == 0
    text = capsys.readouterr().out
    for word in ("mIoU", "instance AP50", "report.html", "wsis predict PHOTO"):
        assert word in text
    assert (tmp_path / "report.html").is_file()
    assert main(["predict", "none.jpg", f"--config={tmp_path / 'predict.yaml'}"]) == 3
