"""The road of the acceptance script, with stand-ins for the interpreter and for compute-sanitizer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_acceptance.sh"
STEPS = [
    *("build", "first-launch", "cuda-tests", "cuda-graphs"),
    *("memcheck", "racecheck", "initcheck", "synccheck", "benchmarks"),
]
PYTHON = """#!/bin/bash
case "$*" in
  -) echo "$LACKS" ;;
  -c*) echo 90a-real ;;
  *) echo "ran $*" | tee -a "$CALLS"; [[ -z "$BREAKS" || "$*" != *"$BREAKS"* ]] ;;
esac
"""
SANITIZER = """#!/bin/bash
if [ "$1" = --help ]; then echo "  --kernel-name arg"; exit; fi
echo "sanitizer $*" >>"$CALLS"
[ "$2" = initcheck ] || exit 0
echo "========= Uninitialized __global__ memory read of size 4 bytes"
echo "=========     at $READER+0x150"
exit 9
"""


@pytest.fixture
def run(tmp_path):
    for name, text in (("python", PYTHON), ("compute-sanitizer", SANITIZER)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    names = {"LACKS": "", "BREAKS": "", "READER": "void at::native::sort", "CALLS": str(tmp_path / "calls")}
    places = {"PYTHON": str(tmp_path / "python"), "LOGS": str(tmp_path / "logs"), "RESULTS": str(tmp_path)}

    def call(*steps: str, **settings: str) -> tuple[int, str, str]:
        (tmp_path / "calls").write_text("")
        environment = os.environ | places | names | settings | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = subprocess.run(["bash", SCRIPT, *steps], env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr, (tmp_path / "calls").read_text()

    return call


def test_all_steps(run):
    code, text, calls = run()
    assert code == 0, text
    lines = text.partition("== summary")[2].splitlines()[1:]
    assert [line.split()[:2] for line in lines] == [[step, "passed"] for step in STEPS]
    assert "sanitizer --tool racecheck --kernel-name kns=wsis --error-exitcode 9" in calls
    assert "sanitizer --tool memcheck --kernel-name kns=wsis --report-api-errors no" in calls
    assert "sanitizer --tool initcheck --print-limit 10000 --error-exitcode 9" in calls
    assert "-m benchmarks.report benchmarks/bench_cuda.py --output" in calls
    assert "no uninitialized read by wsis" in text


def test_what_fails_is_named_and_the_rest_goes_on(run):
    code, text, calls = run("tests", "sanitizers", "graphs", BREAKS="tests/ops", READER="wsis::scan_tiles_kernel")
    assert code == 1
    summary = text.partition("== summary")[2]
    for name, state in (("cuda-tests", "FAILED (exit 1)"), ("cuda-graphs", "passed"), ("initcheck", "FAILED (exit 9)")):
        assert any(line.startswith(name) and state in line for line in summary.splitlines()), text
    assert "setup.py" not in calls
    assert "benchmarks.report" not in calls


def test_nothing_goes_on_without_a_build(run):
    code, text, calls = run(BREAKS="setup.py")
    assert code == 1
    assert "build                  FAILED (exit 1)" in text
    assert calls.count("\n") == 1


def test_what_is_missing_is_named(run):
    code, text, _ = run(LACKS="no-such-package")
    assert code == 2
    assert "lacks:" in text
    assert "no-such-package" in text


def test_an_unknown_step_is_refused(run):
    code, text, calls = run("tests", "everything")
    assert (code, calls) == (2, "")
    assert "unknown step everything" in text


def test_without_a_gpu_the_first_launch_says_so(run):
    code, text, _ = run("launch", PYTHON=sys.executable, CUDA_VISIBLE_DEVICES="")
    assert code == 3
    assert "sees no CUDA device to launch the first one on" in text
