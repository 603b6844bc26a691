"""IRNet (Ahn, Cho, Kwak, CVPR 2019): class boundaries and displacements to instance centroids, on a fixed
backbone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .backbone import Backbone

__all__ = ["IRNet", "IRNetOutput", "MeanShift"]


class IRNetOutput(NamedTuple):
    """Raw maps at stride 4, ``h = (H-1)//4 + 1``: ``boundary_logits`` ``[B, h, w]``, ``displacement`` ``[B,
    2, h, w]``.

    The displacement is ``(y, x)`` in feature cells.
    """

    boundary_logits: Tensor
    displacement: Tensor


class MeanShift(nn.Module):
    """Subtracts the stored mean displacement in eval mode; the identity while training."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(2))

    def forward(self, displacement: Tensor) -> Tensor:
        if self.training:
            return displacement
        return displacement - self.running_mean.to(displacement.dtype).view(1, 2, 1, 1)


def _reduce(inputs: int, outputs: int, groups: int, scale: int = 1) -> nn.Sequential:
    """1x1 convolution without bias, GroupNorm, bilinear upsampling by ``scale`` (if above 1), ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 1, bias=False), nn.GroupNorm(groups, outputs)]
    if scale > 1:
        layers.append(nn.Upsample(scale_factor=scale, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


def _crop(x: Tensor, like: Tensor) -> Tensor:
    return x[..., : like.shape[-2], : like.shape[-1]]


class IRNet(nn.Module):
    """The two branches on the taps of a fixed backbone.

    Keys are those of IRNet's published checkpoints: ``fc_edge1`` .. ``fc_edge6``, ``fc_dp1`` .. ``fc_dp7``
    and ``mean_shift.running_mean``, beside ``backbone.*``. In eval mode the mean shift is subtracted.

    Args:
        backbone: five-tap backbone; its parameters do not learn here unless ``gradient_from`` says so.
    """

    kind = "irnet"

    def __init__(self, backbone: Backbone):
        super().__init__()
        c1, c2, c3, c4, c5 = backbone.channels
        self.backbone = backbone
        self.fc_edge1 = _reduce(c1, 32, 4)
        self.fc_edge2 = _reduce(c2, 32, 4)
        self.fc_edge3 = _reduce(c3, 32, 4, 2)
        self.fc_edge4 = _reduce(c4, 32, 4, 4)
        self.fc_edge5 = _reduce(c5, 32, 4, 4)
        self.fc_edge6 = nn.Conv2d(160, 1, 1)
        self.fc_dp1 = _reduce(c1, 64, 8)
        self.fc_dp2 = _reduce(c2, 128, 16)
        self.fc_dp3 = _reduce(c3, 256, 16)
        self.fc_dp4 = _reduce(c4, 256, 16, 2)
        self.fc_dp5 = _reduce(c5, 256, 16, 2)
        self.fc_dp6 = _reduce(768, 256, 16, 2)
        self.fc_dp7 = nn.Sequential(*_reduce(448, 256, 16), nn.Conv2d(256, 2, 1, bias=False))
        self.mean_shift = MeanShift()

    def train(self, mode: bool = True) -> IRNet:
        """Switch the mode of the branches; the backbone stays in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def boundary_parameters(self) -> list[nn.Parameter]:
        """Parameters of the boundary branch."""
        return [p for name, p in self.named_parameters() if name.startswith("fc_edge")]

    def displacement_parameters(self) -> list[nn.Parameter]:
        """Parameters of the displacement branch."""
        return [p for name, p in self.named_parameters() if name.startswith("fc_dp")]

    def forward(self, images: Tensor, gradient_from: int = 5) -> IRNetOutput:
        """``[B, 3, H, W]`` normalised images; the backbone's stages before ``gradient_from`` run without
        gradient.
        """
        taps = self.backbone(images, gradient_from)
        return IRNetOutput(self.boundary(taps), self.displacement(taps))

    def boundary(self, taps: tuple[Tensor, ...]) -> Tensor:
        """Boundary logits ``[B, h, w]`` of the five taps."""
        x2 = self.fc_edge2(taps[1])
        edges = [
            self.fc_edge1(taps[0]),
            x2,
            self.fc_edge3(taps[2]),
            self.fc_edge4(taps[3]),
            self.fc_edge5(taps[4]),
        ]
        return self.fc_edge6(torch.cat([_crop(edge, x2) for edge in edges], 1))[:, 0]

    def displacement(self, taps: tuple[Tensor, ...]) -> Tensor:
        """Displacement ``[B, 2, h, w]`` of the five taps."""
        x1, x2, x3 = self.fc_dp1(taps[0]), self.fc_dp2(taps[1]), self.fc_dp3(taps[2])
        x4, x5 = _crop(self.fc_dp4(taps[3]), x3), _crop(self.fc_dp5(taps[4]), x3)
        up = _crop(self.fc_dp6(torch.cat([x3, x4, x5], 1)), x2)
        return self.mean_shift(self.fc_dp7(torch.cat([x1, x2, up], 1)))
