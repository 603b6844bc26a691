"""A small backbone that learns from scratch within minutes on a CPU; for the demo and for tests."""

from __future__ import annotations

from torch import Tensor, nn

from .backbone import Backbone

__all__ = ["Tiny"]


class _Residual(nn.Module):
    """``relu(x + norm(conv(relu(norm(conv(x))))))``."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.body(x)).relu()


def _down(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class Tiny(Backbone):
    """About 0.4 million weights; taps of 24, 32, 48, 64 and 96 channels at strides 4, 4, 8, 16 and 16.

    All of it learns, statistics of the batch norm included: there are no published weights to keep. (With
    GroupNorm, which takes each image's own mean away, a classifier on pooled features learns next to nothing in the
    same number of steps.)
    """

    channels = (24, 32, 48, 64, 96)
    normalization = ((127.5, 127.5, 127.5), (63.75, 63.75, 63.75))
    trainable_from = 0
    learns_statistics = True

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_down(3, 16, 2), _down(16, 24, 2))
        self.layer1 = nn.Sequential(_down(24, 32, 1), _Residual(32))
        self.layer2 = nn.Sequential(_down(32, 48, 2), _Residual(48))
        self.layer3 = nn.Sequential(_down(48, 64, 2), _Residual(64))
        self.layer4 = nn.Sequential(_down(64, 96, 1), _Residual(96))

    def stages(self) -> tuple[tuple[nn.Module, ...], ...]:
        """The layers that end in each tap, in order."""
        return ((self.stem,), (self.layer1,), (self.layer2,), (self.layer3,), (self.layer4,))
