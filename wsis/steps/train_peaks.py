"""Train the peak network: a classifier with peak attention, from image labels alone (BESTIE, CVPR 2022).

The folder of the run holds ``peaks.safetensors`` and ``peaks.json``, the log (``log.jsonl``, ``tensorboard/``) and
the newest checkpoints. The same command resumes a training that was stopped; one that is done and verified is not
repeated.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsis import __version__
from wsis.data.config import DataConfig
from wsis.data.image_set import ImageSet
from wsis.errors import Problems
from wsis.models import PeakNet, build_peak_net, peak_backbone_problem
from wsis.training.checkpoint import load_network
from wsis.training.checks import open_training_data
from wsis.training.config import MachineConfig, OptimConfig
from wsis.training.fit import TrainResult, weights_key
from wsis.training.frame import TrainingJob, train
from wsis.training.peak_training import PeakSamples, PeakTraining

__all__ = ["Config", "run"]

NETWORK = "peaks.safetensors"
PAPER = OptimConfig(
    "nesterov", lr=1e-3, new_layers=10.0, weight_decay=5e-4, epochs=15, batch_size=10, milestones=(4 / 15, 9 / 15)
)


@dataclass(frozen=True)
class Config:
    """The network, its images and how it is trained; the defaults are the paper's.

    Attributes:
        data: training images with image labels.
        out: folder of the run.
        backbone: vgg16, resnet50, mobilenet_v2, mobilenet_v2_dilated, tiny or timm:NAME.
        weights: file with the backbone's ImageNet weights; empty = random.
        cam_weights: take the backbone of this classifier (from train-cam) instead of weights; few images and few
            steps then suffice.
        alpha: values below this share of their channel's maximum become 0; other data sets may want another.
        width: channels of the three convolutions after the backbone.
        trainable_from: first stage (0 to 4) of the backbone that learns; vgg16 learns whole.
        side: pictures are brought to a square of this side, whatever their shape.
        crop: side of the training crop.
        seed: decides weights, order and augmentation.
        optim: optimiser and schedule; new layers are all after the backbone, biases learn twice as fast.
        machine: device, precision, workers, checkpoints.
    """

    data: DataConfig = field(default_factory=DataConfig)
    out: str = ""
    backbone: str = "vgg16"
    weights: str = ""
    cam_weights: str = ""
    alpha: float = 0.7
    width: int = 512
    trainable_from: int = 0
    side: int = 384
    crop: int = 321
    seed: int = 0
    optim: OptimConfig = field(default_factory=lambda: PAPER)
    machine: MachineConfig = field(default_factory=MachineConfig)

    def __post_init__(self) -> None:
        problems = Problems()
        reason = peak_backbone_problem(self.backbone)
        if reason:
            problems.add("backbone", reason)
        bounds = {"alpha": (0, 1), "width": (1, 4096), "side": (16, 4096), "crop": (16, 4096), "trainable_from": (0, 5)}
        bounds |= {"seed": (0, 2**31 - 1)}
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                problems.add(name, f"got {getattr(self, name)}, expected {low} to {high}")
        if self.weights and self.cam_weights:
            problems.add("cam_weights", "was given together with weights, expected only one of them")
        if self.crop > self.side:
            problems.add("crop", f"got {self.crop}, expected at most side = {self.side}")
        problems.raise_if_any()


def run(config: Config) -> TrainResult:
    """Train, or take up where a stopped training was; see the module's text.

    Raises:
        ConfigError: something is wrong that can be known before work begins, or the loss was not finite.
        SystemFault: the machine failed; the same call resumes.
    """
    data = _check(config)

    def prepare(folder: Path) -> TrainingJob:
        net = _network(config, len(data.categories))
        training = PeakTraining(net, config.optim, config.optim.total_steps(len(data)), config.trainable_from)
        samples = PeakSamples(data, net.backbone.normalization, config.side, config.crop, config.seed)
        return TrainingJob(training, samples, len(data))

    about = {"backbone": config.backbone, "categories": data.categories}
    return train("train-peaks", config, NETWORK, _parts(config, data), prepare, **about)


def _network(config: Config, num_classes: int) -> PeakNet:
    if not config.cam_weights:
        weights = config.weights or None
        return build_peak_net(config.backbone, num_classes, config.alpha, config.width, weights)
    backbone = load_network(config.cam_weights, kind="cam_net").backbone
    return PeakNet(backbone, num_classes, config.alpha, config.width)


def _check(config: Config) -> ImageSet:
    """Everything that can be known to be wrong before work begins, in one list; the opened data set."""
    problems = Problems()
    data = open_training_data(config, problems)
    problems.raise_if_any()
    return data


def _parts(config: Config, data: ImageSet) -> dict[str, Any]:
    """What decides the weights."""
    kept = ("backbone", "alpha", "width", "trainable_from", "side", "crop", "seed")
    return {
        **{name: getattr(config, name) for name in kept},
        "optim": dataclasses.asdict(config.optim),
        "precision": config.machine.precision,
        "weights": weights_key(config.cam_weights or config.weights),
        "categories": data.categories.to_json(),
        "inputs": data.fingerprint(),
        "version": __version__,
    }
