"""Weakly-supervised instance segmentation: from image labels or points to instance masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "ops", "propagate_to_edge"]

if TYPE_CHECKING:
    from wsis import ops
    from wsis.ops.random_walk import propagate_to_edge


def __getattr__(name: str) -> Any:
    """``wsis.ops`` and ``wsis.propagate_to_edge`` load the compiled operators when first asked for."""
    if name == "ops":
        import importlib

        return importlib.import_module("wsis.ops")
    if name == "propagate_to_edge":
        from wsis.ops.random_walk import propagate_to_edge

        return propagate_to_edge
    raise AttributeError(f"module 'wsis' has no attribute {name!r}")
