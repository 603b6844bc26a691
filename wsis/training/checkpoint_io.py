"""Training state on disk: any tree of tensors and plain values as safetensors + JSON, through the one
writer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import CheckpointIO
from torch import Tensor

from wsis.data.artifacts import make_folder, write_json
from wsis.errors import ConfigError

from .checkpoint import read_verified, save_tensors

__all__ = ["STATE_FORMAT", "SafetensorsIO", "newest_state", "prune_states", "read_state", "state_path"]

STATE_FORMAT = 1
_STATE = re.compile(r"^step-(\d{8})\.json$")


class SafetensorsIO(CheckpointIO):
    """Lightning plugin that keeps its checkpoints as ``NAME.safetensors`` + ``NAME.json``: whole or not
    there.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write ``checkpoint``; every leaf must be a tensor or a plain value."""
        path = Path(path).with_suffix(".safetensors")
        make_folder(path.parent)
        tensors: dict[str, Tensor] = {}
        tree = _encode(checkpoint, tensors, "")
        sha256 = save_tensors(path, tensors)
        write_json(path.with_suffix(".json"), {"format": STATE_FORMAT, "sha256": sha256, "tree": tree})

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: Any = None) -> dict[str, Any]:
        """Read what ``save_checkpoint`` wrote; ``ConfigError`` if it does not verify."""
        state = read_state(Path(path))
        return torch.utils._pytree.tree_map_only(Tensor, lambda t: t.to(_device(map_location)), state)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove both files."""
        for suffix in (".json", ".safetensors"):
            Path(path).with_suffix(suffix).unlink(missing_ok=True)


def _device(map_location: Any) -> Any:
    return map_location if isinstance(map_location, (str, torch.device)) else "cpu"


def _encode(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    """JSON for ``value``; tensors go to ``tensors`` under the path that leads to them."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"!": "tensor", "name": name}
    if isinstance(value, Mapping):
        items = [[_encode(k, {}, ""), _encode(v, tensors, f"{name}/{k}")] for k, v in value.items()]
        return {"!": "dict", "items": items}
    if isinstance(value, (list, tuple)):
        items = [_encode(v, tensors, f"{name}/{i}") for i, v in enumerate(value)]
        return {"!": type(value).__name__ if type(value) in (list, tuple) else "tuple", "items": items}
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return {"!": "float", "hex": value.hex()}
    raise TypeError(f"SafetensorsIO: {name} is a {type(value).__name__}, expected tensors and plain values")


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    kind = value["!"]
    if kind == "tensor":
        return tensors[value["name"]]
    if kind == "float":
        return float.fromhex(value["hex"])
    if kind == "dict":
        return {_decode(k, tensors): _decode(v, tensors) for k, v in value["items"]}
    items = [_decode(item, tensors) for item in value["items"]]
    return items if kind == "list" else tuple(items)


def state_path(folder: Path, step: int) -> Path:
    """The tensor file of the state after ``step`` steps."""
    return folder / f"step-{step:08d}.safetensors"


def read_state(path: Path) -> dict[str, Any]:
    """A checkpoint's tree; ``ConfigError`` if it is missing, damaged, changed or of a newer format."""
    file = path.with_suffix(".json")
    if not file.is_file():
        raise ConfigError(f"checkpoint: {file} does not exist")
    try:
        meta = json.loads(file.read_bytes())
        version, sha256, tree = meta["format"], meta["sha256"], meta["tree"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"checkpoint: {file} is damaged: {error!r}") from error
    if version != STATE_FORMAT:
        raise ConfigError(f"checkpoint: {file} has format {version}, this version reads {STATE_FORMAT}")
    weights = path.with_suffix(".safetensors")
    if not weights.is_file():
        raise ConfigError(f"checkpoint: {weights} does not exist")
    try:
        return _decode(tree, read_verified(weights, sha256))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"checkpoint: {file} is damaged: {error!r}") from error


def newest_state(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest checkpoint in ``folder`` that verifies, or ``None``, and what is wrong with the newer
    ones.
    """
    rejected: list[str] = []
    names = sorted((p.name for p in folder.glob("step-*.json") if _STATE.match(p.name)), reverse=True)
    for name in names:
        try:
            return read_state(folder / name), rejected
        except ConfigError as error:
            rejected.append(str(error))
    return None, rejected


def prune_states(folder: Path, keep: int) -> None:
    """Remove all but the ``keep`` newest checkpoints."""
    names = sorted(p for p in folder.glob("step-*.json") if _STATE.match(p.name))
    for file in names[:-keep]:
        SafetensorsIO().remove_checkpoint(file)
