"""What a benchmark ran on: hardware, versions, threads and commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

__all__ = ["describe", "headline"]

ROOT = Path(__file__).resolve().parent.parent
PEERS = (
    "numpy",
    "scipy",
    "scikit-image",
    "opencv-python-headless",
    "pycocotools",
    "pydensecrf2",
    "torch",
    "pytest-benchmark",
)


def _first_match(path: str, key: str) -> str | None:
    """The value of ``key : value`` in a file of ``/proc``."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _gpus() -> list[dict[str, Any]]:
    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        found.append(
            {
                "name": properties.name,
                "compute_capability": f"{properties.major}.{properties.minor}",
                "memory_gib": round(properties.total_memory / 2**30, 1),
                "multiprocessors": properties.multi_processor_count,
            }
        )
    return found


def _build() -> dict[str, Any] | None:
    try:
        from wsis import _host
    except ImportError:
        return None
    return dict(_host.build_info())


def describe() -> dict[str, Any]:
    """A JSON-able description; what cannot be found out is None. ``gpus`` is empty on a machine without one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = _first_match("/proc/meminfo", "MemTotal")
    changes = _git("status", "--porcelain")
    return {
        "cpu": _first_match("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": cores,
        "memory_gib": round(int(memory.split()[0]) / 2**20, 1) if memory else None,
        "gpus": _gpus(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": {name: _version(name) for name in PEERS},
        "build": _build(),
        "commit": _git("rev-parse", "HEAD"),
        "changed_files": None if changes is None else len(changes.splitlines()),
    }


def headline(machine: dict[str, Any]) -> str:
    """One line for people."""
    gpus = ", ".join(gpu["name"] for gpu in machine["gpus"]) or "no GPU"
    commit = (machine["commit"] or "unknown")[:10] + ("+" if machine["changed_files"] else "")
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, {gpus}; "
        f"torch {machine['versions']['torch']}; commit {commit}"
    )
