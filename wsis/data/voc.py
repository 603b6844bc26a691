"""Data in the layout of the PASCAL VOC development kit.

::

    ROOT/JPEGImages/2007_000032.jpg
    ROOT/ImageSets/Segmentation/train.txt        one id per line (also ImageSets/Main, ImageSets, ROOT itself)
    ROOT/SegmentationClass/2007_000032.png       optional: class map, 255 = void
    ROOT/SegmentationObject/2007_000032.png      optional: instance ids, 255 = void
    ROOT/image_labels.json                       optional, else ROOT/Annotations/*.xml
    ROOT/classes.txt                             optional, else the 20 classes of VOC
"""

from __future__ import annotations

import os
from pathlib import Path

from wsis.data.categories import VOC, Categories
from wsis.data.config import DataConfig
from wsis.data.image_set import IMAGE_SUFFIXES, FileImageSet
from wsis.data.lists import check_ids, read_classes, read_ids
from wsis.data.tags import TagTable, read_tags, read_xml_tags
from wsis.errors import ConfigError, did_you_mean, system_fault

__all__ = ["find_split", "find_tags", "list_images", "open_voc"]

_LIST_FOLDERS = ("ImageSets/Segmentation", "ImageSets/Main", "ImageSets", ".")
_TAG_FILES = tuple(
    f"{stem}{suffix}"
    for stem in ("image_labels", "tags", "labels")
    for suffix in (".json", ".jsonl", ".csv", ".tsv")
)


def open_voc(config: DataConfig) -> FileImageSet:
    """The set that ``config`` describes; ``ConfigError`` names everything that is wrong."""
    root = Path(config.root)
    images = root / "JPEGImages"
    if not images.is_dir():
        raise ConfigError(f"{root}: has no folder JPEGImages, so it is not in VOC layout (cwd {os.getcwd()})")
    categories = _categories(config, root)
    files: dict[str, str] = {}
    if config.list:
        ids = read_ids(config.list)
    elif config.split:
        ids = read_ids(find_split(root, config.split))
    else:
        files = list_images(images)
        ids = list(files)
    tags, notes = _tags(config, root, ids, categories)
    return FileImageSet(
        images, ids, categories, tags, root, config.semantic_folder, config.instance_folder, files, notes
    )


def find_split(root: Path, split: str) -> Path:
    """The list file of ``split``; ``ConfigError`` names the lists that are there."""
    known: dict[str, Path] = {}
    for folder in _LIST_FOLDERS:
        base = root / folder
        if base.is_dir():
            for path in sorted(base.glob("*.txt")):
                known.setdefault(path.stem, path)
    known.pop("classes", None)
    if split in known:
        return known[split]
    hint = did_you_mean(split, sorted(known)) if known else "there is no list at all"
    raise ConfigError(f"split {split!r}: no {split}.txt in {root}/ImageSets; {hint}")


def find_tags(root: Path) -> Path | None:
    """The tag file that lies in ``root``, by its usual names; ``ConfigError`` if there are several."""
    found = [root / name for name in _TAG_FILES if (root / name).is_file()]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ConfigError(f"{root}: has several tag files ({names}); name the one to use with tags=")
    return found[0] if found else None


def list_images(root: Path, skip: tuple[str, ...] = ()) -> dict[str, str]:
    """Id -> file name of every picture below ``root``, sorted by id.

    Hidden folders, links to folders and the top-level folders in ``skip`` are left out.

    Raises:
        ConfigError: no picture, two files with one id, ids that differ only in case.
    """
    found: list[tuple[str, str]] = []

    def stop(error: OSError) -> None:
        raise system_fault(error, "listing", error.filename or root) from error

    for base, folders, names in os.walk(root, onerror=stop):
        top = Path(base) == root
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not (top and f in skip))
        for name in names:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in {s.lower() for s in IMAGE_SUFFIXES} and not name.startswith("."):
                relative = Path(base).relative_to(root)
                found.append(((relative / stem).as_posix(), (relative / name).as_posix()))
    if not found:
        raise ConfigError(f"{root}: holds no picture; expected files like *{', *'.join(IMAGE_SUFFIXES[:3])}")
    found.sort()
    check_ids([name for name, _ in found], [str(root / file) for _, file in found])
    return dict(found)


def _categories(config: DataConfig, root: Path) -> Categories:
    if config.classes:
        return read_classes(config.classes)
    file = root / "classes.txt"
    return read_classes(file) if file.is_file() else VOC


def _tags(
    config: DataConfig, root: Path, ids: list[str], categories: Categories
) -> tuple[TagTable | None, list[str]]:
    file = Path(config.tags) if config.tags else find_tags(root)
    if file is not None:
        return read_tags(file, categories), []
    annotations = root / "Annotations"
    if annotations.is_dir():
        return read_xml_tags(annotations, ids, categories), []
    return None, [f"no image labels: {root} has no image_labels.json, tags.csv or Annotations"]
