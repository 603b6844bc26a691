"""Golden cases: what the reference programs answered to made-up scenes (see ``tests/golden/README.md``)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from wsis.structures import Instances

GOLDEN = Path(__file__).resolve().parent / "golden"
SEEDS = tuple(sorted(int(path.name.split("_")[1]) for path in GOLDEN.glob("scene_*.npz")))


@cache
def _read(path: Path) -> MappingProxyType[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    for array in arrays.values():
        array.flags.writeable = False
    return MappingProxyType(arrays)


def load_scene(seed: int) -> MappingProxyType[str, np.ndarray]:
    """All arrays of one scene by name; read-only, copy before writing."""
    (path,) = GOLDEN.glob(f"scene_{seed}_*.npz")
    return _read(path)


def load_voc_ap() -> MappingProxyType[str, np.ndarray]:
    """The arrays of ``voc_ap.npz``."""
    return _read(GOLDEN / "voc_ap.npz")


def tensor(scene: MappingProxyType[str, np.ndarray], name: str) -> torch.Tensor:
    """One array of a scene as a tensor of its own (a copy)."""
    return torch.from_numpy(scene[name].copy())


def unpack_masks(scene: MappingProxyType[str, np.ndarray], name: str) -> torch.Tensor:
    """The bit-packed masks ``name`` (``det_mask``, ``bestie_mask``) as ``[N, H, W]`` bool."""
    count, height, width = (int(n) for n in scene[f"{name}_shape"])
    bits = np.unpackbits(scene[name], axis=-1, count=width)
    return torch.from_numpy(bits.reshape(count, height, width).astype(bool))


def true_instances(scene: MappingProxyType[str, np.ndarray]) -> Instances:
    """The scene's true instances with 0-based classes, in the order of their ids."""
    ids = np.unique(scene["in_inst"])
    ids = ids[ids > 0]
    masks = torch.from_numpy(scene["in_inst"][None] == ids[:, None, None])
    return Instances(masks, torch.from_numpy(scene["in_classes"][ids].astype(np.int64) - 1))


def bestie_instances(scene: MappingProxyType[str, np.ndarray]) -> Instances:
    """What the reference BESTIE inference found in the scene."""
    return Instances(unpack_masks(scene, "bestie_mask"), tensor(scene, "bestie_class"), tensor(scene, "bestie_score"))
