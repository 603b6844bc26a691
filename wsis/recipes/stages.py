"""What a recipe is made of: options that all stages share, and stages that name a step and its
configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsis.data.config import DataConfig
from wsis.errors import Problems
from wsis.models.fetch import IMAGENET
from wsis.runtime.device import device_problems

__all__ = ["FILES", "Options", "Stage", "StepFiles"]


@dataclass(frozen=True)
class Options:
    """What a whole run shares; the numbers of single stages follow below, each under the stage's name.

    Attributes:
        data: the training images and their tags.
        out: folder of the run; every stage has a folder in it.
        label_split: split to label and, where it has masks, to evaluate; empty = what the recipe says.
        backbone: resnet50, mobilenet_v2, tiny or timm:NAME; empty = what the recipe says.
        weights: file with the backbone's ImageNet weights, or imagenet to fetch those of resnet50 with their pinned
            sha256; empty = what the recipe says.
        device: auto, cpu, cuda or cuda:N.
        precision: fp32 or bf16 for the nets.
        batch_size: images that go through the nets together when labels are made; training has its own.
        workers: threads that decode, and processes that prepare training images.
        seed: of everything random.
        num_pictures: pictures on the report page; 0 = no page.
    """

    data: DataConfig = field(default_factory=DataConfig)
    out: str = "runs/irnet"
    label_split: str = ""
    backbone: str = ""
    weights: str = ""
    device: str = "auto"
    precision: str = "fp32"
    batch_size: int = 8
    workers: int = 2
    seed: int = 0
    num_pictures: int = 48

    def __post_init__(self) -> None:
        problems = Problems()
        for text in device_problems(self.device, self.precision):
            problems.add("", text)
        bounds = {"batch_size": (1, 4096), "workers": (0, 256), "seed": (0, 2**31 - 1), "num_pictures": (0, 5000)}
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                problems.add(name, f"got {getattr(self, name)}, expected {low} to {high}")
        if not self.out:
            problems.add("out", "is empty; give --out=FOLDER")
        problems.raise_if_any()


@dataclass(frozen=True)
class Stage:
    """One station of a run.

    Attributes:
        name: unique in the recipe; options of the stage begin with it.
        step: module in ``wsis.steps``.
        config: its configuration.
        pretrained: the network that here must not start from random weights; empty = any may.
    """

    name: str
    step: str
    config: Any
    pretrained: str = ""

    def problem(self) -> str:
        """What is missing before the stage can begin; empty if nothing is."""
        config = self.config
        network = getattr(config, "architecture", "") or getattr(config, "backbone", "")
        weights = getattr(config, "weights", "")
        if weights and weights != IMAGENET and not Path(weights).is_file():
            return f"{weights} is no file (the current folder is {Path.cwd()})"
        if not self.pretrained or network != self.pretrained or weights or getattr(config, "cam_weights", ""):
            return ""
        return f"is empty, and the published figures begin with {network}'s ImageNet weights"


@dataclass(frozen=True)
class StepFiles:
    """Which fields of a step's configuration name files.

    Attributes:
        reads: what earlier stages made.
        writes: what it makes itself; the first decides whether the stage is done.
        free: fields that do not change what it makes.
    """

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    free: tuple[str, ...] = ()


_LABEL_FREE = ("batch_size", "workers", "max_faults", "verify")
FILES = {
    "train_cam": StepFiles(("weights",), ("out",), ("machine",)),
    "make_seed_labels": StepFiles(("cam_weights",), ("out",), _LABEL_FREE),
    "train_irnet": StepFiles(("seeds", "weights", "cam_weights"), ("out",), ("machine",)),
    "train_peaks": StepFiles(("weights", "cam_weights"), ("out",), ("machine",)),
    "make_points": StepFiles(("peak_weights",), ("out",), ("workers", "max_faults", "verify")),
    "train_center_offset": StepFiles(
        ("semantic", "points", "weights", "cam_weights", "point_list"), ("out",), ("machine",)
    ),
    "label": StepFiles(
        ("cam_weights", "irnet_weights", "center_offset_weights", "detector_weights", "points"),
        ("out", "semantic", "dump_fields"),
        (*_LABEL_FREE, "decode_timeout", "engine", "address", "processes"),
    ),
    "export": StepFiles(("run",), ("output",)),
    "evaluate": StepFiles(("runs", "semantic"), ("output",), ("per_class",)),
    "report": StepFiles(("run", "fields", "semantic", "points"), ("output",)),
}
"""Of every step that a recipe may use."""
