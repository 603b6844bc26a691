"""The two decoders of Panoptic-DeepLab (Cheng et al., CVPR 2020) on a ResNet: one for classes, one for instances.

Each is an atrous spatial pyramid on the stride-32 features and three steps back to stride 4; the fusion in every
step is a depthwise 5x5 and a 1x1 convolution. All resizes are bilinear with aligned corners.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .resnet import residual_layer

__all__ = ["PanopticDecoder", "PanopticResNet"]

_BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
_NORM = partial(nn.BatchNorm2d, momentum=0.01)
_RATES = (3, 6, 9)
_TAPS = (256, 512, 1024, 2048)


class PanopticResNet(nn.Module):
    """ResNet-50 or -101 at strides 4, 8, 16 and 32 with learning batch norm, and the two decoders.

    Keys of the backbone as in torchvision (``backbone.conv1.weight``, ``backbone.layer1.0.conv1.weight`` ..).

    ``forward``: normalised images ``[B, 3, H, W]`` to 256 channels for the classes and 128 for the instances, both
    at stride 4.
    """

    normalization = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    widths = (256, 128)

    def __init__(self, name: str):
        super().__init__()
        self.backbone = _ResNet(_BLOCKS[name])
        self.semantic = PanopticDecoder(256, (128, 64, 32))
        self.instance = PanopticDecoder(128, (64, 32, 16))
        for decoder in (self.semantic, self.instance):
            for module in decoder.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.normal_(module.weight, std=0.001)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        taps = self.backbone(images)
        return self.semantic(taps), self.instance(taps)


class _ResNet(nn.Module):
    """The four layers, stride 32 at the end."""

    def __init__(self, blocks: tuple[int, ...]):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = _NORM(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = residual_layer(64, 64, blocks[0], 1, _NORM)
        self.layer2 = residual_layer(256, 128, blocks[1], 2, _NORM)
        self.layer3 = residual_layer(512, 256, blocks[2], 2, _NORM)
        self.layer4 = residual_layer(1024, 512, blocks[3], 2, _NORM)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(images))))
        taps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            taps.append(x)
        return taps


class PanopticDecoder(nn.Module):
    """Pyramid pooling to 256 channels, then layer3, layer2 and layer1 are taken in.

    Args:
        width: channels of the result.
        projected: channels to which layer3, layer2 and layer1 are brought.
    """

    def __init__(self, width: int, projected: tuple[int, int, int]):
        super().__init__()
        self.pyramid = _Pyramid(_TAPS[3], 256)
        self.project = nn.ModuleList(_conv(taps, p, 1) for taps, p in zip(_TAPS[2::-1], projected))
        inputs = (256, width, width)
        self.fuse = nn.ModuleList(separable(before + p, width) for before, p in zip(inputs, projected))

    def forward(self, taps: list[Tensor]) -> Tensor:
        x = self.pyramid(taps[3])
        for tap, project, fuse in zip(taps[2::-1], self.project, self.fuse):
            skip = project(tap)
            x = fuse(torch.cat([F.interpolate(x, skip.shape[-2:], mode="bilinear", align_corners=True), skip], 1))
        return x


class _Pyramid(nn.Module):
    """1x1, three dilated 3x3 and the image's mean side by side, joined by a 1x1 and dropout."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.branches = nn.ModuleList([_conv(inputs, width, 1), *(_conv(inputs, width, 3, rate) for rate in _RATES)])
        self.pooled = nn.Conv2d(inputs, width, 1, bias=False)
        self.join = nn.Sequential(_conv(5 * width, width, 1), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        mean = torch.relu(self.pooled(x.mean((2, 3), keepdim=True))).expand(-1, -1, *x.shape[-2:])
        return self.join(torch.cat([*(branch(x) for branch in self.branches), mean], 1))


def _conv(inputs: int, outputs: int, kernel: int, dilation: int = 1, groups: int = 1) -> nn.Sequential:
    padding = dilation * (kernel - 1) // 2
    conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, groups=groups, bias=False)
    return nn.Sequential(conv, _NORM(outputs), nn.ReLU())


def separable(inputs: int, outputs: int, kernel: int = 5) -> nn.Sequential:
    """Depthwise ``kernel x kernel`` and 1x1 convolution, each with batch norm and ReLU."""
    return nn.Sequential(_conv(inputs, inputs, kernel, groups=inputs), _conv(inputs, outputs, 1))
