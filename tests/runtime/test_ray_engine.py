"""The Ray engine: the same run as the local one, also when workers are killed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.errors import ConfigError
from wsis.models import CamNet, build_backbone
from wsis.runtime.ray_engine import RaySettings, ray_problem
from wsis.steps import label
from wsis.training.checkpoint import save_network

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="ray is not installed (pip install 'wsis[ray]'): the Ray engine is not tested",
)

DATA = DataConfig(kind="scenes", num=24, min_side=32, max_side=48)


def config(out: Path, weights: Path, **changes) -> label.Config:
    settings = {"method": "cam", "scales": (1.0,), "unit_size": 4, "device": "cpu", "workers": 1}
    return label.Config(data=DATA, out=str(out), cam_weights=str(weights), **(settings | changes))


def contents(folder: Path) -> dict[str, bytes]:
    leave = ("log.jsonl", "run.lock", "units.lock")
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in leave]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("nets")
    names = list(open_data(DATA).categories.names)
    torch.manual_seed(0)
    save_network(folder / "cam", CamNet(build_backbone("tiny"), len(names)), {"backbone": "tiny", "categories": names})
    return folder / "cam.safetensors"


@pytest.fixture(scope="module")
def local(tmp_path_factory, weights) -> dict[str, bytes]:
    """The files of the local engine's run."""
    out = tmp_path_factory.mktemp("local") / "run"
    assert label.run(config(out, weights)).exit_code == 0
    return contents(out)


def test_ray_gives_the_local_run_and_survives_a_killed_worker(tmp_path, weights, local):
    out = tmp_path / "ray"
    child = _start(out, weights)
    actors = _actors_at_the_first_shard(child, out)
    if actors:
        os.kill(actors[0], signal.SIGKILL)
    stdout, stderr = child.communicate(timeout=300)
    assert child.returncode == 0, stderr
    assert "24 images" in stdout
    assert contents(out) == local
    events = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert sum(event["event"] == "unit" for event in events) == 6
    if actors:
        assert any(event["event"] == "worker" for event in events)


def test_a_killed_driver_takes_its_workers_along_and_the_same_command_goes_on(tmp_path, weights, local):
    out = tmp_path / "ray"
    child = _start(out, weights)
    actors = _actors_at_the_first_shard(child, out)
    assert actors, child.communicate(timeout=300)[1]
    child.kill()
    child.communicate(timeout=60)
    assert not (out / "summary.json").exists()
    child = _start(out, weights)
    stdout, stderr = child.communicate(timeout=300)
    assert child.returncode == 0, stdout + stderr
    assert contents(out) == local
    end = time.monotonic() + 60
    while any(Path(f"/proc/{number}").exists() for number in actors):
        assert time.monotonic() < end, "workers of the killed driver are still there"
        time.sleep(0.1)


def _start(out: Path, weights: Path) -> subprocess.Popen:
    program = (
        "from tests.runtime.test_ray_engine import *\n"
        f"result = label.run(config(Path({str(out)!r}), Path({str(weights)!r}), engine='ray', processes=2))\n"
        "print(result.summary())\n"
        "raise SystemExit(result.exit_code)\n"
    )
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _actors_at_the_first_shard(child: subprocess.Popen, out: Path) -> list[int]:
    """The actors as soon as one of them has written a shard; none if the run has ended before."""
    end = time.monotonic() + 300
    while time.monotonic() < end and child.poll() is None:
        if list((out / "shards").glob("shard-*.parquet")):
            return _actors_below(child.pid)
        time.sleep(0.005)
    return []


def _actors_below(pid: int) -> list[int]:
    """The processes below ``pid`` that call themselves an actor of ours."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "stat").read_text().rsplit(")", 1)[1].split()
            parents[int(path.name)] = (int(words[1]), (path / "cmdline").read_bytes())
        except OSError:
            continue
    found = []
    for number, (parent, words) in parents.items():
        above = parent
        while above in parents and above != pid:
            above = parents[above][0]
        if above == pid and words.startswith(b"ray::_Worker"):
            found.append(number)
    return found


def test_what_is_wrong_with_ray_is_said_before_work(tmp_path, weights, monkeypatch):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="no token"):
        label.run(config(tmp_path / "run", weights, engine="ray", address="10.0.0.1:6379"))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x")
    assert ray_problem(RaySettings("10.0.0.1:6379")) is None
    with pytest.raises(ConfigError, match="belong to engine ray"):
        config(tmp_path / "run", weights, processes=2)
    with pytest.raises(ConfigError, match="Ray hands out the units"):
        config(tmp_path / "run", weights, engine="ray", shard="0/2")
    with pytest.raises(ConfigError, match="expected local or ray"):
        config(tmp_path / "run", weights, engine="dask")
