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

from pathlib import Path

from wsis.data.categories import Categories
from wsis.data.columns import Coded, Texts
from wsis.data.config import DataConfig
from wsis.data.image_set import FileImageSet
from wsis.data.layout import find_tags, select_images
from wsis.data.lists import read_classes
from wsis.data.tags import TagTable, read_tags
from wsis.errors import ConfigError, Problems

__all__ = ["open_folder"]

_IMAGE_FOLDERS = ("JPEGImages", "images")


def open_folder(config: DataConfig, problems: Problems) -> FileImageSet | None:
    """The set that ``config`` describes, as far as it can be read; what is wrong goes to ``problems``."""
    root = Path(config.root)
    images = next((root / name for name in _IMAGE_FOLDERS if (root / name).is_dir()), root)
    ids, suffixes = Texts.of(()), Coded.same("", 0)
    known: Categories | None = None
    tags: TagTable | None = None
    notes: list[str] = []
    with problems.collecting():
        ids, suffixes = select_images(config, root, images)
    before = len(problems)
    with problems.collecting():
        classes = Path(config.classes) if config.classes else root / "classes.txt"
        known = read_classes(classes) if config.classes or classes.is_file() else None
    if len(problems) > before:
        return None
    with problems.collecting():
        tags = _read_tags(config, root, ids, known)
        if tags is None:
            notes.append(f"no image labels: {root} has no tags.csv, tags.json or image_labels.json")
            if known is None:
                raise ConfigError(
                    f"{root}: has neither tags nor classes; add tags.csv with lines like "
                    "'photo.jpg,dog;cat', or name the tag file with data.tags"
                )
    categories = tags.categories if tags is not None else known
    if categories is None or not ids:
        return None
    return FileImageSet.build(config, images, ids, suffixes, categories, tags, notes, problems)


def _read_tags(config: DataConfig, root: Path, ids: Texts, known: Categories | None) -> TagTable | None:
    if config.tags == "folders":
        return _folder_tags(root, ids, known)
    file = Path(config.tags) if config.tags else find_tags(root)
    return read_tags(file, known) if file is not None else None


def _folder_tags(root: Path, ids: Texts, known: Categories | None) -> TagTable:
    """The first part of each id as its only tag."""
    loose = [name for name in ids if "/" not in name]
    if loose:
        raise ConfigError(
            f"{root}: data.tags=folders needs every picture in a folder named by its class; "
            f"{len(loose)} are not, e.g. {loose[0]!r}"
        )
    names = [name.split("/", 1)[0] for name in ids]
    categories = known or Categories(tuple(sorted(set(names))))
    labels = {name: (categories.index(tag),) for name, tag in zip(ids, names)}
    return TagTable(labels, categories, f"the folders of {root}")
