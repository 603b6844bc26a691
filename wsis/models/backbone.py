"""What every backbone is: five feature maps at strides 4, 4, 8, 16 and 16."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Backbone", "FixedBatchNorm"]


class FixedBatchNorm(nn.BatchNorm2d):
    """Batch norm that uses its running statistics in every mode, and never changes them."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


class Backbone(nn.Module):
    """Base of the backbones.

    Tap ``k`` of an image ``[B, 3, H, W]`` is ``[B, channels[k], (H-1)//s + 1, (W-1)//s + 1]`` with
    ``s = strides[k]``. Batch norm works on its running statistics, in training too, unless ``learns_statistics``.

    Attributes:
        channels: widths of the five taps.
        normalization: ``(mean, std)`` of the RGB channels in units 0..255; inputs are ``(rgb - mean) / std``.
        trainable_from: first stage (0..4) that learns when a classifier is trained on published weights; the
            gradient is cut before it.
        learns_statistics: batch norm follows the mode, for backbones that are trained from scratch.
    """

    channels: tuple[int, int, int, int, int]
    normalization: tuple[tuple[float, float, float], tuple[float, float, float]]
    strides = (4, 4, 8, 16, 16)
    trainable_from = 0
    learns_statistics = False

    def stages(self) -> tuple[tuple[nn.Module, ...], ...]:
        """The layers that end in each tap, in order; run one after the other they are ``forward``."""
        raise NotImplementedError

    def forward(self, images: Tensor, gradient_from: int = 0) -> tuple[Tensor, ...]:
        """``[B, 3, H, W]`` normalised images to five taps; stages before ``gradient_from`` run without
        gradient.
        """
        taps = []
        x = images
        for index, stage in enumerate(self.stages()):
            with torch.set_grad_enabled(torch.is_grad_enabled() and index >= gradient_from):
                for layer in stage:
                    x = layer(x)
            taps.append(x)
        return tuple(taps)

    def stage_parameters(self, first: int) -> list[nn.Parameter]:
        """Parameters of the stages from ``first`` on."""
        stages = self.stages()[first:]
        return [parameter for stage in stages for layer in stage for parameter in layer.parameters()]

    def train(self, mode: bool = True) -> Backbone:
        """Switch the mode; batch norm stays on its running statistics, unless ``learns_statistics``."""
        super().train(mode)
        if not self.learns_statistics:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self
