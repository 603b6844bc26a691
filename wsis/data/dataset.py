"""Opening a data set: one function for every kind."""

from __future__ import annotations

import os
from pathlib import Path

from wsis.data.config import DataConfig
from wsis.data.folder import open_folder
from wsis.data.image_set import FileImageSet, ImageSet, Record
from wsis.data.scenes import open_scenes
from wsis.data.voc import open_voc
from wsis.errors import ConfigError

__all__ = ["DataConfig", "FileImageSet", "ImageSet", "Record", "open_data"]


def open_data(config: DataConfig) -> ImageSet:
    """The data set that ``config`` describes.

    Lists, tags and classes are read and checked now, every problem at once; pictures and masks are opened one
    by one when they are asked for.

    Raises:
        ConfigError: the description or one of the text files is wrong.
        SystemFault: the machine failed.
    """
    kind = config.kind
    if kind == "auto":
        if not config.root:
            raise ConfigError(
                "data.root: is empty; give the folder of the data, or kind=scenes for made-up pictures"
            )
        kind = "voc" if (Path(config.root) / "JPEGImages").is_dir() else "folder"
    if kind == "scenes":
        return open_scenes(config)
    if not config.root:
        raise ConfigError(f"data.root: is empty; kind={kind} needs the folder of the data")
    if not Path(config.root).is_dir():
        what = "is not a folder" if Path(config.root).exists() else "does not exist"
        raise ConfigError(f"data.root: {config.root} {what} (the current folder is {os.getcwd()})")
    return open_voc(config) if kind == "voc" else open_folder(config)
