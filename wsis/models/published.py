"""Names of the tensors in IRNet's published checkpoints, and how they become ours.

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
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from wsis.errors import ConfigError

__all__ = ["published_state"]

_COPIES = re.compile(r"^(stage[1-5]\.|backbone\.\d+\.|newly_added\.|edge_layers\.|dp_layers\.|fc_dp7\.4\.)")
_RESNET = "resnet50."


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
