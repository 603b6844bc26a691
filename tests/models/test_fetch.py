"""Weights from the network: only when asked for, only with the pinned content."""

from __future__ import annotations

import hashlib
import urllib.error

import pytest
import torch

from wsis.errors import ConfigError
from wsis.models import build_backbone, fetch


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache; nothing may be fetched."""
    torch.hub.set_dir(str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("the network was used"))
    yield tmp_path / "checkpoints"
    torch.hub.set_dir(str(torch.hub._get_torch_home() + "/hub"))


@pytest.fixture
def pinned(monkeypatch):
    one = fetch.Pinned("https://example.invalid/tiny.pth", 3, hashlib.sha256(b"abc").hexdigest())
    monkeypatch.setattr(fetch, "PINNED", {"tiny": one})
    return one


def test_every_pin_is_a_whole_sha256():
    for one in fetch.PINNED.values():
        assert one.url.startswith("https://")
        assert len(bytes.fromhex(one.sha256)) == 32
        assert one.size > 1_000_000


def test_a_file_that_is_there_is_hashed_every_time(cache, pinned):
    cache.mkdir()
    (cache / "tiny.pth").write_bytes(b"abc")
    assert fetch.fetch("tiny") == cache / "tiny.pth"
    (cache / "tiny.pth").write_bytes(b"abd")
    with pytest.raises(ConfigError, match=rf"tiny\.pth has sha256 .*, expected {pinned.sha256}.*: rm "):
        fetch.fetch("tiny")
    with pytest.raises(ConfigError, match="not what was published"):
        build_backbone("tiny", "imagenet")


def test_the_pinned_hash_goes_with_the_request(cache, pinned, monkeypatch):
    asked = []

    def download(url, path, sha256, progress):
        asked.append((url, sha256))
        with open(path, "wb") as file:
            file.write(b"abc")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert fetch.fetch("tiny").read_bytes() == b"abc"
    assert asked == [(pinned.url, pinned.sha256)]


@pytest.mark.parametrize("error", [urllib.error.URLError("no route"), RuntimeError("invalid hash value")])
def test_what_cannot_be_fetched_says_what_to_do(cache, pinned, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(ConfigError, match=r"tiny\.pth could not be fetched .* give --weights=FILE"):
        fetch.fetch("tiny")


def test_nothing_is_fetched_unasked(cache):
    for name in ("resnet50", "mobilenet_v2"):
        build_backbone(name)
    with pytest.raises(ConfigError, match="imagenet is known for resnet50, not for mobilenet_v2; give a file"):
        build_backbone("mobilenet_v2", "imagenet")
