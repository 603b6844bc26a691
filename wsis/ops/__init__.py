"""The operators, one file each. Importing this package loads the compiled library."""

from wsis.ops.center_target import center_target
from wsis.ops.class_scores import ClassScores, class_scores
from wsis.ops.connected_components import Components, connected_components
from wsis.ops.dense_crf import dense_crf, dense_crf_marginals
from wsis.ops.edge_to_affinity import edge_to_affinity, neighbor_offsets
from wsis.ops.filter_ids import FilteredIds, filter_ids
from wsis.ops.group_pixels import group_pixels
from wsis.ops.instance_stats import InstanceStats, instance_stats
from wsis.ops.inter_pixel_loss import InterPixelLoss, inter_pixel_loss
from wsis.ops.mask_iou import MaskIou, mask_iou
from wsis.ops.mask_rle import mask_rle, rle_to_ids, rle_to_mask
from wsis.ops.peaks import Peaks, peak_mask, peaks
from wsis.ops.random_walk import propagate_to_edge, random_walk
from wsis.ops.trace_displacement import trace_displacement
from wsis.ops.weighted_error import weighted_error

__all__ = [
    "ClassScores",
    "Components",
    "FilteredIds",
    "InstanceStats",
    "InterPixelLoss",
    "MaskIou",
    "Peaks",
    "center_target",
    "class_scores",
    "connected_components",
    "dense_crf",
    "dense_crf_marginals",
    "edge_to_affinity",
    "filter_ids",
    "group_pixels",
    "instance_stats",
    "inter_pixel_loss",
    "mask_iou",
    "mask_rle",
    "neighbor_offsets",
    "peak_mask",
    "peaks",
    "propagate_to_edge",
    "random_walk",
    "rle_to_ids",
    "rle_to_mask",
    "trace_displacement",
    "weighted_error",
]
