"""Networks on disk: ``NAME.safetensors`` with the tensors and ``NAME.json`` with what they are; never pickle.

The JSON holds format, kind, backbone, class names and the sha256 of the tensor file; both are written by the
one writer, the tensors first. A file that does not verify is not loaded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from wsis.data.artifacts import file_sha256, make_folder, write_bytes, write_json
from wsis.data.categories import Categories
from wsis.errors import ConfigError, system_fault
from wsis.models import (
    CamNet,
    CenterOffsetNet,
    IRNet,
    PeakNet,
    build_backbone,
    build_center_offset_net,
    build_peak_net,
    checked_state,
)
from wsis.models.detector import Detector

__all__ = ["NETWORK_FORMAT", "load_network", "network_problem", "read_meta", "save_network", "save_tensors"]

NETWORK_FORMAT = 1
KINDS = ("cam_net", "irnet", "peak_net", "center_offset_net", "detector")
_WITH_CLASSES = ("cam_net", "peak_net", "center_offset_net", "detector")

Network = CamNet | IRNet | PeakNet | CenterOffsetNet | Detector


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a safetensors file through the one writer and return its sha256."""
    dense = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    write_bytes(path, save(dense, metadata={"format": "pt"}))
    return file_sha256(path)


def save_network(path: str | os.PathLike[str], net: nn.Module, meta: Mapping[str, Any]) -> Path:
    """Write a network; the file ending is always ``.safetensors``.

    Args:
        path: target; its folder is made if missing.
        net: a network of ``wsis.models``.
        meta: JSON-like; must name ``backbone``, and ``categories`` (list of class names) unless it is an IRNet.
            Anything else (config, figures) is kept with it.

    Returns:
        The path of the tensor file.
    """
    path = Path(path).with_suffix(".safetensors")
    make_folder(path.parent)
    if "backbone" not in meta:
        raise ValueError("save_network: meta must name the backbone")
    if net.kind in _WITH_CLASSES and len(meta.get("categories", ())) != net.num_classes:
        raise ValueError(f"save_network: meta must name {net.num_classes} categories")
    sha256 = save_tensors(path, net.state_dict())
    fixed = {"format": NETWORK_FORMAT, "kind": net.kind, "file": path.name, "sha256": sha256}
    if isinstance(net, PeakNet):
        fixed |= {"alpha": net.alpha, "width": net.width}
    if isinstance(net, Detector):
        fixed |= {"detector": net.spec}
    write_json(path.with_suffix(".json"), {**meta, **fixed})
    return path


def read_meta(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON beside a network, checked for format and kind; ``ConfigError`` with what was found."""
    weights = Path(path).with_suffix(".safetensors")
    if Path(path).suffix in (".pth", ".pt", ".ckpt", ".pkl"):
        raise ConfigError(
            f"checkpoint: {path} may hold code and is not loaded as a network;"
            " expected NAME.safetensors beside NAME.json"
        )
    file = weights.with_suffix(".json")
    for needed in (weights, file):
        if not needed.is_file():
            what = "is a folder" if needed.is_dir() else "does not exist"
            raise ConfigError(f"checkpoint: {needed} {what} (the current folder is {os.getcwd()})")
    try:
        meta = json.loads(file.read_bytes())
    except OSError as error:
        raise system_fault(error, "reading", file) from error
    except ValueError as error:
        raise ConfigError(f"checkpoint: {file} is damaged: {error}") from error
    if not isinstance(meta, dict) or not {"format", "kind", "sha256", "backbone"} <= set(meta):
        raise ConfigError(f"checkpoint: {file} does not describe a network (format, kind, sha256, backbone)")
    if meta["format"] != NETWORK_FORMAT:
        raise ConfigError(
            f"checkpoint: {file} has format {meta['format']}, this version reads {NETWORK_FORMAT}; update wsis"
        )
    if meta["kind"] not in KINDS:
        raise ConfigError(f"checkpoint: {file} holds a {meta['kind']!r}, expected one of {', '.join(KINDS)}")
    return meta


def network_problem(
    path: str | os.PathLike[str],
    kind: str,
    backbone: str | None = None,
    categories: Categories | None = None,
) -> str | None:
    """Why the network at ``path`` cannot be used for this, or ``None``; reads only the JSON."""
    try:
        meta = read_meta(path)
    except ConfigError as error:
        return str(error)
    if meta["kind"] != kind:
        return f"checkpoint: {path} holds a {meta['kind']}, expected a {kind}"
    if backbone is not None and meta["backbone"] != backbone:
        return f"checkpoint: {path} has backbone {meta['backbone']}, expected {backbone}"
    if categories is not None and kind in _WITH_CLASSES:
        got, want = list(meta.get("categories", ())), list(categories.names)
        if len(got) != len(want):
            return f"checkpoint: {path} has {len(got)} classes, the data has {len(want)}"
        if got != want:
            index = next(i for i, (a, b) in enumerate(zip(got, want)) if a != b)
            return f"checkpoint: {path}: class {index} is {got[index]!r}, in the data it is {want[index]!r}"
    return None


def load_network(
    path: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    *,
    kind: str | None = None,
    categories: Categories | None = None,
) -> Network:
    """The network at ``path``, in eval mode on ``device``, after its sha256, keys, shapes and values were
    checked.

    Args:
        path: the tensor file, the JSON beside it, or their common name.
        device: where to put it; where it was trained does not matter.
        kind: ``cam_net``, ``irnet``, ``peak_net``, ``center_offset_net`` or ``detector`` where only one will do.
        categories: classes that a classifier must have.

    Raises:
        ConfigError: missing, truncated, changed, of another kind, version, backbone or class list, or with
            values that are not finite.
    """
    path = Path(path)
    meta = read_meta(path)
    problem = network_problem(path, kind or meta["kind"], categories=categories)
    if problem:
        raise ConfigError(problem)
    weights = path.with_suffix(".safetensors")
    state = read_verified(weights, meta["sha256"])
    net = _build(meta)
    net.load_state_dict(checked_state(state, net.state_dict(), str(weights)))
    return net.to(device).eval()


def _build(meta: Mapping[str, Any]) -> Network:
    """The network that the JSON describes, with random weights."""
    name, classes = meta["backbone"], len(meta.get("categories", ()))
    if meta["kind"] == "irnet":
        return IRNet(build_backbone(name))
    if meta["kind"] == "cam_net":
        return CamNet(build_backbone(name), classes)
    if meta["kind"] == "detector":
        return Detector(name, **meta["detector"])
    if meta["kind"] == "peak_net":
        return build_peak_net(name, classes, meta["alpha"], meta["width"])
    return build_center_offset_net(name, classes)


def read_verified(path: Path, sha256: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file whose content has the given sha256; ``ConfigError`` naming both if
    not.
    """
    got = file_sha256(path)
    if got != sha256:
        raise ConfigError(
            f"checkpoint: {path} was changed or cut short: sha256 is {got}, expected {sha256}"
            f" ({path.stat().st_size} bytes on disk); take the one before it or train again"
        )
    try:
        return load(path.read_bytes())
    except SafetensorError as error:
        raise ConfigError(f"checkpoint: {path} is not a safetensors file: {error}") from error
    except OSError as error:
        raise system_fault(error, "reading", path) from error
