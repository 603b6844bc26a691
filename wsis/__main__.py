"""``python -m wsis`` and the ``wsis`` command."""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code (see :mod:`wsis.cli` for what each means)."""
    from wsis.cli import run_command

    return run_command(sys.argv[1:] if argv is None else list(argv))


if __name__ == "__main__":
    sys.exit(main())
