"""Divide a data set into lists for training and validation, with every class in the same share in both.

The same seed and images give the same lists. Images that go together (frames of one film, crops of one picture) can
be kept on one side with a pattern.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsis.data.artifacts import make_folder, write_bytes
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.data.images import IMAGE_SUFFIXES
from wsis.errors import ConfigError, Problems

__all__ = ["Config", "Result", "run", "stratified"]


@dataclass(frozen=True)
class Config(DataConfig):
    """Divide a data set: the options of the data set, and these.

    Args:
        share: part of the images that goes to the second list.
        names: names of the two lists.
        split_seed: another seed gives other lists.
        together: a regular expression; images whose ids have the same first group (or the same match) stay together.
        output: folder of the lists; empty = ROOT/ImageSets/Segmentation for VOC, else ROOT/ImageSets.
        overwrite: replace lists that are there.
    """

    share: float = 0.2
    names: tuple[str, ...] = ("train", "val")
    split_seed: int = 0
    together: str = ""
    output: str = ""
    overwrite: bool = False

    def __post_init__(self) -> None:
        problems = Problems()
        with problems.collecting():
            super().__post_init__()
        if not 0 < self.share < 1:
            problems.add("share", f"got {self.share!r}, expected a number between 0 and 1")
        if len(self.names) != 2 or self.names[0] == self.names[1] or not all(map(_is_name, self.names)):
            problems.add("names", f"got {list(self.names)}, expected two names of lists, like train,val")
        if not 0 <= self.split_seed < 2**63:
            problems.add("split_seed", f"got {self.split_seed}, expected at least 0")
        try:
            re.compile(self.together)
        except re.error as error:
            problems.add("together", f"got {self.together!r}, which is no regular expression: {error}")
        problems.raise_if_any()


@dataclass(frozen=True)
class Result:
    """The lists that were written.

    Attributes:
        paths: the files; counts: images in each.
        classes: name of each class with its images in both lists.
    """

    paths: tuple[Path, Path]
    counts: tuple[int, int]
    classes: tuple[tuple[str, int, int], ...]

    def summary(self) -> str:
        width = max(len(name) for name, *_ in self.classes)
        lines = [f"{path}: {count:,} images" for path, count in zip(self.paths, self.counts)]
        lines += [f"  {name:<{width}}  {first:>7,}  {second:>7,}" for name, first, second in self.classes]
        alone = [name for name, first, second in self.classes if 0 in (first, second) and first + second]
        return "\n".join(lines + [f"only in one of the lists, for want of images: {', '.join(alone)}"] * bool(alone))


def run(config: Config) -> Result:
    """Write the lists.

    Raises:
        ConfigError: no data set, images without labels, fewer than two images (or groups), lists that are there.
        SystemFault: the machine failed.
    """
    if config.kind == "scenes":
        raise ConfigError("data.kind: scenes have splits by name; give data in files")
    data = open_data(config)
    data.require_labels()
    ids = list(data.ids)
    _check_lines(ids)
    labels = [data[index].labels or () for index in range(len(ids))]
    chosen = stratified(labels, _groups(ids, config.together), config.share, config.split_seed)
    root = Path(config.root)
    folder = Path(config.output) if config.output else root / _folder(root)
    paths = tuple(folder / f"{name}.txt" for name in config.names)
    there = [str(path) for path in paths if path.exists()]
    if there and not config.overwrite:
        raise ConfigError([f"output: {path} exists; give --overwrite=true or other names" for path in there])
    make_folder(folder)
    sides = ([n for n in range(len(ids)) if not chosen[n]], [n for n in range(len(ids)) if chosen[n]])
    for path, side in zip(paths, sides):
        write_bytes(path, "".join(f"{ids[n]}\n" for n in side).encode())
    counts = [[sum(c in labels[n] for n in side) for side in sides] for c in range(len(data.categories))]
    rows = tuple((name, *pair) for name, pair in zip(data.categories.names, counts))
    return Result(paths, (len(sides[0]), len(sides[1])), rows)


def _check_lines(ids: Sequence[str]) -> None:
    """``ConfigError`` for ids that a list of images would give back as others, or as comments."""
    lost = [name for name in ids if name != name.strip() or name.startswith("#") or name.endswith(IMAGE_SUFFIXES)]
    text = "cannot stand in a list (it begins with # or a blank, ends with a blank, or ends like a file); rename it"
    if lost:
        raise ConfigError([f"picture {name!r} {text}" for name in lost])


def stratified(labels: Sequence[Sequence[int]], groups: Sequence[int], share: float, seed: int) -> np.ndarray:
    """Which images go to the second list, ``[N]`` bool.

    A class that two groups hold is in both lists where that is possible. Class by class, the rarest first, groups that
    hold the class are dealt to the side that still lacks most of it; then the groups without any class.

    Args:
        labels: classes of each image; groups: number of each image's group, from 0.
        share: of the second list.
        seed: decides among equals.
    """
    count = max(groups, default=-1) + 1
    if count < 2:
        raise ConfigError(f"got {len(labels)} images in {count} groups, expected at least 2 to divide")
    classes = max((c for row in labels for c in row), default=-1) + 1
    holds = np.zeros((count, classes + 1))
    for row, group in zip(labels, groups):
        holds[group, list(row)] += 1
        holds[group, classes] += 1
    total = holds.sum(0)
    second = np.where((holds > 0).sum(0) > 1, np.clip(total * share, 1, total - 1), total * share)
    wanted = np.stack([total - second, second])
    side = np.full(count, -1)
    order = np.random.default_rng(seed).permutation(count)
    rarest = [c for c in np.argsort(holds[:, :classes].sum(0), kind="stable") if holds[:, c].any()]
    for column in [*rarest, classes]:
        members = [g for g in order if side[g] < 0 and holds[g, column]]
        for group in sorted(members, key=lambda g: -holds[g, column]):
            lack = wanted[:, column]
            side[group] = int(lack[1] > lack[0]) if lack[0] != lack[1] else int(wanted[1, -1] > wanted[0, -1])
            wanted[side[group]] -= holds[group]
    for empty in (0, 1):
        if not (side == empty).any():
            side[order[0]] = empty
    return side[np.asarray(groups)] == 1


def _groups(ids: Sequence[str], pattern: str) -> list[int]:
    if not pattern:
        return list(range(len(ids)))
    numbers: dict[str, int] = defaultdict(lambda: len(numbers))
    found = (re.search(pattern, name) for name in ids)
    keys = [(match[1] if match.re.groups else match[0]) if match else name for match, name in zip(found, ids)]
    return [numbers[key] for key in keys]


def _folder(root: Path) -> str:
    return "ImageSets/Segmentation" if (root / "JPEGImages").is_dir() else "ImageSets"


def _is_name(text: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", text))
