"""Compare predictions with true masks: VOC AP, ABO, mIoU and COCO AP, several sources in one table."""

from __future__ import annotations

import dataclasses
import io
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

import wsis
from wsis.data.artifacts import check_file_name, make_folder, write_json
from wsis.data.dataset import DataConfig, ImageSet, open_data
from wsis.errors import ConfigError, DataFault, ExitCode, Problems, did_you_mean
from wsis.evaluation import instance_coco, instance_voc, semantic
from wsis.evaluation.compare import Comparison, Truth, plain
from wsis.formats.sources import Source, open_source

__all__ = ["Config", "Result", "run"]

_COCO = ("auto", "pycocotools", "faster-coco-eval", "none")


@dataclass(frozen=True)
class Config:
    """What to compare with what.

    Args:
        runs: label runs, COCO json files (annotations or results), or folders of PNG maps (VOC layout, or
            semantic maps alone); one row of the table each.
        data: the images and their true masks.
        semantic: for each run in turn a folder of semantic PNG maps; without, RUN/semantic, else the maps are
            painted from the instances.
        output: a json file for all figures, with the names of the protocols; empty = none.
        iou_thresholds: of the VOC instance AP.
        coco: COCO AP through auto (faster-coco-eval where it is installed), pycocotools,
            faster-coco-eval or none.
        min_score: instances below it are left out.
        ties: order of equal scores: numpy (as the published figures) or stable (the same on every machine).
        per_class: print the figures of every class.
        incomplete: take unfinished label runs as far as they are.
    """

    runs: tuple[str, ...] = ()
    data: DataConfig = field(default_factory=DataConfig)
    semantic: tuple[str, ...] = ()
    output: str = ""
    iou_thresholds: tuple[float, ...] = instance_voc.THRESHOLDS
    coco: str = "auto"
    min_score: float = 0.0
    ties: str = "numpy"
    per_class: bool = True
    incomplete: bool = False

    def __post_init__(self) -> None:
        problems = Problems()
        if not self.runs:
            problems.add("runs", "is empty, expected at least one label run, COCO json file or folder of PNGs")
        if self.semantic and len(self.semantic) != len(self.runs):
            problems.add(
                "semantic",
                f"got {len(self.semantic)} folders, expected one for each of {len(self.runs)} runs",
            )
        if self.coco not in _COCO:
            problems.add(
                "coco",
                f"got {self.coco!r}, expected one of {', '.join(_COCO)}",
                did_you_mean(self.coco, _COCO),
            )
        if self.ties not in ("numpy", "stable"):
            problems.add("ties", f"got {self.ties!r}, expected numpy or stable")
        if not 0 <= self.min_score <= 1:
            problems.add("min_score", f"got {self.min_score!r}, expected a number in [0, 1]")
        try:
            instance_voc.InstanceAP(self.iou_thresholds)
        except (ValueError, TypeError) as error:
            problems.add("iou_thresholds", str(error))
        problems.raise_if_any()


@dataclass(frozen=True)
class Result:
    """All figures, as they stand in the json file.

    Attributes:
        figures: what :func:`run` describes.
        output: the json file, if one was asked for.
        per_class: whether ``summary`` shows every class.
    """

    figures: dict[str, Any]
    output: Path | None = None
    per_class: bool = True

    @property
    def exit_code(self) -> int:
        return int(ExitCode.WITH_FAULTS if self.figures["faults"] else ExitCode.OK)

    def summary(self) -> str:
        """Tables for the console."""
        tables = [overview(self.figures)]
        if self.per_class:
            tables += [class_table(one, self.figures) for one in self.figures["runs"]]
        target = io.StringIO()
        width = max(100, Console().width)
        terminal = sys.stdout.isatty()
        console = Console(file=target, width=width, force_terminal=terminal, markup=False, emoji=False)
        for table in tables:
            console.print(table)
        lines = [target.getvalue().rstrip()]
        faults = self.figures["faults"]
        lines += [f"{len(faults)} images could not be compared:"] if faults else []
        lines += [f"  {row['code']} {row['id']}: {row['text']}" for row in faults[:10]]
        for one in self.figures["runs"]:
            if one["missing"]:
                lines.append(f"{one['name']}: {one['missing']} of {one['images']} images have no prediction (counted)")
        return "\n".join(lines + ([str(self.output)] if self.output else []))


def run(config: Config) -> Result:
    """Compare.

    Returns:
        :class:`Result` with ``figures``: ``made_by``, ``protocols`` (names and versions), ``data``,
        ``classes``, ``images``, ``faults`` and, per run in ``runs``: ``name``, ``path``, ``kind``,
        ``fingerprint``, ``images``, ``missing``, ``voc``, ``semantic``, ``coco`` (what the protocols return;
        NaN as null).

    Raises:
        ConfigError: nothing to compare, no masks, other classes; every source is opened before any work.
    """
    output = Path(config.output) if config.output else None
    if output is not None:
        check_file_name(output)
        make_folder(output.parent)
    data = open_data(config.data)
    if len(data) == 0:
        raise ConfigError("data: the list of images is empty")
    ids = list(data.ids)
    sources = _open(config, data, ids)
    comparisons = [_comparison(config, data) for _ in sources]
    faults: list[dict[str, str]] = []
    for index in _progress(range(len(data))):
        try:
            compare_image(data, index, ids[index], sources, comparisons)
        except DataFault as fault:
            faults.append(fault.renamed(ids[index]).to_row())
    if len(faults) == len(data):
        raise ConfigError(f"none of the {len(data)} images could be compared; the first: {faults[0]['text']}")
    figures = _figures(config, data, sources, comparisons, faults)
    if output is not None:
        write_json(output, figures)
    return Result(figures, output, config.per_class)


def compare_image(
    data: ImageSet, index: int, name: str, sources: Sequence[Source], comparisons: Sequence[Comparison]
) -> None:
    """Count one image for every source; after a ``DataFault`` it is counted for none."""
    truth = Truth.of(data.load_instances(index), data.load_semantic(index), data.load_crowds(index))
    size = truth.semantic.shape
    ready = [
        comparison.prepare(source.find(name, size), truth, name) for source, comparison in zip(sources, comparisons)
    ]
    for comparison, one in zip(comparisons, ready):
        comparison.count(one, truth)


def overview(figures: dict[str, Any]) -> Table:
    """One row per run."""
    keys = _thresholds(figures)
    table = Table(title=f"{figures['images']} images, {len(figures['classes'])} classes", title_justify="left")
    table.add_column("run")
    heads = [f"AP{key}" for key in keys] + ["ABO", "mIoU"]
    coco = any(one["coco"] for one in figures["runs"])
    heads += ["COCO AP", "COCO AP50", "COCO AP75"] if coco else []
    for head in heads:
        table.add_column(head, justify="right")
    for one in figures["runs"]:
        voc, seg, mask_ap = one["voc"] or {}, one["semantic"], one["coco"] or {}
        values = [voc.get(f"map_{key}") for key in keys] + [voc.get("abo"), seg["miou"]]
        values += [mask_ap.get(name) for name in ("map", "map_50", "map_75")] if coco else []
        table.add_row(one["name"], *map(percent, values))
    return table


def class_table(one: dict[str, Any], figures: dict[str, Any]) -> Table:
    """One row per class of one run, the background last."""
    keys, voc, seg = _thresholds(figures), one["voc"], one["semantic"]
    table = Table(title=f"{one['name']}, by class", title_justify="left")
    table.add_column("class")
    for head in ("true", "found", *(f"AP{key}" for key in keys), "ABO", "IoU"):
        table.add_column(head, justify="right")
    for k, name in enumerate(figures["classes"]):
        counts = [str(voc[column][k]) if voc else "" for column in ("num_truth", "num_predictions")]
        values = [voc[f"ap_{key}"][k] if voc else None for key in keys] + [voc["abo_class"][k] if voc else None]
        table.add_row(name, *counts, *map(percent, [*values, seg["iou"][k + 1]]))
    table.add_row("background", "", "", *[""] * len(keys), "", percent(seg["iou"][0]))
    return table


def percent(value: float | None) -> str:
    """A share as percent with one decimal; a dash for what does not count."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def _thresholds(figures: dict[str, Any]) -> list[int]:
    return [round(100 * t) for t in figures["protocols"]["iou_thresholds"]]


def _open(config: Config, data: ImageSet, ids: list[str]) -> list[Source]:
    """All sources, with every problem at once, under names that differ."""
    problems, sources = Problems(), []
    first = (data[i] for i in range(min(len(data), 100)))
    if not data.own_masks and not any(record.semantic_path or record.image_path is None for record in first):
        problems.add("data", f"has no masks in {config.data.semantic_folder} to compare with")
    known = set(ids)
    for k, path in enumerate(config.runs):
        maps = config.semantic[k] if config.semantic else ""
        options = {"image_numbers": data.image_numbers, "semantic": maps, "incomplete": config.incomplete}
        try:
            sources.append(open_source(path, data.categories, known, **options))
        except ConfigError as error:
            problems.extend(error)
    problems.raise_if_any()
    names = [source.name for source in sources]
    return [dataclasses.replace(s, name=str(s.path)) if names.count(s.name) > 1 else s for s in sources]


def _comparison(config: Config, data: ImageSet) -> Comparison:
    try:
        return Comparison(
            len(data.categories),
            iou_thresholds=config.iou_thresholds,
            coco=config.coco,
            min_score=config.min_score,
            ties=config.ties,
        )
    except ModuleNotFoundError as error:
        raise ConfigError(f"coco: {error}") from error


def _figures(
    config: Config,
    data: ImageSet,
    sources: Sequence[Source],
    comparisons: Sequence[Comparison],
    faults: list[dict[str, str]],
) -> dict[str, Any]:
    runs = []
    for source, comparison in zip(sources, comparisons):
        about = {"name": source.name, "path": str(source.path), "kind": source.kind}
        about |= {
            "fingerprint": source.fingerprint,
            "skipped": source.skipped,
            "images": len(data) - len(faults),
        }
        runs.append(about | plain(comparison.result()))
    protocols = {
        "instance": instance_voc.PROTOCOL,
        "semantic": semantic.PROTOCOL,
        "coco": None if config.coco == "none" else instance_coco.PROTOCOL,
        "iou_thresholds": list(config.iou_thresholds),
        "ties": config.ties,
        "min_score": config.min_score,
        "void": "no ground truth; counts in the area of a prediction; ignored in the semantic maps",
    }
    return {
        "format": 1,
        "made_by": f"wsis {wsis.__version__}",
        "protocols": protocols,
        "data": dataclasses.asdict(config.data),
        "classes": list(data.categories.names),
        "images": len(data) - len(faults),
        "faults": faults,
        "runs": runs,
    }


def _progress(items: range) -> Any:
    console = Console(stderr=True)
    return track(items, "evaluate", console=console, transient=True, disable=not console.is_terminal)
