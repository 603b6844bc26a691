"""What happens to the images of a work unit: decoded ahead, grouped by size, labelled in batches, turned
into rows."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wsis import ops
from wsis.data import rle
from wsis.data.artifacts import encode_png, make_folder, safe_join, write_bytes
from wsis.data.points import PointSource
from wsis.errors import Code, DataFault, SystemFault
from wsis.labels.cam import image_pyramid
from wsis.labels.cam_components import CamLabeller
from wsis.labels.center_offset.labeller import CenterOffsetLabeller
from wsis.labels.detector_labeller import Detected, DetectorLabeller
from wsis.labels.irnet import Propagated
from wsis.labels.labeller import Labeller
from wsis.runtime.decode import Decoded, Picture, group_by_size, read_ahead
from wsis.runtime.inputs import FrozenInputs, Unit
from wsis.runtime.progress import RunLog, StageClock, say
from wsis.runtime.shards import Row
from wsis.runtime.unit_work import BatchLimit, UnitWork, net_threads

__all__ = ["LabelUnits", "Outputs"]

_SCALED_AHEAD = 16_000_000


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
    """Gives the rows of unit after unit.

    Pictures are decoded and scaled ahead in threads, wait in groups of equal size until a batch is full or their unit
    ends, go through the nets and the propagation, and are turned into rows and files in threads behind that, so that
    the device waits neither for the reader nor for the writer. What a batch holds beside an image does not change its
    result. Pictures so large that their scaled copies would fill the memory while they wait are scaled with the nets.

    A GPU is fed by the calling thread. On the CPU as many threads as torch would use each take a batch of their
    own and compute it alone: the last bits of a convolution depend on how many threads share it, and so the result
    does not depend on how many there are.

    Args:
        labeller: nets and thresholds.
        inputs: the frozen input list.
        outputs: what to make.
        batch_size: most images that go through the nets together.
        workers: threads that decode.
        clock: stages ``decode`` (with scaling), ``nets``, ``kernels``, ``encode``, ``write`` in seconds of work,
            threads added up, and ``wait``: how long nets and kernels stood still for the others.
        root: paths of pictures in the rows are relative to it where they lie in it.
        log: gets a line when memory does not suffice.
        points: of every object, for a labeller that takes them; one that cannot be used is its image's fault.
    """

    def __init__(
        self,
        labeller: Labeller | CamLabeller | CenterOffsetLabeller | DetectorLabeller,
        inputs: FrozenInputs,
        outputs: Outputs,
        batch_size: int,
        workers: int,
        clock: StageClock,
        root: str = "",
        log: RunLog | None = None,
        points: PointSource | None = None,
    ) -> None:
        self.labeller, self.inputs, self.outputs, self.points = labeller, inputs, outputs, points
        self.batch_size, self.workers, self.clock, self.log = batch_size, workers, clock, log
        self.root = Path(root).resolve() if root else None
        self._scales = labeller.scales if isinstance(labeller, (Labeller, CamLabeller)) else ()
        self._fits = BatchLimit(batch_size)
        self._computing: deque[Future[None]] = deque()

    def __call__(
        self, units: Iterable[Unit], stopping: Callable[[], bool], overdue: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[Unit, list[Row]]]:
        """The rows of each unit.

        Args:
            units: taken from the iterable when their first picture is to be decoded.
            stopping: asked before each unit; True ends the iteration.
            overdue: asked before each batch; True drops the unit and ends the iteration.
        """
        begun: deque[Unit] = deque()
        pictures = read_ahead(self._load, _indices(units, begun), self.workers, self.batch_size + 2 * self.workers)
        writers = ThreadPoolExecutor(max(1, self.workers), thread_name_prefix="write")
        encoder = ThreadPoolExecutor(1, thread_name_prefix="encode")
        with writers, encoder, net_threads(self.labeller.device) as nets, contextlib.closing(pictures):
            while not stopping():
                first = self._next(pictures)
                if first is None:
                    return
                unit = begun.popleft()
                rest = (self._next(pictures) for _ in range(unit.count - 1))
                work = UnitWork(unit, nets, encoder, writers)
                try:
                    rows = self._unit(work, itertools.chain([first], rest), overdue)
                finally:
                    work.cancel()
                if rows is None:
                    return
                yield unit, rows

    def _next(self, pictures: Iterator[Decoded[Picture]]) -> Decoded[Picture] | None:
        start = time.perf_counter()
        picture = next(pictures, None)
        if picture is not None:
            self.clock.add("decode", picture.seconds)
            if self.workers and all(future.done() for future in self._computing):
                self.clock.add("wait", time.perf_counter() - start)
        return picture

    def _load(self, index: int) -> Picture:
        if self.labeller.needs_tags and self.inputs.record(index).labels is None:
            raise DataFault(Code.E_LABEL, self.inputs.record(index).id, "read", "has no entry in the tag file")
        pixels = self.inputs.load_image(index)
        if not 0 < pixels.shape[0] * pixels.shape[1] * sum(scale**2 for scale in self._scales) <= _SCALED_AHEAD:
            return Picture(pixels)
        return Picture(pixels, image_pyramid(torch.from_numpy(pixels).permute(2, 0, 1), self._scales))

    def _unit(
        self, work: UnitWork, pictures: Iterator[Decoded[Picture]], overdue: Callable[[], bool]
    ) -> list[Row] | None:
        self._computing = work.batches
        for group in group_by_size(self._usable(work, pictures), work.batch_size(self.batch_size)):
            work.compute(self._batch, group, work, overdue)
        work.computed()
        if work.dropped:
            return None
        with self.clock("wait"):
            work.finish()
        return [work.rows[index] for index in work.unit.indices]

    def _usable(self, work: UnitWork, pictures: Iterator[Decoded[Picture]]) -> Iterator[Decoded[Picture]]:
        """The pictures of a unit that have classes to look for; every picture gets its row."""
        for picture in pictures:
            work.rows[picture.index] = row = self._row(picture)
            if row.status == "ok":
                yield picture
            elif row.status == "ok_empty" and self.outputs.semantic:
                empty = np.zeros((row.height, row.width), dtype=np.uint8)
                work.write(self._write_map, row.image_id, empty)

    def _row(self, picture: Decoded[Picture]) -> Row:
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
        real = Path(os.path.realpath(path))
        inside = self.root is not None and real.is_relative_to(self.root)
        return real.relative_to(self.root).as_posix() if inside else str(path)

    def _batch(self, group: list[Decoded[Picture]], work: UnitWork, overdue: Callable[[], bool]) -> None:
        """Label images of one size; halves the batch, and at last leaves the GPU, when memory does not
        suffice. Pictures of that size and larger ones then come in batches that fitted."""
        work.dropped = work.dropped or overdue()
        if work.dropped:
            return
        height, width = group[0].value.shape[:2]
        step = self._fits.at(height * width)
        if step < len(group):
            for start in range(0, len(group), step):
                self._batch(group[start : start + step], work, overdue)
            return
        try:
            self._label(group, work)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            self._fits.failed(height * width, len(group))
            self._tell_memory(len(group), height, width)
            if len(group) > 1:
                self._batch(group, work, overdue)
            else:
                self._on_cpu(group, work)
        except MemoryError as error:
            raise SystemFault(f"out of memory at {len(group)} images of {height}x{width}: {error}") from error

    def _on_cpu(self, group: list[Decoded[Picture]], work: UnitWork) -> None:
        device = self.labeller.device
        self.labeller.to("cpu")
        try:
            self._label(group, work)
        finally:
            self.labeller.to(device)

    def _tell_memory(self, images: int, height: int, width: int) -> None:
        then = f"batches of {images // 2}" if images > 1 else "this one on the CPU"
        count = f"{images} images" if images > 1 else "1 image"
        say(f"label: {count} of {height}x{width} do not fit into the GPU's memory; going on with {then}")
        if self.log is not None:
            self.log.write("memory", {"images": images, "height": height, "width": width, "then": then})

    def _label(self, group: list[Decoded[Picture]], work: UnitWork) -> None:
        more: dict[str, Any] = {}
        if self.points is not None:
            group, more["points"] = self._with_points(group, work)
            if not group:
                return
        members = [work.rows[picture.index] for picture in group]
        size = (members[0].height, members[0].width)
        with self.clock("nets"):
            images = [torch.from_numpy(picture.value.pixels).permute(2, 0, 1) for picture in group]
            pyramids = [picture.value.pyramid for picture in group]
            if None not in pyramids:
                more["pyramids"] = pyramids
            classes = [self.inputs.record(picture.index).labels or () for picture in group]
            fields = self.labeller.fields(images, classes, **more)
            good = fields.finite()
            finite = good.tolist()
        with self.clock("kernels"):
            if not all(finite):
                fields = fields.select(good)
            fine = [row for row, keep in zip(members, finite) if keep]
            outputs = self.outputs
            made = None
            if fine:
                made = self.labeller.spread(fields, size, instances=outputs.instances, semantic=bool(outputs.semantic))
        for row, keep in zip(members, finite):
            if not keep:
                row.status, row.code = "skipped", Code.E_NUMERIC.value
                row.text = "the nets gave values that are not finite"
        if made is not None:
            with self.clock("wait"):
                work.encode(self._encode, work, fine, fields, made)

    def _with_points(
        self, group: list[Decoded[Picture]], work: UnitWork
    ) -> tuple[list[Decoded[Picture]], list[Sequence[Sequence[float]]]]:
        """The pictures whose points can be used, and these; the rows of the others say why not."""
        kept, points = [], []
        for picture in group:
            row, record = work.rows[picture.index], self.inputs.record(picture.index)
            labels = record.labels if self.labeller.needs_tags else None
            try:
                points.append(self.points.read(record.id, (row.height, row.width), labels).above(0.0))
                kept.append(picture)
            except DataFault as fault:
                row.status, row.code, row.text = "skipped", fault.code.value, fault.text
        return kept, points

    def _encode(self, work: UnitWork, rows: list[Row], fields: Any, made: Propagated) -> None:
        """Rows and files of a batch; runs in a thread behind the nets."""
        with self.clock("encode"):
            if self.outputs.instances:
                fill_rows(rows, made)
            maps = made.semantic.to(torch.uint8).cpu().numpy() if self.outputs.semantic else None
            for b, row in enumerate(rows):
                if maps is not None:
                    if not self.outputs.instances and not maps[b].any():
                        row.status = "ok_empty"
                    work.write(self._write_map, row.image_id, maps[b])
                if self.outputs.fields:
                    work.write(self._write_fields, row.image_id, fields.arrays(b, made))

    def _write_map(self, image_id: str, semantic: np.ndarray) -> None:
        with self.clock("encode"):
            data = encode_png(semantic, self.outputs.palette)
        with self.clock("write"):
            write_bytes(_target(self.outputs.semantic, image_id, ".png"), data)

    def _write_fields(self, image_id: str, arrays: dict[str, np.ndarray]) -> None:
        buffer = io.BytesIO()
        with self.clock("encode"):
            np.savez_compressed(buffer, **arrays)
        with self.clock("write"):
            write_bytes(_target(self.outputs.fields, image_id, ".npz"), buffer.getvalue())


def fill_rows(rows: Sequence[Row], made: Propagated | Detected) -> None:
    """Put the instances of a batch into the rows of its images; a row without any becomes ``ok_empty``."""
    if isinstance(made, Detected):
        _fill_overlapping(rows, made)
        return
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


def _indices(units: Iterable[Unit], begun: deque[Unit]) -> Iterator[int]:
    """The places of the pictures of all units; a unit is put into ``begun`` before its first one."""
    for unit in units:
        begun.append(unit)
        yield from unit.indices


def _fill_overlapping(rows: Sequence[Row], made: Detected) -> None:
    """The same for masks that may overlap; empty masks are left out."""
    for row, found in zip(rows, made.instances):
        rles = rle.encode_masks(found.masks.cpu().numpy())
        areas, boxes = (rle.area(rles), rle.box_xywh(rles)) if rles else ((), ())
        for code, area, box, label, score in zip(rles, areas, boxes, found.labels.tolist(), found.scores.tolist()):
            if area:
                row.label.append(label)
                row.score.append(score)
                row.area.append(int(area))
                row.bbox_xywh.append([int(side) for side in box])
                row.counts.append(code["counts"])
        if not row.label:
            row.status = "ok_empty"


def _target(folder: str, image_id: str, suffix: str) -> Path:
    path = safe_join(folder, image_id + suffix)
    make_folder(path.parent)
    return path
