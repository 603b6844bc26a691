"""Asking a run to stop: the first signal lets it finish its unit if that does not take long, else drops it; the
second ends the run at once."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

__all__ = ["StopRequest"]

_GRACE = 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Catches SIGINT, SIGTERM and SIGHUP while it is entered; does nothing outside the main thread. A SIGHUP that is
    ignored, as under ``nohup``, stays so.

    Attributes:
        asked: whether a signal has come.
    """

    def __init__(self, grace: float = _GRACE) -> None:
        self.asked = False
        self.grace = grace
        self._since = 0.0
        self._before: dict[int, Any] = {}

    @property
    def overdue(self) -> bool:
        """Whether what was in hand when the signal came has had its ``grace`` seconds: batch systems kill soon
        after they have asked."""
        return self.asked and time.monotonic() - self._since > self.grace

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._caught)
        return self

    def catch_again(self) -> None:
        """Put the handlers back where another library has put its own in their place since."""
        for number in self._before:
            signal.signal(number, self._caught)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _caught(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked, self._since = True, time.monotonic()
