"""Opening a data set: one function for every kind."""

from __future__ import annotations

import os
from pathlib import Path

from wsis.data.coco import coco_files, open_coco
from wsis.data.config import DataConfig
from wsis.data.folder import open_folder
from wsis.data.image_set import FileImageSet, ImageSet, Record
from wsis.data.scenes import open_scenes
from wsis.data.voc import open_voc
from wsis.errors import Problems

__all__ = ["DataConfig", "FileImageSet", "ImageSet", "Record", "inspect_data", "open_data"]


def open_data(config: DataConfig) -> ImageSet:
    """The data set that ``config`` describes.

    Lists, tags and classes are read and checked now, every problem at once; pictures and masks are opened one
    by one when they are asked for.

    Raises:
        ConfigError: the description or one of the text files is wrong.
        SystemFault: the machine failed.
    """
    problems = Problems()
    images = inspect_data(config, problems)
    problems.raise_if_any()
    return images


def inspect_data(config: DataConfig, problems: Problems) -> ImageSet | None:
    """As :func:`open_data`, but what is wrong goes to ``problems``, and the set holds what could be read."""
    kind = config.kind
    if kind == "scenes":
        with problems.collecting():
            return open_scenes(config)
        return None
    if not config.root:
        hint = "give the folder of the data, or kind=scenes for made-up pictures"
        problems.add("data.root", f"is empty; kind={kind} needs a folder", hint)
        return None
    root = Path(config.root)
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        problems.add("data.root", f"{config.root} {what} (the current folder is {os.getcwd()})")
        return None
    if kind == "auto":
        kind = "voc" if (root / "JPEGImages").is_dir() else "coco" if coco_files(root) else "folder"
    return _READERS[kind](config, problems)


_READERS = {"voc": open_voc, "coco": open_coco, "folder": open_folder}
