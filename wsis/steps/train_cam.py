"""Train the classifier whose activation maps start everything, on image-level tags alone.

The folder of the run holds ``cam.safetensors`` and ``cam.json``, the log (``log.jsonl``, ``tensorboard/``)
and the newest checkpoints. The same command resumes a training that was stopped; one that is done and
verified is not repeated.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from wsis import __version__
from wsis.data.config import DataConfig
from wsis.data.image_set import ImageSet
from wsis.errors import Problems
from wsis.models import CamNet, backbone_problem, build_backbone
from wsis.runtime.progress import say
from wsis.training import augment
from wsis.training.checks import open_training_data
from wsis.training.config import MachineConfig, OptimConfig
from wsis.training.fit import TrainResult, is_main, weights_key
from wsis.training.frame import TrainingJob, train
from wsis.training.modules import CamTraining

__all__ = ["Config", "run"]

NETWORK = "cam.safetensors"


@dataclass(frozen=True)
class Config:
    """The classifier, its images and how it is trained; the defaults are the paper's.

    Attributes:
        data: training images and their tags.
        out: folder of the run.
        backbone: resnet50, mobilenet_v2, mobilenet_v2_dilated, tiny or timm:NAME.
        weights: file with the backbone's ImageNet weights, or imagenet to fetch them for resnet50; empty =
            random.
        trainable_from: first stage (0 to 4) of the backbone that learns; -1 = what the backbone recommends.
        min_side: smallest long side of an image in training, in pixels.
        max_side: largest long side.
        crop: side of the training crop.
        seed: decides weights, order and augmentation.
        optim: optimiser and schedule.
        machine: device, precision, workers, checkpoints.
    """

    data: DataConfig = field(default_factory=DataConfig)
    out: str = ""
    backbone: str = "resnet50"
    weights: str = ""
    trainable_from: int = -1
    min_side: int = 320
    max_side: int = 640
    crop: int = 512
    seed: int = 0
    optim: OptimConfig = field(default_factory=OptimConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)

    def __post_init__(self) -> None:
        problems = Problems()
        reason = backbone_problem(self.backbone)
        if reason:
            problems.add("backbone", reason)
        bounds = {
            "seed": (0, 2**31 - 1),
            "min_side": (16, 16384),
            "max_side": (16, 16384),
            "crop": (16, 8192),
            "trainable_from": (-1, 4),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                problems.add(name, f"got {getattr(self, name)}, expected {low} to {high}")
        if self.min_side > self.max_side:
            problems.add("min_side", f"got {self.min_side}, expected at most max_side = {self.max_side}")
        problems.raise_if_any()


def run(config: Config) -> TrainResult:
    """Train, or take up where a stopped training was; see the module's text.

    Raises:
        ConfigError: something is wrong that can be known before work begins, or the loss was not finite.
        SystemFault: the machine failed; the same call resumes.
    """
    data = _check(config)
    warning = data.tags_warning()
    if warning and is_main():
        say(f"train-cam: {warning}")

    def prepare(folder: Path) -> TrainingJob:
        net = CamNet(build_backbone(config.backbone, config.weights or None), len(data.categories))
        first = net.backbone.trainable_from if config.trainable_from < 0 else config.trainable_from
        training = CamTraining(net, config.optim, config.optim.total_steps(len(data)), first)
        return TrainingJob(training, _Samples(config, data, net.backbone.normalization), len(data))

    about = {"backbone": config.backbone, "categories": data.categories}
    return train("train-cam", config, NETWORK, _parts(config, data), prepare, **about)


class _Samples:
    """``(epoch, index)`` to a training crop with its labels."""

    def __init__(self, config: Config, data: ImageSet, normalization: tuple):
        self.config, self.data, self.normalization = config, data, normalization

    def __call__(self, epoch: int, index: int) -> dict[str, Any]:
        config, image = self.config, self.data.load_image(index)
        rng = augment.draw(config.seed, epoch, index)
        scale = augment.scale_by_long_side(image.shape[:2], config.min_side, config.max_side, rng)
        crop, _ = augment.augment(image, None, scale, config.crop, self.normalization, rng)
        labels = torch.from_numpy(self.data.label_vector(index))
        return {"id": self.data[index].id, "image": crop, "labels": labels}


def _check(config: Config) -> ImageSet:
    """Everything that can be known to be wrong before work begins, in one list; the opened data set."""
    problems = Problems()
    data = open_training_data(config, problems)
    problems.raise_if_any()
    return data


def _parts(config: Config, data: ImageSet) -> dict[str, Any]:
    """What decides the weights."""
    kept = ("backbone", "trainable_from", "min_side", "max_side", "crop", "seed")
    return {
        **{name: getattr(config, name) for name in kept},
        "optim": dataclasses.asdict(config.optim),
        "precision": config.machine.precision,
        "weights": weights_key(config.weights),
        "categories": data.categories.to_json(),
        "inputs": data.fingerprint(),
        "version": __version__,
    }
