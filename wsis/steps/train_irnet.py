"""Train IRNet's boundary and displacement branches on seed maps, then measure the mean displacement.

The folder of the run holds ``irnet.safetensors`` and ``irnet.json``, the log (``log.jsonl``,
``tensorboard/``) and the newest checkpoints. The same command resumes a training that was stopped; one that
is done and verified is not repeated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsis import __version__
from wsis.data.artifacts import fingerprint, safe_join
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.data.image_set import ImageSet
from wsis.data.images import read_index_map
from wsis.data.run_folder import RunFolder
from wsis.errors import ConfigError, DataFault, Problems
from wsis.models import IRNet, backbone_problem, build_backbone
from wsis.runtime.device import autocast, choose_device
from wsis.training import augment
from wsis.training.checkpoint import load_network
from wsis.training.checks import open_training_data
from wsis.training.config import MachineConfig, OptimConfig
from wsis.training.fit import TrainResult, weights_key
from wsis.training.frame import TrainingJob, train
from wsis.training.mean_shift import measure_mean_displacement
from wsis.training.modules import IRNetTraining

__all__ = ["Config", "run"]

NETWORK = "irnet.safetensors"


@dataclass(frozen=True)
class Config:
    """The network, its images and seed maps, and how it is trained; the defaults are the paper's.

    Attributes:
        data: training images.
        seeds: folder of the seed maps, from make-seed-labels.
        out: folder of the run.
        backbone: resnet50, mobilenet_v2, mobilenet_v2_dilated, tiny or timm:NAME.
        weights: file with the backbone's ImageNet weights, or imagenet to fetch them for resnet50; empty =
            random.
        cam_weights: take the backbone of this classifier (from train-cam) instead of weights.
        trainable_from: first stage (0 to 4) of the backbone that learns; 5 = the backbone is fixed.
        min_scale: smallest factor of an image's sides in training.
        max_scale: largest factor.
        crop: side of the training crop.
        radius: pairs of cells lie nearer than this.
        mean_split: split of the data whose mean displacement is stored; empty = the training images.
        mean_crop: side of the top-left crop on which it is measured.
        seed: decides weights, order and augmentation.
        optim: optimiser and schedule; new layers are the displacement branch.
        machine: device, precision, workers, checkpoints.
    """

    data: DataConfig = field(default_factory=DataConfig)
    seeds: str = ""
    out: str = ""
    backbone: str = "resnet50"
    weights: str = ""
    cam_weights: str = ""
    trainable_from: int = 5
    min_scale: float = 0.5
    max_scale: float = 1.5
    crop: int = 512
    radius: int = 10
    mean_split: str = ""
    mean_crop: int = 512
    seed: int = 0
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(epochs=3, batch_size=32))
    machine: MachineConfig = field(default_factory=MachineConfig)

    def __post_init__(self) -> None:
        problems = Problems()
        reason = backbone_problem(self.backbone)
        if reason:
            problems.add("backbone", reason)
        bounds = {
            "seed": (0, 2**31 - 1),
            "trainable_from": (0, 5),
            "min_scale": (0.05, 16),
            "max_scale": (0.05, 16),
            "radius": (2, 32),
            "crop": (16, 8192),
            "mean_crop": (16, 8192),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                problems.add(name, f"got {getattr(self, name)}, expected {low} to {high}")
        if self.min_scale > self.max_scale:
            problems.add("min_scale", f"got {self.min_scale}, expected at most max_scale = {self.max_scale}")
        if self.crop < 8 * self.radius - 4:
            least = 8 * self.radius - 4
            problems.add("crop", f"got {self.crop}, expected at least {least} for radius {self.radius}")
        if self.weights and self.cam_weights:
            problems.add("cam_weights", "was given together with weights, expected only one of them")
        problems.raise_if_any()


def run(config: Config) -> TrainResult:
    """Train, or take up where a stopped training was; see the module's text.

    Raises:
        ConfigError: something is wrong that can be known before work begins, or the loss was not finite.
        SystemFault: the machine failed; the same call resumes.
    """
    data = _check(config)

    def prepare(folder: Path) -> TrainingJob:
        net = IRNet(_backbone(config))
        steps = config.optim.total_steps(len(data))
        training = IRNetTraining(net, config.optim, steps, config.trainable_from, config.radius)

        def finish() -> dict[str, Any]:
            device = choose_device(config.machine.device)
            with autocast(device, config.machine.precision):
                mean = measure_mean_displacement(net.to(device), _mean_crops(config, net, data))
            return {"mean_displacement_yx": mean.tolist()}

        return TrainingJob(training, _Samples(config, data, net.backbone.normalization), len(data), finish=finish)

    return train("train-irnet", config, NETWORK, _parts(config, data), prepare, backbone=config.backbone)


def _backbone(config: Config):
    if config.cam_weights:
        return load_network(config.cam_weights, kind="cam_net").backbone
    return build_backbone(config.backbone, config.weights or None)


class _Samples:
    """``(epoch, index)`` to a training crop with its seed map on the stride-4 grid."""

    def __init__(self, config: Config, data: ImageSet, normalization: tuple):
        self.config, self.data, self.normalization = config, data, normalization

    def __call__(self, epoch: int, index: int) -> dict[str, Any]:
        config, image, name = self.config, self.data.load_image(index), self.data[index].id
        try:
            path = safe_join(config.seeds, name + ".png")
            seeds = read_index_map(path, len(self.data.categories), size=image.shape[:2])
        except DataFault as fault:
            raise fault.renamed(name) from fault
        rng = augment.draw(config.seed, epoch, index)
        scale = augment.scale_by_factor(config.min_scale, config.max_scale, rng)
        crop, grid = augment.augment(image, seeds, scale, config.crop, self.normalization, rng)
        return {"id": name, "image": crop, "seeds": grid}


def _mean_crops(config: Config, net: IRNet, data: ImageSet) -> Iterator[Tensor]:
    """The top-left crops on which the mean displacement is measured, normalised, zeros where an image
    ends.
    """
    if config.mean_split:
        data = open_data(dataclasses.replace(config.data, split=config.mean_split, list=""))
    side = config.mean_crop
    for index in range(len(data)):
        try:
            image = data.load_image(index)[:side, :side]
        except DataFault:
            continue
        crop = torch.zeros(3, side, side)
        crop[:, : image.shape[0], : image.shape[1]] = augment.normalise(image, net.backbone.normalization)
        yield crop


def _check(config: Config) -> ImageSet:
    """Everything that can be known to be wrong before work begins, in one list; the opened data set."""
    problems = Problems()
    data = open_training_data(config, problems, needed=("out", "seeds"), labels=False)
    if config.seeds and not Path(config.seeds).is_dir():
        problems.add("seeds", f"{config.seeds} is not a folder (the current folder is {Path.cwd()})")
    if config.mean_split:
        with problems.collecting():
            open_data(dataclasses.replace(config.data, split=config.mean_split, list=""))
    problems.raise_if_any()
    missing = [name for name in data.ids if not safe_join(config.seeds, name + ".png").is_file()]
    if missing:
        raise ConfigError(
            f"seeds: {len(missing)} of {len(data)} images have no seed map in {config.seeds}:"
            f" {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''};"
            " run make-seed-labels on the same data"
        )
    return data


def _parts(config: Config, data: ImageSet) -> dict[str, Any]:
    """What decides the weights."""
    kept = (
        *("backbone", "trainable_from", "min_scale", "max_scale", "crop", "radius"),
        *("mean_split", "mean_crop", "seed"),
    )
    seeds = RunFolder.read(config.seeds)["fingerprint"] if (Path(config.seeds) / "run.json").is_file() else None
    return {
        **{name: getattr(config, name) for name in kept},
        "optim": dataclasses.asdict(config.optim),
        "precision": config.machine.precision,
        "weights": weights_key(config.cam_weights or config.weights),
        "seeds": seeds or fingerprint({"folder": str(Path(config.seeds).resolve())}),
        "inputs": data.fingerprint(),
        "version": __version__,
    }
