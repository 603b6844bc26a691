"""Labels of a centre and offset network as one inverse pair (BESTIE, CVPR 2022).

* pseudo labels (:func:`pseudo_targets`) = ``encode`` of the regions of a semantic map with exactly one point;
* refined labels (:func:`refine`) = ``encode`` of what ``decode`` finds in a prediction, inside the semantic map;
* inference (:func:`decode`) = ``decode`` inside the predicted foreground.

A batch goes through a fixed set of tensor operations: no loop over images, classes or components.
"""

from wsis.labels.center_offset.config import Config
from wsis.labels.center_offset.inference import decode, decode_map, mirror_average
from wsis.labels.center_offset.supervision import (
    RefinedTarget,
    encode,
    pseudo_instances,
    pseudo_targets,
    refine,
    refined_instances,
)

__all__ = [
    "Config",
    "RefinedTarget",
    "decode",
    "decode_map",
    "encode",
    "mirror_average",
    "pseudo_instances",
    "pseudo_targets",
    "refine",
    "refined_instances",
]
