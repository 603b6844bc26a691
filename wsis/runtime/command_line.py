"""The command that made a run, as its log knows it."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from pathlib import Path

__all__ = ["called_as", "last_command"]


def called_as() -> str:
    """The command line of this process as one can type it again; empty if it was not started as ``wsis``."""
    path = Path(sys.argv[0])
    own = path.name == "wsis" or path.parts[-2:] == ("wsis", "__main__.py")
    return shlex.join(["wsis", *sys.argv[1:]]) if own else ""


def last_command(log: Path) -> str:
    """The command of the newest start in a run's log; empty where none is known."""
    command = ""
    with contextlib.suppress(OSError), open(log, encoding="utf-8", errors="replace") as file:
        for line in file:
            with contextlib.suppress(ValueError, AttributeError):
                command = str(json.loads(line).get("command") or command)
    return command
