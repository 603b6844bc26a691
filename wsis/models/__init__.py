"""Nets: ``forward(images)`` gives a NamedTuple of raw maps, nothing else."""

from .backbone import Backbone
from .build import BACKBONES, backbone_problem, build_backbone, checked_state, read_weights
from .cam_net import CamNet, CamNetOutput
from .irnet import IRNet, IRNetOutput, MeanShift
from .published import published_state

__all__ = [
    "BACKBONES",
    "Backbone",
    "CamNet",
    "CamNetOutput",
    "IRNet",
    "IRNetOutput",
    "MeanShift",
    "backbone_problem",
    "build_backbone",
    "checked_state",
    "published_state",
    "read_weights",
]
