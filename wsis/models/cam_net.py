"""The classification network whose last feature map, read through its classifier, is the class activation
map.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from .backbone import Backbone

__all__ = ["CamNet", "CamNetOutput"]


class CamNetOutput(NamedTuple):
    """``logits`` ``[B, C]`` and ``maps`` ``[B, C, (H-1)//16 + 1, (W-1)//16 + 1]``; raw, ``logits`` is the
    maps' mean.
    """

    logits: Tensor
    maps: Tensor


class CamNet(nn.Module):
    """Backbone, global average pooling and a bias-free 1x1 convolution (Ahn et al. 2019, section 3.1).

    Pooling and a bias-free linear map commute, so the maps are computed once and averaged. Keys:
    ``backbone.*`` and ``classifier.weight`` ``[C, channels[4], 1, 1]``, as in IRNet's published classifier.

    Args:
        backbone: five-tap backbone.
        num_classes: ``C``.
    """

    kind = "cam_net"

    def __init__(self, backbone: Backbone, num_classes: int):
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"CamNet: num_classes must be at least 1, got {num_classes}")
        self.backbone = backbone
        self.num_classes = num_classes
        self.classifier = nn.Conv2d(backbone.channels[4], num_classes, 1, bias=False)

    def forward(self, images: Tensor, gradient_from: int = 0) -> CamNetOutput:
        """``[B, 3, H, W]`` normalised images; ``gradient_from`` as in :class:`Backbone`."""
        maps = self.classifier(self.backbone(images, gradient_from)[4])
        return CamNetOutput(maps.mean((2, 3)), maps)
