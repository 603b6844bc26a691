"""Nets: ``forward(images)`` gives a NamedTuple of raw maps, nothing else."""

from .backbone import Backbone
from .build import BACKBONES, backbone_problem, build_backbone, checked_state, read_weights
from .cam_net import CamNet, CamNetOutput
from .center_offset_net import (
    ARCHITECTURES,
    CenterOffsetNet,
    CenterOffsetOutput,
    architecture_problem,
    build_center_offset_net,
)
from .irnet import IRNet, IRNetOutput, MeanShift
from .peak_net import PeakNet, build_peak_net, peak_backbone_problem
from .published import PUBLISHED, bestie_state, peak_state, published_kind, published_state

__all__ = [
    "ARCHITECTURES",
    "BACKBONES",
    "PUBLISHED",
    "Backbone",
    "CamNet",
    "CamNetOutput",
    "CenterOffsetNet",
    "CenterOffsetOutput",
    "IRNet",
    "IRNetOutput",
    "MeanShift",
    "PeakNet",
    "architecture_problem",
    "backbone_problem",
    "bestie_state",
    "build_backbone",
    "build_center_offset_net",
    "build_peak_net",
    "checked_state",
    "peak_backbone_problem",
    "peak_state",
    "published_kind",
    "published_state",
    "read_weights",
]
