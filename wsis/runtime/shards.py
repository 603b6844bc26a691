"""The rows a label run leaves behind: Parquet files of one contiguous range of images each.

``RUN/shards/shard-000123.parquet`` holds one row per image in the order of the input list. The file's footer
names the run it belongs to and carries a sha256 over the rows, so that a shard can be judged without the
journal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wsis.data.artifacts import file_sha256, make_folder, write_with
from wsis.data.categories import Categories
from wsis.data.config import DataConfig
from wsis.data.run_folder import RunFolder
from wsis.errors import ConfigError
from wsis.runtime.ledger import ShardEntry, read_entries, run_entries, shard_path, verify_shard

__all__ = [
    "Row",
    "ShardEntry",
    "adopt_shard",
    "iterate_rows",
    "read_entries",
    "read_shard",
    "run_categories",
    "run_data",
    "shard_path",
    "verify_shard",
    "write_shard",
]

STATUSES = ("ok", "ok_empty", "skipped")

_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("file", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("status", pa.string()),
        ("code", pa.string()),
        ("text", pa.string()),
        ("label", pa.list_(pa.int32())),
        ("score", pa.list_(pa.float32())),
        ("bbox_xywh", pa.list_(pa.list_(pa.int32(), 4))),
        ("area", pa.list_(pa.int64())),
        ("counts", pa.list_(pa.binary())),
    ]
)


@dataclass
class Row:
    """What became of one image.

    Attributes:
        image_id: the record's id.
        file: path of the picture; empty where it was made on demand.
        height, width: pixels; 0 where the picture could not be read.
        status: ``ok``, ``ok_empty`` (nothing found, or no class present) or ``skipped``.
        code, text: why it was skipped, else empty.
        label: class ``0..C-1`` of each instance.
        score: in ``[0, 1]``; 0 marks components below the area limit.
        bbox_xywh: left, top, width, height in pixels.
        area: pixels.
        counts: COCO compressed run lengths, for size ``[height, width]``.
    """

    image_id: str
    file: str = ""
    height: int = 0
    width: int = 0
    status: str = "ok"
    code: str = ""
    text: str = ""
    label: list[int] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    bbox_xywh: list[list[int]] = field(default_factory=list)
    area: list[int] = field(default_factory=list)
    counts: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.label)

    def rles(self) -> list[dict[str, Any]]:
        """The masks as ``{"size": [height, width], "counts": bytes}``, the form of ``ops.rle_to_mask``."""
        return [{"size": [self.height, self.width], "counts": counts} for counts in self.counts]


def write_shard(run: str | Path, unit: int, first: int, rows: Sequence[Row], fingerprint: str) -> ShardEntry:
    """Write the rows of one unit, whole or not at all; returns what the journal is to say about it."""
    path = shard_path(run, unit)
    make_folder(path.parent)
    columns = {name: [getattr(row, name) for row in rows] for name in _SCHEMA.names}
    table = pa.Table.from_pydict(columns, schema=_SCHEMA)
    note = {"fingerprint": fingerprint, "unit": unit, "first": first, "rows": rows_sha256(_rows(table))}
    table = table.replace_schema_metadata({"wsis": json.dumps(note, sort_keys=True)})
    write_with(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))
    return _entry(path, unit, first, rows)


def adopt_shard(run: str | Path, unit: int, first: int, count: int, fingerprint: str) -> ShardEntry | None:
    """The entry of a shard that was written whole by a process that died before it could say so in its journal;
    None where there is none, or it is not the one that is wanted."""
    path = shard_path(run, unit)
    if not path.exists():
        return None
    try:
        rows, note = read_shard(path)
    except ConfigError:
        return None
    wanted = (fingerprint, unit, first, count)
    if (note.get("fingerprint"), note.get("unit"), note.get("first"), len(rows)) != wanted:
        return None
    return _entry(path, unit, first, rows)


def _entry(path: Path, unit: int, first: int, rows: Sequence[Row]) -> ShardEntry:
    return ShardEntry(
        unit,
        first,
        len(rows),
        path.stat().st_size,
        file_sha256(path),
        sum(len(row) for row in rows),
        _count(row.status for row in rows),
        _count(row.code for row in rows if row.code),
    )


def read_shard(path: str | Path) -> tuple[list[Row], dict[str, Any]]:
    """Rows and footer note of a shard.

    Raises:
        ConfigError: the file is not a whole shard, or its rows do not have the hash in its footer.
    """
    try:
        table = pq.ParquetFile(path).read()
        note = json.loads((table.schema.metadata or {})[b"wsis"])
        rows = _rows(table)
        good = note["rows"] == rows_sha256(rows)
    except FileNotFoundError as error:
        raise ConfigError(f"shard {path} does not exist") from error
    except (pa.ArrowException, KeyError, ValueError, TypeError, OSError) as error:
        raise ConfigError(f"shard {path} is damaged: {error}") from error
    if not good:
        raise ConfigError(f"shard {path} is damaged: its rows do not have the sha256 in its footer")
    return rows, note


def iterate_rows(run: str | Path, *, incomplete: bool = False) -> Iterator[Row]:
    """The rows of a label run in the order of its input list.

    Args:
        run: the run's folder.
        incomplete: take a run that is not finished as far as it is.

    Raises:
        ConfigError: no label run, units that are missing or damaged.
    """
    run = Path(run)
    parts = _parts(run)
    entries = run_entries(run)
    missing = [unit for unit in range(parts["units"]) if unit not in entries]
    if missing and not incomplete:
        raise ConfigError(
            f"{run} is not finished: {len(missing)} of {parts['units']} units are missing "
            f"(the first is {missing[0]}); give the label command again to finish it"
        )
    for unit in sorted(entries):
        yield from read_shard(shard_path(run, unit))[0]


def run_categories(run: str | Path) -> Categories:
    """The classes of a label run."""
    return Categories.from_json(_parts(Path(run))["categories"])


def run_data(run: str | Path) -> DataConfig:
    """The data that a label run was made from, as it says itself.

    Raises:
        ConfigError: no label run, it does not say, or its folder is no longer there.
    """
    run = Path(run)
    _parts(run)
    known = {item.name for item in fields(DataConfig)}
    said = RunFolder.read(run).get("data")
    if not isinstance(said, dict) or not set(said) <= known:
        raise ConfigError(f"data: {run} does not say from which data it was made; give --data.root=FOLDER")
    data = DataConfig(**said)
    if data.root and not Path(data.root).is_dir():
        raise ConfigError(f"data: {run} was made from {data.root}, which is not there; give --data.root=FOLDER")
    return data


def rows_sha256(rows: Sequence[Row]) -> str:
    """Hex sha256 over the content of rows, independent of how they are stored."""
    digest = hashlib.sha256()
    for row in rows:
        values = [getattr(row, item.name) for item in fields(row)]
        digest.update(repr(values).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _parts(run: Path) -> dict[str, Any]:
    value = RunFolder.read(run)
    if value["kind"] != "label":
        raise ConfigError(f"{run} holds a {value['kind']} run, expected a label run")
    return value["parts"]


def _rows(table: pa.Table) -> list[Row]:
    return [Row(*values) for values in zip(*(table.column(name).to_pylist() for name in _SCHEMA.names))]


def _count(values: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return dict(sorted(counts.items()))
