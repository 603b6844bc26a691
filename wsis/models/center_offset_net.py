"""BESTIE's network (Kim et al., CVPR 2022, section 3.1): classes, instance centres and offsets to them, per pixel."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsis.errors import ConfigError, did_you_mean

from .backbone import Backbone
from .build import BACKBONES, backbone_problem, build_backbone, checked_state, read_weights
from .cam_net import CamNet
from .hrnet import HRNet
from .panoptic_decoder import PanopticResNet, separable

__all__ = [
    "ARCHITECTURES",
    "CenterOffsetNet",
    "CenterOffsetOutput",
    "TapFusion",
    "architecture_problem",
    "build_center_offset_net",
]

ARCHITECTURES = ("hrnet_w32", "hrnet_w48", "panoptic_resnet50", "panoptic_resnet101")
_UNUSED = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.", "fc.")


class CenterOffsetOutput(NamedTuple):
    """Raw maps at image size.

    Attributes:
        semantic: ``[B, C + 1, H, W]`` logits, background first.
        center: ``[B, C, H, W]`` centre heatmaps.
        offset: ``[B, 2, H, W]`` ``(y, x)`` from the pixel to its centre, in pixels.
    """

    semantic: Tensor
    center: Tensor
    offset: Tensor


class TapFusion(nn.Module):
    """The taps of a five-tap backbone summed at stride 4: for modest machines, not from the paper.

    Args:
        backbone: five taps.
        width: channels of the result.
        offset_unit: pixels that the offset head counts in; offsets in photographs are some 100 pixels long, and a
            last layer that begins with weights of 0.001 takes thousands of steps to get there by itself.
    """

    def __init__(self, backbone: Backbone, width: int = 96, offset_unit: float = 64.0):
        super().__init__()
        self.offset_unit = offset_unit
        self.backbone, self.width = backbone, width
        self.normalization = backbone.normalization
        used = backbone.channels[1:]
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(taps, width, 1, bias=False), nn.BatchNorm2d(width)) for taps in used
        )
        self.context = separable(width, width)
        self.smooth = separable(width, width, 3)

    def forward(self, images: Tensor, gradient_from: int = 0) -> tuple[Tensor, Tensor]:
        """The fused features, and the last tap."""
        taps = self.backbone(images, gradient_from)[1:]
        fine, medium, *coarse = (lateral(tap) for lateral, tap in zip(self.lateral, taps))
        x = self.context(torch.relu(sum(coarse)))
        x = torch.relu(F.interpolate(x, medium.shape[-2:], mode="bilinear", align_corners=False) + medium)
        x = torch.relu(F.interpolate(x, fine.shape[-2:], mode="bilinear", align_corners=False) + fine)
        return self.smooth(x), taps[-1]


class CenterOffsetNet(nn.Module):
    """A body and three heads.

    HRNet: each head is ``3x3 convolution to 256 channels, ReLU, 1x1 convolution``, with biases. Panoptic-DeepLab: a
    depthwise-separable 5x5 (256, 128 and 32 channels) and a 1x1 convolution. Small bodies: as that, 3x3 with their
    width; their classes also see the last tap through a 1x1 convolution, ``activation``, which begins as 0 or as a
    trained classifier's (:meth:`begin_with`): activation maps are then the first guess at the classes. New weights
    are drawn with a standard deviation of 0.001 where the paper says so.

    Keys: ``body.*`` as the body names them, ``semantic.*``, ``center.*``, ``offset.*``, ``activation.*``.

    Args:
        body: :class:`HRNet`, :class:`PanopticResNet` or :class:`TapFusion`.
        num_classes: ``C``.
    """

    kind = "center_offset_net"

    def __init__(self, body: HRNet | PanopticResNet | TapFusion, num_classes: int):
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"CenterOffsetNet: num_classes must be at least 1, got {num_classes}")
        self.body, self.num_classes = body, num_classes
        self.aligned = isinstance(body, PanopticResNet)
        self.offset_unit = getattr(body, "offset_unit", 1.0)
        outputs = {"semantic": num_classes + 1, "center": num_classes, "offset": 2}
        for name, channels in outputs.items():
            setattr(self, name, self._head(name, channels))
        if isinstance(body, TapFusion):
            self.activation = nn.Conv2d(body.backbone.channels[-1], num_classes + 1, 1, bias=False)
            nn.init.zeros_(self.activation.weight)

    def _head(self, name: str, outputs: int) -> nn.Sequential:
        if isinstance(self.body, HRNet):
            layers = [nn.Conv2d(self.body.width, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, outputs, 1)]
        elif isinstance(self.body, PanopticResNet):
            width = {"semantic": 256, "center": 128, "offset": 32}[name]
            inputs = self.body.widths[0 if name == "semantic" else 1]
            layers = [separable(inputs, width), nn.Conv2d(width, outputs, 1)]
        else:
            layers = [separable(self.body.width, self.body.width, 3), nn.Conv2d(self.body.width, outputs, 1)]
            nn.init.normal_(layers[1].weight, std=0.001)
            nn.init.zeros_(layers[1].bias)
            return nn.Sequential(*layers)
        head = nn.Sequential(*layers)
        for module in head.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.001)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        return head

    @property
    def normalization(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """``(mean, std)`` of the RGB channels in units 0..255."""
        return self.body.normalization

    def published_parameters(self) -> list[nn.Parameter]:
        """Parameters that published ImageNet weights, or a classifier, can fill."""
        own = self.body if isinstance(self.body, HRNet) else self.body.backbone
        return [*own.parameters(), *(self.activation.parameters() if isinstance(self.body, TapFusion) else ())]

    @torch.no_grad()
    def begin_with(self, classifier: CamNet) -> None:
        """Take backbone and classes of a trained classifier with the same backbone and classes; small bodies only."""
        self.body.backbone.load_state_dict(classifier.backbone.state_dict())
        self.activation.weight[1:] = classifier.classifier.weight

    def stage_parameters(self, first: int) -> list[nn.Parameter]:
        """Those of them in the stages from ``first`` on, which only small bodies tell apart."""
        if first and not isinstance(self.body, TapFusion):
            raise ValueError(f"CenterOffsetNet: a {type(self.body).__name__} learns whole, got first stage {first}")
        if not first:
            return self.published_parameters()
        return [*self.body.backbone.stage_parameters(first), *self.activation.parameters()]

    def forward(self, images: Tensor, gradient_from: int = 0) -> CenterOffsetOutput:
        """``[B, 3, H, W]`` normalised images; stages of a small body before ``gradient_from`` run without gradient."""
        if isinstance(self.body, TapFusion):
            features, last = self.body(images, gradient_from)
            first_guess = F.interpolate(self.activation(last), features.shape[-2:], mode="bilinear")
            maps = (self.semantic(features) + first_guess, self.center(features), self.offset(features))
        else:
            features = self.body(images)
            classes, instances = features if isinstance(features, tuple) else (features, features)
            maps = (self.semantic(classes), self.center(instances), self.offset(instances))
        maps = (*maps[:2], maps[2] * self.offset_unit)
        return CenterOffsetOutput(*(_resize(x, images.shape[-2:], self.aligned) for x in maps))


def architecture_problem(name: str) -> str | None:
    """Why ``name`` is no architecture, or None."""
    if name in ARCHITECTURES or backbone_problem(name) is None:
        return None
    known = (*ARCHITECTURES, *BACKBONES)
    return f"got {name!r}, expected one of {', '.join(known)} or timm:NAME ({did_you_mean(name, known)})"


def build_center_offset_net(
    name: str, num_classes: int, weights: str | os.PathLike[str] | None = None
) -> CenterOffsetNet:
    """A network by the name of its architecture.

    Args:
        name: ``hrnet_w32``, ``hrnet_w48``, ``panoptic_resnet50``, ``panoptic_resnet101``, or a backbone of
            :func:`build_backbone` for the small head (``tiny``, made for small scenes, gives offsets in pixels).
        num_classes: ``C``.
        weights: ImageNet weights of the backbone, a file as for :func:`build_backbone` (for HRNet those of the pose
            variant); None = random.

    Raises:
        ConfigError: unknown name, or a weight file that is missing, damaged or does not fit.
    """
    problem = architecture_problem(name)
    if problem:
        raise ConfigError(f"architecture: {problem}")
    if name not in ARCHITECTURES:
        unit = 1.0 if name == "tiny" else 64.0
        return CenterOffsetNet(TapFusion(build_backbone(name, weights), offset_unit=unit), num_classes)
    hrnet = name.startswith("hrnet")
    body = HRNet(int(name[-2:])) if hrnet else PanopticResNet(name.removeprefix("panoptic_"))
    if weights is not None and str(weights):
        target = body if hrnet else body.backbone
        state = {key: value for key, value in read_weights(weights).items() if not key.startswith(_UNUSED)}
        wanted = target.state_dict()
        finest = "stage4.2.fuse_layers."
        state = {key: value for key, value in state.items() if key in wanted or not key.startswith(finest)}
        target.load_state_dict(checked_state(state, wanted, str(weights)))
    return CenterOffsetNet(body, num_classes)


def _resize(x: Tensor, size: torch.Size, aligned: bool) -> Tensor:
    """Channel by channel in memory, whatever came in: what labels and losses read is then neither copied nor walked
    across."""
    x = x.contiguous()
    return F.interpolate(x, size, mode="bilinear", align_corners=aligned)
