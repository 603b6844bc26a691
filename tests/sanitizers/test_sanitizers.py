"""The CPU kernels under the address, undefined-behaviour and thread sanitizers; planted faults are caught first."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.sanitizers.build import KINDS, build, run

CANARIES = {"address": (0, 1, 2, 3), "thread": (4,)}


def _available(kind: str) -> bool:
    if shutil.which("c++") is None:
        return False
    names = [
        subprocess.run(["c++", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
        for name in KINDS[kind]
    ]
    return all("/" in name for name in names)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_kernels_are_clean(kind: str):
    if not _available(kind):
        pytest.skip(f"the compiler has no {kind} sanitizer")
    build(kind)
    for canary in CANARIES[kind]:
        result = run(kind, "--canary", str(canary))
        assert result.returncode == 97, f"canary {canary} was not caught:\n{result.stdout}{result.stderr}"
    result = run(kind, "--cases", "40")
    assert result.returncode == 0, result.stdout + result.stderr[-8000:]
    assert result.stdout.endswith("clean\n")
