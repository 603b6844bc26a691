"""Two small untrained networks and a small data set on disk, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.label_runs import label_config
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.data.scenes import SceneSet, write_scenes
from wsis.models import CamNet, IRNet, build_backbone
from wsis.steps import label
from wsis.training.checkpoint import save_network

SIDES = {"min_side": 40, "max_side": 56}


@pytest.fixture(scope="session")
def scenes() -> DataConfig:
    return DataConfig(kind="scenes", num=6, **SIDES)


@pytest.fixture(scope="session")
def weights(tmp_path_factory, scenes) -> dict[str, str]:
    """Options that name the networks."""
    folder: Path = tmp_path_factory.mktemp("nets")
    names = list(open_data(scenes).categories.names)
    torch.manual_seed(0)
    cam = CamNet(build_backbone("tiny"), len(names))
    save_network(folder / "cam", cam, {"backbone": "tiny", "categories": names})
    save_network(folder / "irnet", IRNet(build_backbone("tiny")), {"backbone": "tiny"})
    return {
        "cam_weights": str(folder / "cam.safetensors"),
        "irnet_weights": str(folder / "irnet.safetensors"),
    }


@pytest.fixture
def photos(tmp_path) -> DataConfig:
    """Eight scenes as files in VOC layout."""
    root = tmp_path / "voc"
    write_scenes(root, [SceneSet(8, **SIDES)])
    return DataConfig(kind="voc", root=str(root), split="train")


@pytest.fixture
def straight(tmp_path, scenes, weights):
    """A label run with semantic maps, undisturbed."""
    out = tmp_path / "straight"
    result = label.run(label_config(scenes, out, weights, semantic=str(out / "maps")))
    assert result.exit_code == 0
    return result
