"""``wsis data check``: every problem of a data set at once, before anything is trained on it."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from wsis.data.artifacts import write_json
from wsis.data.config import DataConfig
from wsis.data.dataset import inspect_data
from wsis.data.image_set import FileImageSet, ImageSet, Record, instances_from_maps
from wsis.data.images import read_image_info, read_index_map
from wsis.data.layout import list_images
from wsis.data.points import PointSource, open_points
from wsis.errors import MAX_PROBLEMS, Code, ConfigError, DataFault, ExitCode, Problem, Problems

__all__ = ["CheckResult", "Config", "run"]

_CHUNK = 512


@dataclass(frozen=True)
class Config(DataConfig):
    """Report every problem of a data set at once: the options of the data set, and these.

    Args:
        masks: also read the masks and compare them with the images and tags.
        smallest: report images with a shorter side, in pixels.
        workers: threads that decode; 0 = one per processor.
        report: write the result as JSON to this file; empty = do not.
        points: folder or file of point annotations that is looked at, too; empty = none.
    """

    masks: bool = True
    smallest: int = 1
    workers: int = 0
    report: str = ""
    points: str = ""

    def __post_init__(self) -> None:
        problems = Problems()
        with problems.collecting():
            super().__post_init__()
        if self.smallest < 1:
            problems.add("smallest", f"got {self.smallest}, expected at least 1")
        if not 0 <= self.workers <= 256:
            problems.add("workers", f"got {self.workers}, expected 0 to 256")
        if self.report and not Path(self.report).absolute().parent.is_dir():
            problems.add("report", f"got {self.report}, whose folder does not exist")
        elif self.report and Path(self.report).is_dir():
            problems.add("report", f"got {self.report}, which is a folder, expected the name of a file")
        problems.raise_if_any()


@dataclass(frozen=True)
class _Finding:
    """What one image showed."""

    size: tuple[int, int] | None = None
    labels: tuple[int, ...] | None = None
    instance_labels: tuple[int, ...] = ()
    exif_rotated: bool = False
    mode: str = ""
    has_masks: bool = False
    points: int = 0
    warnings: tuple[tuple[str, str], ...] = ()
    faults: tuple[DataFault, ...] = ()


@dataclass(frozen=True)
class CheckResult:
    """The outcome of a check.

    Attributes:
        images: number of images looked at; ``ok`` of them have no fault.
        problems: what is wrong with lists, tags and classes.
        faults: what is wrong with single images and masks.
        warnings: kind of oddity -> ids; they stop nothing.
        notes: where labels came from, what did not match.
        classes: per class its name, images and instances.
        points: how many can be used; None where none were asked for.
        sizes: smallest, median and largest height and width.
    """

    images: int
    ok: int
    problems: tuple[Problem, ...]
    faults: tuple[DataFault, ...]
    warnings: dict[str, list[str]]
    notes: tuple[str, ...]
    classes: list[dict[str, Any]]
    sizes: dict[str, list[int]]
    points: int | None = None

    @property
    def exit_code(self) -> ExitCode:
        """0 all is well, 2 lists, tags or classes are wrong, 3 single images are."""
        if self.problems:
            return ExitCode.BAD_INPUT
        return ExitCode.WITH_FAULTS if self.faults else ExitCode.OK

    def to_json(self) -> dict[str, Any]:
        """For programs; ids and texts in full."""
        return {
            "images": self.images,
            "ok": self.ok,
            "exit_code": int(self.exit_code),
            "problems": [{"where": p.where, "text": p.text, "hint": p.hint} for p in self.problems],
            "faults": [fault.to_row() for fault in self.faults],
            "codes": {code.value: code.meaning for code in Code},
            "warnings": self.warnings,
            "notes": list(self.notes),
            "classes": self.classes,
            "sizes": self.sizes,
            **({} if self.points is None else {"points": self.points}),
        }

    def summary(self) -> str:
        """For people: problems first, then tables; long lists are cut."""
        width = shutil.get_terminal_size((120, 24)).columns
        console = Console(file=io.StringIO(), width=width, force_terminal=sys.stdout.isatty(), emoji=False)
        self._print(console)
        return console.file.getvalue().rstrip("\n")

    def _print(self, console: Console) -> None:
        for title, rows in (("problem", self.problems), ("fault", self.faults)):
            for row in rows[:MAX_PROBLEMS]:
                console.print(f"[red]{escape(str(row))}[/red]", soft_wrap=True, highlight=False)
            if len(rows) > MAX_PROBLEMS:
                console.print(f"... and {len(rows) - MAX_PROBLEMS} more {title}s", highlight=False)
        for text, ids in self.warnings.items():
            shown = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
            line = f"[yellow]{len(ids)} images: {escape(text)}[/yellow] ({escape(shown)})"
            console.print(line, soft_wrap=True, highlight=False)
        for note in self.notes:
            console.print(escape(note), soft_wrap=True, highlight=False)
        if self.classes:
            console.print(_class_table(self.classes))
        console.print(_summary_table(self))


def run(config: Config) -> CheckResult:
    """Look at every image, mask, list and tag of the data set.

    Raises:
        SystemFault: the machine failed.
    """
    problems = Problems()
    images = inspect_data(config, problems)
    findings: list[_Finding] = []
    points = None
    if images is not None:
        with problems.collecting():
            points = open_points(config.points, images.categories) if config.points else None
        findings = list(_inspect(images, config, points))
    result = _collect(images, findings, problems)
    if points is not None:
        result = dataclasses.replace(result, points=sum(finding.points for finding in findings))
    if config.report:
        write_json(config.report, result.to_json())
    return result


def _inspect(images: ImageSet, config: Config, points: PointSource | None) -> Iterator[_Finding]:
    """One finding per image, in order; decoding runs in threads."""
    workers = config.workers or min(os.cpu_count() or 1, 16)
    console = Console(file=sys.stderr)
    numbers = track(range(len(images)), "checking", console=console, transient=True, disable=not console.is_terminal)
    indices = iter(numbers)
    with ThreadPoolExecutor(workers) as pool:
        while chunk := list(islice(indices, _CHUNK)):
            yield from pool.map(lambda index: _check_image(images, index, config, points), chunk)


def _check_image(images: ImageSet, index: int, config: Config, points: PointSource | None) -> _Finding:
    record = images[index]
    faults: list[DataFault] = []
    size, info = None, None
    try:
        size = images.load_image(index).shape[:2]
        if min(size) < config.smallest:
            text = f"is {size[0]} x {size[1]}, expected sides of at least {config.smallest}"
            faults.append(DataFault(Code.E_TOO_SMALL, record.id, "read", text))
        if record.image_path is not None:
            info = read_image_info(record.image_path)
    except DataFault as fault:
        faults.append(fault.renamed(record.id))
    found: tuple[int, ...] = ()
    warnings: list[tuple[str, str]] = []
    files = record.semantic_path or record.instance_path
    masks = config.masks and bool(files or record.image_path is None or images.own_masks)
    if masks:
        try:
            found = _check_masks(images, index, size, warnings)
        except DataFault as fault:
            faults.append(fault.renamed(record.id))
    usable = 0
    if points is not None and size is not None:
        try:
            usable = _check_points(points, record, size, warnings)
        except DataFault as fault:
            faults.append(fault.renamed(record.id))
    return _Finding(
        size,
        record.labels,
        found,
        bool(info and info.exif_rotated),
        info.mode if info else "RGB",
        masks,
        usable,
        tuple(warnings),
        tuple(faults),
    )


def _check_points(
    points: PointSource, record: Record, size: tuple[int, int], warnings: list[tuple[str, str]]
) -> int:
    """How many of an image's points can be used; what is left out or in doubt is a warning."""
    found = points.read(record.id, size, record.labels)
    warnings += [(f"points: {reason}", f"{record.id}: {count}") for reason, count in found.notes.items()]
    if record.labels and not found.rows:
        warnings.append(("tags but no point", record.id))
    return len(found.rows)


def _check_masks(
    images: ImageSet, index: int, size: tuple[int, int] | None, warnings: list[tuple[str, str]]
) -> tuple[int, ...]:
    """The classes of the instances; sizes, values and tags are compared."""
    record = images[index]
    if record.semantic_path is None and record.image_path is not None and not images.own_masks:
        raise DataFault(Code.E_MISSING, record.id, "mask", "has an instance mask but no semantic mask")
    if record.image_path is None or images.own_masks:
        semantic, labels = images.load_semantic(index), images.load_instances(index).labels.tolist()
    else:
        classes = len(images.categories)
        semantic = read_index_map(record.semantic_path, classes, size=size, stage="mask")
        labels = []
        if record.instance_path is not None:
            instance = read_index_map(record.instance_path, size=size, stage="mask")
            labels = instances_from_maps(instance, semantic, record.id).labels.tolist()
        else:
            warnings.append(("semantic mask without instance mask", record.id))
    if size is not None and semantic.shape != size:
        raise DataFault(Code.E_SHAPE, record.id, "mask", f"is {list(semantic.shape)}, the picture is {list(size)}")
    present = {int(v) - 1 for v in np.unique(semantic) if v not in (0, 255)}
    if record.labels is not None:
        extra = present - set(record.labels)
        if extra:
            names = ", ".join(images.categories.select(sorted(extra)))
            warnings.append(("the mask shows a class that the tags do not name", f"{record.id}: {names}"))
        if set(record.labels) - present:
            warnings.append(("the tags name a class that the mask does not show", record.id))
    return tuple(labels)


def _collect(images: ImageSet | None, findings: Sequence[_Finding], problems: Problems) -> CheckResult:
    warnings: dict[str, list[str]] = {}
    names = images.ids if images is not None else []
    for name, finding in zip(names, findings):
        for text, subject in finding.warnings:
            warnings.setdefault(text, []).append(subject)
        if finding.exif_rotated:
            warnings.setdefault("EXIF rotation, which is ignored (as in masks)", []).append(name)
        if finding.mode != "RGB":
            warnings.setdefault(f"converted from {finding.mode} to RGB", []).append(name)
        if finding.labels is None:
            warnings.setdefault("no image label", []).append(name)
        elif not finding.labels:
            warnings.setdefault("labelled as empty", []).append(name)
    return CheckResult(
        images=len(findings),
        ok=sum(not finding.faults for finding in findings),
        problems=tuple(problems.found),
        faults=tuple(fault for finding in findings for fault in finding.faults),
        warnings=warnings,
        notes=_notes(images),
        classes=_count_classes(images, findings),
        sizes=_sizes(findings),
    )


def _notes(images: ImageSet | None) -> tuple[str, ...]:
    if images is None:
        return ()
    warning = images.tags_warning()
    notes = (*images.notes, *((warning,) if warning else ()))
    if isinstance(images, FileImageSet):
        try:
            unused = len(set(list_images(images.image_root, images.not_images)[0]).difference(images.ids))
        except ConfigError:
            unused = 0
        if unused:
            notes += (f"{unused} pictures in {images.image_root} are not in this list of images",)
    return notes


def _count_classes(images: ImageSet | None, findings: Sequence[_Finding]) -> list[dict[str, Any]]:
    if images is None:
        return []
    tagged = Counter(label for finding in findings for label in finding.labels or ())
    instances = Counter(label for finding in findings for label in finding.instance_labels)
    return [
        {"name": name, "images": tagged[number], "instances": instances[number]}
        for number, name in enumerate(images.categories.names)
    ]


def _sizes(findings: Sequence[_Finding]) -> dict[str, list[int]]:
    sizes = np.array([finding.size for finding in findings if finding.size is not None])
    if not len(sizes):
        return {}
    stages = {"min": sizes.min(0), "median": np.median(sizes, axis=0), "max": sizes.max(0)}
    return {name: [int(v) for v in value] for name, value in stages.items()}


def _class_table(classes: Sequence[dict[str, Any]]) -> Table:
    table = Table("class", title="classes", title_justify="left")
    table.add_column("images", justify="right")
    table.add_column("instances", justify="right")
    for row in classes:
        table.add_row(escape(row["name"]), f"{row['images']:,}", f"{row['instances']:,}")
    return table


def _summary_table(result: CheckResult) -> Table:
    table = Table("what", title="summary", title_justify="left")
    table.add_column("count", justify="right")
    table.add_row("images", f"{result.images:,}")
    table.add_row("without fault", f"{result.ok:,}")
    table.add_row("problems in lists, tags, classes", f"{len(result.problems):,}")
    for code, count in sorted(Counter(fault.code for fault in result.faults).items()):
        table.add_row(f"{code}: {code.meaning}", f"{count:,}")
    if result.points is not None:
        table.add_row("points that can be used", f"{result.points:,}")
    for name, size in result.sizes.items():
        table.add_row(f"{name} height x width", f"{size[0]} x {size[1]}")
    return table
