"""Train BESTIE's centre and offset network on semantic maps and points; its labels are repaired while it learns.

The semantic maps may come from ``label --semantic`` or from anyone (PNG, 0 background, class + 1, 255 ignore), the
points from ``make-points`` or from annotators. The folder of the run holds ``center_offset.safetensors`` and its
JSON, ``points.json`` (which points were left out and why), the logs (``log.jsonl``, ``validation.jsonl``,
``tensorboard/``) and the newest checkpoints. The same command resumes a training that was stopped; one that is done
and verified is not repeated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wsis import __version__
from wsis.data.artifacts import file_sha256, safe_join, write_json
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.data.image_set import ImageSet
from wsis.data.lists import read_lines
from wsis.data.points import PointSource, open_points
from wsis.data.run_folder import source_key
from wsis.data.weak_survey import survey_points
from wsis.errors import Problems
from wsis.labels import center_offset
from wsis.losses.center_offset import WEIGHTS
from wsis.models import ARCHITECTURES, CenterOffsetNet, architecture_problem, build_center_offset_net
from wsis.runtime.device import choose_device
from wsis.runtime.progress import say
from wsis.training.center_offset_training import CenterOffsetSamples, CenterOffsetTraining
from wsis.training.center_offset_validation import measure_ap
from wsis.training.checkpoint import load_network, network_problem
from wsis.training.config import MachineConfig, OptimConfig
from wsis.training.fit import TrainResult, is_main, weights_key
from wsis.training.frame import TrainingJob, train
from wsis.training.validation import Validation, best_state

__all__ = ["Config", "run"]

NETWORK = "center_offset.safetensors"
SURVEY = "points.json"
SUPERVISION = ("image", "point", "mixture")
PAPER = OptimConfig(
    "adam", lr=5e-5, new_layers=1.0, weight_decay=0.0, steps=50_000, batch_size=16, warmup=2000, warmup_from=0.001
)


@dataclass(frozen=True)
class Config:
    """The network, its weak labels and how it is trained; the defaults are the paper's.

    Attributes:
        data: training images with image labels.
        semantic: folder of semantic maps, <id>.png.
        points: folder of points files (<id>.txt) or of LabelMe files (<id>.json), a CSV table, or key points as
            JSON of Label Studio or COCO.
        out: folder of the run.
        architecture: hrnet_w48, hrnet_w32, panoptic_resnet50, panoptic_resnet101, or a backbone with a small head:
            mobilenet_v2, mobilenet_v2_dilated, resnet50, tiny, timm:NAME.
        weights: file with the backbone's ImageNet weights; empty = random.
        cam_weights: begin with this classifier (from train-cam), its backbone and its classes, instead of weights;
            few images and few steps then suffice. For architectures that are a backbone with a small head.
        trainable_from: first stage (0 to 4) of such a backbone that learns.
        supervision: image (points are peaks), point (points were annotated), or mixture: point for the images of
            point_list, image for the others.
        point_list: file with the ids under point supervision, one per line.
        point_confidence: points are used above this confidence.
        missing_points: refuse images without an entry, or take them as empty.
        refine: repair the labels with the network's own output in every step.
        guidance: centre maps count inside labelled instances alone (the paper's instance-aware guidance); false: what
            the pseudo labels miss is background, and only refinement says otherwise.
        hardest: share of the pixels whose semantic loss is averaged: those with the largest.
        loss_weights: factors of the semantic, centre and offset loss.
        long_side: long side of the pictures in training, before they are scaled by 0.7 to 1.3.
        crop: side of the training crop.
        holdout: share of the training images kept back to measure the network while it trains; 0 = none.
        select_on_test: measure on this split of the data and its masks instead, and keep the best state there, as
            the published code does with its test set; figures on that split are then optimistic.
        keep: best (of the states measured) or last.
        validate_every: steps between measurements.
        labels: thresholds of pseudo labels, refinement and inference.
        seed: decides weights, order and augmentation.
        optim: optimiser and schedule; new layers are all but the backbone.
        machine: device, precision, workers, checkpoints.
    """

    data: DataConfig = field(default_factory=DataConfig)
    semantic: str = ""
    points: str = ""
    out: str = ""
    architecture: str = "hrnet_w48"
    weights: str = ""
    cam_weights: str = ""
    trainable_from: int = 0
    supervision: str = "image"
    point_list: str = ""
    point_confidence: float = 0.7
    missing_points: str = "refuse"
    refine: bool = True
    guidance: bool = True
    hardest: float = 0.2
    loss_weights: tuple[float, float, float] = WEIGHTS
    long_side: int = 449
    crop: int = 416
    holdout: float = 0.05
    select_on_test: str = ""
    keep: str = "best"
    validate_every: int = 1000
    labels: center_offset.Config = field(default_factory=center_offset.Config)
    seed: int = 0
    optim: OptimConfig = field(default_factory=lambda: PAPER)
    machine: MachineConfig = field(default_factory=MachineConfig)

    def __post_init__(self) -> None:
        problems = Problems()
        reason = architecture_problem(self.architecture)
        if reason:
            problems.add("architecture", reason)
        words = {"supervision": SUPERVISION, "missing_points": ("refuse", "empty"), "keep": ("best", "last")}
        for name, known in words.items():
            if getattr(self, name) not in known:
                problems.add(name, f"got {getattr(self, name)!r}, expected {' or '.join(known)}")
        bounds = {
            "seed": (0, 2**31 - 1),
            "point_confidence": (0, 1),
            "holdout": (0, 0.9),
            "long_side": (33, 8192),
            "crop": (32, 8192),
            "trainable_from": (0, 5),
            "hardest": (1e-6, 1),
            "validate_every": (1, 10**9),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                problems.add(name, f"got {getattr(self, name)}, expected {low} to {high}")
        if len(self.loss_weights) != 3 or min(self.loss_weights) < 0:
            problems.add("loss_weights", f"got {list(self.loss_weights)}, expected three numbers of at least 0")
        if self.architecture in ARCHITECTURES:
            for name in ("cam_weights", "trainable_from"):
                if getattr(self, name):
                    problems.add(name, f"got architecture {self.architecture}, which learns whole, expected a backbone")
        if self.weights and self.cam_weights:
            problems.add("cam_weights", "was given together with weights, expected only one of them")
        if (self.supervision == "mixture") != bool(self.point_list):
            problems.add("point_list", "goes with supervision = mixture, and with nothing else")
        if self.keep == "best" and not self.holdout and not self.select_on_test:
            problems.add("keep", "got best, but nothing is measured: give holdout or select_on_test, or keep = last")
        problems.raise_if_any()


def run(config: Config) -> TrainResult:
    """Train, or take up where a stopped training was; see the module's text.

    Raises:
        ConfigError: something is wrong that can be known before work begins, or the loss was not finite.
        SystemFault: the machine failed; the same call resumes.
    """
    data, points, by_point = _check(config)

    def prepare(folder: Path) -> TrainingJob:
        if is_main():
            survey = survey_points(points, data, config.semantic, config.point_confidence)
            write_json(folder / SURVEY, survey.to_json())
            for line in survey.lines():
                say(f"train-center-offset: {line}")
        net = _network(config, len(data.categories))
        kept, held_out = _split(config, len(data))
        options = (config.labels, config.refine, config.seed, config.trainable_from, config.hardest)
        options += (config.loss_weights, config.guidance)
        training = CenterOffsetTraining(net, config.optim, config.optim.total_steps(len(kept)), *options)
        where = (config.semantic, points, config.point_confidence, by_point, net.normalization)
        samples = CenterOffsetSamples(data, *where, config.long_side, config.crop, config.seed)
        watchers = _validation(config, data, samples, held_out, folder)

        def finish() -> dict[str, Any]:
            best = best_state(net, folder) if config.keep == "best" else None
            return {"best": best} if best else {}

        return TrainingJob(training, lambda epoch, place: samples(epoch, kept[place]), len(kept), watchers, finish)

    about = {"backbone": config.architecture, "categories": data.categories}
    return train("train-center-offset", config, NETWORK, _parts(config, data), prepare, **about)


def _network(config: Config, num_classes: int) -> CenterOffsetNet:
    net = build_center_offset_net(config.architecture, num_classes, config.weights or None)
    if config.cam_weights:
        net.begin_with(load_network(config.cam_weights, kind="cam_net"))
    return net


def _split(config: Config, total: int) -> tuple[list[int], list[int]]:
    """Places of the images to train on and of those kept back."""
    count = 0 if config.select_on_test else round(config.holdout * total)
    if config.holdout and not config.select_on_test:
        count = max(1, count)
    order = np.random.default_rng((config.seed, 2)).permutation(total)
    return sorted(order[count:].tolist()), sorted(order[:count].tolist())


def _validation(
    config: Config, data: ImageSet, samples: CenterOffsetSamples, held_out: Sequence[int], folder: Path
) -> list[Validation]:
    """What measures the network while it trains, if anything does."""
    if config.select_on_test:
        test = open_data(dataclasses.replace(config.data, split=config.select_on_test, list=""))
        truth = [test.load_instances] * len(test)
        places, images = range(len(test)), test
    elif held_out:
        truth, places, images = None, held_out, data
    else:
        return []

    def measure(net: torch.nn.Module) -> dict[str, float]:
        return measure_ap(net, images, places, config.labels, None if truth else samples)

    return [Validation(measure, "ap50", config.validate_every, folder)]


def _check(config: Config) -> tuple[ImageSet, PointSource, frozenset[str] | None]:
    """Everything that can be known to be wrong before work begins, in one list; data, points, and the ids under point
    supervision (None = all)."""
    problems = Problems()
    for name in ("out", "semantic", "points"):
        if not getattr(config, name):
            problems.add(name, f"is empty; give --{name}=PATH")
    if config.weights and not Path(config.weights).is_file():
        problems.add("weights", f"{config.weights} does not exist (the current folder is {Path.cwd()})")
    if config.semantic and not Path(config.semantic).is_dir():
        problems.add("semantic", f"{config.semantic} is not a folder (the current folder is {Path.cwd()})")
    data, points, listed = None, None, frozenset()
    with problems.collecting():
        choose_device(config.machine.device)
        data = open_data(config.data)
        data.require_labels()
        wanted = ("cam_net", config.architecture, data.categories)
        reason = network_problem(config.cam_weights, *wanted) if config.cam_weights else None
        if reason:
            problems.add("cam_weights", reason)
        if config.select_on_test:
            test = open_data(dataclasses.replace(config.data, split=config.select_on_test, list=""))
            if not test.has_masks:
                problems.add("select_on_test", f"{config.select_on_test} has no masks")
    if config.points and data is not None:
        with problems.collecting():
            points = open_points(config.points, data.categories, config.missing_points)
    if config.point_list:
        with problems.collecting():
            listed = frozenset(line for _, line in read_lines(config.point_list))
    problems.raise_if_any()
    _check_files(config, data, points, listed)
    return data, points, None if config.supervision == "point" else listed


def _check_files(config: Config, data: ImageSet, points: PointSource, listed: frozenset[str]) -> None:
    """Maps and points of every image are there, and there are enough images."""
    problems = Problems()
    kept = len(_split(config, len(data))[0])
    if kept < config.optim.batch_size:
        text = f"got {config.optim.batch_size}, expected at most the number of training images, {kept}"
        problems.add("optim.batch_size", text)
    absent = {
        "semantic": [name for name in data.ids if not safe_join(config.semantic, name + ".png").is_file()],
        "points": [name for name in data.ids if config.missing_points == "refuse" and not points.has(name)],
        "point_list": sorted(listed - set(data.ids)),
    }
    texts = {
        "semantic": "images have no map; run label with --semantic on the same data",
        "points": "images have no points; run make-points on the same data, or give --missing_points=empty",
        "point_list": "ids are not among the training images",
    }
    if config.missing_points == "empty" and len(data) and not any(map(points.has, data.ids)):
        problems.add("points", f"no image has points in {config.points}", f"the first image is {data.ids[0]}")
    for name, ids in absent.items():
        if ids:
            shown = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
            problems.add(name, f"{len(ids)} {texts[name]}: {shown}")
    problems.raise_if_any()


def _parts(config: Config, data: ImageSet) -> dict[str, Any]:
    """What decides the weights."""
    free = ("data", "out", "semantic", "points", "weights", "cam_weights", "point_list", "machine")
    options = {k: v for k, v in dataclasses.asdict(config).items() if k not in free}
    return {
        **options,
        "precision": config.machine.precision,
        "weights": weights_key(config.cam_weights or config.weights),
        "semantic": source_key(config.semantic),
        "points": source_key(config.points),
        "point_list": file_sha256(config.point_list) if config.point_list else "",
        "categories": data.categories.to_json(),
        "inputs": data.fingerprint(),
        "version": __version__,
    }
