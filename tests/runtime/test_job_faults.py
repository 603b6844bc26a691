"""Label runs that are killed, whose disk fails and whose disk is full: nothing is lost, doubled or wrongly done, and
the same command ends in the same bytes.

A few of the moments are tried here; ``WSIS_SLOW=1 pytest tests/runtime/test_job_faults.py`` tries every call of the
writer, of a run of fewer images, and 20 random moments: some 2,700 runs, ten minutes of a core and more.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.data.scenes import SceneSet, write_scenes
from wsis.models import CamNet, build_backbone
from wsis.runtime.ledger import finished_units
from wsis.training.checkpoint import save_network

HERE = Path(__file__).parent / "faults"
SLOW = bool(os.environ.get("WSIS_SLOW"))
COUNT, KILL_BEFORE, KILL_AFTER, KILL_TORN, FAIL = range(1, 6)
OPENS, ALL = 1, 2
IMAGES, UNIT = (4, 2) if SLOW else (10, 3)
UNITS = -(-IMAGES // UNIT)

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc to build the library that makes faults"),
    pytest.mark.timeout(0 if SLOW else 600),
]


class Runs:
    """Label runs in one data set, each in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        write_scenes(root / "data", [SceneSet(IMAGES, min_side=32, max_side=40)])
        data = open_data(DataConfig(kind="voc", root=str(root / "data"), split="train"))
        names = list(data.categories.names)
        torch.manual_seed(0)
        net = CamNet(build_backbone("tiny"), len(names))
        save_network(root / "cam", net, {"backbone": "tiny", "categories": names})
        shim = root / "shim.so"
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", shim, HERE / "shim.c", "-ldl"], check=True)
        environment = os.environ | {"LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1"}
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.runtime.faults.server"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.number = 0
        self.want = self.contents(self.finish(self.folder()))

    def folder(self) -> Path:
        self.number += 1
        return self.root / f"run{self.number}"

    def words(self, run: Path) -> list[str]:
        options = {
            "data.kind": "voc",
            "data.root": self.root / "data",
            "data.split": "train",
            "out": run,
            "semantic": run / "maps",
            "cam_weights": self.root / "cam.safetensors",
            "method": "cam",
            "scales": "1.0",
            "unit_size": UNIT,
            "workers": 1,
            "device": "cpu",
        }
        return ["label", *(f"--{name}={value}" for name, value in options.items())]

    def go(self, run: Path, **order) -> tuple[int, str]:
        """One call of the command; exit code (negative: the signal) and what it said."""
        order |= {"words": self.words(run), "folder": str(run), "texts": f"{run}.txt", "begun": f"{run}.begun"}
        self.server.stdin.write(json.dumps(order) + "\n")
        self.server.stdin.flush()
        answer = json.loads(self.server.stdout.readline())
        return answer["code"], answer["text"]

    def finish(self, run: Path) -> Path:
        code, text = self.go(run)
        assert code == 0, text
        return run

    def contents(self, run: Path) -> dict[str, bytes]:
        leave = ("log.jsonl", "run.lock", "units.lock")
        files = [path for path in run.rglob("*") if path.is_file() and path.name not in leave]
        return {str(path.relative_to(run)): path.read_bytes() for path in files}

    def check(self, run: Path) -> None:
        """After a run that ended badly: what counts as done is whole; finished, it is the undisturbed run, and at
        most one unit was begun twice."""
        if (run / "run.json").exists():
            assert finished_units(run, "hash")[1] == {}
        self.finish(run)
        got = self.contents(run)
        assert sorted(got) == sorted(self.want)
        assert got == self.want
        begun = Path(f"{run}.begun").read_text().split()
        assert len(begun) <= UNITS + 1, begun
        assert len(set(begun)) == UNITS
        shutil.rmtree(run)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Iterator[Runs]:
    runs = Runs(tmp_path_factory.mktemp("faults"))
    yield runs
    runs.server.stdin.close()
    runs.server.wait(timeout=30)


def moments(runs: Runs, which: int, some: int) -> list[int]:
    """The numbers of the calls to be tried: all of them, or a few spread over the run."""
    code, text = runs.go(runs.folder(), mode=COUNT, which=which)
    assert code == 0
    count = int(text.rsplit("counted ", 1)[1])
    assert count > 20
    if SLOW:
        return list(range(1, count + 1))
    return sorted({1 + round(place * (count - 1) / (some - 1)) for place in range(some)})


@pytest.mark.parametrize("mode", [KILL_BEFORE, KILL_AFTER, KILL_TORN])
def test_killed_at_a_call_of_the_writer(runs, mode):
    for nth in moments(runs, ALL, 4):
        run = runs.folder()
        code, text = runs.go(run, mode=mode, nth=nth)
        assert code == -signal.SIGKILL or (mode == KILL_TORN and code == 0), text
        runs.check(run)


def test_killed_at_random_moments(runs):
    start = time.monotonic()
    runs.finish(runs.folder())
    length = time.monotonic() - start
    random.seed(0)
    killed = 0
    for _ in range(20 if SLOW else 3):
        run = runs.folder()
        code, _ = runs.go(run, seconds=random.uniform(0, length))
        killed += code == -signal.SIGKILL
        runs.check(run)
    assert killed


@pytest.mark.parametrize("name", ["ENOSPC", "EIO", "EDQUOT", "EMFILE"])
def test_a_call_of_the_writer_fails(runs, name):
    which = OPENS if name == "EMFILE" else ALL
    for nth in moments(runs, which, 3):
        run = runs.folder()
        code, text = runs.go(run, mode=FAIL, nth=nth, errno=getattr(errno, name), which=which)
        assert code in (0, 5), (nth, code, text)
        if code == 5:
            assert "the same command resumes" in text, (nth, text)
            assert os.strerror(getattr(errno, name)) in text, (nth, text)
        runs.check(run)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_full_disks_of_eight_sizes(runs, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    full = 0
    try:
        for pages in (1, 2, 3, 5, 8, 11, 14, 17):
            subprocess.run(["mount", "-o", f"remount,size={4 * pages}k", disk], check=True)
            run = disk / f"run{pages}"
            code, text = runs.go(run)
            assert code in (0, 5), text
            if code == 5:
                full += 1
                assert "bytes free" in text or "No space left" in text
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            runs.check(run)
            for path in disk.iterdir():
                path.unlink()
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
    assert full >= 6
