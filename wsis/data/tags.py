"""Image-level labels from files: JSON, JSON lines, CSV, TSV, plain text, and the XML annotations of VOC.

======================  ======================================================================================
``.json``               ``{"name": ["dog", "cat"]}`` or ``{"name": [11, 7]}`` (class numbers from 0),
                        or a list of ``{"name": ..., "tags": [...]}``, or the choices in an export of
                        Label Studio (its format JSON)
``.jsonl``              one such object per line
``.csv``, ``.tsv``      ``name,dog;cat``; a first line ``name,tags`` (or ``image,labels``, ...) is skipped
``.txt``                ``name dog cat``, separated by blanks
``.xml`` folder         VOC annotations: a class is present if an object of it is named, difficult objects too
======================  ======================================================================================

A tag is a class name; where the classes are known beforehand and no class has that name, it may be a class
number.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import defusedxml
import defusedxml.ElementTree

from wsis.data.atomic import PathLike
from wsis.data.categories import Categories
from wsis.data.columns import Coded, Table, Texts
from wsis.data.label_studio_tags import choice_rows, is_label_studio
from wsis.data.lists import check_ids, read_file, read_json, read_lines, read_text
from wsis.data.plain_text import plain_and_different, plain_csv
from wsis.errors import ConfigError, Problems, did_you_mean

__all__ = ["TagTable", "read_tags", "read_xml_tags"]

_NAME_KEYS = ("name", "image", "file", "file_name", "filename", "id", "image_id")
_TAG_KEYS = ("tags", "labels", "tag", "label", "classes", "class")
_HEADS = (
    re.compile("(image|picture|photo|file)?(name|path|id|file)?|img|imgname"),
    re.compile("(image|class)?(tag|label|class|name|category)(s|es|names?)?|categories"),
)
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_Row = tuple[str | int, str, Sequence[Any]]
"""Where it stands (a line of the file, or words), the name, and its tags."""


@dataclass(frozen=True)
class TagTable:
    """Image-level labels.

    Attributes:
        labels: name -> sorted class numbers ``0..C-1``; names as they stand in the file.
        categories: the classes.
        source: where the labels came from.
    """

    labels: Mapping[str, tuple[int, ...]]
    categories: Categories
    source: str


def read_tags(path: PathLike, categories: Categories | None = None) -> TagTable:
    """Read a tag file; its suffix tells the format (see the module).

    Args:
        path: the file.
        categories: the classes; if ``None`` the sorted names that occur in the file are the classes.

    Raises:
        ConfigError: everything that is wrong with the file, with file and line: unknown class (with the
            nearest name), number out of range, no integer, repeated tag, repeated or unsafe name.
    """
    path = Path(path)
    readers = {
        ".json": _json_rows,
        ".jsonl": _jsonl_rows,
        ".csv": _csv_rows,
        ".tsv": _csv_rows,
        ".txt": _txt_rows,
    }
    suffix = path.suffix.lower()
    if suffix in (".npy", ".pkl", ".pickle", ".pth"):
        raise ConfigError(
            f"{path}: is a pickle, which can run code when opened; write the labels as JSON or CSV"
        )
    if suffix not in readers:
        raise ConfigError(f"{path}: unknown kind of tag file, expected one of {', '.join(readers)}")
    if suffix in _DELIMITERS:
        columns = plain_csv(read_file(path), _DELIMITERS[suffix], _is_header)
        table = _from_columns(path, *columns, categories) if columns is not None else None
        if table is not None:
            return table
    problems = Problems()
    rows = list(readers[suffix](path, problems))
    problems.raise_if_any()
    if not rows:
        raise ConfigError(f"{path}: holds no image; expected rows of a name and its tags")
    check_ids([name for _, name, _ in rows], lambda n: _place(path, rows[n][0]))
    if categories is None:
        categories = _collect(path, rows)
    different = {id(tags): tags for _, _, tags in rows}
    labels = {}
    known: dict[int, tuple[int, ...]] = {}
    rows.reverse()
    while rows:
        where, name, tags = rows.pop()
        before = len(problems)
        if id(tags) not in known:
            labels[name] = _classes_of(tags, categories, _place(path, where), problems)
            if len(problems) == before:
                known[id(tags)] = labels[name]
        else:
            labels[name] = known[id(tags)]
    _hint_one_based(path, different.values(), categories, problems)
    problems.raise_if_any()
    return TagTable(labels, categories, str(path))


def _from_columns(path: Path, names: Texts, beside: Coded[str], categories: Categories | None) -> TagTable | None:
    """The labels of plain columns; None if anything is wrong, which is then looked for row by row."""
    if not plain_and_different(names):
        return None
    problems = Problems()
    rows = [("", "", _split(text)) for text in beside.values]
    with problems.collecting():
        categories = categories or _collect(path, rows)
        values = [_classes_of(tags, categories, "", problems) for _, _, tags in rows]
    return TagTable(Table(names, Coded(beside.codes, values)), categories, str(path)) if not len(problems) else None


def read_xml_tags(folder: PathLike, ids: Iterable[str], categories: Categories) -> TagTable:
    """Labels of ``ids`` from ``folder/<id>.xml``; ids without a file have no entry.

    Only the objects themselves count, not their named parts. DTDs and entities are refused.

    Raises:
        ConfigError: malformed files (with the line), unknown classes, empty names.
    """
    problems = Problems()
    known = {name: number for number, name in enumerate(categories.names)}
    labels: dict[str, tuple[int, ...]] = {}
    for name in ids:
        path = Path(folder) / f"{name}.xml"
        if not path.exists():
            continue
        present = set()
        try:
            root = defusedxml.ElementTree.fromstring(read_file(path), forbid_dtd=True)
        except ParseError as error:
            problems.add(f"{path}:{error.position[0]}", f"malformed XML: {error}")
            continue
        except defusedxml.DefusedXmlException as error:
            problems.add(str(path), f"has a DTD, entity or external reference, which is refused ({error})")
            continue
        except ConfigError as error:
            problems.extend(error)
            continue
        for number, item in enumerate(root.findall("object")):
            text = (item.findtext("name") or "").strip()
            if text in known:
                present.add(known[text])
            else:
                hint = did_you_mean(text, categories.names) if text else "expected a class name"
                problems.add(str(path), f"object[{number}]/name: unknown class {text!r}", hint)
        labels[name] = tuple(sorted(present))
    problems.raise_if_any()
    return TagTable(labels, categories, f"{folder}/*.xml")


def _collect(path: Path, rows: Sequence[_Row]) -> Categories:
    """The classes of a file that brings its own names."""
    problems = Problems()
    names = set()
    seen: set[int] = set()
    for where, _, tags in rows:
        if id(tags) in seen:
            continue
        seen.add(id(tags))
        for tag in tags:
            if isinstance(tag, str) and tag.strip():
                names.add(tag.strip())
            else:
                text = f"tag {tag!r} is no class name, and the classes are not known"
                hint = "add a classes.txt with one name per line, or give the class list"
                problems.add(_place(path, where), text, hint)
    problems.raise_if_any()
    if not names:
        raise ConfigError(f"{path}: no image has a tag, so there are no classes")
    folded: dict[str, str] = {}
    for name in sorted(names):
        first = folded.setdefault(name.casefold(), name)
        if first != name:
            problems.add(
                str(path), f"classes {first!r} and {name!r} differ only in case", "write one of them"
            )
    problems.raise_if_any()
    return Categories(tuple(sorted(names)))


def _classes_of(
    tags: Sequence[Any], categories: Categories, where: str, problems: Problems
) -> tuple[int, ...]:
    present: list[int] = []
    for tag in tags:
        number = _class_of(tag, categories, where, problems)
        if number is None:
            continue
        if number in present:
            problems.add(where, f"class {categories.names[number]!r} is given twice")
        else:
            present.append(number)
    return tuple(sorted(present))


def _class_of(tag: Any, categories: Categories, where: str, problems: Problems) -> int | None:
    count = len(categories)
    number: int | None = None
    if isinstance(tag, str):
        text = tag.strip()
        if text in categories.names:
            return categories.names.index(text)
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
            problems.add(where, f"unknown class {tag!r}", did_you_mean(tag, categories.names))
            return None
        number = int(text)
    elif isinstance(tag, int) and not isinstance(tag, bool):
        number = tag
    else:
        problems.add(where, f"tag {tag!r} ({type(tag).__name__}) is neither a class name nor a whole number")
        return None
    if not 0 <= number < count:
        problems.add(where, f"class number {number} is out of range, expected 0..{count - 1}")
        return None
    return number


def _hint_one_based(
    path: Path, different: Iterable[Sequence[Any]], categories: Categories, problems: Problems
) -> None:
    """Numbers that reach C and never 0 look as if counted from 1."""
    numbers = {
        int(tag)
        for tags in different
        for tag in tags
        if (isinstance(tag, int) and not isinstance(tag, bool))
        or (isinstance(tag, str) and tag.strip().isascii() and tag.strip().isdigit() and len(tag) < 10)
    }
    if len(categories) in numbers and 0 not in numbers and len(problems):
        problems.add(
            str(path),
            f"class {len(categories)} occurs and class 0 does not",
            "are the classes counted from 1?",
        )


def _place(path: Path, where: str | int) -> str:
    return f"{path}:{where}" if isinstance(where, int) else where


def _lines(text: str) -> Iterator[str]:
    """The lines with their ends, one after the other: a second copy of a long file is not held."""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def _is_header(name: str, tags: str) -> bool:
    """Whether both cells are words for what stands below them, like ``Image Name`` and ``Tags``."""
    plain = (re.sub(r"[ _-]", "", text.lower()) for text in (name, tags))
    return bool(name) and all(_HEADS[column].fullmatch(text) for column, text in enumerate(plain))


def _split(text: str) -> list[str]:
    return [tag.strip() for tag in text.split(";") if tag.strip()]


def _csv_rows(path: Path, problems: Problems) -> Iterator[_Row]:
    delimiter = _DELIMITERS[path.suffix.lower()]
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    reader = csv.reader(_lines(text), delimiter=delimiter, strict=True)
    first = True
    line = 1
    split: dict[str, list[str]] = {}
    try:
        for cells in reader:
            start, line = line, reader.line_num + 1
            cells = [cell.strip() for cell in cells]
            if not any(cells) or cells[0].startswith("#"):
                continue
            is_header = first and _is_header(cells[0], (cells[1:2] or [""])[0])
            first = False
            if is_header:
                continue
            while len(cells) > 2 and not cells[-1]:
                cells.pop()
            if len(cells) != 2:
                hint = "separate several tags with ;" if len(cells) > 2 else "leave the second column empty for none"
                if len(cells) == 1 and ";" in cells[0]:
                    hint = "the columns are separated by ; here: save the file with commas between them"
                between = {"\t": "<tab>"}.get(delimiter, delimiter)
                count = f"{len(cells)} column{'s' * (len(cells) > 1)}"
                problems.add(_place(path, start), f"got {count}, expected 2: name{between}tag;tag", hint)
                continue
            if cells[1] not in split:
                split[cells[1]] = _split(cells[1])
            yield start, cells[0], split[cells[1]]
    except csv.Error as error:
        problems.add(f"{path}:{reader.line_num}", f"not CSV: {error}")


def _txt_rows(path: Path, problems: Problems) -> Iterator[_Row]:
    for number, line in read_lines(path):
        name, *tags = line.split()
        yield f"{path}:{number}", name, [tag for cell in tags for tag in cell.split(";") if tag]


def _jsonl_rows(path: Path, problems: Problems) -> Iterator[_Row]:
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.add(where, f"not JSON: {error}")
            continue
        row = _object_row(value, where, problems)
        if row:
            yield row


def _json_rows(path: Path, problems: Problems) -> Iterator[_Row]:
    value = read_json(path)
    if isinstance(value, dict):
        for name, tags in value.items():
            where = f"{path}: {name}"
            if isinstance(tags, list):
                yield where, name, tags
            else:
                problems.add(where, f"got {type(tags).__name__}, expected a list of classes")
    elif is_label_studio(value):
        yield from choice_rows(value, path, problems)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            row = _object_row(item, f"{path}: [{number}]", problems)
            if row:
                yield row
    else:
        problems.add(str(path), f"got {type(value).__name__}, expected an object name -> list of classes")


def _object_row(value: Any, where: str, problems: Problems) -> _Row | None:
    if isinstance(value, dict):
        name = next((value[key] for key in _NAME_KEYS if key in value), None)
        tags = next((value[key] for key in _TAG_KEYS if key in value), None)
        if isinstance(tags, str):
            tags = _split(tags)
        if isinstance(name, str) and isinstance(tags, list):
            return where, name, tags
    problems.add(where, 'expected an object like {"name": "photo.jpg", "tags": ["dog", "cat"]}')
    return None
