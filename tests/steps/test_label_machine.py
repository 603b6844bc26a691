"""The label step and the machine: memory, signals, threads, a GPU that is not there."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest
import torch

from tests.label_runs import contents
from tests.label_runs import label_config as config
from wsis.data.config import DataConfig
from wsis.errors import ConfigError
from wsis.labels.labeller import Labeller
from wsis.runtime.shards import iterate_rows
from wsis.runtime.stop import StopRequest
from wsis.steps import label


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_an_error(tmp_path, scenes, weights):
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        label.run(config(scenes, tmp_path / "run", weights, device="cuda"))


def test_memory_that_does_not_suffice_halves_the_batch(tmp_path, weights, monkeypatch, capsys):
    data = DataConfig(kind="scenes", num=4, min_side=48, max_side=48)
    label.run(config(data, tmp_path / "plain", weights, batch_size=4))
    fields = Labeller.fields

    def short(self, images, *args, **kwargs):
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return fields(self, images, *args, **kwargs)

    monkeypatch.setattr(Labeller, "fields", short)
    label.run(config(data, tmp_path / "short", weights, batch_size=4 * torch.get_num_threads()))
    assert contents(tmp_path / "plain") == contents(tmp_path / "short")
    events = [json.loads(line) for line in (tmp_path / "short" / "log.jsonl").read_text().splitlines()]
    memory = [(event["images"], event["then"]) for event in events if event["event"] == "memory"]
    assert memory[:2] == [(4, "batches of 2"), (2, "batches of 1")]
    capsys.readouterr()


def test_memory_that_does_not_suffice_for_one_image_takes_the_cpu(tmp_path, weights, monkeypatch):
    data = DataConfig(kind="scenes", num=2, min_side=48, max_side=48)
    label.run(config(data, tmp_path / "plain", weights))
    fields, asked = Labeller.fields, set()

    def full(self, images, *args, **kwargs):
        known = int(images[0].sum()) in asked
        asked.add(int(images[0].sum()))
        if not known:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return fields(self, images, *args, **kwargs)

    monkeypatch.setattr(Labeller, "fields", full)
    assert label.run(config(data, tmp_path / "short", weights, batch_size=1)).exit_code == 0
    assert contents(tmp_path / "plain") == contents(tmp_path / "short")
    events = [json.loads(line) for line in (tmp_path / "short" / "log.jsonl").read_text().splitlines()]
    assert any(event.get("then") == "this one on the CPU" for event in events)


def test_a_unit_that_takes_too_long_after_a_signal_is_dropped(tmp_path, straight, scenes, weights, monkeypatch):
    out = tmp_path / "dropped"
    settings = config(scenes, out, weights, semantic=str(out / "maps"), batch_size=1)
    monkeypatch.setattr(label, "StopRequest", lambda: StopRequest(grace=0.0))
    fields = Labeller.fields

    def stop_here(self, *args, **kwargs):
        monkeypatch.setattr(Labeller, "fields", fields)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)
        return fields(self, *args, **kwargs)

    monkeypatch.setattr(Labeller, "fields", stop_here)
    assert label.run(settings).exit_code == 75
    assert list(iterate_rows(out, incomplete=True)) == []
    assert label.run(settings).exit_code == 0
    assert contents(out) == contents(straight.out)


@pytest.mark.parametrize("threads", [1, 3])
def test_output_does_not_depend_on_threads_and_nothing_stays_open(tmp_path, straight, scenes, weights, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        label.run(config(scenes, tmp_path / "warm", weights))
        open_files, running = len(os.listdir("/proc/self/fd")), threading.active_count()
        out = tmp_path / "other"
        label.run(config(scenes, out, weights, semantic=str(out / "maps")))
        assert contents(out) == contents(straight.out)
        assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == (open_files, running)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("before", "kept"), [(signal.SIG_IGN, True), (signal.SIG_DFL, False)])
def test_a_hangup_that_nohup_ignores_stays_ignored(before, kept):
    own = signal.signal(signal.SIGHUP, before)
    try:
        with StopRequest() as stop:
            assert (signal.getsignal(signal.SIGHUP) == signal.SIG_IGN) is kept
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.asked is not kept
        assert signal.getsignal(signal.SIGHUP) == before
    finally:
        signal.signal(signal.SIGHUP, own)
