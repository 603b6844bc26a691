"""Networks on disk: the way there and back, and every fault of a checkpoint."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from wsis.data.categories import Categories
from wsis.errors import ConfigError
from wsis.models import CamNet, IRNet, build_backbone
from wsis.training.checkpoint import load_network, network_problem, save_network

NAMES = ("apple", "pear", "plum")


@pytest.fixture
def saved(tmp_path):
    net = CamNet(build_backbone("tiny"), 3)
    path = save_network(tmp_path / "cam", net, {"backbone": "tiny", "categories": list(NAMES), "note": 1})
    return net, path


def _reseal(path):
    """Write the current sha256 into the JSON, as someone who changed the tensors on purpose would."""
    from wsis.data.artifacts import file_sha256

    file = path.with_suffix(".json")
    meta = json.loads(file.read_text())
    file.write_text(json.dumps({**meta, "sha256": file_sha256(path)}))


@pytest.mark.parametrize("suffix", ["", ".safetensors", ".json"])
def test_there_and_back(saved, suffix):
    net, path = saved
    again = load_network(path.with_suffix(suffix), kind="cam_net", categories=Categories(NAMES))
    assert not again.training
    for (key, a), (other, b) in zip(net.state_dict().items(), again.state_dict().items()):
        assert key == other
        assert torch.equal(a, b)


def test_irnet_there_and_back(tmp_path):
    net = IRNet(build_backbone("tiny"))
    net.mean_shift.running_mean.fill_(1.5)
    again = load_network(save_network(tmp_path / "deep" / "irn.safetensors", net, {"backbone": "tiny"}))
    assert isinstance(again, IRNet)
    assert again.mean_shift.running_mean.tolist() == [1.5, 1.5]


def test_no_temporaries_are_left(saved):
    assert sorted(p.name for p in saved[1].parent.iterdir()) == ["cam.json", "cam.safetensors"]


def test_missing(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.safetensors does not exist"):
        load_network(tmp_path / "none")


@pytest.mark.parametrize("damage", ["truncate", "empty", "html", "flip"])
def test_damage_is_named_with_both_hashes(saved, damage):
    _, path = saved
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    content = {"truncate": data[:-100], "empty": b"", "html": b"<html>404</html>", "flip": data}[damage]
    path.write_bytes(bytes(content))
    with pytest.raises(ConfigError, match=r"sha256 is .*, expected "):
        load_network(path)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format": 1}'])
def test_a_damaged_description(saved, damage):
    saved[1].with_suffix(".json").write_bytes(damage)
    with pytest.raises(ConfigError, match=r"cam\.json"):
        load_network(saved[1])


def test_a_newer_format(saved):
    file = saved[1].with_suffix(".json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 99}))
    with pytest.raises(ConfigError, match="format 99"):
        load_network(saved[1])


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".pkl"])
def test_pickles_are_not_opened(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(ConfigError, match="may hold code"):
        load_network(tmp_path / f"a{suffix}")


def test_keys_shapes_and_values(saved):
    _, path = saved
    state = load_file(path)
    del state["backbone.stem.0.0.weight"]
    state["extra"] = torch.ones(1)
    state["classifier.weight"] = torch.ones(4, 96, 1, 1)
    state["backbone.stem.0.1.bias"] = torch.full((16,), float("nan"))
    save_file(state, path)
    _reseal(path)
    with pytest.raises(ConfigError) as caught:
        load_network(path)
    text = str(caught.value)
    assert "missing key backbone.stem.0.0.weight" in text
    assert "unexpected key extra" in text
    assert "classifier.weight has shape [4, 96, 1, 1], expected [3, 96, 1, 1]" in text
    assert "backbone.stem.0.1.bias holds values that are not finite" in text


def test_what_it_is_for(saved):
    _, path = saved
    assert network_problem(path, "cam_net", "tiny", Categories(NAMES)) is None
    assert "expected a irnet" in network_problem(path, "irnet")
    assert "backbone tiny, expected resnet50" in network_problem(path, "cam_net", "resnet50")
    assert "3 classes, the data has 1" in network_problem(path, "cam_net", categories=Categories(("a",)))
    assert "class 2 is 'plum'" in network_problem(path, "cam_net", categories=Categories(("apple", "pear", "nut")))
    with pytest.raises(ConfigError, match="class 2"):
        load_network(path, categories=Categories(("apple", "pear", "nut")))


def test_other_dtype_loads(saved):
    _, path = saved
    state = {k: v.to(torch.bfloat16) if v.is_floating_point() else v for k, v in load_file(path).items()}
    save_file(state, path)
    _reseal(path)
    assert load_network(path).classifier.weight.dtype == torch.float32
