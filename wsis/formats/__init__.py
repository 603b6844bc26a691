"""Labels in the forms that other programs know: writers for exports, readers for evaluation.

A writer is a function ``write(rows, categories, output, options) -> Written`` entered in :data:`WRITERS`.
``rows`` is called once per pass and gives the rows of a label run in order, so that no writer has to hold
more than one of them.
"""

from wsis.formats.coco import write_coco, write_coco_results
from wsis.formats.common import ExportOptions, Written
from wsis.formats.labelme import write_labelme
from wsis.formats.labelstudio import write_labelstudio
from wsis.formats.voc import write_voc
from wsis.formats.yolo import write_yolo

__all__ = ["WRITERS", "ExportOptions", "Written"]

WRITERS = {
    "coco": write_coco,
    "coco-results": write_coco_results,
    "voc": write_voc,
    "yolo": write_yolo,
    "labelme": write_labelme,
    "labelstudio": write_labelstudio,
}
"""Name of a format -> its writer."""
