"""MobileNetV2 (Sandler et al., CVPR 2018) as a five-tap backbone, in torchvision's key layout.

The stride-2 convolutions follow TensorFlow's "SAME" rule, for which published TensorFlow weights were
trained: the output has ``ceil(n / 2)`` cells, and an even side is padded by one cell at the bottom and right
only. That rule moves the centre of a cell by an amount that depends on the size of the image: at stride 16
cell ``i`` lies over pixel ``16 i + 15`` for a side of 512, and over ``16 i`` for one of 513, while every
resize of the method takes it to be at ``16 i + 7.5``. ``padding="aligned"`` keeps the sizes and the weights
and fixes the phase of each stride-2 convolution instead, so that a cell lies over the same place whatever the
size of the image, at most 2.5 pixels from where the resize puts it.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbone import Backbone, FixedBatchNorm

__all__ = ["MobileNetV2", "same_padding"]

PADDINGS = ("aligned", "same")

_STAGES = (  # expansion, channels, blocks, stride of the first block
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 1),
    (6, 320, 1, 1),
)
_DILATED_AFTER = 14  # the block that has stride 2 in the published network


def same_padding(size: int, phase: int | None = None) -> tuple[int, int]:
    """Zeros before and after a side of ``size`` cells for a 3-wide convolution of stride 2.

    The output has ``ceil(size / 2)`` cells.

    Args:
        size: length of the side.
        phase: 0 puts cell ``i`` over input cell ``2 i``, 1 over ``2 i + 1``; ``None`` is TensorFlow's "SAME",
            which is 1 for even and 0 for odd sizes.
    """
    if phase is None:
        phase = 1 - size % 2
    before = 1 - phase
    cells = (size + 1) // 2
    return before, (cells - 1) * 2 + 3 - size - before


class _DilatedDepthwise(nn.Conv2d):
    """Depthwise 3x3 convolution dilated by 2.

    Training on a CPU takes the four cells of every 2x2 square as four images: on each the convolution is an ordinary
    one, whose gradient is 5 to 12 times faster there (960 channels of 20x20 cells).
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        batch, channels, height, width = x.shape
        x = F.pad(x, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else x
        rows, columns = (side // 2 for side in x.shape[-2:])
        x = x.permute(0, 2, 3, 1).reshape(batch, rows, 2, columns, 2, channels)
        x = x.permute(2, 4, 0, 1, 3, 5).reshape(4 * batch, rows, columns, channels).permute(0, 3, 1, 2)
        x = F.conv2d(x, self.weight, padding=1, groups=channels)
        x = x.permute(0, 2, 3, 1).reshape(2, 2, batch, rows, columns, channels).permute(2, 3, 0, 4, 1, 5)
        x = x.reshape(batch, 2 * rows, 2 * columns, channels).permute(0, 3, 1, 2)
        return x[:, :, :height, :width]


class _Conv(nn.Sequential):
    """Convolution, batch norm and ReLU6, under torchvision's indices 0, 1, 2."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        phase: int | None = None,
        dilation: int = 1,
    ):
        padding = dilation * (kernel - 1) // 2 if stride == 1 else 0
        layer = nn.Conv2d if dilation == 1 else _DilatedDepthwise
        super().__init__(
            layer(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False),
            FixedBatchNorm(outputs),
            nn.ReLU6(),
        )
        self.strided = stride == 2
        self.phase = phase

    def forward(self, x: Tensor) -> Tensor:
        if self.strided:
            top, bottom = same_padding(x.shape[-2], self.phase)
            left, right = same_padding(x.shape[-1], self.phase)
            x = F.pad(x, (left, right, top, bottom))
        return super().forward(x)


class _Block(nn.Module):
    """Inverted residual: 1x1 expansion, depthwise 3x3, linear 1x1; the input is added where shapes agree."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        expansion: int,
        phase: int | None = None,
        dilation: int = 1,
    ):
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [_Conv(inputs, hidden)]
        layers += [
            _Conv(hidden, hidden, 3, stride, hidden, phase, dilation),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            FixedBatchNorm(outputs),
        ]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(Backbone):
    """MobileNetV2 1.0 without its classifier, at output stride 16.

    The stage that would go to stride 32 has stride 1. With ``dilated`` the 3x3 convolutions after it are
    dilated by 2 and its features are those of the published network, twice as dense; without, as in IRNet's
    ResNet-50, each sees a smaller part of the image. ``docs/results.md`` compares the two.

    Taps: blocks 2 and 3 (24 channels, stride 4), 6 (32, stride 8), 13 (96, stride 16) and the 1280-channel
    last layer (stride 16). Keys: ``features.0`` .. ``features.18`` as in torchvision.

    Args:
        dilated: dilate the last stage.
        strided: give the last stage stride 2 as in the published network (the last tap has stride 32), for a pyramid.
        padding: ``"aligned"`` (cells at a fixed place, see the module) or ``"same"`` (TensorFlow's rule).
    """

    channels = (24, 24, 32, 96, 1280)
    normalization = ((128.0, 128.0, 128.0), (128.0, 128.0, 128.0))
    trainable_from = 3
    _TAPS = (2, 3, 6, 13, 18)

    def __init__(self, dilated: bool = False, padding: str = "aligned", strided: bool = False):
        super().__init__()
        if dilated and strided:
            raise ValueError("MobileNetV2: dilated and strided exclude each other, got both")
        if padding not in PADDINGS:
            raise ValueError(f"MobileNetV2: padding must be one of {PADDINGS}, got {padding!r}")
        self.padding = padding
        if strided:
            self.strides = (4, 4, 8, 16, 32)
        phases = iter((1, 0, 1, 0, 1)) if padding == "aligned" else iter((None,) * 5)
        layers: list[nn.Module] = [_Conv(3, 32, 3, 2, phase=next(phases))]
        width = 32
        for expansion, channels, blocks, first_stride in _STAGES:
            for index in range(blocks):
                stride = first_stride if index == 0 else 1
                if strided and len(layers) == _DILATED_AFTER:
                    stride = 2
                phase = next(phases) if stride == 2 else None
                dilation = 2 if dilated and len(layers) > _DILATED_AFTER else 1
                layers.append(_Block(width, channels, stride, expansion, phase, dilation))
                width = channels
        layers.append(_Conv(width, 1280))
        self.features = nn.Sequential(*layers)

    def stages(self) -> tuple[tuple[nn.Module, ...], ...]:
        """The layers that end in each tap, in order."""
        bounds = (0, *(tap + 1 for tap in self._TAPS))
        layers = tuple(self.features)
        return tuple(layers[start:stop] for start, stop in itertools.pairwise(bounds))
