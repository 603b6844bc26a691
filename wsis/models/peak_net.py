"""The peak attention network of BESTIE (Kim et al., CVPR 2022, section 3.2): a classifier whose activation maps keep
only their peaks."""

from __future__ import annotations

import os

from torch import Tensor, nn

from wsis.errors import ConfigError, did_you_mean

from .backbone import Backbone
from .build import BACKBONES, backbone_problem, build_backbone, checked_state, read_weights
from .cam_net import CamNetOutput

__all__ = ["VGG16", "PeakAttention", "PeakNet", "build_peak_net", "peak_backbone_problem"]

ALPHA = 0.7


class PeakAttention(nn.Module):
    """``relu``, then 0 for everything strictly below ``alpha`` times the largest value of its channel.

    Args:
        alpha: 0 keeps everything, 1 the maximum alone; 0.7 in the paper, which other data sets may want changed.
    """

    def __init__(self, alpha: float = ALPHA):
        super().__init__()
        if not 0 <= alpha <= 1:
            raise ValueError(f"PeakAttention: alpha must lie in 0..1, got {alpha}")
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        return x * (x >= self.alpha * x.amax((2, 3), keepdim=True))


class VGG16(nn.Module):
    """VGG-16 without batch norm at output stride 8: no fifth pool, a fourth of stride 1, conv5 dilated by 2.

    Keys ``features.N`` as in torchvision's ``vgg16``, whose weights fit.

    ``forward``: ``[B, 3, H, W]`` normalised images to ``[B, 512, H // 8, W // 8]``, as a tuple of one tap.
    """

    channels = (512,)
    normalization = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    _WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for block, widths in enumerate(self._WIDTHS):
            reach = 2 if block == 4 else 1
            for width in widths:
                layers += [nn.Conv2d(inputs, width, 3, padding=reach, dilation=reach), nn.ReLU(inplace=True)]
                inputs = width
            if block < 3:
                layers.append(nn.MaxPool2d(2, 2))
            elif block == 3:
                layers.append(nn.MaxPool2d(3, 1, 1))
        self.features = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.features(images),)


class PeakNet(nn.Module):
    """Three 3x3 convolutions, each followed by peak attention, a 1x1 convolution to the classes, and their mean.

    Keys: ``backbone.*``, ``extra.0``, ``extra.2``, ``extra.4`` (weight, bias) and ``classifier`` (weight, bias).
    New weights are drawn with variance ``2 / (k^2 outputs)``, biases are 0.

    Args:
        backbone: :class:`VGG16`, or a five-tap backbone, of which the last tap is used.
        num_classes: ``C``.
        alpha: of the peak attention.
        width: channels of the three convolutions; 512 in the paper.
    """

    kind = "peak_net"

    def __init__(self, backbone: VGG16 | Backbone, num_classes: int, alpha: float = ALPHA, width: int = 512):
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"PeakNet: num_classes must be at least 1, got {num_classes}")
        self.backbone, self.num_classes, self.alpha, self.width = backbone, num_classes, alpha, width
        layers: list[nn.Module] = []
        inputs = backbone.channels[-1]
        for _ in range(3):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), PeakAttention(alpha)]
            inputs = width
        self.extra = nn.Sequential(*layers)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        for module in (*self.extra, self.classifier):
            if isinstance(module, nn.Conv2d):
                area = module.kernel_size[0] * module.kernel_size[1]
                nn.init.normal_(module.weight, std=(2 / (area * module.out_channels)) ** 0.5)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> CamNetOutput:
        """``[B, 3, H, W]`` normalised images; ``maps`` are raw."""
        maps = self.classifier(self.extra(self.backbone(images)[-1]))
        return CamNetOutput(maps.mean((2, 3)), maps)

    def trained_before(self) -> list[nn.Parameter]:
        """Parameters that published weights can fill."""
        return list(self.backbone.parameters())


def peak_backbone_problem(name: str) -> str | None:
    """Why ``name`` is no backbone of a peak network, or None."""
    if name == "vgg16" or backbone_problem(name) is None:
        return None
    known = ("vgg16", *BACKBONES)
    return f"got {name!r}, expected one of {', '.join(known)} or timm:NAME ({did_you_mean(name, known)})"


def build_peak_net(
    name: str,
    num_classes: int,
    alpha: float = ALPHA,
    width: int = 512,
    weights: str | os.PathLike[str] | None = None,
) -> PeakNet:
    """A peak network on ``vgg16`` or any backbone of :func:`build_backbone`.

    Raises:
        ConfigError: unknown name, or a weight file that is missing, damaged or does not fit.
    """
    problem = peak_backbone_problem(name)
    if problem:
        raise ConfigError(f"backbone: {problem}")
    if name != "vgg16":
        return PeakNet(build_backbone(name, weights), num_classes, alpha, width)
    backbone = VGG16()
    if weights is not None and str(weights):
        state = {key: value for key, value in read_weights(weights).items() if not key.startswith("classifier.")}
        backbone.load_state_dict(checked_state(state, backbone.state_dict(), str(weights)))
    return PeakNet(backbone, num_classes, alpha, width)
