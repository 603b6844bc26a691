"""Versions, what was compiled and for which GPUs, what the machine has, and a self-test of every operator.

Each operator is compared with its slow oracle on a tiny input, on the CPU and on every GPU that torch sees.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wsis import __version__
from wsis.errors import ConfigError

if TYPE_CHECKING:
    from wsis.reference.examples import Example

__all__ = ["Check", "Config", "Result", "run", "self_test"]

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
    from wsis.reference.examples import EXAMPLES

    return [_compare(name, example, device) for name, example in EXAMPLES.items()]


def _compare(name: str, example: Example, device: str) -> Check:
    ops = importlib.import_module("wsis.ops")
    arguments, options, tolerance = example.arguments(), example.options, example.tolerance
    start = time.perf_counter()
    try:
        got = getattr(ops, name)(*(_move(item, device) for item in arguments), **options)
        seconds = time.perf_counter() - start
        error = _difference(_move(got, "cpu"), example.oracle(*arguments, **options))
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as problem:
        text = f"{type(problem).__name__}: {str(problem).splitlines()[0]}"
        return Check(name, device, float("nan"), time.perf_counter() - start, text)
    problem = "" if error <= tolerance else f"differs from its oracle by {error:.1e}, expected at most {tolerance:.0e}"
    return Check(name, device, error, seconds, problem)


def _move(value: Any, device: str) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, (tuple, list)):
        return [_move(item, device) for item in value]
    if dataclasses.is_dataclass(value):
        columns = {item.name: _move(getattr(value, item.name), device) for item in dataclasses.fields(value)}
        return dataclasses.replace(value, **columns)
    return value


def _difference(got: Any, want: Any) -> float:
    """Largest absolute difference; infinite where shape or kind differ."""
    if isinstance(want, Tensor):
        if not isinstance(got, Tensor) or got.shape != want.shape:
            return float("inf")
        return float((got.double() - want.double()).abs().max()) if want.numel() else 0.0
    if dataclasses.is_dataclass(want):
        return max(_difference(getattr(got, item.name), getattr(want, item.name)) for item in dataclasses.fields(want))
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
