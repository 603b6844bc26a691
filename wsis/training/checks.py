"""What every training looks at before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsis.data.dataset import open_data
from wsis.data.image_set import ImageSet
from wsis.errors import Problems
from wsis.runtime.device import choose_device

from .checkpoint import network_problem

__all__ = ["open_training_data"]


def open_training_data(
    config: Any, problems: Problems, *, needed: Sequence[str] = ("out",), labels: bool = True
) -> ImageSet | None:
    """The training images of a step's configuration; what is wrong goes to ``problems``.

    Args:
        config: with ``data``, ``out``, ``weights``, ``optim`` and ``machine``; may have ``cam_weights``.
        problems: where to put them.
        needed: fields that must not be empty.
        labels: every image must have image labels.
    """
    for name in needed:
        if not getattr(config, name):
            problems.add(name, f"is empty; give --{name}=FOLDER")
    if config.weights and config.weights != "imagenet" and not Path(config.weights).is_file():
        problems.add("weights", f"{config.weights} does not exist (the current folder is {Path.cwd()})")
    classifier = getattr(config, "cam_weights", "")
    reason = network_problem(classifier, "cam_net", config.backbone) if classifier else None
    if reason:
        problems.add("cam_weights", reason)
    data = None
    with problems.collecting():
        choose_device(config.machine.device)
        data = open_data(config.data)
        if len(data) < config.optim.batch_size:
            text = f"got {config.optim.batch_size}, expected at most the number of training images, {len(data)}"
            problems.add("optim.batch_size", text)
        if labels:
            data.require_labels()
    return data
