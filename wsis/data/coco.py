"""Data in the layout of MS COCO, read from its instances file.

::

    ROOT/annotations/instances_train2017.json
    ROOT/train2017/000000000009.jpg           or ROOT/images/train2017/..., ROOT/images/..., ROOT/...
    ROOT/annotations/image_info_test-dev2017.json      images alone: no labels, no masks; pictures in ROOT/test2017

The file is read piece by piece, as it may be larger than the memory: of an annotation only the class and its place in
the file are kept, and masks are read from there when they are asked for. Image labels are the classes of an image's
annotations; an image without any is labelled as empty. Crowd annotations count as labels, are void in the masks, and
are handed to COCO's AP, which lets predictions cover them without harm.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from wsis.data import rle
from wsis.data.categories import IGNORE, Categories
from wsis.data.config import DataConfig
from wsis.data.image_set import FileImageSet, ImageSet, Record
from wsis.data.layout import read_image_list
from wsis.data.lists import check_ids
from wsis.data.tags import TagTable
from wsis.errors import MAX_PROBLEMS, Code, ConfigError, DataFault, Problems, did_you_mean, system_fault
from wsis.structures import Instances

__all__ = ["CocoImageSet", "coco_files", "iterate_lists", "open_coco", "without_suffix"]

_BLOCK = 1 << 20
_MARK = b"\xef\xbb\xbf"
_PREFIX = "instances_"
_INFO = "image_info_"
_LISTS = ("images", "categories", "annotations")


def coco_files(root: Path) -> dict[str, Path]:
    """Split -> its instances file, or the file that names its images alone."""
    found = {}
    for prefix in (_INFO, _PREFIX):
        files = sorted((root / "annotations").glob(f"{prefix}*.json"))
        found |= {path.stem.removeprefix(prefix): path for path in files}
    return found


def open_coco(config: DataConfig, problems: Problems) -> CocoImageSet | None:
    """The set that ``config`` describes, as far as it can be read; what is wrong goes to ``problems``."""
    root = Path(config.root)
    files = coco_files(root)
    split = config.split or (next(iter(files)) if len(files) == 1 else "")
    if split not in files:
        hint = did_you_mean(split, list(files)) if files else f"expected {root}/annotations/{_PREFIX}NAME.json"
        problems.add("data.split", f"got {config.split!r}, which has no instances file", hint)
        return None
    with problems.collecting():
        table = _read(files[split])
        names = [split, split.replace("-dev", "")]
        places = [place / name for name in names for place in (root, root / "images")]
        folder = next((place for place in (*places, root / "images") if place.is_dir()), root)
        if config.list:
            table.restrict(read_image_list(Path(config.list))[0], config.list)
        return CocoImageSet(folder, table, config.follow_links)
    return None


class CocoImageSet(FileImageSet):
    """Images and masks of an instances file."""

    def __init__(self, folder: Path, table: _Table, follow_links: bool = False) -> None:
        labels = {name: tuple(sorted(classes)) for name, classes in table.labels.items()}
        tags = TagTable(labels, table.categories, str(table.path))
        super().__init__(
            folder,
            table.ids,
            table.categories,
            None if table.images_alone else tags,
            None,
            follow_links=follow_links,
        )
        self._table = table
        self.has_masks = self.own_masks = not table.images_alone

    own_masks = True
    has_masks = True

    def __getitem__(self, index: int) -> Record:
        name = self._ids[index]
        return Record(name, self.image_root / self._file(index), self._labels[index])

    stamped_files = ImageSet.stamped_files

    def _file(self, index: int) -> str:
        return self._table.files[self._ids[index]]

    @property
    def image_numbers(self) -> dict[int, str]:
        """The ids of the file -> those of the set."""
        known = set(self._ids)
        return {number: name for number, name in self._table.names.items() if name in known}

    def load_instances(self, index: int) -> Instances:
        return self._load(index, crowd=False)

    def load_crowds(self, index: int) -> Instances:
        return self._load(index, crowd=True)

    def _load(self, index: int, crowd: bool) -> Instances:
        masks, labels = [], []
        size = self._table.size(self._ids[index])
        for place, label, _, mask in self._masks(index, size, crowd):
            if not mask.any() and crowd:
                continue
            if not mask.any():
                raise DataFault(Code.E_SHAPE, self._ids[index], "mask", f"{place} has no pixel")
            masks.append(mask)
            labels.append(label)
        if not masks:
            return Instances.empty(size)
        return Instances(torch.from_numpy(np.stack(masks)), torch.tensor(labels, dtype=torch.int64))

    def load_semantic(self, index: int) -> np.ndarray:
        """Smaller objects lie on larger ones; void where there is nothing but a crowd."""
        size = self._table.size(self._ids[index])
        semantic = np.zeros(size, dtype=np.uint8)
        found = sorted(self._masks(index, size), key=lambda one: (not one[2], -int(one[3].sum())))
        for _, label, crowd, mask in found:
            semantic[mask] = IGNORE if crowd else label + 1
        return semantic

    def _masks(
        self, index: int, size: tuple[int, int], crowd: bool | None = None
    ) -> Iterator[tuple[str, int, bool, np.ndarray]]:
        """``(place, class, crowd, mask)`` of every annotation of an image, or of those that are crowds or are not."""
        name = self._ids[index]
        for place, row in self._table.annotations(name):
            if crowd is not None and bool(row.get("iscrowd")) != crowd:
                continue
            segmentation = row.get("segmentation")
            try:
                if isinstance(segmentation, Mapping):
                    mask = rle.to_masks([segmentation], size)[0]
                else:
                    mask = rle.to_masks([rle.from_polygons(segmentation, size)], size)[0]
            except (ValueError, TypeError) as error:
                raise DataFault(Code.E_RANGE, name, "mask", f"{place}.segmentation: {error}") from error
            yield place, self._table.classes[row["category_id"]], bool(row.get("iscrowd")), mask


class _Table:
    """What is kept of an instances file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.images_alone = path.stem.startswith(_INFO)
        self.names: dict[int, str] = {}
        self.files: dict[str, str] = {}
        self.sizes: dict[str, tuple[int, int]] = {}
        self.labels: dict[str, set[int]] = {}
        self.classes: dict[int, int] = {}
        self.categories = Categories(("none",))
        self.ids: list[str] = []
        self._places: dict[str, array] = {}

    def size(self, name: str) -> tuple[int, int]:
        return self.sizes[name]

    def place(self, name: str, number: int, first: int, last: int) -> None:
        self._places.setdefault(name, array("q")).extend((number, first, last))

    def annotations(self, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """``(json path, annotation)`` of an image, read from the file."""
        places = self._places.get(name, ())
        try:
            with open(self.path, "rb") as file:
                for number, first, last in zip(places[0::3], places[1::3], places[2::3]):
                    file.seek(first)
                    yield f"{self.path}: annotations[{number}]", json.loads(file.read(last - first))
        except ValueError as error:
            raise DataFault(Code.E_CHANGED, name, "mask", f"{self.path} changed since it was opened") from error
        except OSError as error:
            raise system_fault(error, "reading", self.path) from error

    def restrict(self, ids: Sequence[str], source: str) -> None:
        """Keep the images of a list."""
        missing = [name for name in ids if name not in self.files]
        if missing:
            raise ConfigError([f"{source}: {name!r} is not in {self.path}" for name in missing[:MAX_PROBLEMS]])
        self.ids = list(ids)


def _read(path: Path) -> _Table:
    """Read and check an instances file; ``ConfigError`` names every problem with its json path."""
    table, problems = _Table(path), Problems()
    rows: list[tuple[int, int, int, int, int]] = []
    names: dict[int, str] = {}
    seen: set[int] = set()
    for key, number, row, first, last in iterate_lists(path, _LISTS):
        where = f"{path}: {key}[{number}]"
        if len(problems) > MAX_PROBLEMS:
            break
        if not isinstance(row, dict) or not _is_id(row.get("id")):
            problems.add(f"{where}.id", f"got {str(row)[:60]}, expected an object with a whole number as id")
        elif key == "images":
            _add_image(table, row, where, problems)
        elif key == "categories":
            if not isinstance(row.get("name"), str) or row["id"] in names:
                problems.add(where, f"got {str(row)[:60]}, expected a name and an id of its own")
            names[row["id"]] = str(row.get("name"))
        elif row["id"] in seen:
            problems.add(f"{where}.id", f"{row['id']} stands there twice")
        elif _annotation_problem(row):
            problems.add(where, _annotation_problem(row))
        elif _is_beside(row.get("bbox"), table.sizes.get(table.names.get(row["image_id"], ""))):
            size = table.sizes[table.names[row["image_id"]]]
            problems.add(f"{where}.bbox", f"{row['bbox']} lies outside of its image, height {size[0]}, width {size[1]}")
        else:
            seen.add(row["id"])
            rows.append((number, row["image_id"], row["category_id"], first, last))
    problems.raise_if_any()
    if not names or not table.names:
        raise ConfigError(f"{path}: has no {'images' if names else 'categories'}; expected an instances file of COCO")
    order = sorted(names)
    table.categories = Categories(tuple(names[k] for k in order), tuple(order))
    table.classes = {k: n for n, k in enumerate(order)}
    for number, image, category, first, last in rows:
        where = f"{path}: annotations[{number}]"
        if image not in table.names:
            problems.add(f"{where}.image_id", f"{image} is no image of the file")
        elif category not in table.classes:
            problems.add(f"{where}.category_id", f"{category} is no category of the file")
        else:
            table.labels[table.names[image]].add(table.classes[category])
            table.place(table.names[image], number, first, last)
    problems.raise_if_any()
    table.ids = sorted(table.files)
    check_ids(table.ids, lambda n: f"{path}: image {table.ids[n]!r}")
    return table


def _add_image(table: _Table, row: dict[str, Any], where: str, problems: Problems) -> None:
    file, size = row.get("file_name"), (row.get("height"), row.get("width"))
    if not isinstance(file, str) or not file:
        problems.add(f"{where}.file_name", f"got {str(file)[:60]!r}, expected the name of a picture")
        return
    name = without_suffix(file)
    if row["id"] in table.names:
        problems.add(f"{where}.id", f"{row['id']} stands there twice")
    elif name in table.files:
        problems.add(f"{where}.file_name", f"{file!r} has the id of {table.files[name]!r}")
    elif not all(_is_id(side) and 1 <= side <= 65536 for side in size):
        problems.add(where, f"height and width are {size[0]!r} and {size[1]!r}, expected 1 to 65536")
    else:
        table.names[row["id"]], table.files[name] = name, file
        table.sizes[name], table.labels[name] = size, set()


def without_suffix(file: str) -> str:
    """The id of a picture by the name that a file gives it."""
    path = PurePosixPath(file)
    return str(path).removesuffix(path.suffix)


def _annotation_problem(row: dict[str, Any]) -> str:
    if not _is_id(row.get("image_id")) or not _is_id(row.get("category_id")):
        return f"image_id and category_id are {row.get('image_id')!r} and {row.get('category_id')!r}, expected numbers"
    box = row.get("bbox")
    if box is not None and not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        return f"bbox is {str(box)[:60]}, expected [x, y, width, height]"
    return ""


def _is_beside(box: list[float] | None, size: tuple[int, int] | None) -> bool:
    """Whether a box lies outside of its image; not known, so False, where the file names its images after it."""
    if box is None or size is None:
        return False
    x, y, width, height = box
    return x >= size[1] or y >= size[0] or x + width < 0 or y + height < 0 or width < 0 or height < 0


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def iterate_lists(path: Path, wanted: tuple[str, ...]) -> Iterator[tuple[str, int, Any, int, int]]:
    """The items of the lists at the top of a JSON object, without holding the file.

    Gives ``(key, number in its list, item, first byte, byte after it)``; other keys are passed over.

    Raises:
        ConfigError: not such a file, NaN, or too deep; with the byte.
        SystemFault: the machine failed.
    """
    scan = _Scanner(path)
    try:
        with open(path, "rb") as scan.file:
            scan.start = 3 if scan.file.read(3) == _MARK else scan.file.seek(0)
            yield from _items(scan, wanted)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except OSError as error:
        raise system_fault(error, "reading", path) from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        text = str(error) or "nested too deeply"
        raise ConfigError(f"{path}: byte {scan.start + scan.at:,}: not the JSON of COCO: {text}") from error


def _items(scan: _Scanner, wanted: tuple[str, ...]) -> Iterator[tuple[str, int, Any, int, int]]:
    scan.expect("{")
    while scan.peek() != "}":
        key = scan.value()
        scan.expect(":")
        if key in wanted and scan.peek() == "[":
            scan.expect("[")
            number = 0
            while scan.peek() != "]":
                first = scan.start + scan.at
                item = scan.value()
                yield str(key), number, item, first, scan.start + scan.at
                number += 1
                if scan.peek() != "]":
                    scan.expect(",")
            scan.expect("]")
        else:
            scan.value()
        if scan.peek() != "}":
            scan.expect(",")


class _Scanner:
    """Reads JSON values one after the other from a file that is held in blocks.

    Bytes are taken for characters, so that places in the text are places in the file; a value with bytes beyond
    ASCII is read a second time, as UTF-8.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text, self.at, self.start, self.ended = "", 0, 0, False
        self._decode = json.JSONDecoder(parse_constant=_refuse).raw_decode

    def more(self) -> bool:
        block = self.file.read(max(_BLOCK, len(self.text)))
        self.start += self.at
        self.text, self.at = self.text[self.at :] + block.decode("latin-1"), 0
        self.ended = not block
        return bool(block)

    def peek(self) -> str:
        """The next character that is no blank."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                raise ValueError("the file ends too early")

    def expect(self, character: str) -> None:
        got = self.peek()
        if got != character:
            raise ValueError(f"got {got!r}, expected {character!r}")
        self.at += 1

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = self._decode(self.text, self.at)
            except json.JSONDecodeError:
                if self.ended or not self.more():
                    raise
                continue
            if end == len(self.text) and not self.ended and self.more():
                continue
            text, self.at = self.text[self.at : end], end
            return value if text.isascii() else json.loads(text.encode("latin-1"), parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}, expected finite numbers")
