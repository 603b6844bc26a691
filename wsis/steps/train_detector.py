"""Train Mask R-CNN on instance labels: a label run, a COCO json file, or PNG maps; or on the true masks.

    wsis train-detector runs/mine/labels/run --data.root=PHOTOS --out=runs/mine/detector --weights=FILE

The defaults are the published recipe for IRNet's labels on PASCAL VOC: ResNet-50-FPN, SGD, learning rate 0.01, 18,000
steps with a tenth of it after 12,000 and 16,000, short side 512 and long side at most 800, box suppression at 0.5
(reported there: AP50 46.7, AP70 23.5 on val). With --true_masks the same pictures teach with the masks of the data:
what the labels are worth is the difference. The same command resumes a training that was stopped.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from wsis import __version__
from wsis.data.artifacts import file_sha256, fingerprint
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.data.image_set import ImageSet
from wsis.errors import ConfigError, DataFault, Problems
from wsis.formats.sources import Source, open_source
from wsis.models.detector import build_detector, detector_problem
from wsis.runtime.device import choose_device
from wsis.runtime.progress import say
from wsis.training.checkpoint import load_network, network_problem, read_meta
from wsis.training.config import MachineConfig, OptimConfig
from wsis.training.detector_training import DetectorSamples, DetectorTraining, Filters
from wsis.training.fit import TrainResult, weights_key
from wsis.training.frame import TrainingJob, train

__all__ = ["PUBLISHED", "Config", "run"]

NETWORK = "detector.safetensors"
PUBLISHED = OptimConfig(
    "momentum",
    lr=0.01,
    new_layers=1.0,
    weight_decay=1e-4,
    steps=18_000,
    batch_size=16,
    warmup=1000,
    warmup_from=0.001,
    milestones=(12 / 18, 16 / 18),
)


@dataclass(frozen=True)
class Config:
    """The labels, the detector and how it is trained; the defaults are the published recipe.

    Attributes:
        labels: label run, COCO json file, or folder in VOC layout; its images, as far as they are in the data and have
            instances, are those of the training.
        data: the pictures; their masks only with true_masks.
        out: folder of the run.
        true_masks: teach with the masks of the data instead, on the same pictures.
        architecture: maskrcnn_resnet50_fpn, maskrcnn_mobilenet_v3_large_fpn or maskrcnn_mobilenet_v2_fpn.
        weights: file with the body's ImageNet weights; empty = random, and batch norm learns.
        cam_weights: take the backbone of this classifier (from train-cam) as the body instead of weights; few images
            and few steps then suffice.
        fixed: layers of the body that do not learn, by name; with weights the first two of a ResNet by default.
        filters: which instances teach.
        uncertain: folder of index maps (seed maps, say) whose 255 marks pixels that are left out; empty = none.
        min_side: short side of the pictures.
        max_side: bound of the long side.
        anchor: side of the smallest anchors in pixels.
        jitter: the short side varies by this share in training.
        ema: decay of the moving average of the weights that is kept in the end; 0 = the last weights.
        seed: decides weights, order and augmentation.
        optim: optimiser and schedule; new layers are all but the body.
        machine: device, precision, workers, checkpoints.
    """

    labels: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    out: str = ""
    true_masks: bool = False
    architecture: str = "maskrcnn_resnet50_fpn"
    weights: str = ""
    cam_weights: str = ""
    fixed: tuple[str, ...] = ("conv1", "layer1")
    filters: Filters = field(default_factory=Filters)
    uncertain: str = ""
    min_side: int = 512
    max_side: int = 800
    anchor: int = 32
    jitter: float = 0.0
    ema: float = 0.0
    seed: int = 0
    optim: OptimConfig = field(default_factory=lambda: PUBLISHED)
    machine: MachineConfig = field(default_factory=MachineConfig)

    def __post_init__(self) -> None:
        problems = Problems()
        reason = detector_problem(self.architecture)
        if reason:
            problems.add("architecture", reason)
        bounds = {
            "seed": (0, 2**31 - 1),
            "min_side": (32, 8192),
            "max_side": (32, 16384),
            "anchor": (4, 1024),
            "jitter": (0, 0.9),
            "ema": (0, 0.99999),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                problems.add(name, f"got {getattr(self, name)}, expected {low} to {high}")
        if self.weights and self.cam_weights:
            problems.add("cam_weights", "was given together with weights, expected only one of them")
        if self.min_side > self.max_side:
            problems.add("min_side", f"got {self.min_side}, expected at most max_side = {self.max_side}")
        for name in ("min_score", "ignore_score"):
            if not 0 <= getattr(self.filters, name) <= 1:
                problems.add(f"filters.{name}", f"got {getattr(self.filters, name)}, expected 0 to 1")
        for name in ("min_area", "top"):
            if getattr(self.filters, name) < 0:
                problems.add(f"filters.{name}", f"got {getattr(self.filters, name)}, expected at least 0")
        problems.raise_if_any()


def run(config: Config) -> TrainResult:
    """Train, or take up where a stopped training was; see the module's text.

    Raises:
        ConfigError: something is wrong that can be known before work begins, or the loss was not finite.
        SystemFault: the machine failed; the same call resumes.
    """
    data, source = _check(config)
    labels = DetectorSamples(data, source, config.filters, "", 32, 32, 0.0, 0)
    kept = _usable(config, data, labels)
    where = (config.uncertain, config.min_side, config.max_side, config.jitter, config.seed)
    samples = DetectorSamples(data, None if config.true_masks else source, config.filters, *where)

    def prepare(folder: Path) -> TrainingJob:
        net = build_detector(
            config.architecture,
            len(data.categories),
            min_side=config.min_side,
            max_side=config.max_side,
            anchor=config.anchor,
            frozen_norm=bool(_body(config)),
            weights=_state(config),
        )
        steps = config.optim.total_steps(len(kept))
        fixed = config.fixed if _body(config) else ()
        training = DetectorTraining(net, config.optim, steps, config.seed, config.ema, fixed)

        def finish() -> dict[str, Any]:
            training.finish()
            return {}

        return TrainingJob(training, lambda epoch, place: samples(epoch, kept[place]), len(kept), finish=finish)

    about = {"backbone": config.architecture, "categories": data.categories}
    return train("train-detector", config, NETWORK, _parts(config, data, kept), prepare, **about)


def _body(config: Config) -> str:
    """The file that the body's weights come from; empty = random ones."""
    return config.cam_weights or config.weights


def _state(config: Config) -> str | dict[str, torch.Tensor] | None:
    if not config.cam_weights:
        return config.weights or None
    return load_network(config.cam_weights, kind="cam_net").backbone.state_dict()


def _usable(config: Config, data: ImageSet, labels: DetectorSamples) -> list[int]:
    """Places of the images that have at least one instance that teaches."""
    kept, teach, ignored, faults = [], 0, 0, []
    for index in range(len(data)):
        try:
            good, rest = labels.count(index)
        except DataFault as fault:
            faults.append(str(fault.renamed(data[index].id)))
            continue
        if good:
            kept.append(index)
        teach, ignored = teach + good, ignored + rest
    say(
        f"train-detector: {len(kept)} of {len(data)} images have {teach} instances that teach;"
        f" {ignored} instances are ignored regions" + (f"; {len(faults)} images cannot be read" if faults else "")
    )
    if len(kept) < config.optim.batch_size:
        text = f"got {config.optim.batch_size}, expected at most the {len(kept)} images with instances that teach"
        raise ConfigError([f"optim.batch_size: {text}", *faults[:10]])
    return kept


def _check(config: Config) -> tuple[ImageSet, Source]:
    """Everything that can be known to be wrong before work begins, in one list; pictures and labels."""
    problems = Problems()
    for name in ("labels", "out"):
        if not getattr(config, name):
            problems.add(name, f"is empty; give --{name}=PATH")
    if config.weights and not Path(config.weights).is_file():
        problems.add("weights", f"{config.weights} does not exist (the current folder is {Path.cwd()})")
    if config.cam_weights:
        body = config.architecture.removeprefix("maskrcnn_").removesuffix("_fpn")
        problem = network_problem(config.cam_weights, "cam_net")
        got = "" if problem else read_meta(config.cam_weights)["backbone"]
        if problem or got.removesuffix("_dilated") != body:
            text = f"{config.cam_weights} has backbone {got}, expected {body} for {config.architecture}"
            problems.add("cam_weights", problem or text)
    if config.uncertain and not Path(config.uncertain).is_dir():
        problems.add("uncertain", f"{config.uncertain} is not a folder (the current folder is {Path.cwd()})")
    data, source = None, None
    with problems.collecting():
        choose_device(config.machine.device)
        data = open_data(config.data)
        if len(data) == 0:
            problems.add("data", "the list of images is empty")
    if config.true_masks and data is not None and len(data) and not data.has_masks and data[0].image_path is not None:
        problems.add("true_masks", f"not every image of {config.data.root} has masks; give a split that has")
    if config.labels and data is not None:
        with problems.collecting():
            source = open_source(config.labels, data.categories, set(data.ids), image_numbers=data.image_numbers)
    problems.raise_if_any()
    return data, source


def _parts(config: Config, data: ImageSet, kept: list[int]) -> dict[str, Any]:
    """What decides the weights."""
    names = ("architecture", "true_masks", "min_side", "max_side", "anchor", "jitter", "ema", "seed")
    path = Path(config.labels)
    if path.is_file():
        labels = file_sha256(path)
    elif (path / "run.json").is_file():
        from wsis.data.run_folder import RunFolder

        labels = RunFolder.read(path)["fingerprint"]
    else:
        labels = fingerprint({"folder": str(path.resolve())})
    return {
        **{name: getattr(config, name) for name in names},
        "fixed": list(config.fixed),
        "filters": dataclasses.asdict(config.filters),
        "uncertain": bool(config.uncertain),
        "optim": dataclasses.asdict(config.optim),
        "precision": config.machine.precision,
        "weights": weights_key(_body(config)),
        "labels": labels,
        "images": len(kept),
        "inputs": data.fingerprint(),
        "version": __version__,
    }
