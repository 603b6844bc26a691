"""How good are the masks: VOC and COCO instance AP, ABO, mIoU; pure functions over iterables.

Nothing here holds the masks of more than one image: predictions and ground truth may be generators.
"""
