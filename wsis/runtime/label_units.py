"""What happens to the images of a work unit: decoded ahead, grouped by size, labelled in batches, turned
into rows."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from wsis import ops
from wsis.data.artifacts import make_folder, safe_join, write_bytes, write_png
from wsis.errors import Code, DataFault, SystemFault
from wsis.labels.cam_components import CamLabeller
from wsis.labels.center_offset.labeller import CenterOffsetLabeller
from wsis.labels.irnet import Propagated
from wsis.labels.labeller import Labeller
from wsis.runtime.decode import Decoded, group_by_size, read_ahead
from wsis.runtime.inputs import FrozenInputs, Unit
from wsis.runtime.progress import StageClock, say
from wsis.runtime.shards import Row

__all__ = ["LabelUnits", "Outputs"]


@dataclass(frozen=True)
class Outputs:
    """What is made of every image beside its row.

    Attributes:
        instances: whether rows hold instances.
        semantic: folder of the semantic maps, or empty.
        fields: folder of the kept fields, or empty.
        palette: ``[256, 3]`` uint8 colours of the semantic maps.
    """

    instances: bool
    semantic: str
    fields: str
    palette: np.ndarray


class LabelUnits:
    """Gives the rows of unit after unit; an instance is the ``label_units`` of
    :func:`wsis.runtime.job.run_job`.

    Images wait in groups of equal size until a batch is full or their unit ends; what a batch holds beside
    an image does not change its result.

    Args:
        labeller: nets and thresholds.
        inputs: the frozen input list.
        outputs: what to make.
        batch_size: most images that go through the nets together.
        workers: threads that decode.
        clock: stages ``decode`` (waiting for pictures), ``nets``, ``labels`` and ``write``.
        root: paths of pictures in the rows are relative to it where they lie in it.
    """

    def __init__(
        self,
        labeller: Labeller | CamLabeller | CenterOffsetLabeller,
        inputs: FrozenInputs,
        outputs: Outputs,
        batch_size: int,
        workers: int,
        clock: StageClock,
        root: str = "",
    ) -> None:
        self.labeller, self.inputs, self.outputs = labeller, inputs, outputs
        self.batch_size, self.workers, self.clock = batch_size, workers, clock
        self.root = Path(root).resolve() if root else None

    def __call__(self, units: Sequence[Unit], stopping: Callable[[], bool]) -> Iterator[tuple[Unit, list[Row]]]:
        indices = (index for unit in units for index in unit.indices)
        pictures = read_ahead(self._load, indices, self.workers, self.batch_size + 2 * self.workers)
        with ThreadPoolExecutor(max(1, self.workers), thread_name_prefix="write") as pool:
            try:
                for unit in units:
                    if stopping():
                        return
                    yield unit, self._unit(unit, pictures, pool)
            finally:
                pictures.close()

    def _load(self, index: int) -> np.ndarray:
        if self.labeller.needs_tags and self.inputs.record(index).labels is None:
            raise DataFault(Code.E_LABEL, self.inputs.record(index).id, "read", "has no entry in the tag file")
        return self.inputs.load_image(index)

    def _unit(self, unit: Unit, pictures: Iterator[Decoded[np.ndarray]], pool: ThreadPoolExecutor) -> list[Row]:
        rows: dict[int, Row] = {}
        files: list[Future] = []
        for group in group_by_size(self._usable(unit, pictures, rows, files, pool), self.batch_size):
            files += self._batch(group, rows, pool)
        with self.clock("write"):
            for future in files:
                future.result()
        return [rows[index] for index in unit.indices]

    def _usable(
        self,
        unit: Unit,
        pictures: Iterator[Decoded[np.ndarray]],
        rows: dict[int, Row],
        files: list[Future],
        pool: ThreadPoolExecutor,
    ) -> Iterator[Decoded[np.ndarray]]:
        """The pictures of a unit that have classes to look for; every picture gets its row."""
        for _ in unit.indices:
            with self.clock("decode"):
                picture = next(pictures)
            rows[picture.index] = row = self._row(picture)
            if row.status == "ok":
                yield picture
            elif row.status == "ok_empty" and self.outputs.semantic:
                empty = np.zeros((row.height, row.width), dtype=np.uint8)
                files.append(pool.submit(self._write_map, row.image_id, empty))

    def _row(self, picture: Decoded[np.ndarray]) -> Row:
        """The row of a picture before it is labelled."""
        record = self.inputs.record(picture.index)
        row = Row(record.id, self._relative(record.image_path))
        if picture.fault is not None:
            row.status, row.code, row.text = "skipped", picture.fault.code.value, picture.fault.text
            return row
        row.height, row.width = picture.value.shape[:2]
        if self.labeller.needs_tags and not record.labels:
            row.status = "ok_empty"
        return row

    def _relative(self, path: Path | None) -> str:
        if path is None:
            return ""
        inside = self.root is not None and path.resolve().is_relative_to(self.root)
        return path.resolve().relative_to(self.root).as_posix() if inside else str(path)

    def _batch(self, group: list[Decoded[np.ndarray]], rows: dict[int, Row], pool: ThreadPoolExecutor) -> list[Future]:
        """Label images of one size; halves the batch, and at last leaves the GPU, when memory does not
        suffice."""
        try:
            return self._label(group, rows, pool)
        except torch.OutOfMemoryError:
            device = self.labeller.device
            torch.cuda.empty_cache()
            middle = len(group) // 2
            if middle:
                say(f"label: {len(group)} images do not fit into the GPU's memory, going on with {middle}")
                return self._batch(group[:middle], rows, pool) + self._batch(group[middle:], rows, pool)
            row = rows[group[0].index]
            say(f"label: {row.image_id} ({row.height}x{row.width}) does not fit into the GPU's memory: CPU")
            self.labeller.to("cpu")
            try:
                return self._label(group, rows, pool)
            finally:
                self.labeller.to(device)
        except MemoryError as error:
            height, width = group[0].value.shape[:2]
            raise SystemFault(f"out of memory at {len(group)} images of {height}x{width}: {error}") from error

    def _label(self, group: list[Decoded[np.ndarray]], rows: dict[int, Row], pool: ThreadPoolExecutor) -> list[Future]:
        members = [rows[picture.index] for picture in group]
        size = (members[0].height, members[0].width)
        with self.clock("nets"):
            images = [torch.from_numpy(picture.value).permute(2, 0, 1) for picture in group]
            classes = [self.inputs.record(picture.index).labels or () for picture in group]
            fields = self.labeller.fields(images, classes)
            good = fields.finite()
            finite = good.tolist()
        with self.clock("labels"):
            if not all(finite):
                for row, fine in zip(members, finite):
                    if not fine:
                        row.status, row.code = "skipped", Code.E_NUMERIC.value
                        row.text = "the nets gave values that are not finite"
                members = [row for row, fine in zip(members, finite) if fine]
                fields = fields.select(good)
            if not members:
                return []
            outputs = self.outputs
            made = self.labeller.spread(fields, size, instances=outputs.instances, semantic=bool(outputs.semantic))
            if outputs.instances:
                fill_rows(members, made)
            maps = made.semantic.to(torch.uint8).cpu().numpy() if outputs.semantic else None
            files = []
            for b, row in enumerate(members):
                if maps is not None:
                    if not outputs.instances and not maps[b].any():
                        row.status = "ok_empty"
                    files.append(pool.submit(self._write_map, row.image_id, maps[b]))
                if outputs.fields:
                    files.append(pool.submit(self._write_fields, row.image_id, fields.arrays(b, made)))
        return files

    def _write_map(self, image_id: str, semantic: np.ndarray) -> None:
        write_png(_target(self.outputs.semantic, image_id, ".png"), semantic, self.outputs.palette)

    def _write_fields(self, image_id: str, arrays: dict[str, np.ndarray]) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_bytes(_target(self.outputs.fields, image_id, ".npz"), buffer.getvalue())


def fill_rows(rows: Sequence[Row], made: Propagated) -> None:
    """Put the instances of a batch into the rows of its images; a row without any becomes ``ok_empty``."""
    table = made.instances
    codes = {(rle["image_index"], rle["id"]): rle["counts"] for rle in ops.mask_rle(table.ids)}
    columns = (table.image_index, table.id, table.label, table.score, made.area, made.box_xyxy)
    for image, number, label, score, area, (x0, y0, x1, y1) in zip(*(column.tolist() for column in columns)):
        row = rows[image]
        row.label.append(label)
        row.score.append(score)
        row.area.append(area)
        row.bbox_xywh.append([x0, y0, x1 - x0, y1 - y0])
        row.counts.append(codes[image, number])
    for row in rows:
        if not row.label:
            row.status = "ok_empty"


def _target(folder: str, image_id: str, suffix: str) -> Path:
    path = safe_join(folder, image_id + suffix)
    make_folder(path.parent)
    return path
