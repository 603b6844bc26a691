"""Losses of Mask R-CNN that leave out what the labels say nothing about.

A target's ``open [H, W]`` marks pixels that are neither object nor background for sure. Anchors and proposals of
which at least half is open are no negatives, and open pixels do not count in the mask loss. Without open pixels the
losses are torchvision's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import roi_align

__all__ = ["open_share", "use_open_pixels"]

MOST_OPEN = 0.5


def open_share(open_pixels: Tensor, boxes: Tensor) -> Tensor:
    """Share of every box that is open.

    Args:
        open_pixels: ``[H, W]`` bool.
        boxes: ``[N, 4]`` xyxy; what lies outside the picture does not count.

    Returns:
        ``[N]`` float32, 0 for boxes without a pixel of the picture.
    """
    height, width = open_pixels.shape
    if not bool(open_pixels.any()):
        return torch.zeros(len(boxes), device=boxes.device)
    table = F.pad(open_pixels.float().cumsum(0).cumsum(1), (1, 0, 1, 0))
    x0, y0, x1, y1 = boxes.round().long().unbind(1)
    x0, x1 = x0.clamp(0, width), x1.clamp(0, width)
    y0, y1 = y0.clamp(0, height), y1.clamp(0, height)
    inside = table[y1, x1] - table[y0, x1] - table[y1, x0] + table[y0, x0]
    return inside / ((x1 - x0) * (y1 - y0)).clamp(min=1)


class _Proposals(RegionProposalNetwork):
    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        for label, anchor, target in zip(labels, anchors, targets):
            label[(label == 0) & (open_share(target["open"], anchor) >= MOST_OPEN)] = -1.0
        return labels, boxes


class _Heads(RoIHeads):
    _open: list[Tensor] | None = None

    def select_training_samples(
        self, proposals: list[Tensor], targets: list[dict[str, Tensor]] | None
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        self._open = [target["open"] for target in targets or ()]
        try:
            return super().select_training_samples(proposals, targets)
        finally:
            self._open = None

    def assign_targets_to_proposals(
        self, proposals: list[Tensor], gt_boxes: list[Tensor], gt_labels: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        matched, labels = super().assign_targets_to_proposals(proposals, gt_boxes, gt_labels)
        for label, boxes, pixels in zip(labels, proposals, self._open or ()):
            label[(label == 0) & (open_share(pixels, boxes) >= MOST_OPEN)] = -1
        return matched, labels

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        if not self.training:
            return super().forward(features, proposals, image_shapes, targets)
        proposals, matched, labels, regression = self.select_training_samples(proposals, targets)
        boxes = self.box_predictor(self.box_head(self.box_roi_pool(features, proposals, image_shapes)))
        loss_class, loss_box = fastrcnn_loss(*boxes, labels, regression)
        positive = [(label > 0).nonzero().squeeze(1) for label in labels]
        where = [boxes[keep] for boxes, keep in zip(proposals, positive)]
        logits = self.mask_predictor(self.mask_head(self.mask_roi_pool(features, where, image_shapes)))
        loss_mask = _mask_loss(
            logits,
            where,
            [label[keep] for label, keep in zip(labels, positive)],
            [match[keep] for match, keep in zip(matched, positive)],
            targets or [],
        )
        return [], {"loss_classifier": loss_class, "loss_box_reg": loss_box, "loss_mask": loss_mask}


def _mask_loss(
    logits: Tensor, boxes: list[Tensor], labels: list[Tensor], matched: list[Tensor], targets: list[dict[str, Tensor]]
) -> Tensor:
    """Binary cross entropy of the class's mask, mean over the pixels of the regions that are not open."""
    if logits.numel() == 0:
        return logits.sum() * 0
    side = logits.shape[-1]
    wanted, known = [], []
    for own, match, target in zip(boxes, matched, targets):
        masks = target["masks"].float()[:, None]
        rois = torch.cat([match[:, None].to(own), own], 1)
        wanted.append(roi_align(masks, rois, (side, side), 1.0)[:, 0])
        certain = (~target["open"]).float()[None, None]
        rois = torch.cat([torch.zeros_like(own[:, :1]), own], 1)
        known.append(roi_align(certain, rois, (side, side), 1.0)[:, 0] > 0.5)
    weight = torch.cat(known).float()
    classes = torch.cat(labels)
    chosen = logits[torch.arange(len(classes), device=classes.device), classes].float()
    loss = F.binary_cross_entropy_with_logits(chosen, torch.cat(wanted), reduction="none")
    return (loss * weight).sum() / weight.sum().clamp(min=1)


def use_open_pixels(net: nn.Module) -> nn.Module:
    """A Mask R-CNN of torchvision, its losses replaced by those of this module."""
    net.rpn.__class__ = _Proposals
    net.roi_heads.__class__ = _Heads
    return net
