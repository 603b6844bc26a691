"""Two processes under torchrun give the weights of one (batch norm is fixed in the backbone that is used)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
WORDS = [
    "train-cam",
    "--data.kind=scenes",
    "--data.num=8",
    "--data.num_classes=2",
    "--data.min_side=48",
    "--data.max_side=64",
    "--backbone=mobilenet_v2",
    "--min_side=40",
    "--max_side=64",
    "--crop=48",
    "--optim.steps=3",
    "--optim.batch_size=4",
    "--machine.device=cpu",
    "--machine.workers=0",
]


def _run(start, out):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "MASTER_ADDR": "127.0.0.1"}
    words = [sys.executable, "-m", *start, "wsis", *WORDS, f"--out={out}"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return load_file(out / "cam.safetensors")


def test_two_processes_equal_one(tmp_path):
    one = _run([], tmp_path / "one")
    launch = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    two = _run(launch, tmp_path / "two")
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-5)
