"""What describes a data set."""

from __future__ import annotations

from dataclasses import dataclass

from wsis.errors import Problems, did_you_mean

__all__ = ["KINDS", "DataConfig"]

KINDS = ("auto", "voc", "coco", "folder", "scenes")


@dataclass(frozen=True)
class DataConfig:
    """Which images, labels and masks to work on.

    Args:
        kind: auto, voc (development-kit layout), coco (ROOT/annotations/instances_SPLIT.json), folder (pictures
            and a tag file) or scenes (made up). auto takes voc if ROOT/JPEGImages exists, coco if there is an
            instances file, else folder.
        root: the folder of the data.
        split: name of a list of images, e.g. train for ROOT/ImageSets/Segmentation/train.txt; empty = every
            image. For scenes, pictures of different splits never coincide.
        list: a file with one image id per line, instead of split.
        tags: the file of image labels (json, jsonl, csv, tsv, txt), or the word folders: the top-level folder
            of a picture is its tag; empty = the one that lies in ROOT.
        classes: a file with one class name per line; empty = ROOT/classes.txt, else from the data.
        semantic_folder: folder below ROOT with the class masks.
        instance_folder: folder below ROOT with the instance masks.
        follow_links: read files that lie elsewhere and are linked into ROOT.
        num: scenes: number of pictures.
        seed: scenes: another seed gives other pictures.
        num_classes: scenes: number of classes, 1 to 8.
        min_side: scenes: shortest side in pixels.
        max_side: scenes: longest side in pixels.
    """

    kind: str = "auto"
    root: str = ""
    split: str = ""
    list: str = ""
    tags: str = ""
    classes: str = ""
    semantic_folder: str = "SegmentationClass"
    instance_folder: str = "SegmentationObject"
    follow_links: bool = False
    num: int = 500
    seed: int = 0
    num_classes: int = 5
    min_side: int = 112
    max_side: int = 160

    def __post_init__(self) -> None:
        problems = Problems()
        if self.kind not in KINDS:
            problems.add(
                "data.kind",
                f"got {self.kind!r}, expected one of {', '.join(KINDS)}",
                did_you_mean(self.kind, KINDS),
            )
        bounds = {
            "num": (1, 10_000_000),
            "seed": (0, 2**63 - 1),
            "num_classes": (1, 8),
            "min_side": (32, 4096),
            "max_side": (32, 4096),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                problems.add(f"data.{name}", f"got {value!r}, expected a whole number from {low} to {high}")
        if not len(problems) and self.min_side > self.max_side:
            problems.add("data.min_side", f"got {self.min_side}, expected at most max_side = {self.max_side}")
        if self.list and self.split:
            problems.add(
                "data.list", f"got {self.list!r} and split {self.split!r}, expected only one of them"
            )
        problems.raise_if_any()
