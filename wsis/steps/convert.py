"""Read a checkpoint that IRNet's or BESTIE's authors published and write it as a network of this library.

    wsis convert res50_irn.pth --out=nets/irnet
    wsis convert res50_cam.pth.pth --out=nets/cam

Nothing in the file is executed: only plain tensors are read (``weights_only``), every name, shape and value is
checked, and the result is a safetensors file with a JSON that holds its sha256 and that of the original.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from wsis import __version__
from wsis.data.artifacts import file_sha256
from wsis.data.categories import COCO, VOC, Categories
from wsis.data.lists import read_classes
from wsis.errors import ConfigError, Problems, did_you_mean
from wsis.models import (
    PUBLISHED,
    CamNet,
    IRNet,
    bestie_state,
    build_backbone,
    build_center_offset_net,
    build_peak_net,
    checked_state,
    peak_state,
    published_kind,
    published_state,
    read_weights,
)
from wsis.training.checkpoint import load_network, save_network

__all__ = ["Config", "Result", "run"]

_WRAPPERS = ("state_dict", "model", "model_state_dict", "net")


@dataclass(frozen=True)
class Config:
    """Which file, and what it becomes.

    Attributes:
        checkpoint: the published file.
        out: path of the result, without suffix; NAME.safetensors and NAME.json are written.
        kind: irnet_cam, irnet, bestie or pam; auto tells by the names in the file.
        classes: voc, coco, or a file with one class name per line, in the order of the network's outputs.
    """

    checkpoint: str = ""
    out: str = ""
    kind: str = "auto"
    classes: str = "voc"

    def __post_init__(self) -> None:
        problems = Problems()
        for name in ("checkpoint", "out"):
            if not getattr(self, name):
                problems.add(name, f"is empty; give --{name}=PATH")
        known = ("auto", *PUBLISHED)
        if self.kind not in known:
            problems.add("kind", f"got {self.kind!r}, expected {', '.join(known)}", did_you_mean(self.kind, known))
        problems.raise_if_any()


@dataclass(frozen=True)
class Result:
    """What was written.

    Attributes:
        network: the tensor file.
        kind: of the network here; architecture: what it stands on.
        parameters: numbers in it.
    """

    network: Path
    kind: str
    architecture: str
    parameters: int

    def summary(self) -> str:
        return f"{self.network}: {self.kind} on {self.architecture}, {self.parameters / 1e6:.1f} million parameters"


def run(config: Config) -> Result:
    """Convert one checkpoint.

    Raises:
        ConfigError: the file is missing, damaged, holds more than tensors, or differs from the published network in
            any name, shape or class count; every difference is listed.
    """
    categories = {"voc": VOC, "coco": COCO}.get(config.classes) or read_classes(config.classes)
    state = _unwrapped(read_weights(config.checkpoint), config.checkpoint)
    kind = published_kind(state) if config.kind == "auto" else config.kind
    architecture, net, renamed = _network(kind, state, categories)
    net.load_state_dict(checked_state(renamed, net.state_dict(), config.checkpoint))
    meta = {
        "backbone": architecture,
        "version": __version__,
        "converted": {
            "file": Path(config.checkpoint).name,
            "sha256": file_sha256(config.checkpoint),
            "published": kind,
        },
        **({} if kind == "irnet" else {"categories": list(categories.names)}),
    }
    path = save_network(_stem(config.out), net, meta)
    load_network(path, kind=net.kind)
    return Result(path, net.kind, architecture, sum(p.numel() for p in net.parameters()))


def _stem(out: str) -> Path:
    return Path(out + ".safetensors" if Path(out).suffix not in (".safetensors", ".json") else out)


def _unwrapped(state: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """The tensors themselves, where the file holds them beside an optimiser or a counter."""
    for name in _WRAPPERS:
        if isinstance(state.get(name), Mapping):
            state = state[name]
            break
    wrong = [key for key, value in state.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if wrong or not state:
        raise ConfigError(f"{where}: {wrong[0] if wrong else 'it'} is no tensor, expected a state dict")
    return {key.removeprefix("module."): value for key, value in state.items()}


def _network(kind: str, state: dict[str, Tensor], categories: Categories) -> tuple[str, Any, dict[str, Tensor]]:
    """Architecture, network with random weights, and the state under its names."""
    if kind in ("irnet", "irnet_cam"):
        backbone = build_backbone("resnet50")
        net = IRNet(backbone) if kind == "irnet" else CamNet(backbone, len(categories))
        renamed = published_state(state)
        if kind == "irnet":
            renamed.pop("classifier.weight", None)
        return "resnet50", net, renamed
    if kind == "pam":
        return "vgg16", build_peak_net("vgg16", len(categories)), peak_state(state)
    first = state.get("stage2.0.branches.0.0.conv1.weight")
    width = first.shape[0] if isinstance(first, Tensor) and first.dim() == 4 else 48
    if width not in (32, 48):
        raise ConfigError(f"checkpoint: its finest branch has {width} channels, expected HRNet of 32 or 48")
    name = f"hrnet_w{width}"
    return name, build_center_offset_net(name, len(categories)), bestie_state(state)
