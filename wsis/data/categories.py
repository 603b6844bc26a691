"""Class names and class numbers; the only place that knows 20, 21, 80 and 255."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsis.errors import ConfigError, Problems, did_you_mean

__all__ = ["COCO", "IGNORE", "MAX_CLASSES", "VOC", "Categories"]

IGNORE = 255
MAX_CLASSES = 254


@dataclass(frozen=True)
class Categories:
    """The classes of a data set, in the order of their numbers.

    Tables hold classes ``0..C-1``. Semantic maps hold 0 for background, ``c + 1`` for class ``c`` and
    :data:`IGNORE` for "do not count"; they are 8-bit, so at most :data:`MAX_CLASSES` classes fit and more are
    refused.

    Attributes:
        names: one unique, non-empty name per class.
        ids: the number of each class in the data set's own files (COCO's table has gaps); else ``1..C``.

    Raises:
        ConfigError: no class, too many, empty or repeated names, repeated ids.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        names = tuple(str(n).strip() for n in self.names)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "ids", tuple(int(i) for i in self.ids) or tuple(range(1, len(names) + 1)))
        problems = Problems()
        if not names:
            problems.add("classes", "no class given, expected at least one")
        if len(names) > MAX_CLASSES:
            problems.add(
                "classes",
                f"got {len(names)} classes, expected at most {MAX_CLASSES} "
                f"(maps are 8-bit and {IGNORE} means ignore)",
            )
        seen: dict[str, int] = {}
        for number, name in enumerate(names):
            if not name or any(ord(ch) < 32 for ch in name):
                problems.add(f"classes[{number}]", f"got name {name!r}, expected printable text")
            elif name in seen:
                problems.add(f"classes[{number}]", f"name {name!r} stands also at {seen[name]}")
            seen.setdefault(name, number)
        if len(self.ids) != len(names) or len(set(self.ids)) != len(self.ids):
            problems.add(
                "classes", f"expected one distinct id per class, got {len(self.ids)} ids for {len(names)}"
            )
        problems.raise_if_any()

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self):
        return iter(self.names)

    def index(self, name: str) -> int:
        """The class number of ``name``; ``ConfigError`` with the nearest name if there is none."""
        try:
            return self.names.index(name)
        except ValueError:
            raise ConfigError(f"class {name!r} is unknown: {did_you_mean(name, self.names)}") from None

    def select(self, indices: Sequence[int]) -> list[str]:
        """Names of the given class numbers."""
        return [self.names[i] for i in indices]

    def palette(self) -> np.ndarray:
        """The colours of the VOC development kit, ``[256, 3]`` uint8; row ``v`` is for the map value ``v``.

        Bit ``j`` of red, green and blue (from the highest) is bit ``3 j``, ``3 j + 1``, ``3 j + 2`` of the
        value.
        """
        value = np.arange(256, dtype=np.int64)
        colors = np.zeros((256, 3), dtype=np.int64)
        for j in range(8):
            for channel in range(3):
                colors[:, channel] |= ((value >> (3 * j + channel)) & 1) << (7 - j)
        return colors.astype(np.uint8)

    def to_json(self) -> dict[str, Any]:
        return {"names": list(self.names), "ids": list(self.ids)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Categories:
        """The way back from :meth:`to_json`."""
        try:
            return cls(tuple(value["names"]), tuple(value.get("ids", ())))
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"categories: expected names and ids, got {str(value)[:80]}") from error


_VOC = """
1 aeroplane,2 bicycle,3 bird,4 boat,5 bottle,6 bus,7 car,8 cat,9 chair,10 cow,11 diningtable,12 dog,13 horse
14 motorbike,15 person,16 pottedplant,17 sheep,18 sofa,19 train,20 tvmonitor
"""

_COCO = """
1 person,2 bicycle,3 car,4 motorcycle,5 airplane,6 bus,7 train,8 truck,9 boat,10 traffic light
11 fire hydrant,13 stop sign,14 parking meter,15 bench,16 bird,17 cat,18 dog,19 horse,20 sheep,21 cow
22 elephant,23 bear,24 zebra,25 giraffe,27 backpack,28 umbrella,31 handbag,32 tie,33 suitcase,34 frisbee
35 skis,36 snowboard,37 sports ball,38 kite,39 baseball bat,40 baseball glove,41 skateboard,42 surfboard
43 tennis racket,44 bottle,46 wine glass,47 cup,48 fork,49 knife,50 spoon,51 bowl,52 banana,53 apple
54 sandwich,55 orange,56 broccoli,57 carrot,58 hot dog,59 pizza,60 donut,61 cake,62 chair,63 couch
64 potted plant,65 bed,67 dining table,70 toilet,72 tv,73 laptop,74 mouse,75 remote,76 keyboard
77 cell phone,78 microwave,79 oven,80 toaster,81 sink,82 refrigerator,84 book,85 clock,86 vase,87 scissors
88 teddy bear,89 hair drier,90 toothbrush
"""


def _numbered(table: str) -> Categories:
    """Categories of a text of ``number name`` pairs."""
    rows = [item.split(" ", 1) for item in table.strip().replace("\n", ",").split(",")]
    return Categories(tuple(name for _, name in rows), tuple(int(number) for number, _ in rows))


VOC = _numbered(_VOC)
COCO = _numbered(_COCO)
