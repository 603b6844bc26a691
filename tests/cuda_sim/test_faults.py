"""The simulator bites: every planted fault is noticed, and the sound kernel passes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tests.cuda_sim.simulator import HERE, ORDERS, ROOT, SimulatorFault, build

VALUES = np.random.default_rng(1).integers(-99, 99, 128).astype(np.int32)
VALUES.flags.writeable = False
BLOCKS = VALUES.reshape(2, 64)


def _sum(simulator, fault, order):
    out = np.zeros(2, np.int32)
    simulator.call("faulty_sum_cuda", VALUES, out, 2, fault, order=order)
    return np.array_equal(out, BLOCKS.sum(1))


def _neighbour(simulator, fault, order):
    values = VALUES.copy()
    simulator.call("faulty_neighbour_cuda", values, 2, fault, order=order)
    return np.array_equal(values.reshape(2, 64), BLOCKS + np.roll(BLOCKS, -1, 1))


def _warp(simulator, fault, order):
    out = np.zeros(32, np.int32)
    simulator.call("faulty_warp_cuda", out, fault, order=order)
    return np.array_equal(out, np.arange(32))


def _cluster(simulator, fault, order):
    out = np.zeros(8, np.int32)
    simulator.call("faulty_cluster_cuda", out, 8, fault, order=order)
    return out.tolist() == [0, 1, 3, 6, 0, 5, 11, 18]


@pytest.mark.parametrize("kernel", [_sum, _neighbour, _warp, _cluster])
def test_the_sound_kernel_is_right_in_every_order(planted, order, kernel):
    assert kernel(planted, 0, order)


@pytest.mark.parametrize(
    ("kernel", "fault"),
    [(_sum, 1), (_neighbour, 2), (_neighbour, 3), (_sum, 4), (_cluster, 11), (_neighbour, 12)],
    ids=[
        "dropped barrier",
        "dropped second barrier",
        "race",
        "unwritten shared memory",
        "dropped cluster sync",
        "off by one",
    ],
)
def test_wrong_results_show_in_some_order(planted, kernel, fault):
    assert not all(kernel(planted, fault, order) for order in ORDERS)


@pytest.mark.parametrize(
    ("kernel", "fault", "text"),
    [
        (_sum, 5, "wrote behind its 256 bytes of dynamic shared memory"),
        (_sum, 6, "array 1: bytes behind the buffer were written"),
        (_sum, 8, r"divergent __syncthreads: thread \d+ waits at faults.cu:\d+, thread \d+ at faults.cu:\d+"),
        (_warp, 9, r"deadlock: 16 threads wait in a warp operation at faults.cu:\d+; 16 have exited"),
        (_warp, 10, "meet in __\\w+_sync and, at faults.cu:\\d+, in __\\w+_sync"),
    ],
)
def test_faults_are_named_with_their_line(planted, order, kernel, fault, text):
    with pytest.raises(SimulatorFault, match=text):
        kernel(planted, fault, order)


def test_an_input_that_is_written_is_noticed(planted):
    frozen = VALUES.copy()
    frozen.flags.writeable = False
    with pytest.raises(SimulatorFault, match="array 0: an input was written"):
        planted.call("faulty_neighbour_cuda", frozen, 2, 0)


def test_after_a_fault_the_next_launch_is_sound(planted):
    with pytest.raises(SimulatorFault):
        _warp(planted, 9, "forward")
    assert _warp(planted, 0, "forward")


def _sanitized(*arguments: str) -> subprocess.CompletedProcess[str]:
    def library(name: str) -> str:
        return subprocess.run(
            ["g++", f"-print-file-name={name}"], check=True, capture_output=True, text=True
        ).stdout.strip()

    environment = {
        "PATH": "/usr/bin:/bin",
        "LD_PRELOAD": f"{library('libasan.so')}:{library('libstdc++.so')}",
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0:exitcode=99",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "tests.cuda_sim.sanitized", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_address_sanitizer_sees_a_read_behind_the_buffer():
    library = build("planted_asan", sorted((HERE / "planted").glob("*.cu")), sanitize=True)
    sound = _sanitized(str(library), "0")
    assert sound.returncode == 0, sound.stderr
    assert "sum 8128" in sound.stdout
    faulty = _sanitized(str(library), "7")
    assert faulty.returncode == 99
    assert "heap-buffer-overflow" in faulty.stderr
    assert "sum_kernel" in faulty.stderr
