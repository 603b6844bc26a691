"""ResNet-50 (He et al., CVPR 2016; stride in the 3x3 convolution) as a five-tap backbone, in torchvision's
key layout.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from .backbone import Backbone, FixedBatchNorm

__all__ = ["Bottleneck", "ResNet50", "residual_layer"]


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 to four times the width; the projection shortcut only in a stage's
    first block.
    """

    def __init__(
        self, inputs: int, width: int, stride: int, project: bool, norm: Callable[[int], nn.Module] = FixedBatchNorm
    ):
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = norm(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if project:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + shortcut)


def residual_layer(
    inputs: int, width: int, blocks: int, stride: int, norm: Callable[[int], nn.Module] = FixedBatchNorm
) -> nn.Sequential:
    """One of the four layers: the stride and the projection are in its first block."""
    first = Bottleneck(inputs, width, stride, True, norm)
    return nn.Sequential(first, *(Bottleneck(4 * width, width, 1, False, norm) for _ in range(blocks - 1)))


class ResNet50(Backbone):
    """ResNet-50 without its classifier; strides of conv1, layer2, layer3, layer4 = 2, 2, 2, 1 (no dilation).

    Taps: after conv1 + max pool (64 channels, stride 4), layer1 (256, 4), layer2 (512, 8), layer3 (1024, 16)
    and layer4 (2048, 16). Keys as in torchvision's ``resnet50`` (``conv1.weight``, ``layer1.0.conv1.weight``,
    ...), which are also those behind ``resnet50.`` in IRNet's published checkpoints.
    """

    channels = (64, 256, 512, 1024, 2048)
    normalization = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    trainable_from = 3

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = FixedBatchNorm(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = residual_layer(64, 64, 3, 1)
        self.layer2 = residual_layer(256, 128, 4, 2)
        self.layer3 = residual_layer(512, 256, 6, 2)
        self.layer4 = residual_layer(1024, 512, 3, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stages(self) -> tuple[tuple[nn.Module, ...], ...]:
        """The layers that end in each tap, in order; run one after the other they are ``forward``."""
        stem = (self.conv1, self.bn1, self.relu, self.maxpool)
        return (stem, (self.layer1,), (self.layer2,), (self.layer3,), (self.layer4,))
