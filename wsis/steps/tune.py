"""Try thresholds and walks on the kept fields of a label run, without running the nets again.

    wsis tune runs/mine/labels/run

The fields are those that ``label --dump_fields=FOLDER`` keeps (recipes keep them beside the run). Every combination of
the lists below is compared with the masks of the data; ``tune.json`` holds all figures, ``tune.svg`` the curves, and
``tune.yaml`` the settings to keep: ``wsis label --config=tune.yaml`` takes them. Look at images that are not those you
report figures on: the best of many settings is better by chance, too.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from wsis import __version__
from wsis.data.artifacts import make_folder, safe_join, write_bytes, write_json
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.data.image_set import ImageSet
from wsis.data.run_folder import RunFolder
from wsis.errors import Code, ConfigError, DataFault, ExitCode, Problems, did_you_mean
from wsis.evaluation import instance_voc
from wsis.evaluation.compare import Comparison, Found, Truth
from wsis.formats.fields import read_fields
from wsis.labels import irnet
from wsis.runtime.label_units import fill_rows
from wsis.runtime.progress import StageClock, Watch
from wsis.runtime.shards import Row, run_data
from wsis.viz.charts import Chart, charts_svg

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
        figures: as in ``tune.json``.
        out: the folder with ``tune.json``, ``tune.svg`` and ``tune.yaml``.
    """

    figures: dict[str, Any]
    out: Path

    @property
    def exit_code(self) -> int:
        return int(ExitCode.WITH_FAULTS if self.figures["faults"] else ExitCode.OK)

    def summary(self) -> str:
        figures, objective = self.figures, self.figures["objective"]
        best, before = figures["best"], figures["before"]
        lines = [
            f"{len(figures['settings'])} settings on {figures['images']} images with masks",
            f"{objective}: {_percent(before['figures'][objective])} as it was, {_percent(best['instances'][objective])}"
            f" with {_words(best['instances']['setting'])}",
            f"mIoU: {_percent(before['figures']['miou'])} as it was, {_percent(best['semantic']['miou'])}"
            f" with {_words(best['semantic']['setting'])}",
        ]
        one = best["min_score"]
        lines.append(
            f"filter for a detector: min_score {one['min_score']:g} has precision {_percent(one['precision'])}"
            f" and recall {_percent(one['recall'])} at IoU 0.5"
        )
        if figures["faults"]:
            lines.append(
                f"{len(figures['faults'])} images could not be used; the first: {figures['faults'][0]['text']}"
            )
        lines += ["", f"keep ({self.out / 'tune.yaml'}):", figures["keep"].rstrip(), f"curves: {self.out / 'tune.svg'}"]
        return "\n".join(lines)


def run(config: Config) -> Result:
    """Sweep.

    Raises:
        ConfigError: no label run, no fields, no masks, or values out of range; every problem found is listed.
    """
    base, folder, data, places = _check(config)
    settings = _settings(config, base)
    tables = [Comparison(len(data.categories), coco="none") for _ in settings]
    matches: list[list[tuple[np.ndarray, np.ndarray, int]]] = [[] for _ in settings]
    faults: list[dict[str, str]] = []
    with Watch(len(places), 0, "tune", StageClock()) as watch:
        for index in places:
            try:
                _image(data, index, folder, settings, tables, matches)
            except DataFault as fault:
                faults.append(fault.renamed(data[index].id).to_row())
            watch.advance(1, 0, len(faults))
    if len(faults) == len(places):
        raise ConfigError(f"none of the {len(places)} images could be used; the first: {faults[0]['text']}")
    figures = _figures(config, base, settings, tables, matches, len(places) - len(faults), faults)
    out = make_folder(Path(config.out) if config.out else Path(config.run).parent / "tune")
    write_json(out / "tune.json", figures)
    write_bytes(out / "tune.yaml", figures["keep"].encode())
    write_bytes(out / "tune.svg", charts_svg(_charts(config, figures)).encode())
    return Result(figures, out)


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


def _settings(config: Config, base: irnet.Config) -> list[tuple[irnet.Config, bool]]:
    """Every combination, those of one walk together (the first of each is marked); the run's own comes first."""
    walks = itertools.product(
        config.walk_steps or (base.walk_steps,),
        config.betas or (base.beta,),
        config.weak_displacements or (base.weak_displacement,),
    )
    crfs = [(crf, crf) for crf in config.crfs] or [(base.crf, base.semantic_crf)]
    decisions = list(itertools.product(crfs, config.backgrounds or (None,)))
    settings, problems = [(base, True)], Problems()
    for steps, beta, weak in walks:
        for k, ((crf, semantic_crf), background) in enumerate(decisions):
            values = {"walk_steps": steps, "beta": beta, "weak_displacement": weak}
            values |= {"crf": crf, "semantic_crf": semantic_crf}
            if background is not None:
                values |= {"background": background, "semantic_background": background}
            with problems.collecting():
                settings.append((dataclasses.replace(base, **values), k == 0))
    problems.raise_if_any()
    return settings


@torch.no_grad()
def _image(
    data: ImageSet,
    index: int,
    folder: Path,
    settings: list[tuple[irnet.Config, bool]],
    tables: list[Comparison],
    matches: list[list[tuple[np.ndarray, np.ndarray, int]]],
) -> None:
    """Count one image under every setting; after a fault it is counted under none."""
    record = data[index]
    arrays = read_fields(safe_join(folder, record.id + ".npz"), record.id)
    missing = [name for name in ("classes", "cam", "boundary", "displacement") if name not in arrays]
    if missing:
        raise DataFault(Code.E_SHAPE, record.id, "fields", f"has no {', '.join(missing)}")
    truth = Truth.of(data.load_instances(index), data.load_semantic(index))
    size = truth.semantic.shape
    cams, boundary, displacement = (
        torch.from_numpy(arrays[name]).float() for name in ("cam", "boundary", "displacement")
    )
    if tuple(boundary.shape) != irnet.grid_size(size):
        text = (
            f"has a grid of {list(boundary.shape)}, expected {list(irnet.grid_size(size))} for the masks' {list(size)}"
        )
        raise DataFault(Code.E_SHAPE, record.id, "fields", text)
    classes = torch.from_numpy(arrays["classes"]).long()
    images = None
    if any(setting.crf > 0 or setting.semantic_crf > 0 for setting, _ in settings):
        images = torch.from_numpy(data.load_image(index)).permute(2, 0, 1)[None]
    fields = (cams, classes, torch.zeros_like(classes), boundary[None], displacement[None])
    ready = []
    for (setting, new_walk), table in zip(settings, tables):
        if new_walk:
            walks = irnet.walk_maps(*fields, setting, semantic=True)
        made = irnet.decide(walks, 1, size, setting, classes=classes, images=images)
        row = Row(record.id, height=size[0], width=size[1])
        fill_rows([row], made)
        labels, scores = np.asarray(row.label, np.int64), np.asarray(row.score, np.float32)
        found = Found(size, row.rles(), labels, scores, made.semantic[0].to(torch.uint8).numpy())
        ready.append(table.prepare(found, truth, record.id))
    for one, table, counts in zip(ready, tables, matches):
        table.count(one, truth)
        counts.append((*_hits(one.iou, one.found, truth), len(truth.labels)))


def _hits(iou: np.ndarray, found: Found, truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the instances, and whether each is the first to cover a true object of its class by half."""
    order = np.argsort(-found.scores, kind="stable")
    hit, taken = np.zeros(len(order), dtype=bool), np.zeros(len(truth.labels), dtype=bool)
    for place, k in enumerate(order):
        own = np.where((truth.labels == found.labels[k]) & ~taken, iou[k], 0.0) if len(taken) else np.zeros(0)
        if len(own) and own.max() >= 0.5:
            hit[place] = taken[own.argmax()] = True
    return found.scores[order], hit


def _figures(
    config: Config,
    base: irnet.Config,
    settings: list[tuple[irnet.Config, bool]],
    tables: list[Comparison],
    matches: list[list[tuple[np.ndarray, np.ndarray, int]]],
    images: int,
    faults: list[dict[str, str]],
) -> dict[str, Any]:
    rows = []
    for (setting, _), table in zip(settings, tables):
        result = table.result()
        figures = {name: _plain(result["voc"][name]) for name in OBJECTIVES}
        figures["miou"] = _plain(result["semantic"]["miou"])
        rows.append({"setting": dataclasses.asdict(setting), "figures": figures})
    before, swept = rows[0], rows[1:]
    top = max(range(len(swept)), key=lambda k: (swept[k]["figures"][config.objective] or 0.0, -k))
    chosen, semantic = swept[top], max(swept, key=lambda row: row["figures"]["miou"] or 0.0)
    filters = [_filtered(matches[top + 1], score) for score in config.min_scores]
    strongest = max(filters, key=lambda row: row["f1"])
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
            "min_score": strongest,
        },
        "keep": f"# wsis tune: {config.objective} and mIoU on {images} images\n{keep}",
    }


def _filtered(matches: list[tuple[np.ndarray, np.ndarray, int]], score: float) -> dict[str, float]:
    """Precision and recall over all classes at IoU 0.5 of the instances from ``score`` on."""
    kept = sum(int((scores >= np.float32(score)).sum()) for scores, _, _ in matches)
    good = sum(int(hit[scores >= np.float32(score)].sum()) for scores, hit, _ in matches)
    total = sum(count for _, _, count in matches)
    precision, recall = good / max(1, kept), good / max(1, total)
    f1 = 2 * precision * recall / max(precision + recall, 1e-12)
    return {"min_score": score, "instances": kept, "precision": precision, "recall": recall, "f1": f1}


def _changes(setting: dict[str, Any], base: irnet.Config, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: setting[name] for name in names if setting[name] != getattr(base, name)}


def _charts(config: Config, figures: dict[str, Any]) -> list[Chart]:
    lines: dict[str, dict[str, list[tuple[float, float]]]] = {config.objective: {}, "miou": {}}
    for row in figures["settings"]:
        setting = row["setting"]
        name = f"walk {setting['walk_steps']}, beta {setting['beta']:g}, weak {setting['weak_displacement']:g}"
        name += f", CRF {setting['crf']:g}" if setting["crf"] else ""
        for key, series in lines.items():
            value = row["figures"][key]
            series.setdefault(name, []).append((setting["background"], math.nan if value is None else value))
    curve = [(row["recall"], row["precision"]) for row in figures["filters"]]
    score = {key: [(row["min_score"], row[key]) for row in figures["filters"]] for key in ("precision", "recall", "f1")}
    return [
        Chart(f"Instances: {config.objective}", "score of the background", config.objective, lines[config.objective]),
        Chart("Semantic maps: mIoU", "score of the background", "mIoU", lines["miou"]),
        Chart("Filter, best setting, IoU 0.5", "min_score", "share", score),
        Chart("Precision and recall, IoU 0.5", "recall", "precision", {"best setting": curve}),
    ]


def _words(setting: dict[str, Any]) -> str:
    names = ("background", "walk_steps", "beta", "weak_displacement", "crf")
    return ", ".join(f"{name} {setting[name]:g}" for name in names)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _plain(value: Any) -> float | None:
    value = float(value)
    return value if math.isfinite(value) else None
