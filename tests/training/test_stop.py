"""A training that is asked to stop, whose reader goes away, or whose helpers die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.test_resume import _sample, _train
from wsis.errors import SystemFault
from wsis.models import CamNet, build_backbone
from wsis.training.batches import BatchPlan, CropData
from wsis.training.config import MachineConfig, OptimConfig
from wsis.training.fit import fit
from wsis.training.modules import CamTraining

ROOT = Path(__file__).resolve().parents[2]


def _words(out):
    small = {"data.kind": "scenes", "data.num": 8, "data.num_classes": 2, "data.min_side": 48, "data.max_side": 64}
    small |= {"backbone": "tiny", "min_side": 40, "max_side": 64, "crop": 48, "out": out}
    small |= {"optim.steps": 2000, "optim.batch_size": 4}
    small |= {"machine.device": "cpu", "machine.workers": 0, "machine.log_every": 1}
    return [sys.executable, "-m", "wsis", "train-cam", *(f"--{name}={value}" for name, value in small.items())]


def _start(out):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(_words(out), cwd=ROOT, env=environment, stderr=subprocess.PIPE)


def _first_step(process):
    for line in process.stderr:
        if line.startswith(b"step "):
            return
    raise AssertionError(f"the training ended with {process.wait()}")


@pytest.fixture
def heeded():
    """SIGHUP as it is without nohup, under which the tests may run, too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_after_the_step_with_a_checkpoint(tmp_path, number):
    straight, _ = _train(tmp_path / "a")
    before = signal.getsignal(number)
    asked = []

    def signalling(epoch, index):
        if epoch == 1 and not asked:
            asked.append(index)
            os.kill(os.getpid(), number)
        return _sample(epoch, index)

    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "b", sample=signalling)
    assert signal.getsignal(number) is before
    resumed, figures = _train(tmp_path / "b")
    assert figures["resumed_from"] == 3
    assert all(torch.equal(value, resumed[key]) for key, value in straight.items())


def test_a_second_signal_ends_it_at_once(tmp_path):
    def signalling(epoch, index):
        os.kill(os.getpid(), signal.SIGINT)
        return _sample(epoch, index)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "b", sample=signalling)
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "b" / "checkpoints").exists()


def test_the_command_that_is_asked_to_stop_ends_with_75(tmp_path):
    process = _start(tmp_path / "run")
    _first_step(process)
    process.send_signal(signal.SIGTERM)
    text = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 75, text[-2000:]
    assert "stopped; the same command resumes" in text
    assert list((tmp_path / "run" / "checkpoints").glob("step-*.json"))


def test_a_reader_that_has_gone_does_not_end_it(tmp_path, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    before = os.dup(2)
    os.dup2(writing, 2)
    try:
        with open(2, "w", closefd=False) as nobody:
            monkeypatch.setattr(sys, "stderr", nobody)
            _, figures = _train(tmp_path / "a")
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(writing)
    assert figures["steps"] == 6


def test_a_helper_that_dies_is_a_fault_of_the_machine(tmp_path):
    main = os.getpid()

    def dying(epoch, index):
        if epoch == 1 and os.getpid() != main:
            os.kill(os.getpid(), signal.SIGKILL)
        return _sample(epoch, index)

    machine = MachineConfig(device="cpu", workers=1, checkpoint_every=1, log_every=1)
    net = CamNet(build_backbone("tiny"), 3)
    training = CamTraining(net, OptimConfig(lr=0.01, steps=6, batch_size=4), 6, 0)
    (tmp_path / "a").mkdir()
    with pytest.raises(SystemFault, match=r"DataLoader worker \(pid.*last checkpoint is kept"):
        fit(training, CropData(dying, 10), BatchPlan(10, 4, 6, 0), tmp_path / "a", machine)
