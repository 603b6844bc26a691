"""Finding lists, tag files and pictures in a folder; what the readers share."""

from __future__ import annotations

import os
from array import array
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from wsis.data.columns import Coded, Texts
from wsis.data.config import DataConfig
from wsis.data.images import IMAGE_SUFFIXES, NOT_IMAGES
from wsis.data.lists import check_ids, read_file, read_lines
from wsis.data.plain_text import plain_and_different, plain_lines
from wsis.errors import ConfigError, did_you_mean, system_fault

__all__ = ["find_split", "find_tags", "list_images", "read_image_list", "select_images"]

_LIST_FOLDERS = ("ImageSets/Segmentation", "ImageSets/Main", "ImageSets", ".")
_TAG_FILES = tuple(
    f"{stem}{suffix}"
    for stem in ("image_labels", "tags", "labels")
    for suffix in (".json", ".jsonl", ".csv", ".tsv")
)
_NOT_LISTS = {"classes", "readme", "license", "licence", "requirements"}
_PROBE = 1000


def select_images(config: DataConfig, root: Path, images: Path) -> tuple[Texts, Coded[str]]:
    """The ids that ``config`` asks for, and the suffix of each one's file, empty where it is not known yet.

    Args:
        config: ``list``, else ``split``, else every picture.
        root: the folder of the data.
        images: the folder of its pictures.

    Raises:
        ConfigError: the list is missing, empty or wrong; or none of its pictures is there.
    """
    if not (config.list or config.split):
        skip = (config.semantic_folder, config.instance_folder, *NOT_IMAGES)
        return list_images(images, skip)
    path = Path(config.list) if config.list else find_split(root, config.split)
    ids, suffixes = read_image_list(path)
    there = (
        os.path.lexists(images / (name + suffix))
        for name in islice(ids, _PROBE)
        for suffix in ("", *IMAGE_SUFFIXES)
    )
    if not any(there):
        raise ConfigError(
            f"{path}: none of its first {min(len(ids), _PROBE)} images is in {images}, "
            f"e.g. {ids[0]}{IMAGE_SUFFIXES[0]}; is this the list of another data set?"
        )
    return ids, suffixes


def read_image_list(path: Path) -> tuple[Texts, Coded[str]]:
    """The ids of a list, one per line, as they stand, spaces and sub-folders included; and their suffixes.

    A line may carry the suffix of the picture (``photo.jpg``): then that is the file, and the id is without.

    Raises:
        ConfigError: no id, repeated ids, ids that differ only in case, unsafe paths; each with file and line.
    """
    lines = plain_lines(read_file(path))
    if lines is not None:
        ids, suffixes = _split_suffixes(lines)
        if plain_and_different(ids):
            return ids, suffixes
    names: list[str] = []
    ends: list[str] = []
    numbers = array("Q")
    for number, line in read_lines(path):
        numbers.append(number)
        name, suffix = os.path.splitext(line) if line.endswith(IMAGE_SUFFIXES) else (line, "")
        names.append(name)
        ends.append(suffix)
    if not names:
        raise ConfigError(f"{path}: holds no id; expected one per line")
    check_ids(names, lambda n: f"{path}:{numbers[n]}")
    return Texts.of(names), Coded.of(ends, "")


def _split_suffixes(lines: Texts) -> tuple[Texts, Coded[str]]:
    codes = np.zeros(len(lines), dtype=np.uint8)
    for code, suffix in enumerate(IMAGE_SUFFIXES, start=1):
        codes[pc.ends_with(lines.array, suffix).to_numpy(zero_copy_only=False)] = code
    if codes.any():
        pattern = "(?:" + "|".join(IMAGE_SUFFIXES).replace(".", "[.]") + ")$"
        lines = Texts(pc.replace_substring_regex(lines.array, pattern, ""))
    return lines, Coded(codes, ("", *IMAGE_SUFFIXES))


def find_split(root: Path, split: str) -> Path:
    """The list file of ``split``; ``ConfigError`` names the lists that are there."""
    known: dict[str, Path] = {}
    for folder in _LIST_FOLDERS:
        base = root / folder
        if base.is_dir():
            for path in sorted(base.glob("*.txt")):
                if path.stem.lower() not in _NOT_LISTS:
                    known.setdefault(path.stem, path)
    if split in known:
        return known[split]
    hint = did_you_mean(split, sorted(known)) if known else "there is no list; leave split empty for all"
    raise ConfigError(f"data.split: no {split}.txt in {root / 'ImageSets'}; {hint}")


def find_tags(root: Path) -> Path | None:
    """The tag file that lies in ``root``, by its usual names; ``ConfigError`` if there are several."""
    found = [root / name for name in _TAG_FILES if (root / name).is_file()]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ConfigError(f"data.tags: {root} has several tag files ({names}); name the one to use")
    return found[0] if found else None


def list_images(root: Path, skip: tuple[str, ...] = ()) -> tuple[Texts, Coded[str]]:
    """The ids of every picture below ``root``, sorted, and the suffix of each one's file.

    Hidden files and folders, links to folders and the top-level folders in ``skip`` are left out.

    Raises:
        ConfigError: no picture, two files with one id, ids that differ only in case.
    """
    found: list[tuple[str, str]] = []
    suffixes = {suffix.lower() for suffix in IMAGE_SUFFIXES}

    def stop(error: OSError) -> None:
        if isinstance(error, PermissionError):
            raise ConfigError(f"{error.filename}: the folder may not be read") from error
        raise system_fault(error, "listing", error.filename or root) from error

    for base, folders, names in os.walk(root, onerror=stop):
        top = Path(base) == root
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not (top and f in skip))
        relative = Path(base).relative_to(root)
        for name in names:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in suffixes and not name.startswith("."):
                found.append(((relative / stem).as_posix(), suffix))
    if not found:
        raise ConfigError(f"{root}: holds no picture; expected files like *{', *'.join(IMAGE_SUFFIXES[:3])}")
    found.sort()
    ids = [name for name, _ in found]
    check_ids(ids, lambda n: str(root / "".join(found[n])))
    return Texts.of(ids), Coded.of((suffix for _, suffix in found), "")
