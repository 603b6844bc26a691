"""HRNet (Sun et al., CVPR 2019; the variant for pose estimation): branches at strides 4, 8, 16 and 32 that exchange
what they see, of which the finest is the result.

Keys are those of the published ImageNet weights of the pose variant, in which the last module of stage 4 writes the
stride-4 branch only:

=============================================  =================================================
key                                            what
=============================================  =================================================
``conv1``, ``bn1``, ``conv2``, ``bn2``         two 3x3 convolutions of stride 2 to 64 channels
``layer1.0`` .. ``layer1.3``                   bottlenecks to 256 channels
``transition1.0.0``, ``.0.1``                  3x3 convolution and norm of a branch that goes on
``transition1.1.0.0``, ``.1.0.1``              the same with stride 2, for a branch that begins
``stage2.0.branches.B.N.conv1`` ..             basic block N of branch B
``stage2.0.fuse_layers.I.J.0``, ``.1``         1x1 convolution and norm, from branch J > I to I
``stage2.0.fuse_layers.I.J.K.0``, ``.K.1``     step K of the strided ones, from branch J < I to I
=============================================  =================================================

Stages 3 and 4 likewise; the classifier's keys (``incre_modules``, ``downsamp_modules``, ``final_layer``,
``classifier``) are not used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .resnet import Bottleneck

__all__ = ["HRNet"]

_MODULES = {2: 1, 3: 4, 4: 3}
_BLOCKS = 4


class HRNet(nn.Module):
    """Features at stride 4.

    Args:
        width: channels of the stride-4 branch, 32 or 48; each coarser branch has twice as many.

    ``forward``: ``[B, 3, H, W]`` normalised images to ``[B, width, h, w]`` with ``h = ceil(ceil(H / 2) / 2)``.
    Sides should be multiples of 32: branches of other sizes are brought to the finer one's by nearest neighbour.
    """

    normalization = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))

    def __init__(self, width: int):
        super().__init__()
        if width not in (32, 48):
            raise ValueError(f"HRNet: width must be 32 or 48, got {width}")
        self.width = width
        self.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(
            Bottleneck(64, 64, 1, True, nn.BatchNorm2d),
            *(Bottleneck(256, 64, 1, False, nn.BatchNorm2d) for _ in range(3)),
        )
        before = [256]
        for stage in (2, 3, 4):
            widths = [width << branch for branch in range(stage)]
            setattr(self, f"transition{stage - 1}", _transition(before, widths))
            count = _MODULES[stage]
            last = [stage == 4 and index == count - 1 for index in range(count)]
            setattr(self, f"stage{stage}", nn.Sequential(*(_Exchange(widths, finest_only=only) for only in last)))
            before = widths
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.001)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(images)))
        x = self.layer1(torch.relu(self.bn2(self.conv2(x))))
        branches = [x]
        for stage in (2, 3, 4):
            transition = getattr(self, f"transition{stage - 1}")
            carried = [*branches, *[branches[-1]] * (len(transition) - len(branches))]
            branches = [x if layer is None else layer(x) for layer, x in zip(_or_none(transition), carried)]
            for module in getattr(self, f"stage{stage}"):
                branches = module(branches)
        return branches[0]


def _or_none(layers: nn.ModuleList) -> list[nn.Module | None]:
    return [None if isinstance(layer, nn.Identity) else layer for layer in layers]


def _conv(inputs: int, outputs: int, kernel: int, stride: int, relu: bool) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


def _transition(before: list[int], widths: list[int]) -> nn.ModuleList:
    """Branches that change their width, and one more at half the resolution of the last."""
    layers = nn.ModuleList()
    for index, width in enumerate(widths):
        if index >= len(before):
            layers.append(nn.Sequential(_conv(before[-1], width, 3, 2, relu=True)))
        elif before[index] != width:
            layers.append(_conv(before[index], width, 3, 1, relu=True))
        else:
            layers.append(nn.Identity())
    return layers


class _Basic(nn.Module):
    """``relu(x + norm(conv(relu(norm(conv(x))))))``."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + x)


class _Exchange(nn.Module):
    """Four basic blocks in every branch, then every branch becomes the sum of all, brought to its resolution."""

    def __init__(self, widths: list[int], finest_only: bool):
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(_Basic(width) for _ in range(_BLOCKS))) for width in widths)
        rows = range(1 if finest_only else len(widths))
        self.fuse_layers = nn.ModuleList(nn.ModuleList(_path(widths, j, i) for j in range(len(widths))) for i in rows)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        branches = [blocks(x) for blocks, x in zip(self.branches, branches)]
        fused = []
        for i, paths in enumerate(self.fuse_layers):
            parts = [path(x) for path, x in zip(paths, branches)]
            size = branches[i].shape[-2:]
            parts = [p if p.shape[-2:] == size else nn.functional.interpolate(p, size, mode="nearest") for p in parts]
            fused.append(torch.relu(torch.stack(parts).sum(0)))
        return fused


def _path(widths: list[int], source: int, target: int) -> nn.Module:
    """From one branch to another: 1x1 (the caller enlarges) or as many 3x3 of stride 2 as there are levels between."""
    if source == target:
        return nn.Identity()
    if source > target:
        return _conv(widths[source], widths[target], 1, 1, relu=False)
    steps = target - source
    return nn.Sequential(
        *(_conv(widths[source], widths[source], 3, 2, relu=True) for _ in range(steps - 1)),
        _conv(widths[source], widths[target], 3, 2, relu=False),
    )
