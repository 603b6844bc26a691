"""Any feature network of timm as a five-tap backbone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsis.errors import ConfigError

from .backbone import Backbone

__all__ = ["TimmBackbone"]


class TimmBackbone(Backbone):
    """The deepest feature map that timm offers at each stride, brought to strides 4, 4, 8, 16 and 16.

    The network is asked for output stride 16; where it cannot, its last map is resized to stride 16. The
    image is padded with zeros at the bottom and right to a multiple of 32 and the taps are cropped, so that
    the sizes hold for every image. The first tap is the stride-2 map, max-pooled, where there is one, else
    the stride-4 map. The network is one piece: the gradient is cut before all of it or nowhere.

    Args:
        name: a name of ``timm.list_models()``.
    """

    def __init__(self, name: str):
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise ConfigError(f"backbone: timm:{name} needs timm; type: pip install 'wsis[timm]'") from error
        if name.split(".")[0] not in timm.list_models():
            near = ", ".join(timm.list_models(f"*{name.split('.')[0][:6]}*")[:5]) or "see timm.list_models()"
            raise ConfigError(f"backbone: timm has no model {name!r} ({near})")
        self.model = _create(timm, name)
        strides = self.model.feature_info.reduction()
        widths = self.model.feature_info.channels()
        last = {stride: index for index, stride in enumerate(strides)}
        if not {4, 8, 16} <= set(last):
            raise ConfigError(f"backbone: timm:{name} has features at strides {strides}, expected 4, 8 and 16")
        first16 = strides.index(16)
        self._pool_first = 2 in last
        self._taps = (last.get(2, last[4]), last[4], last[8], first16, len(strides) - 1)
        self.channels = tuple(widths[tap] for tap in self._taps)
        config = self.model.pretrained_cfg
        mean, std = config.get("mean", (0.485, 0.456, 0.406)), config.get("std", (0.229, 0.224, 0.225))
        self.normalization = (tuple(255.0 * v for v in mean), tuple(255.0 * v for v in std))

    def stages(self) -> tuple[tuple[nn.Module, ...], ...]:
        """The whole network stands before the last tap: it cannot be cut in between."""
        return ((), (), (), (), (self.model,))

    def forward(self, images: Tensor, gradient_from: int = 0) -> tuple[Tensor, ...]:
        """As :class:`Backbone`; any ``gradient_from`` above 0 cuts the gradient of the whole network."""
        height, width = images.shape[-2:]
        with torch.set_grad_enabled(torch.is_grad_enabled() and gradient_from == 0):
            maps = self.model(F.pad(images, (0, -width % 32, 0, -height % 32)))
        taps = []
        for index, stride in zip(self._taps, self.strides):
            x = maps[index]
            if x.shape[1] != self.channels[len(taps)]:
                x = x.permute(0, 3, 1, 2)
            if not taps and self._pool_first:
                x = F.max_pool2d(x, 3, 2, 1)
            full = ((height + 31) // 32 * 32 // stride, (width + 31) // 32 * 32 // stride)
            if tuple(x.shape[-2:]) != full:
                x = F.interpolate(x, full, mode="bilinear", align_corners=False)
            taps.append(x[..., : (height - 1) // stride + 1, : (width - 1) // stride + 1])
        return tuple(taps)


def _create(timm, name: str) -> nn.Module:
    """The network at output stride 16, or at its own where it has no such option."""
    try:
        return timm.create_model(name, pretrained=False, features_only=True, output_stride=16)
    except (TypeError, NotImplementedError, AssertionError):
        pass
    try:
        return timm.create_model(name, pretrained=False, features_only=True)
    except (RuntimeError, NotImplementedError, TypeError, AssertionError) as error:
        raise ConfigError(f"backbone: timm:{name} gives no feature maps: {error}") from error
