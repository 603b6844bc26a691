"""Names of the tensors in published checkpoints, and how they become ours.

IRNet, ``res50_cam.pth.pth`` and ``res50_irn.pth``:

=============================================  ==========================================
published                                      here
=============================================  ==========================================
``resnet50.conv1.weight`` (and all below it)   ``backbone.conv1.weight``
``classifier.weight``                          ``classifier.weight``
``fc_edge1.0.weight`` .. ``fc_edge6.bias``     the same
``fc_dp1.0.weight`` .. ``fc_dp7.3.weight``     the same
``mean_shift.running_mean``                    the same
=============================================  ==========================================

The published files hold each tensor several times, once for every module list it was put in (``stage1`` ..
``stage5``, ``backbone.0`` .., ``newly_added``, ``edge_layers``, ``dp_layers``, ``fc_dp7.4``): the copies are
dropped after it is checked that they agree.

BESTIE on HRNet-W48 or W32, ``*.pt``:

=============================================  ==========================================
``conv1.weight`` .. ``stage4.2...``            ``body.`` before the same
``seg.0.weight`` .. ``seg.2.bias``             ``semantic.0.weight`` ..
``center.0.weight`` .. ``center.2.bias``       the same
``offset.0.weight`` .. ``offset.2.bias``       the same
=============================================  ==========================================

BESTIE's peak attention module on VGG-16, ``*.pth``:

=============================================  ==========================================
``features.0.weight`` .. ``features.28.bias``  ``backbone.`` before the same
``layer1_conv1.weight`` .. ``layer5_conv3``    copies of these, which must agree
``extra_conv1``, ``2``, ``3``                  ``extra.0``, ``extra.2``, ``extra.4``
``extra_conv4``                                ``classifier``
=============================================  ==========================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from wsis.errors import ConfigError

__all__ = ["PUBLISHED", "bestie_state", "peak_state", "published_kind", "published_state"]

PUBLISHED = ("irnet_cam", "irnet", "bestie", "pam")

_COPIES = re.compile(r"^(stage[1-5]\.|backbone\.\d+\.|newly_added\.|edge_layers\.|dp_layers\.|fc_dp7\.4\.)")
_RESNET = "resnet50."
_VGG_COPIES = dict(
    zip(
        (f"layer{block}_conv{k}" for block, count in enumerate((2, 2, 3, 3, 3), 1) for k in range(1, count + 1)),
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    )
)


def published_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a published classifier or IRNet under this library's keys.

    Args:
        state: names and tensors as published; a ``module.`` prefix is stripped.

    Returns:
        A state for ``CamNet(ResNet50(), C)`` or ``IRNet(ResNet50())``; strict loading decides whether it is
        whole.

    Raises:
        ConfigError: a copy of ``mean_shift`` or ``classifier`` differs from its original, or no key is known.
    """
    stripped = {key.removeprefix("module."): value for key, value in state.items()}
    result = {}
    for key, value in stripped.items():
        if _COPIES.match(key):
            continue
        result[key.replace(_RESNET, "backbone.", 1) if key.startswith(_RESNET) else key] = value
    copies = {"fc_dp7.4.running_mean": "mean_shift.running_mean", "newly_added.0.weight": "classifier.weight"}
    for copy, original in copies.items():
        both = copy in stripped and original in stripped
        if both and not torch.equal(stripped[copy], stripped[original]):
            raise ConfigError(f"checkpoint: {copy} and {original} differ, expected two names of one tensor")
    if not any(key.startswith("backbone.") for key in result):
        raise ConfigError("checkpoint: no key begins with resnet50.; this is not a published IRNet checkpoint")
    return result


def bestie_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a published BESTIE network for ``CenterOffsetNet(HRNet(width), C)``."""
    result = {}
    for key, value in state.items():
        head, _, rest = key.removeprefix("module.").partition(".")
        name = {"seg": "semantic", "center": "center", "offset": "offset"}.get(head)
        result[f"{name}.{rest}" if name else f"body.{key.removeprefix('module.')}"] = value
    return result


def peak_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a published peak attention module for ``PeakNet(VGG16(), C)``.

    Raises:
        ConfigError: a copy of a convolution differs from its original.
    """
    stripped = {key.removeprefix("module."): value for key, value in state.items()}
    names = {f"extra_conv{k + 1}": f"extra.{2 * k}" for k in range(3)} | {"extra_conv4": "classifier"}
    result = {}
    for key, value in stripped.items():
        head, _, rest = key.partition(".")
        if head in _VGG_COPIES:
            original = f"features.{_VGG_COPIES[head]}.{rest}"
            if original not in stripped:
                result[f"backbone.{original}"] = value
            elif not torch.equal(stripped[original], value):
                raise ConfigError(f"checkpoint: {key} and {original} differ, expected two names of one tensor")
        elif head in names:
            result[f"{names[head]}.{rest}"] = value
        else:
            result[f"backbone.{key}"] = value
    return result


def published_kind(state: Mapping[str, Tensor]) -> str:
    """Which of ``PUBLISHED`` a state dict is, by its keys.

    Raises:
        ConfigError: none of them.
    """
    keys = {key.removeprefix("module.") for key in state}
    marks = {
        "irnet": "fc_edge6.weight",
        "irnet_cam": "resnet50.conv1.weight",
        "bestie": "seg.2.weight",
        "pam": "extra_conv4.weight",
    }
    for kind, mark in marks.items():
        if mark in keys:
            return kind
    shown = ", ".join(sorted(keys)[:3])
    raise ConfigError(f"checkpoint: its keys ({shown}, ...) are those of no published network ({', '.join(PUBLISHED)})")
