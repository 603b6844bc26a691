"""Freed memory stays with the process where glibc is asked to keep it."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from wsis.runtime.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
assert keep_freed_memory()
for _ in range(6):
    faults()
print(first, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc's mallopt")
def test_pages_are_touched_once():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    if "AssertionError" in done.stderr:
        pytest.skip("this C library has no mallopt")
    first, later = map(int, done.stdout.split())
    assert later < first / 4
