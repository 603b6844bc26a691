"""End to end: images per second of ``wsis label`` on made-up scenes, with the share of each stage.

The nets are untrained, which changes what they say, not how long they take; pictures, nets and settings are those of
``wsis demo``. What photographs cost is in docs/results.md.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.models import CamNet, IRNet, build_backbone
from wsis.steps import label
from wsis.training.checkpoint import save_network

DATA = DataConfig(kind="scenes", num=24, seed=3)


@pytest.fixture(scope="module")
def nets(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("nets")
    torch.manual_seed(0)
    names = list(open_data(DATA).categories.names)
    backbone = {"backbone": "tiny"}
    cam = save_network(folder / "cam", CamNet(build_backbone("tiny"), len(names)), {**backbone, "categories": names})
    irnet = save_network(folder / "irnet", IRNet(build_backbone("tiny")), backbone)
    return {"cam_weights": str(cam), "irnet_weights": str(irnet)}


@pytest.mark.parametrize("method", ["irnet", "cam"])
@pytest.mark.benchmark(group=f"label {DATA.num} scenes of 112 to 160 pixels, tiny nets")
def test_wsis(benchmark, nets, tmp_path: Path, method):
    turn, seconds = itertools.count(), {}
    used = nets if method == "irnet" else {"cam_weights": nets["cam_weights"]}

    def run() -> None:
        config = label.Config(data=DATA, out=str(tmp_path / f"run{next(turn)}"), method=method, min_side=160, **used)
        result = label.run(config)
        assert result.exit_code == 0
        assert result.job.ok + result.job.ok_empty == DATA.num
        seconds.update(result.job.seconds)

    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    rate = DATA.num / benchmark.stats.stats.median
    shares = {f"share_of_{stage}": spent / sum(seconds.values()) for stage, spent in seconds.items()}
    benchmark.extra_info.update(threads=torch.get_num_threads(), images_per_second=rate, **shares)
