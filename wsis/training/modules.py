"""One LightningModule per network: what a training step optimises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsis.errors import ConfigError
from wsis.losses.inter_pixel import irnet_loss
from wsis.models import CamNet, IRNet
from wsis.profiling import span

from .config import OptimConfig
from .schedule import build_optimizer, set_learning_rates

__all__ = ["CamTraining", "IRNetTraining", "Training", "channels_last"]


class Training(pl.LightningModule):
    """What the trainings share: schedule by step, and a stop before a step that would spoil the weights.

    Args:
        net: the network.
        optim: optimiser and schedule.
        steps: steps of the whole training.

    Attributes:
        synchronised_norm: several GPUs share the statistics of their batch norm.
    """

    synchronised_norm = False

    def __init__(self, net: nn.Module, optim: OptimConfig, steps: int):
        super().__init__()
        self.net, self.optim, self.steps = net, optim, steps
        self.start_step = 0
        self.resume: dict[str, Any] | None = None
        self.values: dict[str, Tensor] = {}
        self._ids: list[str] = []

    @property
    def step(self) -> int:
        """Optimiser steps done, those before a resume included."""
        return self.start_step + self.global_step

    def loss(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """``loss`` and its parts, scalars."""
        raise NotImplementedError

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Parameters that were trained before, and new ones."""
        raise NotImplementedError

    def extra_state(self) -> dict[str, Any]:
        """What a checkpoint holds beside weights and optimiser: any tree of tensors and plain values."""
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take up what ``extra_state`` gave; empty for checkpoints without."""

    def setup(self, stage: str) -> None:
        """Only what learns has a gradient; said before several processes agree on which gradients they exchange."""
        before, new = self.parameter_groups()
        learning = {id(p) for p in (*before, *new)}
        for parameter in self.net.parameters():
            parameter.requires_grad_(id(parameter) in learning)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        before, new = self.parameter_groups()
        return self.resumed(build_optimizer(self.optim, before, new))

    def resumed(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimiser with the state of the checkpoint that is resumed, if one is; ``ConfigError`` if that is of
        other parameters."""
        if self.resume is not None:
            state = self.resume["optimizer"]
            both = state["param_groups"], optimizer.param_groups
            got, want = ([len(group["params"]) for group in groups] for groups in both)
            if got != want:
                raise ConfigError(
                    f"checkpoint of step {self.resume['step']}: its optimizer holds groups of {got} parameters,"
                    f" expected {want}; it is of another training: give another --out, or remove its checkpoints"
                )
            optimizer.load_state_dict(state)
        return optimizer

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        set_learning_rates(self.optimizers(use_pl_optimizer=False), self.optim.factor(self.step, self.steps))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        with span(f"training.{type(self).__name__}"):
            self.values = self.loss(batch)
        self._ids = batch["id"]
        if not bool(torch.isfinite(self.values["loss"])):
            self._stop("loss")
        return self.values["loss"]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients))):
            self._stop("gradient")

    def _stop(self, what: str) -> None:
        raise ConfigError(
            f"training: the {what} of step {self.step + 1} is not finite; its images are"
            f" {', '.join(self._ids)}; the weights were not updated. A smaller optim.lr, a longer warmup"
            " or machine.precision=fp32 may help"
        )


class CamTraining(Training):
    """Multi-label soft-margin loss on the pooled class maps (IRNet, section 3.1).

    Args:
        net: the classifier.
        optim: optimiser and schedule; new layers are the classifier.
        steps: steps of the whole training.
        gradient_from: first stage of the backbone that learns.
    """

    def __init__(self, net: CamNet, optim: OptimConfig, steps: int, gradient_from: int):
        super().__init__(net, optim, steps)
        self.gradient_from = gradient_from

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        return self.net.backbone.stage_parameters(self.gradient_from), list(self.net.classifier.parameters())

    def loss(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        logits = self.net(channels_last(batch["image"]), self.gradient_from).logits
        return {"loss": F.multilabel_soft_margin_loss(logits.float(), batch["labels"])}


class IRNetTraining(Training):
    """The inter-pixel losses; only the two branches learn, unless ``gradient_from`` opens the backbone.

    Args:
        net: IRNet.
        optim: optimiser and schedule; new layers are the displacement branch.
        steps: steps of the whole training.
        gradient_from: first stage of the backbone that learns; 5 = none.
        radius: pairs lie nearer than this many cells.
    """

    def __init__(self, net: IRNet, optim: OptimConfig, steps: int, gradient_from: int = 5, radius: int = 10):
        super().__init__(net, optim, steps)
        self.gradient_from, self.radius = gradient_from, radius

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        stages = self.net.backbone.stage_parameters(self.gradient_from)
        return [*stages, *self.net.boundary_parameters()], self.net.displacement_parameters()

    def loss(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        output = self.net(channels_last(batch["image"]), self.gradient_from)
        total, parts = irnet_loss(output, batch["seeds"], self.radius)
        return {"loss": total, **parts._asdict()}


def channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
