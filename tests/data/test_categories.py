"""Class names and numbers."""

import numpy as np
import pytest

from wsis.data.categories import COCO, IGNORE, MAX_CLASSES, VOC, Categories
from wsis.errors import ConfigError


def test_known_tables():
    assert len(VOC) == 20
    assert VOC.index("aeroplane") == 0
    assert VOC.index("person") == 14
    assert VOC.index("tvmonitor") == 19
    assert VOC.ids == tuple(range(1, 21))
    assert len(COCO) == 80
    assert COCO.names[0] == "person"
    assert COCO.ids[-1] == 90
    assert set(range(1, 91)) - set(COCO.ids) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert COCO.names[COCO.ids.index(64)] == "potted plant"


def test_palette_is_that_of_the_development_kit():
    palette = VOC.palette()
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    for value, color in known.items():
        assert tuple(palette[value]) == color
    assert tuple(palette[IGNORE]) == (224, 224, 192)
    assert len(np.unique(palette, axis=0)) == 256


def test_unknown_name_has_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'bicycle'"):
        VOC.index("bycicle")


def test_json_and_back():
    assert Categories.from_json(COCO.to_json()) == COCO
    with pytest.raises(ConfigError, match="expected names and ids"):
        Categories.from_json({"labels": []})
    with pytest.raises(ConfigError, match="expected names and ids"):
        Categories.from_json(["a"])


@pytest.mark.parametrize(
    ("names", "ids", "text"),
    [
        ((), (), "no class given"),
        (("a", "a"), (), "stands also at 0"),
        (("a", ""), (), "expected printable text"),
        (("a\nb",), (), "expected printable text"),
        (("a", "b"), (1, 1), "one distinct id per class"),
        (("a", "b"), (1,), "one distinct id per class"),
    ],
)
def test_rejects_bad_tables(names, ids, text):
    with pytest.raises(ConfigError, match=text):
        Categories(names, ids)


def test_the_number_of_classes_is_bounded_by_the_maps():
    names = tuple(f"c{n}" for n in range(MAX_CLASSES + 1))
    assert len(Categories(names[:-1])) == MAX_CLASSES
    with pytest.raises(ConfigError, match="expected at most 254"):
        Categories(names)
