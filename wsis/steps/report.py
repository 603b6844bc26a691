"""One self-contained HTML page of a label run: pictures with every layer, figures, distributions, settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import wsis
from wsis.data.artifacts import RunFolder, make_folder, safe_join, write_bytes
from wsis.data.dataset import DataConfig, ImageSet, open_data
from wsis.errors import ConfigError, DataFault, Problems, did_you_mean
from wsis.evaluation.compare import Comparison, Found, Truth, masks_of
from wsis.formats.fields import read_fields
from wsis.runtime.shards import Row, iterate_rows, run_categories, run_data
from wsis.runtime.weak_labels import WeakLabels
from wsis.viz.curves import Chart
from wsis.viz.report_data import Lines, ReportImage, ReportInstance, ReportLayer, ReportPage, report_instances
from wsis.viz.report_page import render_report
from wsis.viz.run_summary import RunSummary
from wsis.viz.training_curves import training_charts

__all__ = ["Config", "Result", "layers_of", "run"]

_CHOICES = ("spread", "first", "worst")


@dataclass(frozen=True)
class Config:
    """What to show.

    Args:
        run: folder of the label run.
        data: the pictures that were labelled, if not those the run names; with true masks there are figures, too.
        output: the html file; empty = RUN/report.html.
        fields: folder into which label dumped the fields, for the layers CAM, boundary, displacement and
            walk, or classes, centres and offsets; empty = RUN/fields if it exists.
        semantic: folder of the semantic maps from which a centre and offset network learned; with points, the
            page has layers of the pseudo labels and, where there are fields, of the refined ones.
        points: the points from which it learned: folder or table, as for train-center-offset.
        supervision: image, or point (the points were annotated).
        point_confidence: points are used above this confidence.
        training: folders of trainings whose figures on held-out images are drawn over the steps.
        num_images: most pictures on the page.
        choice: which ones: spread (evenly over the run), first, or worst (lowest best overlap; needs masks).
        images: ids of pictures to show, instead of a choice.
        min_score: instances below it are left out; fragments below the area limit have score 0.
        compare: compare with true masks where the data has them.
        max_megabytes: bound of the page's size.
        title: heading; empty = the name of the run.
        incomplete: take an unfinished run as far as it is.
    """

    run: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    output: str = ""
    fields: str = ""
    semantic: str = ""
    points: str = ""
    supervision: str = "image"
    point_confidence: float = 0.7
    training: tuple[str, ...] = ()
    num_images: int = 48
    choice: str = "spread"
    images: tuple[str, ...] = ()
    min_score: float = 1e-5
    compare: bool = True
    max_megabytes: float = 32.0
    title: str = ""
    incomplete: bool = False

    def __post_init__(self) -> None:
        problems = Problems()
        if not self.run:
            problems.add("run", "is empty, expected the folder of a label run")
        if not 0 <= self.num_images <= 5000:
            problems.add("num_images", f"got {self.num_images}, expected 0 to 5000")
        if self.choice not in _CHOICES:
            text = f"got {self.choice!r}, expected one of {', '.join(_CHOICES)}"
            problems.add("choice", text, did_you_mean(self.choice, _CHOICES))
        if bool(self.semantic) != bool(self.points):
            problems.add("points" if self.semantic else "semantic", "is empty; semantic and points go together")
        if self.supervision not in ("image", "point"):
            problems.add("supervision", f"got {self.supervision!r}, expected image or point")
        if not 0 <= self.point_confidence <= 1:
            problems.add("point_confidence", f"got {self.point_confidence!r}, expected a number in [0, 1]")
        if not 0 <= self.min_score <= 1:
            problems.add("min_score", f"got {self.min_score!r}, expected a number in [0, 1]")
        if not 0.5 <= self.max_megabytes <= 2000:
            problems.add("max_megabytes", f"got {self.max_megabytes!r}, expected 0.5 to 2000")
        problems.raise_if_any()


@dataclass(frozen=True)
class Result:
    """The page.

    Attributes:
        path: the html file; megabytes: its size.
        shown, left_out: pictures on it, and pictures for which there was no room.
        notes: what could not be shown, and why.
        figures: quality against true masks, if there are any.
    """

    path: Path
    megabytes: float
    shown: int
    left_out: int
    notes: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)

    def summary(self) -> str:
        room = f", {self.left_out} left out to stay within the size" if self.left_out else ""
        lines = [f"{self.path} ({self.megabytes:.1f} MB, {self.shown} pictures{room})"]
        return "\n".join(lines + [f"  {note}" for note in self.notes])


def run(config: Config) -> Result:
    """Make the page.

    Raises:
        ConfigError: no label run, other classes, or none of its images is in the data.
        SystemFault: the machine failed.
    """
    folder = Path(config.run)
    head = RunFolder.read(folder)
    if config.data == DataConfig():
        config = replace(config, data=run_data(folder))
    data = _open_data(config, folder)
    places = {name: index for index, name in enumerate(data.ids)}
    gathered = _gather(config, data, places)
    weak = None
    if config.semantic:
        thresholds = head["parts"].get("config", {}).get("center_offset", {})
        given = (config.semantic, config.points, config.supervision, config.point_confidence)
        weak = WeakLabels(data, *given, thresholds)
    maker = _PictureMaker(config, data, places, gathered.overlaps, weak)
    charts, missing = training_charts(config.training)
    page = _page(config, head, data, gathered, charts)
    rendered = render_report(page, maker.pictures(_chosen(config, gathered)), max_bytes=int(config.max_megabytes * 1e6))
    output = Path(config.output) if config.output else folder / "report.html"
    content = rendered.html.encode()
    make_folder(output.parent)
    write_bytes(output, content)
    notes = [*missing, *gathered.notes, *maker.notes]
    if len(notes) > 10:
        notes = [*notes[:10], f"and {len(notes) - 10} more"]
    return Result(output, len(content) / 1e6, rendered.shown, rendered.left_out, tuple(notes), gathered.figures())


@dataclass
class _Gathered:
    """One pass over the rows."""

    summary: RunSummary
    comparison: Comparison | None
    known: list[str] = field(default_factory=list)
    overlaps: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _result: dict[str, Any] | None = None

    def result(self) -> dict[str, Any] | None:
        if self.comparison is not None and self._result is None:
            self._result = self.comparison.result()
        return self._result

    def figures(self) -> dict[str, Any]:
        """The means, by name."""
        result = self.result()
        if result is None or not self.overlaps:
            return {}
        voc = {k: v for k, v in result["voc"].items() if k.startswith("map_") or k == "abo"}
        return voc | {"miou": result["semantic"]["miou"]}


def _open_data(config: Config, folder: Path) -> ImageSet:
    data = open_data(config.data)
    names = run_categories(folder).names
    if names != data.categories.names:
        raise ConfigError(
            f"data: its classes are {', '.join(data.categories.names[:6])} ({len(data.categories)}), "
            f"those of {folder} are {', '.join(names[:6])} ({len(names)})"
        )
    return data


def _gather(config: Config, data: ImageSet, places: dict[str, int]) -> _Gathered:
    with_masks = config.compare and len(data) > 0 and data.has_masks
    gathered = _Gathered(
        RunSummary(data.categories.names, config.min_score),
        Comparison(len(data.categories), coco="none", min_score=config.min_score) if with_masks else None,
    )
    for row in iterate_rows(config.run, incomplete=config.incomplete):
        gathered.summary.add(row)
        if row.status == "skipped" or row.image_id not in places:
            continue
        gathered.known.append(row.image_id)
        if gathered.comparison is not None:
            try:
                gathered.overlaps[row.image_id] = _compare(row, data, places[row.image_id], gathered.comparison)
            except DataFault as fault:
                gathered.notes.append(f"not compared: {fault}")
    total = gathered.summary.images
    if total and not gathered.known:
        raise ConfigError(f"data: none of the {total} images of {config.run} is in it; give the data that was labelled")
    if total > len(gathered.known):
        gathered.notes.append(f"{total - len(gathered.known)} of {total} labelled images are not in the data")
    return gathered


def _compare(row: Row, data: ImageSet, index: int, comparison: Comparison) -> float:
    """Count one image; mean over its true objects of the best overlap with one of their class."""
    truth = Truth.of(data.load_instances(index), data.load_semantic(index))
    labels, scores = np.asarray(row.label, np.int64), np.asarray(row.score, np.float32)
    found = Found((row.height, row.width), row.rles(), labels, scores)
    iou = comparison.add(found, truth, row.image_id)
    labels = found.at_least(comparison.min_score).labels
    own = np.where(labels[:, None] == truth.labels[None, :], iou, 0.0)
    best = own.max(axis=0) if len(labels) else np.zeros(len(truth.labels))
    return float(best.mean()) if len(best) else float("nan")


def _chosen(config: Config, gathered: _Gathered) -> list[str]:
    """Ids of the pictures to show, in order."""
    known = gathered.known
    if config.images:
        missing = [name for name in config.images if name not in set(known)]
        if missing:
            raise ConfigError([f"images: {n!r} was not labelled; {did_you_mean(n, known)}" for n in missing])
        return list(config.images)
    if config.choice == "worst":
        if not gathered.overlaps:
            raise ConfigError("choice: worst needs true masks in the data, and compare=true")
        ranked = sorted(known, key=lambda name: np.nan_to_num(gathered.overlaps.get(name, 2.0), nan=2.0))
        return ranked[: config.num_images]
    if config.choice == "first" or len(known) <= config.num_images:
        return known[: config.num_images]
    places = np.linspace(0, len(known) - 1, config.num_images).round().astype(int)
    return [known[k] for k in places]


class _PictureMaker:
    """Pictures of chosen images, one at a time; what cannot be shown is noted."""

    def __init__(
        self,
        config: Config,
        data: ImageSet,
        places: dict[str, int],
        overlaps: dict[str, float],
        weak: WeakLabels | None = None,
    ):
        self.config, self.data, self.places, self.overlaps, self.weak = config, data, places, overlaps, weak
        folder = Path(config.fields) if config.fields else Path(config.run) / "fields"
        if config.fields and not folder.is_dir():
            raise ConfigError(f"fields: {folder} is not a folder")
        self.folder = folder if folder.is_dir() else None
        self.notes: list[str] = []

    def pictures(self, chosen: list[str]) -> Iterator[ReportImage]:
        wanted = set(chosen)
        rows = {}
        for row in iterate_rows(self.config.run, incomplete=self.config.incomplete):
            if row.image_id in wanted:
                rows[row.image_id] = row
        for name in chosen:
            try:
                yield self._picture(rows[name])
            except DataFault as fault:
                self.notes.append(f"not shown: {fault}")

    def _picture(self, row: Row) -> ReportImage:
        index = self.places[row.image_id]
        labels, scores = np.asarray(row.label, np.int64), np.asarray(row.score, np.float32)
        size = (row.height, row.width)
        found = Found(size, row.rles(), labels, scores).at_least(self.config.min_score)
        masks = masks_of(found.rles, size) if len(found.labels) else ()
        instances = [
            ReportInstance(int(label), float(score), mask)
            for label, score, mask in zip(found.labels, found.scores, masks)
        ]
        photo = self.data.load_image(index)
        truth = report_instances(self.data.load_instances(index)) if self.overlaps else ()
        overlap = self.overlaps.get(row.image_id, float("nan"))
        figures = {"uncertainty": _uncertainty(found.scores, self.data[index].labels or ())}
        if not np.isnan(overlap):
            figures["best overlap"] = overlap
        try:
            return ReportImage(
                row.image_id,
                photo,
                self._layers(index, row.image_id, photo),
                instances,
                truth,
                self.data[index].labels or (),
                figures=figures,
            )
        except ValueError as error:
            raise ConfigError(f"{error}; is this the data that was labelled?") from error

    def _layers(self, index: int, image_id: str, photo: np.ndarray) -> list[ReportLayer]:
        fields, layers = {}, []
        try:
            if self.folder is not None:
                fields = read_fields(safe_join(self.folder, image_id + ".npz"), image_id)
                layers += layers_of(fields)
        except DataFault as fault:
            self.notes.append(f"shown without layers: {fault}")
        try:
            weak = self.weak.of(index, photo.shape[:2], fields) if self.weak else None
            if weak is not None:
                layers.append(ReportLayer.instances("Pseudo labels", photo, weak.pseudo, weak.points))
            if weak is not None and weak.refined is not None:
                layers.append(ReportLayer.instances("Refined labels", photo, weak.refined, weak.points))
        except DataFault as fault:
            self.notes.append(f"shown without pseudo labels: {fault}")
        return layers


def _uncertainty(scores: np.ndarray, tags: tuple[int, ...]) -> float:
    """Mean entropy of the scores in bits: 0 for sure, 1 for one half, and for tags of which nothing was found."""
    if not len(scores):
        return 1.0 if tags else 0.0
    share = np.clip(np.asarray(scores, np.float64), 1e-12, 1 - 1e-12)
    return float(-(share * np.log2(share) + (1 - share) * np.log2(1 - share)).mean())


def _recall(comparison: Comparison, names: tuple[str, ...]) -> list[Lines]:
    """Precision over recall: the mean over the classes at every threshold, and every class at IoU 0.5."""
    curves = comparison.voc.curves()
    known = [k for k in range(len(names)) if not np.isnan(curves[50][k]).any()]
    if not known:
        return []
    means = [(f"IoU {key / 100:g}", values[known].mean(axis=0).tolist()) for key, values in sorted(curves.items())]
    classes = [(names[k], curves[50][k].tolist()) for k in known]
    axes = ("recall", "precision")
    return [
        Lines("Precision and recall, mean over classes", means, *axes, "The best precision at that recall or more."),
        Lines("Precision and recall by class, IoU 0.5", classes, *axes),
    ]


def layers_of(fields: dict[str, np.ndarray]) -> list[ReportLayer]:
    """The fields of an image (see :func:`wsis.formats.fields.read_fields`) as layers of the page."""
    layers = []
    if "cam" in fields:
        layers.append(ReportLayer.heat("CAM", fields["cam"]))
    if "boundary" in fields:
        layers.append(ReportLayer.heat("Boundary", fields["boundary"], opacity=0.95))
    if "displacement" in fields:
        layers.append(ReportLayer.displacement("Displacement", fields["displacement"]))
    walk = fields.get("walk_class", fields.get("walk"))
    if walk is not None:
        layers.append(ReportLayer.heat("Walk", walk, top=None))
    for name, title in (("probability", "Classes"), ("center", "Centres")):
        if name in fields and len(fields[name]):
            layers.append(ReportLayer.heat(title, np.maximum(fields[name].astype(np.float32), 0)))
    if "offset" in fields:
        layers.append(ReportLayer.displacement("Offsets", fields["offset"].astype(np.float32)))
    return layers


def _page(
    config: Config, head: dict[str, Any], data: ImageSet, gathered: _Gathered, charts: Sequence[Chart]
) -> ReportPage:
    summary, result, means = gathered.summary, gathered.result(), gathered.figures()
    rate = summary.instances / summary.images if summary.images else 0.0
    figures = [
        ("Images", f"{summary.images + summary.skipped:,}", f"{summary.images - summary.empty:,} with objects"),
        ("Objects", f"{summary.instances:,}", f"{rate:.2f} per image"),
    ]
    names = {"map_25": "AP25", "map_50": "AP50", "map_70": "AP70", "map_75": "AP75"}
    names |= {"abo": "Best overlap", "miou": "mIoU"}
    remarks = {"map_50": "VOC protocol", "abo": "mean over classes", "miou": "of painted instances"}
    figures += [(text, f"{100 * means[k]:.1f}", remarks.get(k, "")) for k, text in names.items() if k in means]
    reasons = len(summary.faults())
    told = f"{reasons} {'reason' if reasons == 1 else 'reasons'}" if reasons else ""
    figures.append(("Skipped", f"{summary.skipped:,}", told))
    voc = result["voc"] if means else None
    iou = result["semantic"]["iou"].tolist() if means else None
    parts = {k: v for k, v in head["parts"].items() if k != "categories"}
    settings = {"run": str(config.run), "fingerprint": head["fingerprint"], **parts}
    where = config.data.root or config.data.kind
    split = f", {config.data.split or config.data.list}" if config.data.split or config.data.list else ""
    return ReportPage(
        config.title or f"Labels: {Path(config.run).resolve().name}",
        data.categories.names,
        subtitle=f"{where}{split} · {len(data.categories)} classes",
        figures=figures,
        tables=[summary.class_table(voc, iou)],
        recall=_recall(gathered.comparison, data.categories.names) if means else (),
        histograms=summary.histograms(),
        faults=summary.faults(),
        charts=charts,
        settings=settings,
        footer=f"Made by wsis {wsis.__version__}",
    )
