"""How the peak network learns (BESTIE, CVPR 2022, section 3.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from wsis.data.image_set import ImageSet
from wsis.models import PeakNet

from . import augment
from .color import color_jitter
from .config import OptimConfig
from .modules import Training, channels_last
from .schedule import make_optimizer

__all__ = ["PeakSamples", "PeakTraining"]


class PeakTraining(Training):
    """Multi-label soft-margin loss on the pooled maps; biases learn twice as fast and have no factor but that.

    Args:
        net: the peak network.
        optim: optimiser and schedule; new layers are those after the backbone.
        steps: steps of the whole training.
        gradient_from: first stage of a five-tap backbone that learns.
    """

    net: PeakNet

    def __init__(self, net: PeakNet, optim: OptimConfig, steps: int, gradient_from: int = 0):
        super().__init__(net, optim, steps)
        self.gradient_from = gradient_from

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        backbone = self.net.backbone
        before = (
            backbone.stage_parameters(self.gradient_from)
            if hasattr(backbone, "stage_parameters")
            else list(backbone.parameters())
        )
        return before, [*self.net.extra.parameters(), *self.net.classifier.parameters()]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = []
        for parameters, factor in zip(self.parameter_groups(), (1.0, self.optim.new_layers)):
            for biases in (False, True):
                rate = self.optim.lr * factor * (2.0 if biases else 1.0)
                chosen = [p for p in parameters if (p.dim() == 1) == biases]
                groups.append({"params": chosen, "lr": rate, "base_lr": rate})
        return self.resumed(make_optimizer(self.optim, groups))

    def loss(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        logits = self.net(channels_last(batch["image"])).logits
        return {"loss": F.multilabel_soft_margin_loss(logits.float(), batch["labels"])}


class PeakSamples:
    """``(epoch, index)`` to a crop with its labels: the picture brought to a square (its shape is not kept), mirrored,
    its colours changed, a smaller square cut out.

    Args:
        data: pictures with image labels.
        normalization: of the network.
        side: of the square; crop: of what is cut out.
        seed: of every draw.
    """

    def __init__(self, data: ImageSet, normalization: tuple, side: int, crop: int, seed: int):
        self.data, self.normalization, self.side, self.crop, self.seed = data, normalization, side, crop, seed

    def __call__(self, epoch: int, index: int) -> dict[str, Any]:
        rng = augment.draw(self.seed, epoch, index)
        image = Image.fromarray(self.data.load_image(index))
        square = image.resize((self.side, self.side), Image.Resampling.BILINEAR)
        if rng.integers(2):
            square = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = np.asarray(color_jitter(square, rng))
        top, left = (int(rng.integers(self.side - self.crop + 1)) for _ in range(2))
        pixels = pixels[top : top + self.crop, left : left + self.crop]
        labels = torch.from_numpy(self.data.label_vector(index))
        return {"id": self.data[index].id, "image": augment.normalise(pixels, self.normalization), "labels": labels}
