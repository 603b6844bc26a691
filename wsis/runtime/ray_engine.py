"""Units done by Ray actors, one for each GPU or CPU slot of this machine or of a cluster.

Actors label and write the shards themselves, so that all of them need the data and the run's folder under the same
path; the driver hands out units and keeps the journal. An actor that dies, with its node or alone, is replaced and
its unit done again; a shard that it had finished is found and kept.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsis.errors import ConfigError, SystemFault
from wsis.runtime.inputs import Unit
from wsis.runtime.label_units import LabelUnits
from wsis.runtime.ledger import ShardEntry
from wsis.runtime.local_engine import LocalEngine
from wsis.runtime.progress import RunLog, StageClock, say

__all__ = ["RayEngine", "RaySettings", "ray_problem"]

_AHEAD = 2
_DEATHS = 3
_LOOK_SECONDS = 10.0
_WAIT_SECONDS = 0.2
_STORE_BYTES = 80 << 20

BuildUnits = Callable[[StageClock, Any], LabelUnits]


@dataclass(frozen=True)
class RaySettings:
    """Where the actors live.

    Attributes:
        address: of a cluster; empty = one is started on this machine and ends with the run.
        processes: actors; 0 = one for each GPU, or for each CPU where no GPU is used.
        gpu: every actor has a GPU.
    """

    address: str = ""
    processes: int = 0
    gpu: bool = False


def ray_problem(settings: RaySettings) -> str | None:
    """Why Ray cannot be used as asked, or None."""
    if importlib.util.find_spec("ray") is None:
        return "ray is not installed; pip install 'wsis[ray]'"
    if settings.address and not _has_token(os.environ):
        return (
            "the address of a Ray cluster was given but no token: set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH (or put "
            "it into ~/.ray/auth_token) to that of the cluster, which must run with RAY_AUTH_MODE=token"
        )
    return None


class RayEngine:
    """Labels units in Ray actors.

    Args:
        build: makes what labels units; it is pickled and called once in every actor.
        run: folder of the run.
        fingerprint: of the run.
        settings: where the actors live.
        clock: gets the stages of all actors, added up.
        log: gets what the actors have to tell.
    """

    def __init__(
        self, build: BuildUnits, run: Path, fingerprint: str, settings: RaySettings, clock: StageClock, log: RunLog
    ) -> None:
        self.make = (build, Path(run).resolve(), fingerprint)
        self.settings, self.clock, self.log = settings, clock, log

    def run(
        self, units: Sequence[Unit], stopping: Callable[[], bool], overdue: Callable[[], bool]
    ) -> Iterator[tuple[Unit, ShardEntry | None]]:
        """See :class:`wsis.runtime.job.Engine`."""
        if not units:
            return
        with _cluster(self.settings) as ray:
            crew = _Crew(ray, self.make, self.settings, len(units))
            waiting = deque(units)
            while (waiting and not stopping()) or crew.calls:
                if overdue():
                    return
                crew.fill()
                crew.hand_out(waiting if not stopping() else None)
                for unit, answer in crew.answers(waiting):
                    for stage, seconds in answer["seconds"].items():
                        self.clock.add(stage, seconds)
                    for event, values in answer["notes"]:
                        self.log.write(event, values)
                    if answer["fault"]:
                        raise SystemFault(answer["fault"])
                    yield unit, ShardEntry(**answer["entry"]) if answer["entry"] else None
                for text in crew.news():
                    say(f"label: {text}")
                    self.log.write("worker", {"text": text})


@dataclass
class _Hand:
    """One actor: its handle, whether it has said that it is ready, and the calls it has not answered, in order."""

    actor: Any
    hello: Any
    ready: bool = False
    calls: list[Any] = field(default_factory=list)


class _Crew:
    """The actors and the calls that are under way.

    Attributes:
        calls: unanswered calls and their units.
    """

    def __init__(self, ray: Any, make: tuple, settings: RaySettings, units: int) -> None:
        self.ray, self.make, self.settings, self.units = ray, make, settings, units
        resources = {"num_gpus": 1, "num_cpus": 1} if settings.gpu else {"num_cpus": 1}
        self.kind = ray.remote(max_restarts=0, max_task_retries=0, **resources)(_Worker)
        self.hands: list[_Hand] = []
        self.calls: dict[Any, tuple[_Hand, Unit]] = {}
        self.deaths: Counter[int | None] = Counter()
        self._news: list[str] = []
        self._looked = -_LOOK_SECONDS

    def news(self) -> list[str]:
        """What a user should know, once."""
        told, self._news = self._news, []
        return told

    def fill(self) -> None:
        """As many actors as are wanted or as the cluster has room for, looked up now and then: nodes come and go."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        room = self.settings.processes
        if not room:
            room = int(self.ray.cluster_resources().get("GPU" if self.settings.gpu else "CPU", 0))
            if not room and not self.hands:
                self._news.append(f"the cluster has no {'GPU' if self.settings.gpu else 'CPU'} yet; waiting for one")
        while len(self.hands) < min(room, self.units):
            self._hire()

    def hand_out(self, waiting: deque[Unit] | None) -> None:
        """Give units to the actors that are ready; without any, take back what they have not begun."""
        if waiting is None:
            for hand in self.hands:
                for call in hand.calls[1:]:
                    self.ray.cancel(call)
            return
        for depth in range(1, _AHEAD + 1):
            for hand in self.hands:
                if waiting and hand.ready and len(hand.calls) < depth:
                    unit = waiting.popleft()
                    call = hand.actor.do.remote(unit)
                    hand.calls.append(call)
                    self.calls[call] = (hand, unit)

    def answers(self, waiting: deque[Unit]) -> Iterator[tuple[Unit, Mapping[str, Any]]]:
        """What has been answered; the units of actors that died go back to ``waiting``."""
        hellos = {hand.hello: hand for hand in self.hands if not hand.ready}
        refs = [*self.calls, *hellos]
        if not refs:
            time.sleep(_WAIT_SECONDS)
            return
        done, _ = self.ray.wait(refs, num_returns=len(refs), timeout=_WAIT_SECONDS)
        for ref in done:
            hand, unit = self.calls.pop(ref, (hellos.get(ref), None))
            first = bool(hand.calls) and hand.calls[0] == ref
            if unit is not None:
                hand.calls.remove(ref)
            try:
                answer = self.ray.get(ref)
            except self.ray.exceptions.TaskCancelledError:
                continue
            except (self.ray.exceptions.RayActorError, self.ray.exceptions.WorkerCrashedError) as error:
                self._buried(hand, unit, first, error, waiting)
                continue
            if unit is None:
                hand.ready = True
            else:
                yield unit, answer

    def _hire(self) -> None:
        actor = self.kind.remote(*self.make)
        self.hands.append(_Hand(actor, actor.hello.remote()))

    def _buried(self, hand: _Hand, unit: Unit | None, first: bool, error: Exception, waiting: deque[Unit]) -> None:
        """Replace an actor that died and do its unit again."""
        if unit is not None:
            waiting.appendleft(unit)
        if hand in self.hands:
            self.hands.remove(hand)
            if first:
                key, what = unit.number, f"its unit {unit.number} is done again"
            else:
                key, what = None, "it had not begun"
            self.deaths[key] += 1
            self._news.append(f"a worker died; {what}")
            if self.deaths[key] >= _DEATHS and (first or not any(other.ready for other in self.hands)):
                doing = f"unit {unit.number}" if first else "its start"
                reason = str(error).strip().splitlines()[0]
                raise SystemFault(f"a worker died {self.deaths[key]} times at {doing}: {reason}")
            self._hire()


class _Worker:
    """The actor."""

    def __init__(self, build: BuildUnits, run: Path, fingerprint: str) -> None:
        self.clock, self.notes = StageClock(), _Notes()
        self.engine = LocalEngine(run, fingerprint, build(self.clock, self.notes), self.clock)

    def hello(self) -> None:
        """Answered when the nets are loaded."""

    def do(self, unit: Unit) -> dict[str, Any]:
        """Label one unit; what the machine did wrong is told, not raised."""
        before = dict(self.clock.seconds)
        entry, fault = None, ""
        try:
            for _, made in self.engine.run([unit], lambda: False, lambda: False):
                entry = made
        except SystemFault as error:
            fault = str(error)
        seconds = {name: spent - before.get(name, 0.0) for name, spent in self.clock.seconds.items()}
        return {
            "entry": entry.to_json() if entry else None,
            "fault": fault,
            "seconds": seconds,
            "notes": self.notes.take(),
        }


class _Notes:
    """A log that is carried to the driver."""

    def __init__(self) -> None:
        self._lines: list[tuple[str, dict[str, Any]]] = []

    def write(self, event: str, values: Mapping[str, Any]) -> None:
        self._lines.append((event, dict(values)))

    def take(self) -> list[tuple[str, dict[str, Any]]]:
        lines, self._lines = self._lines, []
        return lines


@contextlib.contextmanager
def _cluster(settings: RaySettings) -> Iterator[Any]:
    """Ray, connected; only who knows the token gets in, and a cluster of our own listens on this machine only."""
    if "ray" in sys.modules and os.environ.get("RAY_AUTH_MODE") != "token":
        raise ConfigError("engine: ray was imported by this program without RAY_AUTH_MODE=token; set it before")
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")
    if not settings.address:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if settings.address:
        options["address"] = settings.address
    else:
        options |= {
            "address": "local",
            "num_cpus": settings.processes or len(os.sched_getaffinity(0)),
            "include_dashboard": False,
            "object_store_memory": _STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
        }
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = settings.address or "this machine"
        raise ConfigError(f"address: Ray on {where} does not answer: {str(error).strip()}") from error
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)
    try:
        yield ray
    finally:
        ray.shutdown()


def _has_token(environment: Mapping[str, str]) -> bool:
    named = any(environment.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or (Path.home() / ".ray" / "auth_token").is_file()
