"""A plain folder of pictures with a file of tags: a user's own data.

::

    ROOT/some/folder/photo.jpg          its id is some/folder/photo
    ROOT/tags.csv                       some/folder/photo.jpg,dog;cat (or tags.json, image_labels.json, ...)
    ROOT/classes.txt                    optional: the order of the classes; else the sorted tags
    ROOT/SegmentationClass/<id>.png     optional masks in VOC form, for evaluation
    ROOT/SegmentationObject/<id>.png

If ROOT/JPEGImages or ROOT/images exists, the pictures are looked for there and ids start below it.
"""

from __future__ import annotations

import os
from pathlib import Path

from wsis.data.categories import Categories
from wsis.data.config import DataConfig
from wsis.data.image_set import FileImageSet
from wsis.data.lists import read_classes, read_ids
from wsis.data.tags import TagTable, read_tags
from wsis.data.voc import find_split, find_tags, list_images
from wsis.errors import ConfigError

__all__ = ["open_folder"]

_IMAGE_FOLDERS = ("JPEGImages", "images")


def open_folder(config: DataConfig) -> FileImageSet:
    """The set that ``config`` describes; ``ConfigError`` names everything that is wrong."""
    root = Path(config.root)
    if not root.is_dir():
        raise ConfigError(f"{root}: is not a folder (the current folder is {os.getcwd()})")
    images = next((root / name for name in _IMAGE_FOLDERS if (root / name).is_dir()), root)
    skip = (config.semantic_folder, config.instance_folder, "Annotations", "ImageSets")
    files: dict[str, str] = {}
    if config.list:
        ids = read_ids(config.list)
    elif config.split:
        ids = read_ids(find_split(root, config.split))
    else:
        files = list_images(images, skip)
        ids = list(files)
    classes = Path(config.classes) if config.classes else root / "classes.txt"
    known = read_classes(classes) if config.classes or classes.is_file() else None
    tags, notes = _tags(config, root, ids, known)
    categories = tags.categories if tags is not None else known
    if categories is None:
        raise ConfigError(
            f"{root}: has neither tags nor classes; add tags.csv with lines like 'photo.jpg,dog;cat', "
            "or name the tag file with tags="
        )
    return FileImageSet(
        images, ids, categories, tags, root, config.semantic_folder, config.instance_folder, files, notes
    )


def _tags(
    config: DataConfig, root: Path, ids: list[str], known: Categories | None
) -> tuple[TagTable | None, list[str]]:
    if config.tags == "folders":
        return _folder_tags(root, ids, known), []
    file = Path(config.tags) if config.tags else find_tags(root)
    if file is not None:
        return read_tags(file, known), []
    return None, [f"no image labels: {root} has no tags.csv, tags.json or image_labels.json"]


def _folder_tags(root: Path, ids: list[str], known: Categories | None) -> TagTable:
    """The first part of each id as its only tag."""
    loose = [name for name in ids if "/" not in name]
    if loose:
        raise ConfigError(
            f"{root}: tags=folders needs every picture in a folder named by its class; "
            f"{len(loose)} are not, e.g. {loose[0]!r}"
        )
    names = [name.split("/", 1)[0] for name in ids]
    categories = known or Categories(tuple(sorted(set(names))))
    labels = {name: (categories.index(tag),) for name, tag in zip(ids, names)}
    return TagTable(labels, categories, f"the folders of {root}")
