"""Instance masks for single photographs, drawn beside each of them.

    wsis predict dog.jpg --tags=dog,person --cam_weights=CAM --irnet_weights=IRNET

writes ``dog_instances.png``, and with ``--json`` also ``dog_instances.json``. Without tags the classifier
says what is on the picture; a centre and offset network (``--center_offset_weights``) needs neither, nor
does a detector (``--detector_weights``).
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsis.data.artifacts import make_folder, write_json, write_png
from wsis.data.categories import Categories
from wsis.data.images import read_image
from wsis.errors import ConfigError, DataFault, ExitCode, Problems
from wsis.labels import center_offset, detector_labeller, irnet
from wsis.labels.center_offset.labeller import CenterOffsetLabeller
from wsis.labels.detector_labeller import DetectorLabeller
from wsis.labels.labeller import Labeller
from wsis.runtime.device import autocast, choose_device, device_problems
from wsis.runtime.label_units import fill_rows
from wsis.runtime.progress import say
from wsis.runtime.shards import Row
from wsis.structures import Instances
from wsis.training.checkpoint import load_network, network_problem, read_meta
from wsis.viz.overlay import overlay_instances

__all__ = ["Config", "Result", "run"]


@dataclass(frozen=True)
class Config:
    """Which photographs, what is on them, and with which nets.

    Attributes:
        photos: the pictures.
        tags: classes that are on all of them; empty = what the classifier finds.
        tag_threshold: without tags, classes of at least this probability count as present.
        cam_weights: the classifier, from train-cam.
        irnet_weights: the boundary and displacement network, from train-irnet.
        center_offset_weights: a centre and offset network, from train-center-offset, instead of those two.
        detector_weights: a detector, from train-detector, instead of them.
        out: folder of the results; empty = beside each photograph.
        json: write the instances as json too (class, score, area, box, run lengths).
        min_score: instances below it are left out; fragments below the area limit have score 0.
        device: auto, cpu, cuda or cuda:N; auto takes a GPU if there is one.
        precision: fp32 or bf16 for the nets.
        scales: image pyramid of the activation maps.
        min_side: shorter sides are filled up to this length for the boundary network, as in its training.
        propagation: thresholds of the paper.
        center_offset: thresholds of the centre and offset network.
        detector: thresholds of the detector.
    """

    photos: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    tag_threshold: float = 0.5
    cam_weights: str = ""
    irnet_weights: str = ""
    center_offset_weights: str = ""
    detector_weights: str = ""
    out: str = ""
    json: bool = False
    min_score: float = 1e-5
    device: str = "auto"
    precision: str = "fp32"
    scales: tuple[float, ...] = (1.0, 0.5, 1.5, 2.0)
    min_side: int = 512
    propagation: irnet.Config = field(default_factory=irnet.Config)
    center_offset: center_offset.Config = field(default_factory=center_offset.Config)
    detector: detector_labeller.Config = field(default_factory=detector_labeller.Config)

    def __post_init__(self) -> None:
        problems = Problems()
        for text in device_problems(self.device, self.precision):
            problems.add("", text)
        for name in ("tag_threshold", "min_score"):
            if not 0 <= getattr(self, name) <= 1:
                problems.add(name, f"got {getattr(self, name)}, expected 0 to 1")
        if not self.scales or not all(0 < scale <= 16 for scale in self.scales):
            problems.add("scales", f"got {list(self.scales)}, expected numbers above 0 and at most 16")
        if self.center_offset_weights and (self.cam_weights or self.irnet_weights):
            problems.add("center_offset_weights", "was given together with cam_weights or irnet_weights")
        if self.detector_weights and (self.cam_weights or self.irnet_weights or self.center_offset_weights):
            problems.add("detector_weights", "was given together with other networks")
        if not 1 <= self.min_side <= 8192:
            problems.add("min_side", f"got {self.min_side}, expected 1 to 8192")
        problems.raise_if_any()


@dataclass(frozen=True)
class Result:
    """What was found.

    Attributes:
        rows: one per photograph, as in a label run.
        pictures: where each overlay is; None where the photograph could not be read.
        categories: names of the classes.
        exit_code: 0, or 3 if a photograph could not be read.
    """

    rows: tuple[Row, ...]
    pictures: tuple[Path | None, ...]
    categories: Categories
    exit_code: int

    def summary(self) -> str:
        lines = []
        for row, picture in zip(self.rows, self.pictures):
            if picture is None:
                lines.append(f"{row.file}: {row.code}, {row.text}")
                continue
            names = [self.categories.names[label] for label in row.label]
            counts = ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names)) or "nothing found"
            lines.append(f"{row.file}: {counts} -> {picture}")
        return "\n".join(lines)


def run(config: Config) -> Result:
    """Find and draw the instances of photographs.

    Raises:
        ConfigError: no photograph, an unknown tag, weights that cannot be used; every problem found is
        listed. SystemFault: the machine failed.
    """
    _check_targets(config)
    categories, classes = _check(config)
    device = choose_device(config.device)
    labeller = _labeller(config, device)
    rows, pictures = [], []
    for photo in config.photos:
        row, picture = _one(config, labeller, categories, classes, Path(photo))
        rows.append(row)
        pictures.append(picture)
    code = ExitCode.WITH_FAULTS if None in pictures else ExitCode.OK
    return Result(tuple(rows), tuple(pictures), categories, int(code))


def _labeller(config: Config, device: torch.device) -> Labeller | CenterOffsetLabeller | DetectorLabeller:
    def context() -> AbstractContextManager:
        return autocast(device, config.precision)

    if config.detector_weights:
        net = load_network(config.detector_weights, device, kind="detector")
        return DetectorLabeller(net, config.detector, bool(config.tags), context)
    if config.center_offset_weights:
        net = load_network(config.center_offset_weights, device, kind="center_offset_net")
        return CenterOffsetLabeller(net, config.center_offset, bool(config.tags), context=context)
    cam_net = load_network(config.cam_weights, device, kind="cam_net")
    net = load_network(config.irnet_weights, device, kind="irnet")
    return Labeller(cam_net, net, config.propagation, config.scales, config.min_side, context)


def _needed(config: Config) -> dict[str, str]:
    """The networks that are used: option and kind."""
    if config.detector_weights:
        return {"detector_weights": "detector"}
    if config.center_offset_weights:
        return {"center_offset_weights": "center_offset_net"}
    return {"cam_weights": "cam_net", "irnet_weights": "irnet"}


def _target(config: Config, photo: Path) -> Path:
    return (Path(config.out) if config.out else photo.parent) / f"{photo.stem}_instances.png"


def _check_targets(config: Config) -> None:
    """``ConfigError`` naming photographs whose pictures would overwrite each other."""
    first: dict[Path, str] = {}
    pairs = ((first.setdefault(_target(config, Path(name)), name), name) for name in config.photos)
    clashes = [(one, two) for one, two in pairs if one != two]
    if clashes:
        hint = "call predict for each, with different --out"
        raise ConfigError([f"photos: {one} and {two} would give one picture; {hint}" for one, two in clashes])


def _one(
    config: Config,
    labeller: Labeller | CenterOffsetLabeller | DetectorLabeller,
    categories: Categories,
    classes: tuple[int, ...],
    photo: Path,
) -> tuple[Row, Path | None]:
    """Label, draw and write one photograph."""
    row = Row(photo.stem, str(photo))
    try:
        pixels = read_image(photo)
    except DataFault as fault:
        row.status, row.code, row.text = "skipped", fault.code.value, fault.text
        return row, None
    start = time.perf_counter()
    row.height, row.width = pixels.shape[:2]
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    present = classes
    if labeller.needs_tags and not classes:
        present = _tags(config, labeller, categories, image, photo)
    if present or not labeller.needs_tags:
        made = labeller.spread(labeller.fields([image], [present]), (row.height, row.width))
        fill_rows([row], made)
        keep = [place for place, score in enumerate(row.score) if score >= config.min_score]
        for name in ("label", "score", "bbox_xywh", "area", "counts"):
            setattr(row, name, [getattr(row, name)[place] for place in keep])
        masks = made.instances.to_instances()[0]
    else:
        row.status = "ok_empty"
        masks = Instances.empty((row.height, row.width))
    target = _target(config, photo)
    make_folder(target.parent)
    write_png(target, overlay_instances(pixels, masks, categories, min_score=config.min_score))
    if config.json:
        write_json(target.with_suffix(".json"), _as_json(row, categories))
    say(f"{photo}: {time.perf_counter() - start:.1f} s")
    return row, target


@torch.no_grad()
def _tags(config: Config, labeller: Labeller, categories: Categories, image: Tensor, photo: Path) -> tuple[int, ...]:
    """The classes that the classifier sees."""
    net = labeller.cam_net
    mean, std = (torch.tensor(value, device=labeller.device).view(1, 3, 1, 1) for value in net.backbone.normalization)
    with labeller.context():
        logits = net((image[None].to(labeller.device).float() - mean) / std).logits.float()
    chance = torch.sigmoid(logits)[0].cpu().numpy()
    found = tuple(int(number) for number in np.flatnonzero(chance >= config.tag_threshold))
    best = int(chance.argmax())
    words = ", ".join(f"{categories.names[number]} {chance[number]:.2f}" for number in found)
    none = f"no class above {config.tag_threshold:g}; {categories.names[best]} {chance[best]:.2f}"
    say(f"{photo}: {words or none}")
    return found


def _as_json(row: Row, categories: Categories) -> dict[str, Any]:
    columns = zip(row.label, row.score, row.bbox_xywh, row.area, row.counts)
    return {
        "file": row.file,
        "size": [row.height, row.width],
        "instances": [
            {
                "category": categories.names[label],
                "category_id": categories.ids[label],
                "score": score,
                "bbox": box,
                "area": area,
                "segmentation": {"size": [row.height, row.width], "counts": counts.decode("ascii")},
            }
            for label, score, box, area, counts in columns
        ],
    }


def _check(config: Config) -> tuple[Categories, tuple[int, ...]]:
    """Everything that can be known to be wrong before work begins; the classes and the tags' numbers."""
    problems = Problems()
    if not config.photos:
        problems.add("photos", "got none, expected the names of pictures")
    for name, kind in _needed(config).items():
        path = getattr(config, name)
        problem = network_problem(path, kind) if path else f"is empty; give --{name}=PATH"
        if problem:
            problems.add(name, problem)
    problems.raise_if_any()
    named = config.detector_weights or config.center_offset_weights or config.cam_weights
    categories = Categories(tuple(read_meta(named)["categories"]))
    numbers = []
    for tag in config.tags:
        try:
            numbers.append(categories.index(tag))
        except ConfigError as error:
            problems.extend(error)
    problems.raise_if_any()
    return categories, tuple(sorted(set(numbers)))
