"""Predictions to evaluate, from whatever holds them: label runs, COCO json files, folders of PNG maps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsis.data import rle
from wsis.data.artifacts import RunFolder, safe_join
from wsis.data.categories import Categories
from wsis.data.image_set import instances_from_maps
from wsis.data.images import read_index_map
from wsis.errors import ConfigError
from wsis.evaluation.compare import Found
from wsis.formats.coco_reader import CocoRows, read_coco
from wsis.runtime.shards import Row, iterate_rows, run_categories

__all__ = ["Source", "open_source"]


@dataclass(frozen=True)
class Source:
    """Predictions by image.

    Attributes:
        name: for tables.
        path: where it was read from.
        kind: ``label run``, ``coco json`` or ``png maps``.
        find: image id and ``(height, width)`` -> :class:`Found`, or ``None`` if it does not know the image.
        ids: the images it knows; ``None`` if it only finds out when asked.
        skipped: images that it names as failed.
        fingerprint: of the run, or empty.
    """

    name: str
    path: Path
    kind: str
    find: Callable[[str, tuple[int, int]], Found | None]
    ids: Collection[str] | None = None
    skipped: int = 0
    fingerprint: str = ""


def open_source(
    path: str | Path,
    categories: Categories,
    image_ids: Collection[str],
    *,
    image_numbers: Mapping[int, str] | None = None,
    semantic: str | Path = "",
    incomplete: bool = False,
) -> Source:
    """Open predictions, whatever their form.

    Args:
        path: folder of a label run; COCO json (annotations or list of results); folder with
            ``SegmentationClass`` and perhaps ``SegmentationObject``; folder of semantic PNG maps.
        categories: the classes of the ground truth; those of the predictions must be the same.
        image_ids: the images of the ground truth.
        image_numbers: by which a list of results may call them (see :class:`wsis.data.image_set.ImageSet`).
        semantic: folder of semantic PNG maps that belong to a label run or a COCO file.
        incomplete: take an unfinished label run as far as it is.

    Raises:
        ConfigError: nothing of the kind is there, the classes differ, or no image is known.
    """
    path = Path(path)
    maps = _semantic_reader(Path(semantic), categories) if semantic else None
    if path.is_dir() and (path / "run.json").is_file():
        source = _label_run(path, categories, maps, incomplete)
    elif path.is_dir():
        source = _maps(path, categories)
    elif path.is_file():
        source = _coco(path, read_coco(path, categories, image_ids, image_numbers), maps)
    else:
        raise ConfigError(f"{path} does not exist; expected a label run, a COCO json file or a folder of PNGs")
    if source.ids is not None and not set(source.ids) & set(image_ids):
        example = next(iter(source.ids), None)
        raise ConfigError(
            f"{path}: none of its {len(source.ids)} images is in the data"
            + (f"; it has {example!r}, the data has {next(iter(image_ids), None)!r}" if example else "")
        )
    return source


def _label_run(path: Path, categories: Categories, maps: Callable | None, incomplete: bool) -> Source:
    own = run_categories(path)
    if own.names != categories.names:
        raise ConfigError(
            f"{path}: its classes are {_some(own.names)}, those of the data are {_some(categories.names)}"
        )
    folder = path / "semantic"
    maps = maps or (_semantic_reader(folder, categories) if folder.is_dir() else None)
    rows: dict[str, Row] = {}
    skipped = 0
    for row in iterate_rows(path, incomplete=incomplete):
        skipped += row.status == "skipped"
        if row.status != "skipped":
            rows[row.image_id] = row

    def find(image_id: str, size: tuple[int, int]) -> Found | None:
        row = rows.get(image_id)
        if row is None:
            return None
        return Found(
            (row.height, row.width),
            row.rles(),
            np.asarray(row.label, np.int64),
            np.asarray(row.score, np.float32),
            maps(image_id) if maps else None,
        )

    fingerprint = RunFolder.read(path)["fingerprint"]
    return Source(path.name, path, "label run", find, rows.keys(), skipped, fingerprint)


def _maps(path: Path, categories: Categories) -> Source:
    """A folder in VOC layout, or of semantic maps alone."""
    classes, objects = path / "SegmentationClass", path / "SegmentationObject"
    flat = classes if classes.is_dir() else path
    if not any(flat.rglob("*.png")):
        raise ConfigError(f"{path} holds no run.json and no PNG maps; expected a label run or index maps")
    read_semantic = _semantic_reader(flat, categories)

    def find(image_id: str, size: tuple[int, int]) -> Found | None:
        semantic = read_semantic(image_id)
        if semantic is None:
            return None
        if not objects.is_dir():
            return Found(semantic.shape, None, semantic=semantic)
        ids = read_index_map(safe_join(objects, image_id + ".png"), stage="prediction")
        found = instances_from_maps(ids, semantic, image_id)
        rles = rle.encode_masks(found.masks.numpy())
        return Found(semantic.shape, rles, found.labels.numpy(), found.scores.numpy(), semantic)

    return Source(path.name, path, "png maps", find)


def _coco(path: Path, table: Mapping[str, CocoRows], maps: Callable | None) -> Source:
    def find(image_id: str, size: tuple[int, int]) -> Found | None:
        rows = table.get(image_id)
        if rows is None:
            return None
        rles = [rows.mask(k, size) for k in range(len(rows))]
        labels, scores = np.asarray(rows.labels, np.int64), np.asarray(rows.scores, np.float32)
        own = tuple(int(s) for s in rles[0]["size"]) if rles else size
        return Found(own, rles, labels, scores, maps(image_id) if maps else None)

    return Source(path.stem, path, "coco json", find, table.keys())


def _semantic_reader(folder: Path, categories: Categories) -> Callable[[str], np.ndarray | None]:
    if not folder.is_dir():
        raise ConfigError(f"semantic: {folder} is not a folder")

    def read(image_id: str) -> np.ndarray | None:
        path = safe_join(folder, image_id + ".png")
        return read_index_map(path, len(categories), stage="prediction") if path.exists() else None

    return read


def _some(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:6])}{', ...' if len(names) > 6 else ''} ({len(names)})"
