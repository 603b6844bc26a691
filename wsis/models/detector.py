"""Mask R-CNN (He et al., ICCV 2017) as torchvision builds it, for learning from labels that leave pixels open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsis.errors import ConfigError, did_you_mean
from wsis.structures import Instances

from .backbone import FixedBatchNorm
from .build import checked_state, read_weights
from .mobilenet import MobileNetV2

__all__ = ["DETECTORS", "Detector", "build_detector", "detector_problem"]


@dataclass(frozen=True)
class _Plan:
    """How wide a detector is.

    Attributes:
        taps: names of the body's layers that the pyramid reads, and their channels.
        pyramid, box, mask: channels of the pyramid, of the box head's two layers, of the mask head's four.
        proposals: kept before and after suppression in training; half as many when it detects.
        anchors, regions: sampled for the losses of the proposals and of the heads.
    """

    taps: dict[str, int]
    pyramid: int = 256
    box: int = 1024
    mask: int = 256
    proposals: tuple[int, int] = (2000, 2000)
    anchors: int = 256
    regions: int = 512


_PLANS = {
    "maskrcnn_resnet50_fpn": _Plan({"layer1": 256, "layer2": 512, "layer3": 1024, "layer4": 2048}),
    "maskrcnn_mobilenet_v3_large_fpn": _Plan(
        {"3": 24, "6": 40, "12": 112, "16": 960}, 128, 512, 128, (1000, 500), 256, 128
    ),
    "maskrcnn_mobilenet_v2_fpn": _Plan({"3": 24, "6": 32, "13": 96, "18": 1280}, 96, 384, 96, (600, 300), 256, 96),
}
DETECTORS = tuple(_PLANS)
_CLASSIFIERS = ("fc.", "classifier.")
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_NORMALIZATIONS = {
    "maskrcnn_mobilenet_v2_fpn": tuple([value / 255 for value in part] for part in MobileNetV2.normalization)
}


def detector_problem(name: str) -> str | None:
    """Why ``name`` is no detector, or ``None`` if it is one; builds nothing."""
    if name in _PLANS:
        return None
    return f"got {name!r}, expected {', '.join(DETECTORS)} ({did_you_mean(name, DETECTORS)})"


class Detector(nn.Module):
    """Mask R-CNN with ``num_classes`` classes.

    Batch norm keeps its stored statistics always (the batches of a detector are too small to estimate them),
    unless the body began with random weights.

    Args:
        architecture: one of ``DETECTORS``.
        num_classes: classes without the background.
        min_side, max_side: pictures are resized so that the short side is ``min_side`` and the long one at most
            ``max_side``.
        anchor: side in pixels of the smallest anchors; each level of the pyramid doubles it.
        frozen_norm: batch norm keeps its statistics and does not learn.
    """

    kind = "detector"

    def __init__(
        self, architecture: str, num_classes: int, min_side: int, max_side: int, anchor: int, frozen_norm: bool
    ) -> None:
        super().__init__()
        self.architecture, self.num_classes = architecture, num_classes
        self.min_side, self.max_side, self.anchor, self.frozen_norm = min_side, max_side, anchor, frozen_norm
        self.rcnn = _build(architecture, num_classes, min_side, max_side, anchor, frozen_norm)

    @property
    def spec(self) -> dict[str, Any]:
        """What rebuilds the network."""
        names = ("num_classes", "min_side", "max_side", "anchor", "frozen_norm")
        return {name: getattr(self, name) for name in names}

    @property
    def body(self) -> nn.Module:
        """The part that has ImageNet weights."""
        return self.rcnn.backbone.body

    def train(self, mode: bool = True) -> Detector:
        super().train(mode)
        if self.frozen_norm:
            for module in self.body.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Losses by name in training mode; else boxes, labels (from 1), scores and mask probabilities.

        Args:
            images: ``[3, H, W]`` float32 in 0..1 each; in training they are not resized.
            targets: per image ``boxes [N, 4]`` float32 xyxy, ``labels [N]`` from 1, ``masks [N, H, W]`` uint8,
                ``open [H, W]`` bool (pixels that nothing is known about).
        """
        return self.rcnn(images, targets)

    @torch.no_grad()
    def detect(self, images: Sequence[Tensor], min_score: float = 0.05, nms: float = 0.5) -> list[Instances]:
        """Instances of ``[3, H, W]`` uint8 pictures, strongest first; masks may overlap."""
        heads = self.rcnn.roi_heads
        heads.score_thresh, heads.nms_thresh = min_score, nms
        found = self.rcnn([image.float() / 255 for image in images])
        return [
            Instances(one["masks"][:, 0] > 0.5, one["labels"] - 1, one["scores"].float().clamp(0, 1)) for one in found
        ]


def build_detector(
    name: str,
    num_classes: int,
    *,
    min_side: int = 512,
    max_side: int = 800,
    anchor: int = 32,
    frozen_norm: bool = True,
    weights: str | Path | Mapping[str, Tensor] | None = None,
) -> Detector:
    """A detector; see :class:`Detector`.

    Args:
        weights: ImageNet weights of the body in torchvision's layout (``.safetensors`` or ``.pth``), or the state
            of a backbone of this library; without, batch norm should learn.

    Raises:
        ConfigError: unknown name, or a weight file that is missing, damaged or does not fit.
    """
    problem = detector_problem(name)
    if problem:
        raise ConfigError(f"detector: {problem}")
    net = Detector(name, num_classes, min_side, max_side, anchor, frozen_norm)
    if weights:
        prefix = "" if "resnet" in name else "features."
        given = isinstance(weights, Mapping)
        where, state = ("weights", weights) if given else (str(weights), read_weights(weights))
        state = {k: v for k, v in state.items() if not k.startswith(_CLASSIFIERS)}
        wrong = [key for key in state if not key.startswith(prefix)]
        if wrong:
            raise ConfigError(f"{where}: unexpected key {wrong[0]} for the body of {name}")
        state = {key.removeprefix(prefix): value for key, value in state.items()}
        net.body.load_state_dict(checked_state(state, net.body.state_dict(), where))
    return net


def _body(name: str, frozen_norm: bool) -> nn.Module:
    """The layers that the pyramid stands on, with random weights.

    MobileNetV2 is the one of this library, whose paddings are those its published weights were trained for.
    """
    if name == "maskrcnn_mobilenet_v2_fpn":
        body = MobileNetV2(strided=True).features
        for module in body.modules():
            if isinstance(module, FixedBatchNorm) and not frozen_norm:
                module.__class__ = nn.BatchNorm2d
        return body
    from torchvision.models import mobilenet_v3_large, resnet50

    make = {"maskrcnn_resnet50_fpn": resnet50, "maskrcnn_mobilenet_v3_large_fpn": mobilenet_v3_large}
    whole = make[name](weights=None)
    return getattr(whole, "features", whole)


def _build(name: str, num_classes: int, min_side: int, max_side: int, anchor: int, frozen_norm: bool) -> nn.Module:
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
    from torchvision.ops import MultiScaleRoIAlign

    from .detector_heads import use_open_pixels

    plan = _PLANS[name]
    body = _body(name, frozen_norm)
    taps = {layer: str(level) for level, layer in enumerate(plan.taps)}
    backbone = BackboneWithFPN(body, taps, list(plan.taps.values()), plan.pyramid)
    mean, std = _NORMALIZATIONS.get(name, _IMAGENET)
    levels = len(taps) + 1
    names, before, after = list(taps.values()), plan.proposals[0], plan.proposals[1]
    net = MaskRCNN(
        backbone,
        min_size=min_side,
        max_size=max_side,
        image_mean=mean,
        image_std=std,
        rpn_anchor_generator=AnchorGenerator(
            tuple((anchor * 2**level,) for level in range(levels)), ((0.5, 1.0, 2.0),) * levels
        ),
        rpn_pre_nms_top_n_train=before,
        rpn_pre_nms_top_n_test=before // 2,
        rpn_post_nms_top_n_train=after,
        rpn_post_nms_top_n_test=after // 2,
        rpn_batch_size_per_image=plan.anchors,
        box_batch_size_per_image=plan.regions,
        box_roi_pool=MultiScaleRoIAlign(names, 7, 2),
        box_head=TwoMLPHead(plan.pyramid * 49, plan.box),
        box_predictor=FastRCNNPredictor(plan.box, num_classes + 1),
        mask_roi_pool=MultiScaleRoIAlign(names, 14, 2),
        mask_head=MaskRCNNHeads(plan.pyramid, (plan.mask,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(plan.mask, plan.mask, num_classes + 1),
    )
    net.transform._skip_resize = True
    return use_open_pixels(net)
