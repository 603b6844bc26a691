"""Backbones by name, and their published weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from wsis.errors import ConfigError, Problems, did_you_mean

from .backbone import Backbone
from .fetch import IMAGENET, fetch
from .mobilenet import MobileNetV2
from .resnet import ResNet50
from .tiny import Tiny

__all__ = ["BACKBONES", "backbone_problem", "build_backbone", "checked_state", "read_weights"]

BACKBONES = ("resnet50", "mobilenet_v2", "mobilenet_v2_dilated", "tiny")
_CLASSES = {
    "resnet50": ResNet50,
    "mobilenet_v2": MobileNetV2,
    "mobilenet_v2_dilated": partial(MobileNetV2, dilated=True),
    "tiny": Tiny,
}
_CLASSIFIERS = ("fc.", "classifier.")


def backbone_problem(name: str) -> str | None:
    """Why ``name`` is no backbone, or ``None`` if it is one; builds nothing."""
    if name in _CLASSES or (name.startswith("timm:") and len(name) > 5):
        return None
    return f"got {name!r}, expected one of {', '.join(BACKBONES)} or timm:NAME ({did_you_mean(name, BACKBONES)})"


def build_backbone(name: str, weights: str | os.PathLike[str] | None = None) -> Backbone:
    """A backbone with five taps.

    Args:
        name: ``resnet50``, ``mobilenet_v2``, ``mobilenet_v2_dilated``, ``tiny`` or ``timm:NAME`` for any
            feature network of timm.
        weights: a ``.safetensors`` or ``.pth`` file with a state dict in the layout of torchvision (or timm);
            the classifier's keys are left out, every other key must match. ``"imagenet"`` fetches
            torchvision's first weights for ``resnet50`` (see :mod:`wsis.models.fetch`). ``None`` leaves random
            weights.

    Raises:
        ConfigError: unknown name, or a weight file that is missing, damaged or does not fit; every differing
            key is named.
    """
    problem = backbone_problem(name)
    if problem:
        raise ConfigError(f"backbone: {problem}")
    if name.startswith("timm:"):
        from .timm_backbone import TimmBackbone

        backbone: Backbone = TimmBackbone(name[5:])
    else:
        backbone = _CLASSES[name]()
    if weights is not None and str(weights):
        target = backbone.model if name.startswith("timm:") else backbone
        state = read_weights(fetch(name) if str(weights) == IMAGENET else weights)
        wanted = target.state_dict()
        state = {key: value for key, value in state.items() if not key.startswith(_CLASSIFIERS) or key in wanted}
        target.load_state_dict(checked_state(state, wanted, str(weights)))
    return backbone


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file, or of a ``.pth`` file read without executing anything in it.

    Raises:
        ConfigError: the file is missing, damaged, or holds anything but a flat mapping of names to dense
            tensors.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ConfigError(f"weights: {path} {what} (the current folder is {os.getcwd()})")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ConfigError(f"weights: {path} is not a whole safetensors file: {error}") from error
    except Exception as error:
        raise ConfigError(
            f"weights: {path} was refused: only plain tensors are read, nothing is executed"
            f" ({type(error).__name__}: {str(error).splitlines()[0][:200]})"
        ) from error
    if isinstance(state, Mapping) and "state_dict" in state and isinstance(state["state_dict"], Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise ConfigError(f"weights: {path} holds a {type(state).__name__}, expected a mapping of names to tensors")
    return {key.removeprefix("module."): value for key, value in state.items()}


def checked_state(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """``state`` as dense tensors of the wanted dtypes, or ``ConfigError`` that lists every difference.

    ``num_batches_tracked`` may be absent. Refused: missing and unexpected keys, other shapes, sparse,
    quantised or non-floating values where floats are wanted, and values that are not finite.
    """
    problems = Problems()
    result = {}
    for key, want in wanted.items():
        got = state.get(key)
        if got is None:
            if key.endswith("num_batches_tracked"):
                result[key] = want
            else:
                problems.add(where, f"missing key {key} {list(want.shape)}")
        elif not isinstance(got, Tensor) or got.layout != torch.strided or got.is_quantized:
            problems.add(where, f"{key} is not a dense tensor")
        elif got.shape != want.shape:
            problems.add(where, f"{key} has shape {list(got.shape)}, expected {list(want.shape)}")
        elif got.is_floating_point() != want.is_floating_point():
            problems.add(where, f"{key} has dtype {got.dtype}, expected {want.dtype}")
        elif got.is_floating_point() and not bool(torch.isfinite(got).all()):
            problems.add(where, f"{key} holds values that are not finite")
        else:
            result[key] = got.to(want.dtype)
    for key in state:
        if key not in wanted:
            problems.add(where, f"unexpected key {key}")
    problems.raise_if_any()
    return result
