"""Which device a run uses, and in which precision its nets run."""

from __future__ import annotations

import contextlib

import torch

from wsis.errors import ConfigError

__all__ = ["DEVICES", "PRECISIONS", "autocast", "choose_device", "device_problems"]

DEVICES = "auto, cpu, cuda or cuda:N"
PRECISIONS = ("fp32", "bf16")


def device_problems(device: str, precision: str) -> list[str]:
    """What is wrong with the words; whether the machine has the device is asked by :func:`choose_device`."""
    problems = []
    name, _, number = device.partition(":")
    known = device in ("auto", "cpu") or (name == "cuda" and (not number or number.isdigit()))
    if not known or device.endswith(":"):
        problems.append(f"device: got {device!r}, expected {DEVICES}")
    if precision not in PRECISIONS:
        problems.append(f"precision: got {precision!r}, expected {' or '.join(PRECISIONS)}")
    return problems


def choose_device(name: str, rank: int | None = None) -> torch.device:
    """``auto`` takes a GPU if torch sees one, of several that of number ``rank``; a GPU that was asked for and
    is not there is an error."""
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda" if rank is None else f"cuda:{rank % torch.cuda.device_count()}")
    device = torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError(
                f"device: got {name!r}, but torch sees no GPU (driver, CUDA_VISIBLE_DEVICES, or a torch "
                "without CUDA; wsis doctor tells which); give --device=cpu or auto"
            )
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise ConfigError(f"device: got {name!r}, but torch sees {torch.cuda.device_count()} GPUs")
    return device


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """The context in which nets run."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
