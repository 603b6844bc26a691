"""``python -m wsis`` and the ``wsis`` command."""

from __future__ import annotations

import io
import os
import sys


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code (see :mod:`wsis.cli` for what each means)."""
    from wsis.cli import run_command

    _usable_streams()
    return run_command(sys.argv[1:] if argv is None else list(argv))


def _usable_streams() -> None:
    """Output that no text can break: closed streams (``>&-``) swallow it, and where the locale does not know a
    character, or a file name is no text, a question mark stands."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8", errors="replace")
            setattr(sys, name, nowhere)
        elif isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
