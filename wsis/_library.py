"""Loads the compiled operators; there is no fall-back when they are missing or do not fit."""

from __future__ import annotations

from pathlib import Path

import torch  # noqa: F401  (its libraries must be in the process before ours)

__all__ = ["load"]

_MEND = (
    "Build them with\n"
    "    pip install --no-build-isolation .      (in a checkout, with torch installed)\n"
    "or, for work on the sources,\n"
    "    python setup.py build_ext --inplace\n"
    "`python -m wsis doctor` shows what is installed."
)


def load() -> None:
    """Register ``torch.ops.wsis.*``.

    Raises:
        ImportError: the library is missing, or was built for another torch or machine; the text names the
            cause and the command that mends it.
    """
    try:
        from wsis import _C  # noqa: F401
    except ImportError as error:
        if not any(Path(__file__).parent.glob("_C.*so")):
            message = f"wsis: the compiled operators (wsis/_C.abi3.so) are missing. {_MEND}"
        else:
            message = f"wsis: the compiled operators do not fit this torch or machine: {error}.\n{_MEND}"
        raise ImportError(message) from error
