"""Write a label run in the form that other programs read: COCO, VOC, YOLO, LabelMe, Label Studio.

Rows are read and written one at a time, so that memory does not grow with the run.
"""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import wsis
from wsis.data.artifacts import RunFolder, make_folder
from wsis.data.coco import coco_files
from wsis.data.dataset import open_data
from wsis.errors import ConfigError, Problems, did_you_mean
from wsis.formats import WRITERS, ExportOptions, Written
from wsis.runtime.shards import iterate_rows, run_categories, run_data

__all__ = ["Config", "Result", "run"]

_FILES = ("coco", "coco-results", "labelstudio")
_FOLDERS = ("SegmentationClass", "SegmentationObject", "ImageSets", "labels")


@dataclass(frozen=True)
class Config:
    """What to export.

    Args:
        run: folder of the label run.
        output: the json file (coco, coco-results, labelstudio) or the folder; empty = RUN/exports/FORMAT[.json].
        format: coco (annotations for training), coco-results (list for evaluation servers), voc
            (SegmentationClass and SegmentationObject PNGs), yolo (polygons for Ultralytics), labelme (one json
            per image, also for X-AnyLabeling) or labelstudio (tasks with predictions).
        shape: mask or polygon where the format knows both; auto = masks for coco and labelstudio, polygons for
            labelme.
        tolerance: how far a polygon may lie from the border of its mask, in pixels; 0 = exact, long polygons.
        pictures: the root of the data that was labelled: yolo then links the pictures, labelme names them by path;
            empty = labels alone.
        image_url: labelstudio: what stands before a picture's name.
        min_score: instances with a score below it are left out; fragments below the area limit have score 0.
        many_objects: for more than 254 objects in one image: uint16 (16-bit PNG without palette) or refuse.
        incomplete: export a run that is not finished as far as it is.
        overwrite: replace an export that is already there.
    """

    run: str = ""
    output: str = ""
    format: str = "coco"
    min_score: float = 1e-5
    many_objects: str = "uint16"
    shape: str = "auto"
    tolerance: float = 0.75
    pictures: str = ""
    image_url: str = "/data/local-files/?d="
    incomplete: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        problems = Problems()
        if not self.run:
            problems.add("run", "is empty, expected the folder of a label run")
        if self.format not in WRITERS:
            problems.add(
                "format",
                f"got {self.format!r}, expected one of {', '.join(WRITERS)}",
                did_you_mean(self.format, tuple(WRITERS)),
            )
        if not (isinstance(self.min_score, (int, float)) and 0 <= self.min_score <= 1) or math.isnan(self.min_score):
            problems.add("min_score", f"got {self.min_score!r}, expected a number in [0, 1]")
        if self.many_objects not in ("uint16", "refuse"):
            problems.add("many_objects", f"got {self.many_objects!r}, expected uint16 or refuse")
        if self.shape not in ("auto", "mask", "polygon"):
            problems.add("shape", f"got {self.shape!r}, expected auto, mask or polygon")
        if (self.shape == "mask" and self.format == "yolo") or (self.shape == "polygon" and self.format == "voc"):
            problems.add("shape", f"{self.format} does not know {self.shape}s; leave it at auto")
        if not 0 <= self.tolerance <= 100:
            problems.add("tolerance", f"got {self.tolerance!r}, expected 0 to 100 pixels")
        if self.pictures and not Path(self.pictures).is_dir():
            problems.add("pictures", f"{self.pictures} is not a folder")
        problems.raise_if_any()


@dataclass(frozen=True)
class Result:
    """What was exported and where to."""

    path: Path
    format: str
    images: int
    instances: int
    dropped: int
    skipped: int

    def summary(self) -> str:
        """Two lines for the console."""
        left = f", {self.skipped:,} skipped images left out" if self.skipped else ""
        return (
            f"{self.format}: {self.instances:,} instances on {self.images:,} images"
            f" ({self.dropped:,} below the score{left})\n{self.path}"
        )


def run(config: Config) -> Result:
    """Export.

    Raises:
        ConfigError: no finished label run, a damaged one, or something is in the way of the output.
        SystemFault: the machine failed; what was half written is gone.
    """
    folder = Path(config.run)
    head = RunFolder.read(folder)
    categories = run_categories(folder)
    output = _output(config, folder)
    about = {
        "description": f"labels of {folder.name}",
        "made_by": f"wsis {wsis.__version__}",
        "run_fingerprint": head["fingerprint"],
        "min_score": config.min_score,
    }
    pictures = Path(config.pictures) if config.pictures else None
    options = ExportOptions(
        min_score=config.min_score,
        many_objects=config.many_objects,
        about=about,
        shape=config.shape,
        tolerance=config.tolerance,
        pictures=pictures,
        image_url=config.image_url,
        image_numbers=_image_numbers(folder) if config.format == "coco-results" else None,
    )

    def rows():
        return iterate_rows(folder, incomplete=config.incomplete)

    written: Written = WRITERS[config.format](rows, categories, output, options)
    return Result(output, config.format, written.images, written.instances, written.dropped, written.skipped)


def _image_numbers(folder: Path) -> dict[str, int] | None:
    """The numbers of the instances file whose images were labelled, by id; ``None`` if it was no such file.

    Raises:
        ConfigError: the data are no longer there, and a server would not know the images by other numbers.
    """
    said = RunFolder.read(folder).get("data") or {}
    root = Path(said.get("root") or ".")
    if said.get("kind") not in ("auto", "coco") or (said["kind"] == "auto" and not coco_files(root)):
        return None
    numbers = open_data(run_data(folder)).image_numbers
    return None if numbers is None else {name: number for number, name in numbers.items()}


def _output(config: Config, folder: Path) -> Path:
    """The place of the output, free to be written."""
    single = config.format in _FILES
    name = f"{config.format}.json" if single else config.format
    output = Path(config.output) if config.output else folder / "exports" / name
    if single:
        if output.is_dir():
            raise ConfigError(f"output: {output} is a folder, expected the name of a json file")
        if output.exists() and not config.overwrite:
            raise ConfigError(f"output: {output} exists; give overwrite=true or another name")
        make_folder(output.parent)
        return output
    if output.is_dir() and any(output.iterdir()):
        known = (output / "export.json").is_file()
        if not config.overwrite or not known:
            hint = "give overwrite=true or another folder" if known else "it is no earlier export; give another folder"
            raise ConfigError(f"output: {output} is not empty; {hint}")
        (output / "export.json").unlink()
        for part in _FOLDERS:
            if (output / part).is_dir():
                shutil.rmtree(output / part)
        _remove_links(output / "images")
    return make_folder(output)


def _remove_links(folder: Path) -> None:
    """Take the links away that an export made, and folders that are empty then; pictures that someone put there
    stay."""
    for base, folders, files in os.walk(folder, topdown=False):
        for name in (*folders, *files):
            if os.path.islink(os.path.join(base, name)):
                os.unlink(os.path.join(base, name))
        if not os.listdir(base):
            os.rmdir(base)
