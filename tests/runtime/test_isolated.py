"""Decoding in processes of their own: same pictures, same faults, and a decoder that dies or hangs costs one image."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from wsis.errors import Code, ConfigError, DataFault, SystemFault
from wsis.runtime.isolated import IsolatedReader

SIZE = (37, 50, 3)


def picture(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, SIZE).astype(np.uint8)


def endings(index: int) -> np.ndarray:
    """Loads as the index tells."""
    if index == 900:
        os.kill(os.getpid(), signal.SIGSEGV)
    if index == 901:
        time.sleep(100)
    if index == 902:
        raise DataFault(Code.E_DECODE, "bäd", "read", "no image")
    if index == 903:
        raise SystemFault("the disk failed")
    if index == 904:
        raise OSError(5, "Input/output error")
    if index == 905:
        raise ConfigError("wrong")
    if index == 906:
        raise ZeroDivisionError("a fault of the program")
    if index == 907:
        os._exit(0)
    return picture(index)


@contextlib.contextmanager
def reading(load=endings, processes=2, timeout=20.0):
    reader = IsolatedReader(load, lambda index: f"image-{index}", processes, timeout)
    try:
        yield reader
    finally:
        reader.close()


def test_same_pictures_from_many_threads():
    with reading() as reader, ThreadPoolExecutor(8) as pool:
        for index, image in enumerate(pool.map(reader, range(40))):
            np.testing.assert_array_equal(image, picture(index))


def test_faults_come_through_and_the_process_goes_on():
    with reading(processes=1) as reader:
        for index, kind, text in (
            (902, DataFault, "E_DECODE bäd"),
            (903, SystemFault, "the disk failed"),
            (904, SystemFault, "Input/output"),
            (905, ConfigError, "wrong"),
            (906, RuntimeError, "ZeroDivisionError: a fault of the program"),
        ):
            with pytest.raises(kind, match=text):
                reader(index)
            np.testing.assert_array_equal(reader(1), picture(1))


@pytest.mark.parametrize("index", [900, 907])
def test_a_crash_twice_is_poison(index):
    with reading() as reader:
        np.testing.assert_array_equal(reader(3), picture(3))
        with pytest.raises(DataFault, match=f"E_POISON image-{index} .*crashed, 2 times"):
            reader(index)
        np.testing.assert_array_equal(reader(4), picture(4))


def test_a_hang_twice_is_poison_and_nothing_is_left_hanging():
    with reading(timeout=0.3) as reader:
        with pytest.raises(DataFault, match=r"E_POISON image-901 .*did not end within 0\.3 s, 2 times"):
            reader(901)
        np.testing.assert_array_equal(reader(4), picture(4))


def test_a_crash_once_costs_nothing(tmp_path):
    mark = tmp_path / "died"

    def load(index):
        if index == 5 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return picture(index)

    with reading(load) as reader:
        np.testing.assert_array_equal(reader(5), picture(5))
    assert mark.exists()


def test_descriptors_stay_constant():
    with reading(processes=1) as reader:
        reader(0)
        before = len(os.listdir("/proc/self/fd"))
        for index in (900, 1, 900, 2, 902 - 2, 3):
            with contextlib.suppress(DataFault):
                reader(index)
        assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.skipif(sys.platform != "linux", reason="children are told of the death of their parent on Linux alone")
@pytest.mark.parametrize("how", ["close", "kill"])
def test_nothing_is_left_behind(tmp_path, how):
    """Also a process that hangs goes when the run is killed."""
    program = (
        "import os, sys, threading, time; sys.path.insert(0, os.getcwd())\n"
        "from tests.runtime.test_isolated import endings\n"
        "from wsis.runtime.isolated import IsolatedReader\n"
        "reader = IsolatedReader(endings, str, 2, 60.0); reader(1); reader(2)\n"
        "thread = threading.Thread(target=reader, args=(901,), daemon=True)\n"
        "if sys.argv[1] == 'kill': thread.start(); time.sleep(0.3)\n"
        "print('ready', flush=True)\n"
        "if sys.argv[1] == 'kill': os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, how], stdout=subprocess.PIPE, timeout=30)
    assert done.stdout == b"ready\n"
    assert done.returncode == (0 if how == "close" else -9)
