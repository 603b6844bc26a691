"""A job that makes one file per image: what is there and verified is kept, the rest is made in batches, what cannot
be used is recorded, and the same call takes up a job that was stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsis.data.artifacts import file_sha256, make_folder, safe_join, write_bytes
from wsis.data.image_set import ImageSet
from wsis.data.run_folder import Journal
from wsis.errors import Code, DataFault, ExitCode
from wsis.runtime.decode import Decoded, group_by_size, read_ahead
from wsis.runtime.faults import FaultCount
from wsis.runtime.inputs import FrozenInputs
from wsis.runtime.progress import StageClock, Watch, say
from wsis.runtime.stop import StopRequest

__all__ = ["FilesResult", "make_files"]


@dataclass(frozen=True)
class FilesResult:
    """How it ended.

    Attributes:
        out: folder of the files.
        what: their name in the plural.
        images: of the data set; made: now; kept: there before and verified; skipped: could not be used.
        reasons: skipped images by code.
        seconds: by stage, of this call.
        exit_code: of the command.
    """

    out: Path
    what: str
    images: int
    made: int
    kept: int
    skipped: int
    reasons: dict[str, int]
    seconds: dict[str, float]
    exit_code: int

    def summary(self) -> str:
        parts = ", ".join(f"{name} {spent:.1f} s" for name, spent in self.seconds.items())
        counts = f"{self.made} {self.what} made, {self.kept} kept, {self.skipped} skipped"
        text = f"{self.images} images: {counts}; {parts}"
        reasons = "".join(f"\n  {code}  {count}" for code, count in sorted(self.reasons.items()))
        return f"{text}\nin {self.out}{reasons}"


def make_files(
    folder: Path,
    inputs: FrozenInputs,
    make: Callable[[list[Decoded[np.ndarray]]], Sequence[bytes | DataFault]],
    *,
    suffix: str,
    title: str,
    what: str,
    clock: StageClock,
    batch_size: int,
    workers: int,
    max_faults: int | None,
    verify: str,
) -> FilesResult:
    """Make ``folder/<id><suffix>`` for every image.

    Args:
        folder: of an open run.
        inputs: the frozen input list.
        make: pictures of one size to the contents of their files, or to faults.
        suffix: of the files.
        title: of the command, what: name of the files in the plural, for the console.
        clock: stages ``decode`` and ``write`` and those of ``make``.
        batch_size, workers, max_faults: see the steps' configurations.
        verify: how files that are there are checked, ``hash`` or ``size``.
    """
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(Journal(folder / "journal.jsonl"))
        kept = _verified(folder, journal, inputs.data, suffix, verify)
        if kept:
            say(f"{title}: {len(kept)} of {len(inputs.data)} {what} are there and verified")
        job = _Job(folder, inputs, journal, suffix, clock, FaultCount(max_faults))
        job.faults.add(len(kept), {})
        todo = [index for index, image_id in enumerate(inputs.data.ids) if image_id not in kept]
        stop = stack.enter_context(StopRequest())
        watch = stack.enter_context(Watch(len(inputs.data), len(kept), title, clock))
        pictures = stack.enter_context(
            contextlib.closing(read_ahead(job.load, todo, workers, batch_size + 2 * workers))
        )
        for group in group_by_size(job.good(pictures), batch_size):
            job.write(group, make(group))
            watch.advance(len(group), None, job.faults.total)
            if stop.asked or job.faults.too_many:
                break
    faults, total = job.faults, len(inputs.data)
    code = faults.exit_code()
    if len(kept) + job.made + faults.total < total and code != ExitCode.TOO_MANY_FAULTS:
        code = ExitCode.STOPPED
    seconds = {name: round(spent, 3) for name, spent in clock.seconds.items()}
    reasons = dict(sorted(faults.reasons.items()))
    return FilesResult(folder, what, total, job.made, len(kept), faults.total, reasons, seconds, int(code))


@dataclass
class _Job:
    """Reads, writes and records."""

    folder: Path
    inputs: FrozenInputs
    journal: Journal
    suffix: str
    clock: StageClock
    faults: FaultCount
    made: int = 0

    def load(self, index: int) -> np.ndarray:
        if self.inputs.record(index).labels is None:
            raise DataFault(Code.E_LABEL, self.inputs.record(index).id, "read", "has no entry in the tag file")
        return self.inputs.load_image(index)

    def good(self, pictures: Iterator[Decoded[np.ndarray]]) -> Iterator[Decoded[np.ndarray]]:
        while True:
            with self.clock("decode"):
                picture = next(pictures, None)
            if picture is None or self.faults.too_many:
                return
            if picture.fault is None:
                yield picture
            else:
                self._skip(picture.fault)

    def write(self, group: list[Decoded[np.ndarray]], contents: Sequence[bytes | DataFault]) -> None:
        with self.clock("write"):
            for picture, content in zip(group, contents):
                if isinstance(content, DataFault):
                    self._skip(content)
                    continue
                image_id = self.inputs.record(picture.index).id
                path = safe_join(self.folder, image_id + self.suffix)
                make_folder(path.parent)
                write_bytes(path, content)
                self.journal.append({"id": image_id, "size": len(content), "sha256": file_sha256(path)})
                self.made += 1
                self.faults.add(1, {})

    def _skip(self, fault: DataFault) -> None:
        self.faults.add(1, {fault.code.value: 1})
        self.journal.append(fault.to_row())


def _verified(folder: Path, journal: Journal, data: ImageSet, suffix: str, how: str) -> set[str]:
    """Ids whose file is what the journal says; those that failed are tried again."""
    entries: dict[str, dict[str, Any]] = {row["id"]: row for row in journal}
    kept = set()
    for image_id in data.ids:
        entry = entries.get(image_id)
        if entry is None or "sha256" not in entry:
            continue
        path = safe_join(folder, image_id + suffix)
        fine = path.is_file() and path.stat().st_size == entry["size"]
        if fine and (how == "size" or file_sha256(path) == entry["sha256"]):
            kept.add(image_id)
        else:
            say(f"wsis: {path.name} is missing or is not what was written; it is made again")
    return kept
