"""What a long run shows while it works: a bar on a terminal, a line now and then elsewhere, a JSON line per
unit."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from wsis.profiling import span

__all__ = ["RunLog", "StageClock", "Watch", "say", "stage_shares"]

_PLAIN_SECONDS = 10.0


class StageClock:
    """Seconds spent in named stages, each a :func:`wsis.profiling.span`; threads may work at several at a time.

    Attributes:
        seconds: by stage.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, stage: str, seconds: float) -> None:
        with self._lock:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            with span(stage):
                yield
        finally:
            self.add(stage, time.perf_counter() - start)

    def shares(self) -> str:
        """See :func:`stage_shares`."""
        with self._lock:
            return stage_shares(dict(self.seconds))


def stage_shares(seconds: Mapping[str, float]) -> str:
    """``decode 12 %, nets 70 %, kernels 18 %``, of the seconds of work; waiting is no work and is named in
    seconds."""
    work = {stage: spent for stage, spent in seconds.items() if stage != "wait"}
    total = sum(work.values()) or 1.0
    parts = [f"{stage} {100 * spent / total:.0f} %" for stage, spent in work.items()]
    if "wait" in seconds:
        parts.append(f"nets waited {seconds['wait']:.1f} s")
    return ", ".join(parts)


class RunLog:
    """An append-only file of JSON lines for people and dashboards; a full disk does not stop the run.

    It is no part of a run's result: times differ from run to run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start = time.monotonic()
        self._broken = False

    def write(self, event: str, values: Mapping[str, Any]) -> None:
        if self._broken:
            return
        line = json.dumps({"event": event, "seconds": round(time.monotonic() - self._start, 3), **values})
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            self._broken = True
            say(f"wsis: the log {self.path} cannot be written any more ({error.strerror}); the run goes on")


class Watch:
    """The progress display of a run over ``total`` images.

    Args:
        total: images of the run.
        done: images that were done before.
        title: first word of the line.
        clock: whose shares are shown.
    """

    def __init__(self, total: int, done: int, title: str, clock: StageClock) -> None:
        self._clock = clock
        self._title = title
        self._total, self._done, self._first = total, done, done
        self._start = self._last = time.monotonic()
        self._console = Console(stderr=True)
        self._bar: Progress | None = None

    def __enter__(self) -> Watch:
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self._console,
            )
            self._task = self._bar.add_task(self._title, total=self._total, completed=self._done, note="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def rate(self) -> float:
        """Images a second since the display began."""
        return (self._done - self._first) / max(1e-9, time.monotonic() - self._start)

    def advance(self, images: int, instances: int | None, faults: int) -> None:
        """Show that ``images`` more are done; ``instances`` (None: none are made) and ``faults`` are totals."""
        self._done += images
        shares = self._clock.shares()
        made = "" if instances is None else f"{instances} instances, "
        note = f"{self.rate:.1f} images/s, {made}{faults} faults" + (f"; {shares}" if shares else "")
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, note=note)
            return
        now = time.monotonic()
        if now - self._last >= _PLAIN_SECONDS:
            self._last = now
            left = (self._total - self._done) / self.rate if self.rate else 0.0
            say(f"{self._title}: {self._done} of {self._total}, {note}; {left:.0f} s left")


def say(text: str) -> None:
    """A line for the user on standard error; a reader that has gone stops nothing."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (BrokenPipeError, OSError):
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
