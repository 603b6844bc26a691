"""Runs as Python functions: each takes :class:`Options` and returns the ordered stages with their numbers.

``wsis run NAME`` carries one out: stages that are done and verified are skipped, ``--force=STAGE`` makes one
again, and every number of every stage can be changed with ``--STAGE.FIELD=VALUE`` or in a YAML file.
"""

from wsis.recipes.bestie import BestieOptions, bestie_coco, bestie_small, bestie_voc
from wsis.recipes.irnet import custom_folder, irnet_coco, irnet_small, irnet_voc
from wsis.recipes.stages import Options, Stage

__all__ = [
    "OPTIONS",
    "RECIPES",
    "BestieOptions",
    "Options",
    "Stage",
    "bestie_coco",
    "bestie_small",
    "bestie_voc",
    "custom_folder",
    "irnet_coco",
    "irnet_small",
    "irnet_voc",
]

RECIPES = {
    "irnet": irnet_voc,
    "irnet_voc": irnet_voc,
    "irnet_coco": irnet_coco,
    "irnet_small": irnet_small,
    "custom_folder": custom_folder,
    "bestie": bestie_voc,
    "bestie_voc": bestie_voc,
    "bestie_coco": bestie_coco,
    "bestie_small": bestie_small,
}
"""Every recipe by the name that ``wsis run`` takes; ``irnet`` and ``bestie`` are the papers'."""

OPTIONS = {name: BestieOptions if name.startswith("bestie") else Options for name in RECIPES}
"""What each recipe takes."""
