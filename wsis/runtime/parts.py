"""A share of a run's units for one of several processes that know nothing of each other: ``--shard=i/n``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wsis.errors import ConfigError
from wsis.runtime.inputs import Unit

__all__ = ["Part", "local_rank", "parse_part"]

_RANKS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))


@dataclass(frozen=True)
class Part:
    """The ``index``-th (from 0) of ``of`` contiguous parts of the list of units."""

    index: int
    of: int

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    def choose(self, units: Sequence[Unit]) -> Sequence[Unit]:
        return units[len(units) * self.index // self.of : len(units) * (self.index + 1) // self.of]

    @property
    def name(self) -> str:
        """For file names."""
        return f"{self.index:04d}-of-{self.of:04d}"


def parse_part(text: str, environment: Mapping[str, str] = os.environ) -> Part | None:
    """``"2/8"``, or ``"auto"`` for what torchrun or SLURM say in the environment; nothing for ``""``.

    Raises:
        ConfigError: another text, or ``auto`` where the environment says nothing.
    """
    if not text:
        return None
    if text == "auto":
        for rank, size in _RANKS:
            if rank in environment and size in environment:
                text = f"{environment[rank]}/{environment[size]}"
                break
        else:
            names = " nor ".join("/".join(pair) for pair in _RANKS)
            raise ConfigError(f"shard: got auto, but the environment has neither {names}; give i/n")
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not match or not int(match[1]) < int(match[2]):
        raise ConfigError(f"shard: got {text!r}, expected i/n with 0 <= i < n, or auto")
    return Part(int(match[1]), int(match[2]))


def local_rank(environment: Mapping[str, str] = os.environ) -> int | None:
    """The number of this process among those of its machine, as torchrun or SLURM say it."""
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        if environment.get(name, "").isdigit():
            return int(environment[name])
    return None
