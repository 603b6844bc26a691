"""Label every image of a data set: photographs and their tags to instance masks and semantic maps.

One pass per batch: activation maps, boundary, displacement, random walk, instances; rows go to Parquet
shards in the run folder. Nothing else is written unless it is asked for. The same command takes up a run
that was stopped; an image that cannot be used is recorded with its reason and the run goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from wsis import __version__
from wsis.data.artifacts import fingerprint, remove_stale
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.data.image_set import ImageSet
from wsis.data.points import open_points
from wsis.data.run_folder import RunFolder, source_key
from wsis.errors import Problems
from wsis.labels import cam_components, center_offset, detector_labeller, irnet
from wsis.labels.center_offset.labeller import CenterOffsetLabeller
from wsis.labels.detector_labeller import DetectorLabeller
from wsis.labels.labeller import Labeller
from wsis.runtime.checks import open_inputs
from wsis.runtime.device import autocast, choose_device, device_problems
from wsis.runtime.faults import FaultCount
from wsis.runtime.inputs import freeze_inputs, split_units
from wsis.runtime.job import JobResult, run_job
from wsis.runtime.label_units import LabelUnits, Outputs
from wsis.runtime.local_engine import LocalEngine
from wsis.runtime.memory import keep_freed_memory
from wsis.runtime.parts import local_rank, parse_part
from wsis.runtime.progress import RunLog, StageClock, say, stage_shares
from wsis.runtime.ray_engine import RayEngine, RaySettings, ray_problem
from wsis.runtime.stop import StopRequest
from wsis.training.checkpoint import load_network, read_meta

__all__ = ["Config", "Result", "run"]

NEEDS = {
    "irnet": {"cam_weights": "cam_net", "irnet_weights": "irnet"},
    "cam": {"cam_weights": "cam_net"},
    "center_offset": {"center_offset_weights": "center_offset_net"},
    "detector": {"detector_weights": "detector"},
}
"""The networks of each method: option and kind."""


@dataclass(frozen=True)
class Config:
    """What to label, with which nets, and where to put it.

    Attributes:
        data: the images and their tags.
        out: folder of the run; a folder that holds the same run is taken up where it stopped.
        cam_weights: the classifier, from train-cam.
        irnet_weights: the boundary and displacement network, from train-irnet.
        center_offset_weights: the centre and offset network, from train-center-offset.
        detector_weights: the detector, from train-detector.
        device: auto, cpu, cuda or cuda:N; auto takes a GPU if there is one.
        precision: fp32 or bf16 for the nets; labels are always made in float32.
        batch_size: images of one size that go through the nets together.
        workers: pictures that are decoded ahead at a time; 0: none.
        decode_timeout: seconds for a picture, which is decoded in a process of its own; one whose process dies or
            takes longer, twice, is recorded as E_POISON; 0: decode within the run, which dies with its decoder.
        unit_size: images of a work unit, which is done wholly or not at all.
        method: irnet; cam for the baseline, components of the thresholded activation maps; center_offset;
            or detector, which looks at no tags.
        scales: image pyramid of the activation maps.
        min_side: shorter sides are filled up to this length for the boundary network, as in its training.
        propagation: thresholds of the paper.
        cam_components: thresholds of the baseline.
        center_offset: thresholds of the centre and offset network.
        detector: thresholds of the detector.
        use_tags: center_offset: only classes of the image labels; else whatever the network sees.
        points: center_offset: folder, table or export with one point for every object, as for train-center-offset; each
            becomes an instance. Empty = the network finds the objects.
        mirror: center_offset: average classes and centres with those of the mirrored picture.
        instances: make instances.
        semantic: folder for semantic maps (PNG, 0 background, class + 1); empty = none.
        dump_fields: folder for activation maps, boundary, displacement and walk of every image (npz); empty
        = none. max_faults: most images that may fail; null = 1 % of those seen, but at least 10.
        verify: how shards that are there are checked before work: hash or size.
        shard: do only the i-th (from 0) of n parts of the run, as i/n, beside other processes that do the others;
            auto takes i and n from torchrun or SLURM, and the GPU of that number. Empty = all of it.
        engine: local (this process), or ray: Ray actors, one for each GPU or each CPU.
        address: of a Ray cluster, whose token is in RAY_AUTH_TOKEN; empty = one on this machine for this run.
        processes: Ray actors; 0 = as many as there are GPUs, or CPUs where no GPU is used.
    """

    data: DataConfig = field(default_factory=DataConfig)
    out: str = ""
    cam_weights: str = ""
    irnet_weights: str = ""
    center_offset_weights: str = ""
    detector_weights: str = ""
    device: str = "auto"
    precision: str = "fp32"
    batch_size: int = 8
    workers: int = 2
    decode_timeout: float = 60.0
    unit_size: int = 64
    method: str = "irnet"
    scales: tuple[float, ...] = (1.0, 0.5, 1.5, 2.0)
    min_side: int = 512
    propagation: irnet.Config = field(default_factory=irnet.Config)
    cam_components: cam_components.Config = field(default_factory=cam_components.Config)
    center_offset: center_offset.Config = field(default_factory=center_offset.Config)
    detector: detector_labeller.Config = field(default_factory=detector_labeller.Config)
    use_tags: bool = True
    points: str = ""
    mirror: bool = False
    instances: bool = True
    semantic: str = ""
    dump_fields: str = ""
    max_faults: int | None = None
    verify: str = "hash"
    shard: str = ""
    engine: str = "local"
    address: str = ""
    processes: int = 0

    def __post_init__(self) -> None:
        problems = Problems()
        for text in device_problems(self.device, self.precision):
            problems.add("", text)
        bounds = {
            "batch_size": (1, 4096),
            "workers": (0, 256),
            "processes": (0, 100_000),
            "unit_size": (1, 100_000),
            "min_side": (1, 8192),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                problems.add(name, f"got {getattr(self, name)}, expected {low} to {high}")
        if not 0 <= self.decode_timeout <= 86400:
            problems.add("decode_timeout", f"got {self.decode_timeout}, expected 0 to 86400 seconds")
        if not self.scales or not all(0 < scale <= 16 for scale in self.scales):
            problems.add("scales", f"got {list(self.scales)}, expected numbers above 0 and at most 16")
        if self.method not in NEEDS:
            problems.add("method", f"got {self.method!r}, expected {' or '.join(NEEDS)}")
        if self.method in ("cam", "detector") and self.dump_fields:
            problems.add("dump_fields", f"method {self.method} has no fields; leave it empty")
        if self.points and self.method != "center_offset":
            problems.add("points", f"method {self.method} takes none; leave it empty")
        if not self.instances and not self.semantic:
            problems.add("instances", "got false and no semantic folder, so there is nothing to make")
        if self.max_faults is not None and self.max_faults < 0:
            problems.add("max_faults", f"got {self.max_faults}, expected at least 0")
        if self.verify not in ("hash", "size"):
            problems.add("verify", f"got {self.verify!r}, expected hash or size")
        with problems.collecting():
            parse_part(self.shard)
        if self.engine not in ("local", "ray"):
            problems.add("engine", f"got {self.engine!r}, expected local or ray")
        if self.engine == "ray" and self.shard:
            problems.add("shard", "got a part of the run, but Ray hands out the units itself; leave it empty")
        if self.engine != "ray" and (self.address or self.processes):
            problems.add("engine", f"got {self.engine!r}, but address and processes belong to engine ray")
        problems.raise_if_any()


@dataclass(frozen=True)
class Result:
    """How a label run ended.

    Attributes:
        out: the run's folder.
        job: counts, reasons, times.
        exit_code: of the command.
        part: ``i/n`` where only a part was to be done.
    """

    out: Path
    job: JobResult
    exit_code: int
    part: str = ""

    def summary(self) -> str:
        job = self.job
        of = f" of part {self.part}" if self.part else ""
        lines = [
            f"{job.images} images{of} in {self.out}: {job.ok} labelled with {job.instances} instances, "
            f"{job.ok_empty} without any, {job.skipped} skipped",
        ]
        if job.reasons:
            faults = FaultCount()
            faults.add(0, job.reasons)
            lines += ["skipped:", faults.histogram()]
        if sum(job.seconds.values()):
            lines.append(f"{job.rate:.2f} images/s; {stage_shares(job.seconds)}")
        if self.part and job.whole:
            lines.append("all parts are done, the run is whole")
        if self.part and not job.whole and self.exit_code in (0, 3):
            lines.append("this part is done; the run is whole when the others are")
        if job.elsewhere:
            lines.append(f"{job.elsewhere} units of this part are being done by another process")
        left = job.images - job.ok - job.ok_empty - job.skipped
        if self.exit_code == 75:
            lines.append(f"stopped with {left} images to do; the same command goes on")
        if self.exit_code == 4:
            undone = f", {left} are left to do" if left else ""
            advice = "look at the reasons, then mend the data or raise --max_faults"
            lines.append(f"too many images failed{undone}; {advice}")
        return "\n".join(lines)


def run(config: Config) -> Result:
    """Label a data set; see the module's text.

    Raises:
        ConfigError: something is wrong that can be known before work begins; every problem found is listed.
        SystemFault: the machine failed; the same call resumes.
    """
    data = _check(config)
    device = _device(config)
    for note in data.notes:
        say(f"label: {note}")
    clock, part = StageClock(), parse_part(config.shard)
    with (
        StopRequest() as stop,
        RunFolder(config.out, "label", _parts(config, data, device.type), part is not None, _notes(config)) as folder,
    ):
        for other in (config.semantic, config.dump_fields):
            if other and Path(other).is_dir():
                remove_stale(other, alone=part is None)
        log = RunLog(folder.path / (f"log-{part.name}.jsonl" if part else "log.jsonl"))
        if config.engine == "ray":
            freeze_inputs(folder.path, data)
            settings = RaySettings(config.address, config.processes, device.type == "cuda")
            build = functools.partial(_units_elsewhere, os.getcwd(), config)
            engine = RayEngine(build, folder.path, folder.fingerprint, settings, clock, log)
        else:
            units = _units(config, data, clock, log)
            engine = LocalEngine(folder.path, folder.fingerprint, units, clock, shared=part is not None)
        job = run_job(
            folder,
            len(data),
            config.unit_size,
            engine,
            stop,
            log=log,
            part=part,
            max_faults=config.max_faults,
            clock=clock,
            verify=config.verify,
        )
    return Result(Path(config.out), job, job.exit_code, str(part or ""))


def _device(config: Config) -> torch.device:
    """The device of this process; Ray's actors look for a GPU themselves, for the driver may have none."""
    if config.engine == "ray" and config.device == "cuda":
        return torch.device("cuda")
    return choose_device(config.device, local_rank() if config.shard == "auto" else None)


def _units(config: Config, data: ImageSet | None, clock: StageClock, log: Any) -> LabelUnits:
    """What labels units: data, where they are not open yet, nets, outputs."""
    data = open_data(config.data) if data is None else data
    inputs = freeze_inputs(Path(config.out), data).isolated(config.workers, config.decode_timeout)
    device = choose_device(config.device, local_rank() if config.shard == "auto" else None)
    if device.type == "cpu":
        keep_freed_memory()
    labeller = _labeller(config, data, device)
    outputs = Outputs(config.instances, config.semantic, config.dump_fields, data.categories.palette())
    points = open_points(config.points, data.categories) if config.points else None
    sizes = (config.batch_size, config.workers)
    return LabelUnits(labeller, inputs, outputs, *sizes, clock, config.data.root, log, points)


def _units_elsewhere(folder: str, config: Config, clock: StageClock, log: Any) -> LabelUnits:
    """As :func:`_units` in another process, where relative paths are to mean what they mean here."""
    with contextlib.suppress(OSError):
        os.chdir(folder)
    return _units(config, None, clock, log)


def _labeller(
    config: Config, data: ImageSet, device: torch.device
) -> Labeller | cam_components.CamLabeller | CenterOffsetLabeller | DetectorLabeller:
    def context() -> AbstractContextManager:
        return autocast(device, config.precision)

    if config.method == "center_offset":
        net = load_network(config.center_offset_weights, device, kind="center_offset_net", categories=data.categories)
        return CenterOffsetLabeller(net, config.center_offset, config.use_tags, config.mirror, context)
    if config.method == "detector":
        net = load_network(config.detector_weights, device, kind="detector", categories=data.categories)
        return DetectorLabeller(net, config.detector, context=context)
    cam_net = load_network(config.cam_weights, device, kind="cam_net", categories=data.categories)
    if config.method == "cam":
        return cam_components.CamLabeller(cam_net, config.cam_components, config.scales, context)
    net = load_network(config.irnet_weights, device, kind="irnet")
    return Labeller(cam_net, net, config.propagation, config.scales, config.min_side, context)


def _check(config: Config) -> ImageSet:
    """Everything that can be known to be wrong before work begins, in one list; the opened data set."""
    problems = Problems()
    data = open_inputs(config, problems, NEEDS[config.method], ("out", "semantic", "dump_fields"))
    if config.points and data is not None:
        with problems.collecting():
            open_points(config.points, data.categories)
    problem = ray_problem(RaySettings(config.address)) if config.engine == "ray" else None
    if problem:
        problems.add("engine", problem)
    problems.raise_if_any()
    return data


def _notes(config: Config) -> dict[str, Any]:
    """What a run says of its data, for the steps that are given nothing but the run."""
    data = dataclasses.asdict(config.data)
    named = [name for name in ("root", "list", "tags", "classes") if data[name] and data[name] != "folders"]
    return {"data": data | {name: str(Path(data[name]).resolve()) for name in named}}


def _parts(config: Config, data: ImageSet, device: str) -> dict[str, Any]:
    """What decides the output of a run; resuming with anything else is refused by name."""
    from wsis import _host

    build = dict(_host.build_info())
    options = dataclasses.asdict(config)
    free = (
        "data",
        "out",
        "batch_size",
        "workers",
        "decode_timeout",
        "max_faults",
        "verify",
        "shard",
        "engine",
        "address",
        "processes",
        "device",
        "cam_weights",
        "irnet_weights",
        "center_offset_weights",
        "detector_weights",
    )
    for name in free:
        options.pop(name)
    if config.method != "detector":
        options.pop("detector")
    options["points"] = source_key(config.points) if config.points else ""
    options["semantic"], options["dump_fields"] = bool(config.semantic), bool(config.dump_fields)
    return {
        "config": options,
        "device": device,
        "images": len(data),
        "units": len(split_units(len(data), config.unit_size)),
        "categories": data.categories.to_json(),
        "inputs": data.fingerprint(),
        "weights": {kind: read_meta(getattr(config, name))["sha256"] for name, kind in NEEDS[config.method].items()},
        "version": __version__,
        "build": fingerprint({key: str(value) for key, value in build.items()}),
    }
