"""What every data set looks like from outside: records that can load their pictures and masks."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from wsis.data.atomic import fingerprint_text, safe_join
from wsis.data.categories import IGNORE, Categories
from wsis.data.columns import Coded, Texts
from wsis.data.config import DataConfig
from wsis.data.images import IMAGE_SUFFIXES, NOT_IMAGES, file_stamp, read_image, read_index_map
from wsis.data.match_labels import match_labels
from wsis.data.tags import TagTable
from wsis.errors import Code, ConfigError, DataFault, Problems
from wsis.structures import Instances

__all__ = ["FileImageSet", "ImageSet", "Record", "instances_from_maps"]

_VOID_16 = 65535
_NO_FILE = (-1, -1)
_LABELS = pa.list_(pa.int32())
_ESCAPED = re.compile(r'[\x00-\x1f"\\]')
_CHUNK = 10_000


@dataclass(frozen=True)
class Record:
    """One image of a data set.

    Attributes:
        id: unique in the set; a relative path without suffix, with ``/`` between folders.
        image_path: the picture; ``None`` where it is made on demand.
        labels: classes present (``0..C-1``, ascending), ``()`` for none, ``None`` for unknown.
        semantic_path, instance_path: masks in VOC form; ``None`` where there are none.
    """

    id: str
    image_path: Path | None
    labels: tuple[int, ...] | None
    semantic_path: Path | None = None
    instance_path: Path | None = None


class ImageSet(Sequence):
    """A sequence of :class:`Record`.

    Attributes:
        categories: the classes.
        notes: what a user should know (counts of images without labels, where labels came from, ...).
        own_masks: masks of all images come from elsewhere than files of the record.
        image_numbers: the numbers by which lists of COCO results call the images -> their ids; ``None`` where only
            numbers in the ids can tell.
    """

    categories: Categories
    notes: tuple[str, ...] = ()
    own_masks = False
    image_numbers: Mapping[int, str] | None = None

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> Record:
        raise NotImplementedError

    @property
    def ids(self) -> Sequence[str]:
        """The ids in order."""
        return [self[i].id for i in range(len(self))]

    @property
    def has_masks(self) -> bool:
        """Whether every image has instance and semantic masks."""
        return len(self) > 0 and all(
            self[i].instance_path and self[i].semantic_path for i in range(len(self))
        )

    def load_image(self, index: int) -> np.ndarray:
        """``[H, W, 3]`` uint8 RGB; :class:`DataFault` under the record's id if it cannot be used."""
        raise NotImplementedError

    def load_semantic(self, index: int) -> np.ndarray:
        """``[H, W]`` uint8: 0 background, ``1..C``, 255 ignore."""
        raise NotImplementedError

    def load_instances(self, index: int) -> Instances:
        """The exact masks, in the order of their ids."""
        raise NotImplementedError

    def load_crowds(self, index: int) -> Instances | None:
        """Regions with many objects of a class, which COCO's AP neither asks for nor counts against; ``None`` where
        the data know nothing of the kind."""
        return None

    def label_vector(self, index: int) -> np.ndarray:
        """``[C]`` float32, 1 where the class is present; ``DataFault`` if the labels are unknown."""
        record = self[index]
        if record.labels is None:
            raise DataFault(Code.E_LABEL, record.id, "read", "has no image label")
        vector = np.zeros(len(self.categories), dtype=np.float32)
        vector[list(record.labels)] = 1
        return vector

    def require_labels(self) -> None:
        """``ConfigError`` if any image has no label entry."""
        missing = [self[i].id for i in range(len(self)) if self[i].labels is None]
        if missing:
            shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise ConfigError(
                f"{len(missing)} of {len(self)} images have no image labels: {shown}; "
                "add them to the tag file (an empty tag column means: nothing on it) or take them off "
                "the list"
            )

    def tags_warning(self) -> str | None:
        """A sentence where the tags cannot teach a classifier: most images have the same ones."""
        known = [self[i].labels for i in range(len(self)) if self[i].labels is not None]
        if len(known) < 2:
            return None
        common, count = Counter(known).most_common(1)[0]
        if len(self.categories) < 2 or count < 0.75 * len(known):
            return None
        names = ", ".join(self.categories.names[label] for label in common) or "none"
        return (
            f"{count} of {len(known)} images have the same tags ({names}): a classifier learns next to nothing from"
            " them; add images with other tags, or give points (train-center-offset)"
        )

    def input(self, index: int) -> tuple[str, str | None, tuple[int, ...] | None]:
        """Id, picture and labels of a record, without looking for its masks."""
        record = self[index]
        return record.id, None if record.image_path is None else str(record.image_path), record.labels

    def stamped_files(self, first: int, last: int) -> tuple[list[str | None], np.ndarray]:
        """The pictures of the records ``first .. last - 1``, and ``[last - first, 2]`` int64: bytes and time of change
        in ns of each file, -1 where there is none that can be read."""
        files = [self.input(index)[1] for index in range(first, last)]
        return files, np.array([_stamp(file) for file in files], dtype=np.int64).reshape(-1, 2)

    def id_columns(self, first: int, last: int) -> tuple[pa.Array, pa.Array]:
        """Ids (strings) and labels (lists of int32) of the records ``first .. last - 1``."""
        inputs = [self.input(index) for index in range(first, last)]
        return pa.array([name for name, _, _ in inputs], pa.string()), pa.array([row[2] for row in inputs], _LABELS)

    def rows_text(self, first: int, last: int) -> str:
        """Ids and labels of the records ``first .. last - 1`` as JSON, without the outer brackets."""
        inputs = (self.input(index) for index in range(first, last))
        return fingerprint_text([(name, labels) for name, _, labels in inputs])[1:-1]

    def fingerprint(self) -> str:
        """Hex sha256 over order, ids, labels and classes: that of
        ``fingerprint({"categories": ..., "rows": [[id, labels], ...]})``, in pieces that fit into memory."""
        head = fingerprint_text({"categories": self.categories.to_json()})[:-1]
        digest = hashlib.sha256((head + ',"rows":[').encode("utf-8", "surrogatepass"))
        for first in range(0, len(self), _CHUNK):
            text = self.rows_text(first, min(first + _CHUNK, len(self)))
            digest.update((("," if first else "") + text).encode("utf-8", "surrogatepass"))
        digest.update(b"]}")
        return digest.hexdigest()


class FileImageSet(ImageSet):
    """Images in files, with labels from a table and masks in VOC form.

    Args:
        image_root: folder of the pictures.
        ids: relative paths without suffix.
        categories: the classes.
        tags: image-level labels by id, or by file name.
        mask_root: folder that holds the two mask folders.
        semantic_folder, instance_folder: their names.
        suffixes: of each id's file, empty where it is not known: then it is looked for among the usual ones.
        notes: see :class:`ImageSet`.
        follow_links: read files outside of the folders that are linked into them.
    """

    def __init__(
        self,
        image_root: Path,
        ids: Sequence[str],
        categories: Categories,
        tags: TagTable | None = None,
        mask_root: Path | None = None,
        semantic_folder: str = "SegmentationClass",
        instance_folder: str = "SegmentationObject",
        suffixes: Coded[str] | None = None,
        notes: Sequence[str] = (),
        follow_links: bool = False,
    ) -> None:
        self.image_root = Path(image_root)
        self.follow_links = follow_links
        self.categories = categories
        self._ids = Texts.of(ids)
        self._suffixes = Coded.same("", len(ids)) if suffixes is None else suffixes
        root = Path(mask_root) if mask_root is not None else None
        self._semantic = root / semantic_folder if root else None
        self._instance = root / instance_folder if root else None
        self.decode_notes: Counter[str] = Counter()
        self.not_images = (semantic_folder, instance_folder, *NOT_IMAGES)
        self.notes = tuple(notes)
        self._labels: Coded[tuple[int, ...] | None] = Coded.same(None, len(self._ids))
        if tags is not None:
            self._labels, more = match_labels(self._ids, tags, self._suffixes)
            self.notes += more

    @classmethod
    def build(
        cls,
        config: DataConfig,
        images: Path,
        ids: Sequence[str],
        suffixes: Coded[str],
        categories: Categories,
        tags: TagTable | None,
        notes: Sequence[str],
        problems: Problems,
    ) -> FileImageSet:
        """The set of a reader; tags that match no image go to ``problems`` and are left out."""
        root = Path(config.root)
        masks = (root, config.semantic_folder, config.instance_folder, suffixes, notes, config.follow_links)
        with problems.collecting():
            return cls(images, ids, categories, tags, *masks)
        return cls(images, ids, categories, None, *masks)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> Record:
        name = self._ids[index]
        return Record(
            name,
            self.image_root / self._file(index),
            self._labels[index],
            _mask(self._semantic, name),
            _mask(self._instance, name),
        )

    def input(self, index: int) -> tuple[str, str | None, tuple[int, ...] | None]:
        return self._ids[index], f"{self.image_root}{os.sep}{self._file(index)}", self._labels[index]

    def stamped_files(self, first: int, last: int) -> tuple[list[str | None], np.ndarray]:
        folder, likely = f"{self.image_root}{os.sep}", IMAGE_SUFFIXES[0]
        files: list[str | None] = []
        stamps = array("q")
        for index, name, suffix in zip(range(first, last), self._ids[first:last], self._suffixes[first:last]):
            path = f"{folder}{name}{suffix or likely}"
            try:
                status = os.stat(path)
                found = (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else _NO_FILE
            except OSError:
                path = folder + self._file(index)
                found = _stamp(path)
            files.append(path)
            stamps.extend(found)
        return files, np.frombuffer(stamps, dtype=np.int64).reshape(-1, 2)

    def id_columns(self, first: int, last: int) -> tuple[pa.Array, pa.Array]:
        values = pa.array(self._labels.values, _LABELS)
        return self._ids.part(first, last), values.take(pa.array(self._labels.codes[first:last]))

    def rows_text(self, first: int, last: int) -> str:
        names = self._ids[first:last]
        if _ESCAPED.search("".join(names)):
            return super().rows_text(first, last)
        tails = [f'",{fingerprint_text(labels)}]' for labels in self._labels.values]
        codes = self._labels.codes[first:last].tolist()
        return ",".join([f'["{name}{tails[code]}' for name, code in zip(names, codes)])

    @property
    def ids(self) -> Texts:
        return self._ids

    def _file(self, index: int) -> str:
        name, suffix = self._ids[index], self._suffixes[index]
        if suffix:
            return name + suffix
        stem = f"{self.image_root}{os.sep}{name}"
        for suffix in IMAGE_SUFFIXES:
            if os.path.lexists(stem + suffix):
                return name + suffix
        return name + IMAGE_SUFFIXES[0]

    def _inside(self, root: Path | None, path: Path, name: str) -> Path:
        """``path`` if it lies inside ``root`` after links are followed, else ``E_PATH``."""
        if self.follow_links:
            return path
        try:
            return safe_join(root, path.relative_to(root).as_posix())
        except ConfigError as error:
            text = f"{error}; with data.follow_links=true it is read"
            raise DataFault(Code.E_PATH, name, "read", text) from error

    def load_image(self, index: int) -> np.ndarray:
        record = self[index]
        path = self._inside(self.image_root, record.image_path, record.id)
        try:
            return read_image(path, notes=self.decode_notes)
        except DataFault as fault:
            raise fault.renamed(record.id) from fault

    def _map(self, index: int, which: str) -> np.ndarray:
        record = self[index]
        root = self._semantic if which == "semantic" else self._instance
        path = record.semantic_path if which == "semantic" else record.instance_path
        if path is None:
            raise DataFault(Code.E_MISSING, record.id, "mask", f"has no {which} mask in {root}")
        classes = len(self.categories) if which == "semantic" else None
        try:
            return read_index_map(self._inside(root, path, record.id), classes, stage="mask")
        except DataFault as fault:
            raise fault.renamed(record.id) from fault

    def load_semantic(self, index: int) -> np.ndarray:
        return self._map(index, "semantic")

    def load_instances(self, index: int) -> Instances:
        return instances_from_maps(self._map(index, "instance"), self.load_semantic(index), self._ids[index])


def _stamp(file: str | None) -> tuple[int, int]:
    if file is not None:
        with contextlib.suppress(DataFault):
            stamp = file_stamp(file)
            return stamp.size, stamp.mtime_ns
    return _NO_FILE


def instances_from_maps(instance: np.ndarray, semantic: np.ndarray, name: str = "") -> Instances:
    """Instances of a pair of maps in VOC form.

    Args:
        instance: ``[H, W]`` ids, 0 = none; 255 (65535 in a 16-bit map) = void.
        semantic: ``[H, W]``, 0 background, ``1..C``, 255 void.
        name: the record's id, for the fault.

    Returns:
        One instance per id, ascending; its class is the commonest class of the semantic map inside it.

    Raises:
        DataFault: ``E_SHAPE`` for different sizes, ``E_LABEL`` for an id without any class pixel.
    """
    if instance.shape != semantic.shape:
        text = f"instance mask is {list(instance.shape)}, semantic mask {list(semantic.shape)}"
        raise DataFault(Code.E_SHAPE, name, "mask", text)
    void = IGNORE if instance.dtype == np.uint8 else _VOID_16
    counts = np.bincount(instance.reshape(-1))
    numbers = [int(v) for v in np.flatnonzero(counts) if v not in (0, void)]
    masks, labels = [], []
    for number in numbers:
        mask = instance == number
        inside = np.bincount(semantic[mask], minlength=256)
        inside[[0, IGNORE]] = 0
        if not inside.any():
            raise DataFault(
                Code.E_LABEL, name, "mask", f"instance {number} has no class in the semantic mask"
            )
        masks.append(mask)
        labels.append(int(inside.argmax()) - 1)
    if not masks:
        return Instances.empty(instance.shape)
    return Instances(torch.from_numpy(np.stack(masks)), torch.tensor(labels, dtype=torch.int64))


def _mask(folder: Path | None, name: str) -> Path | None:
    if folder is None:
        return None
    path = folder / f"{name}.png"
    return path if path.exists() else None
