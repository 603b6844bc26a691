"""Peak points of every image of a data set, from its tags and a peak network, or from masks.

One file per image (``<id>.txt``, lines ``x y class confidence``) and ``points.csv`` with all of them in the output
folder. Files that are there and verified are not made again; the same command takes up a run that was stopped.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wsis import __version__
from wsis.data.artifacts import safe_join
from wsis.data.config import DataConfig
from wsis.data.image_set import ImageSet
from wsis.data.lists import read_text
from wsis.data.points import point_lines, write_point_table
from wsis.data.run_folder import RunFolder
from wsis.errors import Code, DataFault, ExitCode, Problems
from wsis.labels import points
from wsis.models import PeakNet
from wsis.runtime.checks import open_inputs
from wsis.runtime.decode import Decoded
from wsis.runtime.device import autocast, choose_device, device_problems
from wsis.runtime.files_job import FilesResult, make_files
from wsis.runtime.inputs import FrozenInputs, freeze_inputs
from wsis.runtime.progress import StageClock
from wsis.training.checkpoint import load_network, read_meta

__all__ = ["TABLE", "Config", "run"]

TABLE = "points.csv"


@dataclass(frozen=True)
class Config:
    """Which images, with which network, and where to put the points.

    Attributes:
        data: the images and their tags.
        out: folder of the points files.
        peak_weights: the peak network, from train-peaks.
        from_masks: no network: one point in the middle of every mask of the data (point supervision).
        device: auto, cpu, cuda or cuda:N; auto takes a GPU if there is one.
        precision: fp32 or bf16 for the net.
        workers: threads that decode ahead; 0: none.
        points: how points are read from the maps.
        max_faults: most images that may fail; null = 1 % of those seen, but at least 10.
        verify: how files that are there are checked: hash or size.
    """

    data: DataConfig = field(default_factory=DataConfig)
    out: str = ""
    peak_weights: str = ""
    from_masks: bool = False
    device: str = "auto"
    precision: str = "fp32"
    workers: int = 2
    points: points.Config = field(default_factory=points.Config)
    max_faults: int | None = None
    verify: str = "hash"

    def __post_init__(self) -> None:
        problems = Problems()
        for text in device_problems(self.device, self.precision):
            problems.add("", text)
        if not 0 <= self.workers <= 256:
            problems.add("workers", f"got {self.workers}, expected 0 to 256")
        if self.max_faults is not None and self.max_faults < 0:
            problems.add("max_faults", f"got {self.max_faults}, expected at least 0")
        if self.verify not in ("hash", "size"):
            problems.add("verify", f"got {self.verify!r}, expected hash or size")
        if self.from_masks and self.peak_weights:
            problems.add("peak_weights", "was given together with from_masks, expected only one of them")
        problems.raise_if_any()


def run(config: Config) -> FilesResult:
    """Make the points of a data set; see the module's text.

    Raises:
        ConfigError: something is wrong that can be known before work begins; every problem found is listed.
        SystemFault: the machine failed; the same call resumes.
    """
    data = _check(config)
    device = choose_device(config.device)
    net = None
    if not config.from_masks:
        net = load_network(config.peak_weights, device, kind="peak_net", categories=data.categories)
    with RunFolder(config.out, "make_points", _parts(config, data, device.type)) as folder:
        maker = _Maker(config, net, freeze_inputs(folder.path, data))
        result = make_files(
            folder.path,
            maker.inputs,
            maker,
            suffix=".txt",
            title="make-points",
            what="points files",
            clock=maker.clock,
            batch_size=1,
            workers=config.workers,
            max_faults=config.max_faults,
            verify=config.verify,
        )
        if result.exit_code in (ExitCode.OK, ExitCode.WITH_FAULTS):
            write_point_table(folder.path / TABLE, _rows(folder.path, data), data.categories)
    return result


class _Maker:
    """A picture to the content of its points file."""

    def __init__(self, config: Config, net: PeakNet | None, inputs: FrozenInputs) -> None:
        self.config, self.net, self.inputs, self.clock = config, net, inputs, StageClock()

    def __call__(self, group: list[Decoded[np.ndarray]]) -> list[bytes | DataFault]:
        contents = []
        for picture in group:
            try:
                contents.append(point_lines(self._points(picture)))
            except DataFault as fault:
                contents.append(fault)
        return contents

    def _points(self, picture: Decoded[np.ndarray]) -> list[points.Row]:
        record = self.inputs.record(picture.index)
        if self.net is None:
            with self.clock("masks"):
                return points.center_points(self.inputs.data.load_instances(picture.index))
        image = torch.from_numpy(picture.value).permute(2, 0, 1)
        device = self.net.classifier.weight.device
        with self.clock("nets"), autocast(device, self.config.precision):
            try:
                return points.peak_points(self.net, image, record.labels, self.config.points)
            except ArithmeticError as error:
                raise DataFault(Code.E_NUMERIC, record.id, "points", str(error)) from error


def _rows(folder: Path, data: ImageSet) -> dict[str, list[list[float]]]:
    """The content of all points files."""
    rows = {}
    for image_id in data.ids:
        path = safe_join(folder, image_id + ".txt")
        if path.is_file():
            rows[image_id] = [[float(word) for word in line.split()] for line in read_text(path).splitlines()]
    return rows


def _check(config: Config) -> ImageSet:
    """Everything that can be known to be wrong before work begins, in one list; the opened data set."""
    problems = Problems()
    data = open_inputs(config, problems, {} if config.from_masks else {"peak_weights": "peak_net"})
    if data is not None and config.from_masks and not data.has_masks:
        problems.add("from_masks", "the data set has no masks for some of its images; give a split that has")
    problems.raise_if_any()
    return data


def _parts(config: Config, data: ImageSet, device: str) -> dict[str, Any]:
    """What decides the points."""
    return {
        "points": dataclasses.asdict(config.points),
        "from_masks": config.from_masks,
        "precision": config.precision,
        "device": device,
        "categories": data.categories.to_json(),
        "inputs": data.fingerprint(),
        "weights": "" if config.from_masks else read_meta(config.peak_weights)["sha256"],
        "version": __version__,
    }
