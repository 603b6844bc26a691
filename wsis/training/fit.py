"""Running a training: folder, resume, logs, checkpoints, progress."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger

from wsis.data.artifacts import Journal, RunFolder, file_sha256
from wsis.errors import ConfigError, SystemFault
from wsis.models import checked_state
from wsis.runtime.device import choose_device
from wsis.runtime.memory import keep_freed_memory
from wsis.runtime.progress import say
from wsis.runtime.stop import StopRequest

from .batches import BatchPlan, CropData, TrainingData
from .checkpoint import load_network, read_meta
from .checkpoint_io import SafetensorsIO, newest_state, prune_states, state_path
from .config import MachineConfig
from .modules import Training

__all__ = ["TrainResult", "finished", "fit", "is_main", "open_run", "weights_key"]


def is_main() -> bool:
    """Whether this process is the one that writes: the only one, or the first of torchrun."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0))) == 0


@contextlib.contextmanager
def open_run(out: str, kind: str, parts: Mapping[str, Any]) -> Iterator[Path]:
    """The folder of a training, held by the first process for all of them."""
    if is_main():
        with RunFolder(out, kind, parts) as folder:
            yield folder.path
    else:
        yield Path(out)


@dataclass(frozen=True)
class TrainResult:
    """How a training ended.

    Attributes:
        network: the tensor file of the trained network.
        steps: optimiser steps of the whole training; resumed_from: those done before this call.
        seconds: of this call; images_per_second: of this call.
        loss: mean over the last logged steps; NaN if nothing was left to do.
    """

    network: Path
    steps: int
    resumed_from: int
    seconds: float
    images_per_second: float
    loss: float

    @classmethod
    def kept(cls, network: Path) -> TrainResult:
        """The result where nothing had to be done."""
        steps = read_meta(network)["training"]["steps"]
        return cls(network, steps, steps, 0.0, 0.0, float("nan"))

    def summary(self) -> str:
        """What the console shows."""
        if self.resumed_from >= self.steps:
            return f"{self.network} is there and verified ({self.steps} steps); nothing to do"
        resumed = f", resumed at step {self.resumed_from}" if self.resumed_from else ""
        return (
            f"{self.steps} steps{resumed}, {self.seconds:.0f} s, {self.images_per_second:.1f} images/s,"
            f" loss {self.loss:.4f}; {self.network}"
        )


def finished(network: Path, step: str) -> bool:
    """Whether the trained network is there and verifies; a damaged one is named and made again."""
    if not network.is_file():
        return False
    try:
        load_network(network)
    except ConfigError as error:
        say(f"{step}: {error}; it is made again from the last checkpoint")
        return False
    return True


def weights_key(weights: str) -> str:
    """What stands for a weight file in a fingerprint: its sha256, or the word that was given."""
    return file_sha256(weights) if Path(weights).is_file() else weights


def fit(
    training: Training,
    data: CropData,
    plan: BatchPlan,
    folder: Path,
    machine: MachineConfig,
    stop_at: int | None = None,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Train from the newest checkpoint in ``folder/checkpoints`` that verifies, or from the start.

    The result does not depend on how often the training was interrupted: on the CPU the weights are
    bit-equal. A signal that asks to stop ends it after the step in hand, with a checkpoint; a second one, or one
    where several processes train, ends it at once.

    Args:
        training: the module; its net holds the result afterwards.
        data: samples by ``(epoch, index)``.
        plan: which of them make up which step.
        folder: receives ``checkpoints/``, ``log.jsonl`` and ``tensorboard/``.
        machine: device, precision, workers, logs.
        stop_at: stop after this step, with a checkpoint, as if interrupted.
        callbacks: of Lightning, beside those of this function; they see a step before its checkpoint is written, so
            that what they did for it is not lost with a process that ends in between.

    Returns:
        ``steps``, ``resumed_from``, ``seconds`` and ``images_per_second`` of this call, and the last mean
        ``loss``.

    Raises:
        KeyboardInterrupt: asked to stop.
        SystemFault: a process that prepares images died.
    """
    if machine.threads:
        torch.set_num_threads(machine.threads)
    if choose_device(machine.device).type == "cpu":
        keep_freed_memory()
    start = _resume(training, folder / "checkpoints")
    plan.start = training.start_step = start
    last = plan.steps if stop_at is None else min(stop_at, plan.steps)
    began = time.monotonic()
    stop = StopRequest()
    log = _Log(folder, machine, plan, stop)
    if start < last:
        trainer = _trainer(folder, machine, [*callbacks, log], last - start, training.synchronised_norm)
        training.train()
        _run(trainer, training, TrainingData(data, plan, machine.workers), stop)
    seconds = time.monotonic() - began
    training.resume = None
    speed = (last - start) * plan.batch_size / seconds if start < last else 0.0
    return {
        "steps": last,
        "resumed_from": start,
        "seconds": seconds,
        "images_per_second": speed,
        "loss": log.last_loss,
    }


def _run(trainer: pl.Trainer, training: Training, data: TrainingData, stop: StopRequest) -> None:
    """Fit; Lightning itself would answer a signal with exit code 1 and leave Ctrl-C switched off."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    try:
        with stop if trainer.world_size == 1 else contextlib.nullcontext():
            trainer.fit(training, datamodule=data)
    except SystemExit:
        if not trainer.interrupted:
            raise
        raise KeyboardInterrupt from None
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        if not stop.asked:
            text = "its last checkpoint is kept; out of memory, or of shared memory (/dev/shm), is the usual cause"
            raise SystemFault(f"training: {str(error).strip()}; {text}") from error
    finally:
        if main:
            signal.signal(signal.SIGINT, before)
    if stop.asked or trainer.interrupted:
        raise KeyboardInterrupt


def _resume(training: Training, folder: Path) -> int:
    """Put the newest state that verifies into the training; the steps it had done."""
    state, rejected = newest_state(folder) if folder.is_dir() else (None, [])
    for text in rejected:
        say(f"{text}; the checkpoint before it is taken")
    if state is None:
        return 0
    name = str(state_path(folder, int(state["step"])))
    training.net.load_state_dict(checked_state(state["net"], training.net.state_dict(), name))
    training.resume = state
    training.load_extra_state(state.get("extra", {}))
    return int(state["step"])


def _trainer(
    folder: Path, machine: MachineConfig, callbacks: Sequence[Callback], steps: int, synchronised_norm: bool
) -> pl.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning.*")
    local = int(os.environ.get("LOCAL_WORLD_SIZE", machine.devices))
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", 1))
    accelerator = "gpu" if choose_device(machine.device).type == "cuda" else "cpu"
    bar = sys.stderr.isatty()
    return pl.Trainer(
        accelerator=accelerator,
        devices=local,
        num_nodes=nodes,
        strategy="ddp" if local * nodes > 1 else "auto",
        precision="32-true" if machine.precision == "fp32" else "bf16-mixed",
        max_epochs=1,
        max_steps=steps,
        use_distributed_sampler=False,
        logger=TensorBoardLogger(folder, name="tensorboard", version=""),
        log_every_n_steps=machine.log_every,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=bar,
        callbacks=[*callbacks, *([RichProgressBar()] if bar else [])],
        sync_batchnorm=synchronised_norm and accelerator == "gpu",
        plugins=[SafetensorsIO()],
    )


class _Log(Callback):
    """Rows of ``log.jsonl``, curves of TensorBoard, lines on a console without a bar, and checkpoints.

    A row holds means since the row before. After a resume the steps since the checkpoint appear again; the
    later row of a step counts.
    """

    def __init__(self, folder: Path, machine: MachineConfig, plan: BatchPlan, stop: StopRequest):
        self.folder, self.machine, self.plan, self.stop = folder, machine, plan, stop
        self.last_loss = float("nan")
        self._sums: dict[str, float] = {}
        self._count = 0
        self._journal: Journal | None = None
        self._since = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, module: Training) -> None:
        self.stop.catch_again()
        if trainer.is_global_zero:
            self._journal = Journal(self.folder / "log.jsonl")
            self._journal.append({"event": "start", "step": module.start_step, "steps": self.plan.steps})
        self._since = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Training, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        for key, value in module.values.items():
            self._sums[key] = self._sums.get(key, 0.0) + float(value.detach())
        self._count += 1
        for fault in (text for texts in batch["faults"] for text in texts):
            self._record({"event": "fault", "step": module.step, "text": fault})
        step, last = module.step, trainer.global_step == trainer.max_steps
        if step % self.machine.log_every == 0 or last:
            self._row(trainer, module, step)
        stopping = self.stop.asked
        if last or stopping or (self.machine.checkpoint_every and step % self.machine.checkpoint_every == 0):
            self._checkpoint(trainer, module, step)
        trainer.should_stop = trainer.should_stop or stopping

    def _row(self, trainer: pl.Trainer, module: Training, step: int) -> None:
        seconds = max(time.monotonic() - self._since, 1e-9)
        means = {key: value / self._count for key, value in self._sums.items()}
        speed = self._count * self.plan.batch_size / seconds
        rate = module.optimizers(use_pl_optimizer=False).param_groups[0]["lr"]
        row = {"step": step, **means, "lr": rate, "images_per_second": speed}
        self.last_loss = means["loss"]
        self._record(row)
        module.log_dict({**means, "lr": rate, "images_per_second": speed}, logger=True, rank_zero_only=True)
        if trainer.is_global_zero and not trainer.progress_bar_callback:
            parts = "  ".join(f"{key} {value:.4f}" for key, value in means.items())
            say(f"step {step}/{self.plan.steps}  {parts}  {speed:.1f} images/s")
        self._sums, self._count, self._since = {}, 0, time.monotonic()

    def _record(self, row: Mapping[str, Any]) -> None:
        if self._journal is not None:
            self._journal.append(row)

    def _checkpoint(self, trainer: pl.Trainer, module: Training, step: int) -> None:
        """The whole state of the training; shuffling and augmentation are functions of the step and need
        none.
        """
        if not trainer.is_global_zero:
            return
        optimizer = module.optimizers(use_pl_optimizer=False)
        state = {"step": step, "net": module.net.state_dict(), "optimizer": optimizer.state_dict()}
        state |= {"extra": module.extra_state()}
        folder = self.folder / "checkpoints"
        trainer.strategy.checkpoint_io.save_checkpoint(state, state_path(folder, step))
        prune_states(folder, self.machine.keep)

    def teardown(self, trainer: pl.Trainer, module: Training, stage: str) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None
