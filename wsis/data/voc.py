"""Data in the layout of the PASCAL VOC development kit.

::

    ROOT/JPEGImages/2007_000032.jpg
    ROOT/ImageSets/Segmentation/train.txt     one id per line (also ImageSets/Main, ImageSets, ROOT itself)
    ROOT/SegmentationClass/2007_000032.png    optional: class map, 255 = void
    ROOT/SegmentationObject/2007_000032.png   optional: instance ids, 255 = void
    ROOT/image_labels.json                    optional (or tags.csv, ...), else ROOT/Annotations/*.xml
    ROOT/classes.txt                          optional, else the 20 classes of VOC
"""

from __future__ import annotations

from pathlib import Path

from wsis.data.categories import VOC, Categories
from wsis.data.columns import Coded, Texts
from wsis.data.config import DataConfig
from wsis.data.image_set import FileImageSet
from wsis.data.layout import find_tags, select_images
from wsis.data.lists import read_classes
from wsis.data.tags import TagTable, read_tags, read_xml_tags
from wsis.errors import Problems

__all__ = ["open_voc"]


def open_voc(config: DataConfig, problems: Problems) -> FileImageSet | None:
    """The set that ``config`` describes, as far as it can be read; what is wrong goes to ``problems``."""
    root = Path(config.root)
    images = root / "JPEGImages"
    if not images.is_dir():
        problems.add(str(root), "has no folder JPEGImages, so it is not in VOC layout", "try kind=folder")
        return None
    ids, suffixes = Texts.of(()), Coded.same("", 0)
    categories: Categories | None = None
    tags: TagTable | None = None
    notes: list[str] = []
    with problems.collecting():
        ids, suffixes = select_images(config, root, images)
    with problems.collecting():
        classes = Path(config.classes) if config.classes else root / "classes.txt"
        categories = read_classes(classes) if config.classes or classes.is_file() else VOC
    if categories is None:
        return None
    with problems.collecting():
        tags = _read_tags(config, root, ids, categories)
        if tags is None:
            notes.append(f"no image labels: {root} has no image_labels.json, tags.csv or Annotations")
    if not ids:
        return None
    return FileImageSet.build(config, images, ids, suffixes, categories, tags, notes, problems)


def _read_tags(config: DataConfig, root: Path, ids: Texts, categories: Categories) -> TagTable | None:
    file = Path(config.tags) if config.tags else find_tags(root)
    if file is not None:
        return read_tags(file, categories)
    annotations = root / "Annotations"
    return read_xml_tags(annotations, ids, categories) if annotations.is_dir() else None
