"""Weights that may be fetched: only where they are asked for by name, and only with the hash that is pinned here."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from wsis.data.artifacts import file_sha256, make_folder
from wsis.errors import ConfigError, is_system_error, system_fault

__all__ = ["IMAGENET", "PINNED", "Pinned", "fetch"]

IMAGENET = "imagenet"
"""What ``weights`` says where they are to be fetched."""


@dataclass(frozen=True)
class Pinned:
    """A file on the network: where it is, how long, and the sha256 of its content."""

    url: str
    size: int
    sha256: str


PINNED = {
    "resnet50": Pinned(
        "https://download.pytorch.org/models/resnet50-0676ba61.pth",
        102_530_333,
        "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    ),
}
"""Backbone -> torchvision's first ImageNet weights of it."""


def fetch(name: str) -> Path:
    """The file of :data:`PINNED` weights, fetched into torch's cache if it is not there; the content is hashed every
    time.

    Raises:
        ConfigError: no pinned weights of that name, no way to them, or another content.
        SystemFault: the disk failed.
    """
    if name not in PINNED:
        raise ConfigError(f"weights: {IMAGENET} is known for {', '.join(PINNED)}, not for {name}; give a file")
    pinned = PINNED[name]
    path = make_folder(Path(torch.hub.get_dir()) / "checkpoints") / pinned.url.rsplit("/", 1)[-1]
    if not path.is_file():
        print(f"fetching {pinned.url} ({pinned.size / 1e6:.0f} MB) into {path.parent}", file=sys.stderr)
        try:
            torch.hub.download_url_to_file(pinned.url, str(path), pinned.sha256, progress=sys.stderr.isatty())
        except (OSError, RuntimeError) as error:
            if is_system_error(error):
                raise system_fault(error, "writing", path, pinned.size) from error
            raise ConfigError(
                f"weights: {pinned.url} could not be fetched ({error}); fetch it elsewhere and give --weights=FILE"
            ) from error
    got = file_sha256(path)
    if got != pinned.sha256:
        raise ConfigError(
            f"weights: {path} has sha256 {got}, expected {pinned.sha256}; it is not what was published: rm {path}"
        )
    return path
