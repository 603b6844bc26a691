"""Versions, what was compiled and for which GPUs, what the machine has, and a self-test of every operator.

Each operator is compared with its slow oracle on a tiny input, on the CPU and on every GPU that torch sees.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import pkgutil
import platform
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wsis import __version__
from wsis.errors import ConfigError

__all__ = ["CASES", "Check", "Config", "Result", "run", "self_test"]

_PACKAGES = "torch lightning numpy pillow pycocotools opencv-python-headless safetensors pyarrow jsonargparse rich timm"


@dataclass(frozen=True)
class Config:
    """What to look at.

    Attributes:
        device: where the operators are tested: auto (the CPU and every GPU), cpu, cuda or cuda:N.
    """

    device: str = "auto"


@dataclass(frozen=True)
class Check:
    """One operator on one device: its largest difference from the oracle, or what went wrong."""

    op: str
    device: str
    error: float
    seconds: float
    problem: str = ""


@dataclass(frozen=True)
class Result:
    """What was found.

    Attributes:
        facts: lines of name and value.
        checks: the self-test.
        problems: what has to be mended.
    """

    facts: tuple[tuple[str, str], ...]
    checks: tuple[Check, ...]
    problems: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        return 2 if self.problems else 0

    def summary(self) -> str:
        width = max(len(name) for name, _ in self.facts)
        lines = [f"{name:<{width}}  {value}" for name, value in self.facts]
        if self.checks:
            lines += ["", "self-test against the oracles:"]
        for check in self.checks:
            verdict = check.problem or f"ok, largest difference {check.error:.1e}, {1000 * check.seconds:.0f} ms"
            lines.append(f"  {check.op:<22}{check.device:<8}{verdict}")
        lines += ["", *(f"problem: {problem}" for problem in self.problems)] if self.problems else ["", "all well"]
        return "\n".join(lines)


def run(config: Config) -> Result:
    """Look at everything; nothing found is an exception."""
    facts = [("wsis", __version__), ("python", f"{platform.python_version()} on {platform.platform()}")]
    facts += [(name, _version(name)) for name in _PACKAGES.split()]
    problems: list[str] = []
    facts += _build_facts(problems)
    facts += _machine_facts(problems)
    checks: tuple[Check, ...] = ()
    try:
        importlib.import_module("wsis.ops")
    except ImportError as error:
        problems.append(str(error).removeprefix("wsis: "))
    else:
        checks = tuple(check for device in _devices(config.device) for check in self_test(device))
        problems += [f"{check.op} on {check.device}: {check.problem}" for check in checks if check.problem]
    return Result(tuple(facts), checks, tuple(problems))


def self_test(device: str = "cpu") -> list[Check]:
    """Compare every operator with its oracle on ``device``."""
    return [_compare(name, make, tolerance, device) for name, (make, tolerance) in CASES.items()]


def _compare(name: str, make: Callable[[], tuple[Sequence, dict]], tolerance: float, device: str) -> Check:
    ops = importlib.import_module("wsis.ops")
    arguments, options = make()
    start = time.perf_counter()
    try:
        got = getattr(ops, name)(*(_move(item, device) for item in arguments), **options)
        seconds = time.perf_counter() - start
        error = _difference(_move(got, "cpu"), _oracle(name)(*arguments, **options))
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as problem:
        text = f"{type(problem).__name__}: {str(problem).splitlines()[0]}"
        return Check(name, device, float("nan"), time.perf_counter() - start, text)
    problem = "" if error <= tolerance else f"differs from its oracle by {error:.1e}, expected at most {tolerance:.0e}"
    return Check(name, device, error, seconds, problem)


def _oracle(name: str) -> Callable:
    """The function of that name among the oracles."""
    if name == "propagate_to_edge":
        return _propagate
    package = importlib.import_module("wsis.reference")
    for item in pkgutil.iter_modules(package.__path__):
        function = getattr(importlib.import_module(f"wsis.reference.{item.name}"), name, None)
        if function is not None:
            return function
    raise NotImplementedError(f"{name} has no oracle")


def _propagate(x: Tensor, edge: Tensor, radius: int = 5, beta: float = 10, exp_times: int = 8) -> Tensor:
    walk = _oracle("random_walk")
    edge = edge.reshape(1, *edge.shape[-2:])
    flat = x.reshape(-1, *x.shape[-2:]) * (1 - edge)
    index = torch.zeros(flat.shape[0], dtype=torch.int64)
    return walk(flat, edge, index, radius=radius, beta=beta, num_steps=2**exp_times)[:, None]


def _scene() -> dict[str, Tensor]:
    """Made-up inputs of two images, 24 x 28, the same every time."""
    generator = torch.Generator().manual_seed(7)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(28.0), indexing="ij")
    pull = torch.stack([12 - rows, 14 - columns])[None] * 0.3
    labels = torch.randint(0, 3, (2, 6, 7), generator=generator).repeat_interleave(4, 1).repeat_interleave(4, 2)
    images = torch.randint(0, 256, (2, 3, 24, 28), generator=generator, dtype=torch.uint8)
    return {
        "boundary": 0.5 * rand(2, 24, 28),
        "seeds": rand(3, 24, 28),
        "index": torch.tensor([0, 0, 1]),
        "displacement": torch.cat([pull, -pull * 0.5]) + rand(2, 2, 24, 28) - 0.5,
        "labels": labels.to(torch.int32),
        "images": images,
        "scores": rand(2, 24, 28),
        "logits": 4 * rand(2, 24, 28) - 2,
    }


def _case(*names: str, **options: Any) -> Callable[[], tuple[Sequence, dict]]:
    def make() -> tuple[Sequence, dict]:
        scene = _scene()
        return [scene[name] for name in names], options

    return make


def _masks() -> tuple[Sequence, dict]:
    return [_oracle("mask_rle")(_scene()["labels"])], {}


def _ids() -> tuple[Sequence, dict]:
    return [_oracle("mask_rle")(_scene()["labels"]), 2, (24, 28)], {}


CASES: dict[str, tuple[Callable[[], tuple[Sequence, dict]], float]] = {
    "neighbor_offsets": (lambda: ([5], {}), 0.0),
    "edge_to_affinity": (_case("boundary", radius=5), 0.0),
    "random_walk": (_case("seeds", "boundary", "index"), 1e-4),
    "propagate_to_edge": (lambda: ([_scene()["seeds"], _scene()["boundary"][:1]], {}), 1e-4),
    "inter_pixel_loss": (_case("logits", "displacement", "labels", radius=5), 1e-4),
    "trace_displacement": (_case("displacement", num_steps=300), 0.0),
    "connected_components": (_case("labels", connectivity=4), 0.0),
    "instance_stats": (_case("labels", "scores"), 1e-5),
    "dense_crf": (lambda: ([_scene()["images"], _scene()["labels"], torch.tensor([3, 3])], {}), 0.0),
    "dense_crf_marginals": (
        lambda: ([_scene()["images"], _scene()["labels"], torch.tensor([3, 3])], {}),
        1e-4,
    ),
    "mask_rle": (_case("labels"), 0.0),
    "rle_to_mask": (_masks, 0.0),
    "rle_to_ids": (_ids, 0.0),
}
"""One small input per operator and the largest difference from its oracle that is allowed."""


def _move(value: Any, device: str) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_move(item, device) for item in value)
    return value


def _difference(got: Any, want: Any) -> float:
    """Largest absolute difference; infinite where shape or kind differ."""
    if isinstance(want, Tensor):
        if not isinstance(got, Tensor) or got.shape != want.shape:
            return float("inf")
        return float((got.double() - want.double()).abs().max()) if want.numel() else 0.0
    if isinstance(want, (tuple, list)):
        if len(got) != len(want):
            return float("inf")
        return max((_difference(a, b) for a, b in zip(got, want)), default=0.0)
    return 0.0 if got == want else float("inf")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _build_facts(problems: list[str]) -> list[tuple[str, str]]:
    try:
        from wsis import _host
    except ImportError as error:
        problems.append(f"the compiled host module does not load: {error}")
        return [("compiled", "no")]
    info = dict(_host.build_info())
    cuda = info.get("cuda") or ""
    kernels = f"CUDA {cuda} for {info.get('cuda_architectures')}" if cuda else "CPU only (nvcc was not there)"
    return [
        ("compiled", f"version {info.get('version')} with {info.get('compiler')}"),
        ("compiled with torch", str(info.get("built_with_torch"))),
        ("kernels", kernels),
    ]


def _machine_facts(problems: list[str]) -> list[tuple[str, str]]:
    facts = [("processors", f"{os.cpu_count()}, torch uses {torch.get_num_threads()} threads")]
    if sys.platform == "linux":
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        facts.append(("memory", f"{memory / 2**30:.1f} GiB"))
        shared = shutil.disk_usage("/dev/shm").total if os.path.isdir("/dev/shm") else 0
        facts.append(("/dev/shm", f"{shared / 2**20:.0f} MiB"))
        if 0 < shared < 512 << 20:
            problems.append(f"/dev/shm has only {shared >> 20} MiB; give training workers more (docker --shm-size=2g)")
    if not torch.cuda.is_available():
        facts.append(("GPU", f"none that torch sees (torch built for CUDA {torch.version.cuda or 'none'})"))
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        found = torch.cuda.get_device_properties(index)
        text = f"{found.name}, sm_{found.major}{found.minor}, {found.total_memory / 2**30:.0f} GiB"
        facts.append((f"GPU {index}", text))
    return facts


def _devices(name: str) -> list[str]:
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return ["cpu", *(f"cuda:{index}" for index in range(seen))]
    if name != "cpu" and not (name.startswith("cuda") and seen):
        raise ConfigError(f"device: got {name!r}, expected auto, cpu or a GPU that torch sees ({seen} here)")
    return [name]
