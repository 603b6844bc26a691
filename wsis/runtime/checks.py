"""What every step looks at that takes the images of a data set through networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.data.image_set import ImageSet
from wsis.errors import Problems
from wsis.training.checkpoint import network_problem

__all__ = ["open_inputs"]


def open_inputs(
    config: Any, problems: Problems, nets: Mapping[str, str], outputs: Sequence[str] = ("out",)
) -> ImageSet | None:
    """The images of a step's configuration; what is wrong goes to ``problems``.

    Args:
        config: with ``data``, ``out`` and the fields named below.
        problems: where to put them.
        nets: field that names a network to the kind that it must be of.
        outputs: fields that name folders to write into; empty ones, but for ``out``, are not used.
    """
    for name in ("out", *nets):
        if not getattr(config, name):
            problems.add(name, f"is empty; give --{name}=PATH")
    data = None
    with problems.collecting():
        data = open_data(config.data)
        if len(data) == 0:
            problems.add("data", "the list of images is empty")
    for name, kind in nets.items():
        categories = data.categories if data is not None and kind != "irnet" else None
        reason = network_problem(getattr(config, name), kind, categories=categories) if getattr(config, name) else None
        if reason:
            problems.add(name, reason)
    for name in outputs:
        clash = _overwrites(getattr(config, name), config.data)
        if clash:
            problems.add(name, f"{getattr(config, name)} is {clash}; give another folder, inputs are never overwritten")
    return data


def _overwrites(folder: str, data: DataConfig) -> str | None:
    """Which input folder an output folder would write into."""
    if not folder or not data.root:
        return None
    target, root = Path(folder).resolve(), Path(data.root).resolve()
    inputs = {
        "the data folder": root,
        "the folder of the pictures": root / "JPEGImages",
        "the folder of the class masks": root / data.semantic_folder,
        "the folder of the instance masks": root / data.instance_folder,
    }
    return next((name for name, path in inputs.items() if target == path.resolve()), None)
