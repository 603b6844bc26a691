"""Activation maps and a dense CRF to seed maps: confident foreground, confident background, unsure.

One PNG per image (0 background, class + 1, 255 unsure) in the output folder. Maps that are there and
verified are not made again; the same command takes up a run that was stopped.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wsis import __version__
from wsis.data.artifacts import encode_png, file_sha256, make_folder, safe_join, write_bytes
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.data.image_set import ImageSet
from wsis.data.run_folder import Journal, RunFolder
from wsis.errors import Code, ConfigError, DataFault, ExitCode, Problems
from wsis.labels import seeds
from wsis.labels.cam import multi_scale_cams
from wsis.models import CamNet
from wsis.runtime.decode import Decoded, group_by_size, read_ahead
from wsis.runtime.device import autocast, choose_device, device_problems
from wsis.runtime.faults import FaultCount
from wsis.runtime.inputs import FrozenInputs, freeze_inputs
from wsis.runtime.progress import StageClock, Watch, say
from wsis.runtime.stop import StopRequest
from wsis.training.checkpoint import load_network, network_problem, read_meta

__all__ = ["Config", "Result", "run"]


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


@dataclass(frozen=True)
class Result:
    """How it ended.

    Attributes:
        out: folder of the maps.
        images: of the data set; made: now; kept: there before and verified; skipped: could not be used.
        reasons: skipped images by code.
        seconds: by stage, of this call.
        exit_code: of the command.
    """

    out: Path
    images: int
    made: int
    kept: int
    skipped: int
    reasons: dict[str, int]
    seconds: dict[str, float]
    exit_code: int

    def summary(self) -> str:
        parts = ", ".join(f"{name} {spent:.1f} s" for name, spent in self.seconds.items())
        counts = f"{self.made} seed maps made, {self.kept} kept, {self.skipped} skipped"
        text = f"{self.images} images: {counts}; {parts}"
        reasons = "".join(f"\n  {code}  {count}" for code, count in sorted(self.reasons.items()))
        return f"{text}\nin {self.out}{reasons}"


def run(config: Config) -> Result:
    """Make the seed maps of a data set; see the module's text.

    Raises:
        ConfigError: something is wrong that can be known before work begins; every problem found is listed.
        SystemFault: the machine failed; the same call resumes.
    """
    data = _check(config)
    device = choose_device(config.device)
    net = load_network(config.cam_weights, device, kind="cam_net", categories=data.categories)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(RunFolder(config.out, "make_seed_labels", _parts(config, data, device.type)))
        journal = stack.enter_context(Journal(folder.path / "journal.jsonl"))
        inputs = freeze_inputs(folder.path, data)
        kept, old_faults = _verified(folder.path, journal, data, config.verify)
        if kept or old_faults:
            say(f"make-seed-labels: {len(kept)} of {len(data)} maps are there and verified")
        maker = _Maker(config, net, inputs, folder.path, journal)
        todo = [index for index in range(len(data)) if data[index].id not in kept]
        stop = stack.enter_context(StopRequest())
        watch = stack.enter_context(Watch(len(data), len(kept), "make-seed-labels", maker.clock))
        maker.faults.add(len(kept), {})
        maker.run(todo, stop, watch)
    code = maker.faults.exit_code()
    if len(kept) + maker.made + maker.faults.total < len(data) and code != ExitCode.TOO_MANY_FAULTS:
        code = ExitCode.STOPPED
    seconds = {name: round(spent, 3) for name, spent in maker.clock.seconds.items()}
    reasons = dict(sorted(maker.faults.reasons.items()))
    return Result(Path(config.out), len(data), maker.made, len(kept), maker.faults.total, reasons, seconds, int(code))


class _Maker:
    """Makes maps batch after batch and records each image."""

    def __init__(self, config: Config, net: CamNet, inputs: FrozenInputs, folder: Path, journal: Journal) -> None:
        self.config, self.net, self.inputs, self.folder, self.journal = config, net, inputs, folder, journal
        self.device = net.classifier.weight.device
        self.clock, self.faults, self.made = StageClock(), FaultCount(config.max_faults), 0

    def run(self, todo: list[int], stop: StopRequest, watch: Watch) -> None:
        config = self.config
        pictures = read_ahead(self._load, todo, config.workers, config.batch_size + 2 * config.workers)
        with contextlib.closing(pictures):
            for group in group_by_size(self._good(pictures), config.batch_size):
                self._batch(group)
                watch.advance(len(group), 0, self.faults.total)
                if stop.asked or self.faults.too_many:
                    return

    def _load(self, index: int) -> np.ndarray:
        if self.inputs.record(index).labels is None:
            raise DataFault(Code.E_LABEL, self.inputs.record(index).id, "read", "has no entry in the tag file")
        return self.inputs.load_image(index)

    def _good(self, pictures: Iterator[Decoded[np.ndarray]]) -> Iterator[Decoded[np.ndarray]]:
        while True:
            with self.clock("decode"):
                picture = next(pictures, None)
            if picture is None or self.faults.too_many:
                return
            if picture.fault is None:
                yield picture
            else:
                self._skip(picture.fault)

    def _skip(self, fault: DataFault) -> None:
        self.faults.add(1, {fault.code.value: 1})
        self.journal.append(fault.to_row())

    def _batch(self, group: list[Decoded[np.ndarray]]) -> None:
        records = [self.inputs.record(picture.index) for picture in group]
        images = [torch.from_numpy(picture.value).permute(2, 0, 1) for picture in group]
        with self.clock("nets"), autocast(self.device, self.config.precision):
            step = 1 if self.device.type == "cpu" else len(images)
            maps = []
            for start in range(0, len(images), step):
                present = [record.labels for record in records[start : start + step]]
                maps += multi_scale_cams(self.net, images[start : start + step], present, self.config.scales)
            finite = [bool(item.full.isfinite().all()) for item in maps]
        with self.clock("crf"):
            keep = [place for place, fine in enumerate(finite) if fine]
            counts = torch.tensor([len(records[place].labels) for place in keep], dtype=torch.int64)
            index = torch.repeat_interleave(torch.arange(len(keep)), counts).to(self.device)
            classes = torch.tensor([c for place in keep for c in records[place].labels], dtype=torch.int64)
            if keep:
                made = seeds.seed_labels_batch(
                    torch.stack([images[place] for place in keep]).contiguous().to(self.device),
                    torch.cat([maps[place].full for place in keep]).float(),
                    classes.to(self.device),
                    index,
                    self.config.seeds,
                ).cpu()
        with self.clock("write"):
            for place, seed_map in zip(keep, made.numpy() if keep else ()):
                self._write(records[place].id, seed_map)
        for record, fine in zip(records, finite):
            if not fine:
                self._skip(DataFault(Code.E_NUMERIC, record.id, "label", "the net gave values that are not finite"))

    def _write(self, image_id: str, seed_map: np.ndarray) -> None:
        path = safe_join(self.folder, image_id + ".png")
        make_folder(path.parent)
        png = encode_png(seed_map, self.inputs.data.categories.palette())
        write_bytes(path, png)
        self.journal.append({"id": image_id, "size": len(png), "sha256": file_sha256(path)})
        self.made += 1
        self.faults.add(1, {})


def _verified(folder: Path, journal: Journal, data: ImageSet, how: str) -> tuple[set[str], int]:
    """Ids whose map is what the journal says, and how many images failed before (they are tried again)."""
    entries: dict[str, dict[str, Any]] = {row["id"]: row for row in journal}
    kept, failed = set(), 0
    for image_id in data.ids:
        entry = entries.get(image_id)
        if entry is None:
            continue
        if "sha256" not in entry:
            failed += 1
            continue
        path = safe_join(folder, image_id + ".png")
        fine = path.is_file() and path.stat().st_size == entry["size"]
        if fine and (how == "size" or file_sha256(path) == entry["sha256"]):
            kept.add(image_id)
        else:
            say(f"wsis: {path.name} is missing or is not what was written; it is made again")
    return kept, failed


def _check(config: Config) -> ImageSet:
    """Everything that can be known to be wrong before work begins, in one list; the opened data set."""
    problems = Problems()
    for name in ("out", "cam_weights"):
        if not getattr(config, name):
            problems.add(name, f"is empty; give --{name}=PATH")
    data = None
    try:
        data = open_data(config.data)
    except ConfigError as error:
        problems.extend(error)
    if data is not None and len(data) == 0:
        problems.add("data", "the list of images is empty")
    if config.cam_weights:
        problem = network_problem(config.cam_weights, "cam_net", categories=data.categories if data else None)
        if problem:
            problems.add("cam_weights", problem)
    if config.out and config.data.root and Path(config.out).resolve() == Path(config.data.root).resolve():
        problems.add("out", f"{config.out} is the data folder; inputs are never overwritten")
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
