"""Activation maps and a dense CRF to seed maps: confident foreground, confident background, unsure.

One PNG per image (0 background, class + 1, 255 unsure) in the output folder. Maps that are there and
verified are not made again; the same command takes up a run that was stopped.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from wsis import __version__
from wsis.data.artifacts import encode_png
from wsis.data.config import DataConfig
from wsis.data.image_set import ImageSet
from wsis.data.run_folder import RunFolder
from wsis.errors import Code, DataFault, Problems
from wsis.labels import seeds
from wsis.labels.cam import multi_scale_cams
from wsis.models import CamNet
from wsis.runtime.checks import open_inputs
from wsis.runtime.decode import Decoded
from wsis.runtime.device import autocast, choose_device, device_problems
from wsis.runtime.files_job import FilesResult, make_files
from wsis.runtime.inputs import FrozenInputs, freeze_inputs
from wsis.runtime.progress import StageClock
from wsis.training.checkpoint import load_network, read_meta

__all__ = ["Config", "run"]


@dataclass(frozen=True)
class Config:
    """Which images, with which classifier, and where to put the maps.

    Attributes:
        data: the images and their tags.
        out: folder of the seed maps.
        cam_weights: the classifier, from train-cam.
        device: auto, cpu, cuda or cuda:N; auto takes a GPU if there is one.
        precision: fp32 or bf16 for the net.
        batch_size: images of one size that are worked on together.
        workers: threads that decode ahead; 0: none.
        scales: image pyramid of the activation maps.
        seeds: thresholds and CRF of the paper.
        max_faults: most images that may fail; null = 1 % of those seen, but at least 10.
        verify: how maps that are there are checked: hash or size.
    """

    data: DataConfig = field(default_factory=DataConfig)
    out: str = ""
    cam_weights: str = ""
    device: str = "auto"
    precision: str = "fp32"
    batch_size: int = 8
    workers: int = 2
    scales: tuple[float, ...] = (1.0, 0.5, 1.5, 2.0)
    seeds: seeds.Config = field(default_factory=seeds.Config)
    max_faults: int | None = None
    verify: str = "hash"

    def __post_init__(self) -> None:
        problems = Problems()
        for text in device_problems(self.device, self.precision):
            problems.add("", text)
        for name, (low, high) in {"batch_size": (1, 4096), "workers": (0, 256)}.items():
            if not low <= getattr(self, name) <= high:
                problems.add(name, f"got {getattr(self, name)}, expected {low} to {high}")
        if not self.scales or not all(0 < scale <= 16 for scale in self.scales):
            problems.add("scales", f"got {list(self.scales)}, expected numbers above 0 and at most 16")
        if self.max_faults is not None and self.max_faults < 0:
            problems.add("max_faults", f"got {self.max_faults}, expected at least 0")
        if self.verify not in ("hash", "size"):
            problems.add("verify", f"got {self.verify!r}, expected hash or size")
        problems.raise_if_any()


def run(config: Config) -> FilesResult:
    """Make the seed maps of a data set; see the module's text.

    Raises:
        ConfigError: something is wrong that can be known before work begins; every problem found is listed.
        SystemFault: the machine failed; the same call resumes.
    """
    data = _check(config)
    device = choose_device(config.device)
    net = load_network(config.cam_weights, device, kind="cam_net", categories=data.categories)
    with RunFolder(config.out, "make_seed_labels", _parts(config, data, device.type)) as folder:
        maker = _Maker(config, net, freeze_inputs(folder.path, data))
        return make_files(
            folder.path,
            maker.inputs,
            maker,
            suffix=".png",
            title="make-seed-labels",
            what="seed maps",
            clock=maker.clock,
            batch_size=config.batch_size,
            workers=config.workers,
            max_faults=config.max_faults,
            verify=config.verify,
        )


class _Maker:
    """Pictures of one size to the PNG files of their seed maps."""

    def __init__(self, config: Config, net: CamNet, inputs: FrozenInputs) -> None:
        self.config, self.net, self.inputs, self.clock = config, net, inputs, StageClock()
        self.device = net.classifier.weight.device

    def __call__(self, group: list[Decoded[np.ndarray]]) -> list[bytes | DataFault]:
        records = [self.inputs.record(picture.index) for picture in group]
        images = [torch.from_numpy(picture.value).permute(2, 0, 1) for picture in group]
        with self.clock("nets"), autocast(self.device, self.config.precision):
            step = 1 if self.device.type == "cpu" else len(images)
            maps = []
            for start in range(0, len(images), step):
                present = [record.labels for record in records[start : start + step]]
                maps += multi_scale_cams(self.net, images[start : start + step], present, self.config.scales)
            finite = [bool(item.full.isfinite().all()) for item in maps]
        keep = [place for place, fine in enumerate(finite) if fine]
        made: list[bytes | DataFault] = [
            DataFault(Code.E_NUMERIC, record.id, "label", "the net gave values that are not finite")
            for record in records
        ]
        with self.clock("crf"):
            counts = torch.tensor([len(records[place].labels) for place in keep], dtype=torch.int64)
            index = torch.repeat_interleave(torch.arange(len(keep)), counts).to(self.device)
            classes = torch.tensor([c for place in keep for c in records[place].labels], dtype=torch.int64)
            if keep:
                seed_maps = seeds.seed_labels_batch(
                    torch.stack([images[place] for place in keep]).contiguous().to(self.device),
                    torch.cat([maps[place].full for place in keep]).float(),
                    classes.to(self.device),
                    index,
                    self.config.seeds,
                ).cpu()
                for place, seed_map in zip(keep, seed_maps.numpy()):
                    made[place] = encode_png(seed_map, self.inputs.data.categories.palette())
        return made


def _check(config: Config) -> ImageSet:
    """Everything that can be known to be wrong before work begins, in one list; the opened data set."""
    problems = Problems()
    data = open_inputs(config, problems, {"cam_weights": "cam_net"})
    problems.raise_if_any()
    return data


def _parts(config: Config, data: ImageSet, device: str) -> dict[str, Any]:
    """What decides the maps."""
    return {
        "seeds": dataclasses.asdict(config.seeds),
        "scales": list(config.scales),
        "precision": config.precision,
        "device": device,
        "categories": data.categories.to_json(),
        "inputs": data.fingerprint(),
        "weights": read_meta(config.cam_weights)["sha256"],
        "version": __version__,
    }
