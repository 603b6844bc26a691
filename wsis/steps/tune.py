"""Try thresholds and walks on the kept fields of a label run, without running the nets again.

    wsis tune runs/mine/labels/run

The fields are those that ``label --dump_fields=FOLDER`` keeps (recipes keep them beside the run). Every combination of
the lists below is compared with the masks of the data; ``tune.json`` holds all figures, ``tune.svg`` the curves, and
``tune.yaml`` the settings to keep: ``wsis label --config=tune.yaml`` takes them. Look at images that are not those you
report figures on: the best of many settings is better by chance, too.

Every image is counted under all settings and then kept in the folder ``partial`` beside the results: Ctrl-C shows the
table so far, and the same command goes on from there.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from wsis import __version__, _host
from wsis.data.artifacts import Journal, RunFolder, fingerprint, make_folder, safe_join, write_bytes, write_json
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.data.image_set import ImageSet
from wsis.errors import Code, ConfigError, DataFault, ExitCode, Problem, Problems, did_you_mean
from wsis.evaluation import instance_voc
from wsis.evaluation.compare import Found, Truth
from wsis.evaluation.setting_tally import SettingTally, measured
from wsis.formats.fields import read_fields
from wsis.labels import irnet
from wsis.labels.sweep import sweep
from wsis.runtime.command_line import called_as
from wsis.runtime.label_units import fill_rows
from wsis.runtime.progress import StageClock, Watch, say
from wsis.runtime.shards import Row, run_data
from wsis.runtime.stop import StopRequest
from wsis.viz.charts import charts_svg
from wsis.viz.sweep_charts import percent, setting_words, sweep_charts, sweep_table

__all__ = ["Config", "Result", "run"]

OBJECTIVES = ("map_25", "map_50", "map_70", "map_75", "abo")


@dataclass(frozen=True)
class Config:
    """Which fields, which masks, and what to try; an empty list keeps what the run had.

    Attributes:
        run: folder of a label run of IRNet's networks.
        fields: folder of its kept fields; empty = the folder fields beside the run.
        data: images, if not those the run names; those without masks or kept fields are left out.
        out: folder of the results; empty = the folder tune beside the run.
        backgrounds: scores of the background, for instances and for semantic maps.
        walk_steps: lengths of the random walk.
        betas: powers of the affinities.
        weak_displacements: bounds of the centroids, in cells.
        crfs: trust in the labels under the CRF; 0 = no CRF.
        min_scores: filters of the instances, tried on the best setting.
        objective: map_25, map_50, map_70, map_75 or abo decides for instances; semantic maps are decided by mIoU.
        num_images: images to look at; 0 = all.
        seed: which, if not all.
    """

    run: str = ""
    fields: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    out: str = ""
    backgrounds: tuple[float, ...] = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
    walk_steps: tuple[int, ...] = (64, 256)
    betas: tuple[float, ...] = ()
    weak_displacements: tuple[float, ...] = ()
    crfs: tuple[float, ...] = ()
    min_scores: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    objective: str = "map_50"
    num_images: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        problems = Problems()
        if self.objective not in OBJECTIVES:
            hint = did_you_mean(self.objective, OBJECTIVES)
            problems.add("objective", f"got {self.objective!r}, expected {', '.join(OBJECTIVES)}", hint)
        for name in ("min_scores",):
            if not getattr(self, name) or not all(0 <= value <= 1 for value in getattr(self, name)):
                problems.add(name, f"got {list(getattr(self, name))}, expected numbers from 0 to 1")
        if self.num_images < 0:
            problems.add("num_images", f"got {self.num_images}, expected at least 0")
        problems.raise_if_any()


@dataclass(frozen=True)
class Result:
    """What was found.

    Attributes:
        figures: as in ``tune.json``; of the images done so far where the sweep was stopped, empty if there are none.
        out: the folder with ``tune.json``, ``tune.svg`` and ``tune.yaml``, once all images are done.
        left: images that are still to be done.
    """

    figures: dict[str, Any]
    out: Path
    left: int = 0

    @property
    def exit_code(self) -> int:
        if self.left:
            return int(ExitCode.STOPPED)
        return int(ExitCode.WITH_FAULTS if self.figures["faults"] else ExitCode.OK)

    def summary(self) -> str:
        lines = self._found() if self.figures else []
        if self.left:
            again = called_as() or "the same command"
            return "\n".join([*lines, f"stopped with {self.left} images to do; this goes on: {again}"])
        lines += ["", f"keep ({self.out / 'tune.yaml'}):", self.figures["keep"].rstrip()]
        return "\n".join([*lines, f"curves: {self.out / 'tune.svg'}"])

    def _found(self) -> list[str]:
        figures, objective = self.figures, self.figures["objective"]
        best, before = figures["best"], figures["before"]
        title = f"{len(figures['settings'])} settings on {figures['images']} images with masks"
        one = best["min_score"]
        lines = [
            sweep_table(title, objective, before, figures["settings"]),
            f"{objective}: {percent(before['figures'][objective])} as it was, {percent(best['instances'][objective])}"
            f" with {setting_words(best['instances']['setting'])}",
            f"mIoU: {percent(before['figures']['miou'])} as it was, {percent(best['semantic']['miou'])}"
            f" with {setting_words(best['semantic']['setting'])}",
            f"filter for a detector: min_score {one['min_score']:g} has precision {percent(one['precision'])}"
            f" and recall {percent(one['recall'])} at IoU 0.5",
        ]
        if figures["faults"]:
            text = f"{len(figures['faults'])} images could not be used; the first: {figures['faults'][0]['text']}"
            lines.append(text)
        return lines


def run(config: Config) -> Result:
    """Sweep.

    Raises:
        ConfigError: no label run, no fields, no masks, or values out of range; every problem found is listed.
    """
    base, folder, data, places = _check(config)
    settings = _settings(config, base)
    out = make_folder(Path(config.out) if config.out else Path(config.run).parent / "tune")
    parts = _parts(config, folder, data, places, settings)
    tallies = [SettingTally(len(data.categories)) for _ in settings]
    faults: list[dict[str, str]] = []
    with _partial(out / "partial", parts) as partial, StopRequest() as stop:
        with Journal(partial.path / "images.jsonl") as journal:
            done = {row["id"]: row for row in journal}
            if done:
                say(f"tune: {len(done)} of {len(places)} images are done already ({journal.path})")
            for row in done.values():
                _count(tallies, row)
            todo = [place for place in places if data[place].id not in done]
            left = _images(data, todo, folder, settings, tallies, journal, faults, stop, len(done))
        if len(faults) == len(places):
            raise ConfigError(f"none of the {len(places)} images could be used; the first: {faults[0]['text']}")
        images = len(places) - left - len(faults)
        figures = _figures(config, base, settings, tallies, images, faults) if images else {}
        if left:
            return Result(figures, out, left)
        write_json(out / "tune.json", figures)
        write_bytes(out / "tune.yaml", figures["keep"].encode())
        charts = sweep_charts(config.objective, figures["settings"], figures["filters"])
        write_bytes(out / "tune.svg", charts_svg(charts).encode())
        shutil.rmtree(partial.path)
    return Result(figures, out)


def _partial(folder: Path, parts: dict[str, Any]) -> RunFolder:
    """The folder of what is done so far."""
    try:
        return RunFolder(folder, "tune", parts)
    except ConfigError as error:
        if not any("another run" in problem.text for problem in error.problems):
            raise
        hint = f"the old options go on with it; to begin anew: rm -r {shlex.quote(str(folder))}"
        stopped = Problem(str(folder), "holds a sweep that was stopped", hint)
        raise ConfigError([*error.problems[:-1], stopped]) from None


def _images(
    data: ImageSet,
    todo: Sequence[int],
    folder: Path,
    settings: Sequence[irnet.Config],
    tallies: Sequence[SettingTally],
    journal: Journal,
    faults: list[dict[str, str]],
    stop: StopRequest,
    done: int,
) -> int:
    """Count the images that are to do; how many of them were left because a stop was asked for."""
    clock = StageClock()
    with Watch(done + len(todo), done, "tune", clock) as watch:
        for number, place in enumerate(todo):
            if stop.asked:
                return len(todo) - number
            try:
                row = _image(data, place, folder, settings, clock)
                journal.append(row)
                _count(tallies, row)
            except DataFault as fault:
                faults.append(fault.renamed(data[place].id).to_row())
            watch.advance(1, None, len(faults))
    return 0


def _count(tallies: Sequence[SettingTally], row: dict[str, Any]) -> None:
    for tally, one in zip(tallies, row["settings"]):
        tally.add(one, row["truth"])


def _parts(
    config: Config, folder: Path, data: ImageSet, places: Sequence[int], settings: Sequence[irnet.Config]
) -> dict[str, Any]:
    """What decides the counts of the images; what was kept for anything else is refused by name."""
    build = {key: str(value) for key, value in dict(_host.build_info()).items()}
    lists = ("backgrounds", "walk_steps", "betas", "weak_displacements", "crfs", "num_images", "seed")
    return {
        **{name: getattr(config, name) for name in lists},
        "settings": fingerprint({"settings": [dataclasses.asdict(setting) for setting in settings]}),
        "run": RunFolder.read(config.run)["fingerprint"],
        "fields": str(folder.resolve()),
        "images": len(places),
        "ids": fingerprint({"ids": [data[place].id for place in places]}),
        "version": __version__,
        "build": fingerprint(build),
    }


def _check(config: Config) -> tuple[irnet.Config, Path, ImageSet, list[int]]:
    """The run's thresholds, its fields, the data, and the places of the images that have both."""
    problems = Problems()
    base, data = irnet.Config(), None
    if not config.run:
        problems.add("run", "is empty; give the folder of a label run")
    with problems.collecting():
        if config.run:
            parts = RunFolder.read(config.run)["parts"]
            options = parts.get("config", {})
            if options.get("method", "irnet") != "irnet":
                problems.add(
                    "run", f"was made by method {options['method']}, expected irnet, whose fields can be swept"
                )
            known = {item.name for item in dataclasses.fields(irnet.Config)}
            kept = {name: value for name, value in options.get("propagation", {}).items() if name in known}
            base = irnet.Config(**kept)
    folder = Path(config.fields) if config.fields else Path(config.run).parent / "fields"
    if config.run and not folder.is_dir():
        text = f"{folder} is not a folder; label again with --dump_fields={folder} (or give --fields)"
        problems.add("fields", text)
    with problems.collecting():
        data = open_data(run_data(config.run) if config.run and config.data == DataConfig() else config.data)
    problems.raise_if_any()
    places = [k for k in range(len(data)) if safe_join(folder, data[k].id + ".npz").is_file()]
    if not places:
        raise ConfigError(f"fields: none of the {len(data)} images of the data has fields in {folder}")
    if not data.has_masks:
        places = [k for k in places if data[k].instance_path and data[k].semantic_path]
    if not places:
        masks = f"{config.data.instance_folder} and {config.data.semantic_folder} of {config.data.root}"
        raise ConfigError(f"data: no image with fields has masks in {masks}; a few dozen are enough")
    if config.num_images and config.num_images < len(places):
        order = np.random.default_rng(config.seed).permutation(len(places))[: config.num_images]
        places = sorted(places[k] for k in order)
    return base, folder, data, places


def _settings(config: Config, base: irnet.Config) -> list[irnet.Config]:
    """The run's own setting, then every combination, those of one walk together."""
    walks = itertools.product(
        config.walk_steps or (base.walk_steps,),
        config.betas or (base.beta,),
        config.weak_displacements or (base.weak_displacement,),
    )
    crfs = [(crf, crf) for crf in config.crfs] or [(base.crf, base.semantic_crf)]
    decisions = list(itertools.product(crfs, config.backgrounds or (None,)))
    settings, problems = [base], Problems()
    for (steps, beta, weak), ((crf, semantic_crf), background) in itertools.product(walks, decisions):
        values = {"walk_steps": steps, "beta": beta, "weak_displacement": weak}
        values |= {"crf": crf, "semantic_crf": semantic_crf}
        if background is not None:
            values |= {"background": background, "semantic_background": background}
        with problems.collecting():
            settings.append(dataclasses.replace(base, **values))
    problems.raise_if_any()
    return settings


def _image(
    data: ImageSet, index: int, folder: Path, settings: Sequence[irnet.Config], clock: StageClock
) -> dict[str, Any]:
    """What one image counts under every setting: a row of the file of partial results."""
    record = data[index]
    with clock("read"):
        fields = _fields(safe_join(folder, record.id + ".npz"), record.id)
        truth = Truth.of(data.load_instances(index), data.load_semantic(index))
        size = truth.semantic.shape
        grid = list(fields[2].shape)
        if tuple(grid) != irnet.grid_size(size):
            text = f"has a grid of {grid}, expected {list(irnet.grid_size(size))} for the masks' {list(size)}"
            raise DataFault(Code.E_SHAPE, record.id, "fields", text)
        image = None
        if any(setting.crf > 0 or setting.semantic_crf > 0 for setting in settings):
            image = torch.from_numpy(data.load_image(index)).permute(2, 0, 1)
    counted: list[dict[str, Any]] = []
    with clock("label"):
        parts = sweep(*fields, size, settings, image)
    with clock("compare"):
        for made in parts:
            rows = [Row(record.id, height=size[0], width=size[1]) for _ in made.semantic]
            fill_rows(rows, made)
            for row, semantic in zip(rows, made.semantic.to(torch.uint8).numpy()):
                labels, scores = np.asarray(row.label, np.int64), np.asarray(row.score, np.float32)
                found = Found(size, row.rles(), labels, scores, semantic)
                counted.append(measured(found, truth, len(data.categories), record.id))
    return {"id": record.id, "truth": truth.labels.tolist(), "settings": counted}


def _fields(path: Path, image_id: str) -> tuple[torch.Tensor, ...]:
    """Activation maps, classes, boundary and displacement of one image."""
    arrays = read_fields(path, image_id)
    missing = [name for name in ("classes", "cam", "boundary", "displacement") if name not in arrays]
    if missing:
        raise DataFault(Code.E_SHAPE, image_id, "fields", f"has no {', '.join(missing)}")
    cams, boundary, displacement = (
        torch.from_numpy(arrays[name]).float() for name in ("cam", "boundary", "displacement")
    )
    return cams, torch.from_numpy(arrays["classes"]).long(), boundary, displacement


def _figures(
    config: Config,
    base: irnet.Config,
    settings: Sequence[irnet.Config],
    tallies: Sequence[SettingTally],
    images: int,
    faults: list[dict[str, str]],
) -> dict[str, Any]:
    rows = []
    for setting, tally in zip(settings, tallies):
        figures = {name: value if math.isfinite(value) else None for name, value in tally.figures(OBJECTIVES).items()}
        rows.append({"setting": dataclasses.asdict(setting), "figures": figures})
    before, swept = rows[0], rows[1:]
    top = max(range(len(swept)), key=lambda k: (swept[k]["figures"][config.objective] or 0.0, -k))
    chosen, semantic = swept[top], max(swept, key=lambda row: row["figures"]["miou"] or 0.0)
    filters = [tallies[top + 1].filtered(score) for score in config.min_scores]
    changed = {
        **_changes(chosen["setting"], base, ("background", "walk_steps", "beta", "weak_displacement", "crf")),
        **_changes(semantic["setting"], base, ("semantic_background", "semantic_crf")),
    }
    keep = yaml.safe_dump({"propagation": {**dataclasses.asdict(base), **changed}}, sort_keys=False)
    return {
        "format": 1,
        "made_by": f"wsis {__version__}",
        "protocol": instance_voc.PROTOCOL,
        "run": config.run,
        "images": images,
        "faults": faults,
        "objective": config.objective,
        "before": before,
        "settings": swept,
        "filters": filters,
        "best": {
            "instances": {"setting": chosen["setting"], **chosen["figures"]},
            "semantic": {"setting": semantic["setting"], **semantic["figures"]},
            "min_score": max(filters, key=lambda row: row["f1"]),
        },
        "keep": f"# wsis tune: {config.objective} and mIoU on {images} images\n{keep}",
    }


def _changes(setting: dict[str, Any], base: irnet.Config, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: setting[name] for name in names if setting[name] != getattr(base, name)}
