"""The input list of a run, frozen when it begins: order, ids, labels, and size and time of every file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wsis.data.artifacts import write_with
from wsis.data.image_set import ImageSet, Record
from wsis.data.images import FileStamp, file_stamp
from wsis.errors import Code, ConfigError, DataFault
from wsis.runtime.isolated import IsolatedReader
from wsis.runtime.leases import Leases
from wsis.runtime.progress import say

__all__ = ["FrozenInputs", "Unit", "freeze_inputs", "split_units"]

_NAME = "inputs.parquet"
_PATIENCE = 3600.0
_CHUNK = 10_000
_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("file", pa.string()),
        ("labels", pa.list_(pa.int32())),
        ("bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Unit:
    """A contiguous range of the input list: ``first .. first + count - 1``."""

    number: int
    first: int
    count: int

    @property
    def indices(self) -> range:
        return range(self.first, self.first + self.count)


def split_units(total: int, size: int) -> list[Unit]:
    """The work units of ``total`` records; the last one may be shorter."""
    return [Unit(number, first, min(size, total - first)) for number, first in enumerate(range(0, total, size))]


class FrozenInputs:
    """A data set whose files must stay what they were when the run began.

    Args:
        data: the data set.
        stamps: ``[N, 2]`` int64, bytes and time of change in ns; -1 where there was no file.
    """

    def __init__(self, data: ImageSet, stamps: np.ndarray) -> None:
        self.data = data
        self.stamps = stamps
        self._read: Callable[[int], np.ndarray] = data.load_image

    def __len__(self) -> int:
        return len(self.data)

    def record(self, index: int) -> Record:
        return self.data[index]

    def load_image(self, index: int) -> np.ndarray:
        """``[H, W, 3]`` uint8; ``DataFault`` ``E_CHANGED`` if the file is another one than at the
        beginning."""
        record = self.data[index]
        size, mtime = (int(value) for value in self.stamps[index])
        if record.image_path is not None and size >= 0:
            try:
                now = file_stamp(record.image_path)
            except DataFault as fault:
                raise fault.renamed(record.id) from fault
            if now != FileStamp(size, mtime):
                text = f"had {size} bytes when the run began and has {now.size} now, or was written since"
                raise DataFault(Code.E_CHANGED, record.id, "read", text)
        return self._read(index) if record.image_path is not None else self.data.load_image(index)

    def isolated(self, processes: int, timeout: float) -> FrozenInputs:
        """The same, with pictures decoded in processes of their own, which end with this object; see
        :mod:`wsis.runtime.isolated`. To be called before threads are at work.

        Args:
            processes: most at a time.
            timeout: seconds for a picture; 0: decode in this process.
        """
        if timeout > 0:
            data = self.data
            try:
                self._read = IsolatedReader(data.load_image, lambda index: data[index].id, processes, timeout)
            except OSError as error:
                say(f"wsis: no process can be forked ({error.strerror}); pictures are decoded in this one")
        return self


def freeze_inputs(run: Path, data: ImageSet) -> FrozenInputs:
    """The frozen list of a run: read from its folder, or taken now and written there.

    Raises:
        ConfigError: the list in the folder is damaged or is another one.
    """
    path = run / _NAME
    with Leases(run) as leases:
        leases.take_inputs(_PATIENCE)
        return FrozenInputs(data, _read(path, data) if path.exists() else _freeze(path, data))


def _freeze(path: Path, data: ImageSet) -> np.ndarray:
    """Write the list, piece by piece; returns the stamps."""
    stamps = np.full((len(data), 2), -1, dtype=np.int64)

    def write(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, _SCHEMA, compression="zstd") as file:
            for first in range(0, len(data), _CHUNK):
                last = min(first + _CHUNK, len(data))
                files, part = data.stamped_files(first, last)
                stamps[first:last] = part
                ids, labels = data.id_columns(first, last)
                paths = pa.array([name or "" for name in files], pa.string())
                columns = [ids, paths, labels, pa.array(part[:, 0]), pa.array(part[:, 1])]
                file.write_batch(pa.record_batch(columns, schema=_SCHEMA))

    write_with(path, write)
    return stamps


def _read(path: Path, data: ImageSet) -> np.ndarray:
    stamps = np.full((len(data), 2), -1, dtype=np.int64)
    first, same = 0, True
    try:
        for batch in pq.ParquetFile(path).iter_batches(_CHUNK, columns=["image_id", "bytes", "mtime_ns"]):
            last = first + len(batch)
            same = same and last <= len(data) and batch.column(0).equals(data.id_columns(first, last)[0])
            if same:
                for place in (0, 1):
                    stamps[first:last, place] = batch.column(1 + place).to_numpy()
            first = last
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise ConfigError(f"{path} is damaged: {error}; give a new output folder") from error
    if not same or first != len(data):
        raise ConfigError(f"{path} lists other images than the data set; give a new output folder")
    return stamps
