"""Made-up scenes: the same everywhere, exact masks, neighbours, labels that follow from the masks."""

import hashlib

import numpy as np
import pytest
from scipy import ndimage

from wsis.data.dataset import DataConfig, open_data
from wsis.data.scene_painter import CLASS_NAMES, CORE, Shape, shape_gauge
from wsis.data.scenes import SceneSet, make_scene, write_scenes
from wsis.errors import ConfigError

SCENES = [make_scene(0, index) for index in range(40)]


def digest(scene):
    return hashlib.sha256(scene.image.tobytes() + scene.ids.tobytes() + bytes(scene.classes)).hexdigest()[:16]


def test_the_same_bytes_on_every_machine():
    assert [digest(make_scene(0, 0)), digest(make_scene(3, 17, split="val", num_classes=8))] == [
        "062ff9604b778b1f",
        "57030544cd29b74e",
    ]


def test_seed_split_and_index_decide():
    assert digest(make_scene(0, 1)) == digest(SCENES[1])
    others = [
        make_scene(0, 2),
        make_scene(1, 1),
        make_scene(0, 1, split="val"),
        make_scene(0, 1, num_classes=4),
    ]
    assert len({digest(scene) for scene in others} | {digest(SCENES[1])}) == 5


def test_masks_labels_and_sizes():
    for scene in SCENES:
        height, width = scene.ids.shape
        assert 112 <= height <= 160
        assert 112 <= width <= 160
        assert scene.image.shape == (height, width, 3)
        assert scene.image.dtype == scene.ids.dtype == np.uint8
        assert 1 <= len(scene.classes) <= 6
        assert sorted(np.unique(scene.ids[scene.ids > 0])) == list(range(1, len(scene.classes) + 1))
        instances = scene.instances
        assert instances.masks.sum(0).max() <= 1
        assert instances.masks.sum((1, 2)).min() >= 20
        assert tuple(sorted(set(instances.labels.tolist()))) == scene.labels
        covered = instances.masks.any(0).numpy()
        assert np.array_equal(covered, scene.semantic > 0)
        for mask, label in zip(instances.masks.numpy(), instances.labels.tolist()):
            assert (scene.semantic[mask] == label + 1).all()


def test_neighbours_of_one_class_touch_often():
    touching = 0
    for scene in SCENES:
        for label in scene.labels:
            numbers = [n + 1 for n, c in enumerate(scene.classes) if c == label]
            for first in numbers:
                grown = ndimage.binary_dilation(scene.ids == first)
                touching += any((grown & (scene.ids == other)).any() for other in numbers if other > first)
    assert touching >= len(SCENES) // 3


def test_outlines_are_edges_of_the_picture():
    """Colours differ more across the outline of an instance than between neighbours inside."""
    across, inside = [], []
    for scene in SCENES:
        step = np.abs(np.diff(scene.image.astype(int), axis=1)).sum(2)
        change = scene.ids[:, 1:] != scene.ids[:, :-1]
        across.append(step[change].mean())
        inside.append(step[~change].mean())
    assert np.mean(across) > 3 * np.mean(inside)


def test_every_class_occurs_and_shapes_differ():
    assert {c for scene in SCENES for c in scene.classes} == set(range(5))
    grid = np.linspace(-1.2, 1.2, 81)
    masks = [
        shape_gauge(Shape(kind, (0.0, 0.0), 1.0, 0, (0, 0, 0), None, 0.0), grid, grid) <= 1.0
        for kind in range(len(CLASS_NAMES))
    ]
    for first in range(len(masks)):
        assert masks[first].any()
        assert not masks[first][0].any()
        core = shape_gauge(Shape(first, (0.0, 0.0), 1.0, 0, (0, 0, 0), None, 0.0), grid, grid) <= CORE
        assert 0.2 < core.sum() / masks[first].sum() < 0.75
        for second in range(first):
            overlap = (masks[first] & masks[second]).sum() / (masks[first] | masks[second]).sum()
            assert overlap < 0.95


def test_as_a_data_set():
    data = open_data(DataConfig(kind="scenes", num=6, seed=4, min_side=48, max_side=64))
    assert len(data) == 6
    assert data.ids[3] == data[3].id == "train_000003"
    assert data[-1].id == "train_000005"
    assert data.has_masks
    with pytest.raises(IndexError):
        data[6]
    again = SceneSet(6, 4, min_side=48, max_side=64)
    for index in (5, 0, 3):
        assert np.array_equal(data.load_image(index), again.load_image(index))
        assert data[index].labels == tuple(sorted(set(data.load_instances(index).labels.tolist())))
    image = data.load_image(0)
    image[:] = 0
    assert data.load_image(0).any()
    assert data.fingerprint() == again.fingerprint()
    with pytest.raises(ConfigError, match=r"data\.root: got 'x', but kind=scenes reads no files"):
        open_data(DataConfig(kind="scenes", root="x"))


def test_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr("wsis.data.scenes._CACHE_BYTES", 30_000)
    data = SceneSet(8, min_side=48, max_side=48)
    first = data.load_image(0)
    for index in range(8):
        data.load_image(index)
    assert len(data._cache) == 3
    assert np.array_equal(data.load_image(0), first)


def test_small_and_odd_sizes():
    for side in (16, 17, 33):
        scene = make_scene(0, 0, min_side=side, max_side=side)
        assert scene.image.shape == (side, side, 3)
        assert len(scene.instances) == len(scene.classes)


@pytest.mark.parametrize(
    "options", [{"num_classes": 0}, {"num_classes": 9}, {"min_side": 8}, {"min_side": 90, "max_side": 80}]
)
def test_rejects_bad_options(options):
    with pytest.raises(ValueError, match="make_scene: "):
        make_scene(0, 0, **options)


def test_write_as_jpeg(tmp_path):
    write_scenes(tmp_path, [SceneSet(2, min_side=48, max_side=48)], "jpg")
    data = open_data(DataConfig(root=str(tmp_path)))
    exact = SceneSet(2, min_side=48, max_side=48)
    assert np.abs(data.load_image(1).astype(int) - exact.load_image(1)).mean() < 8
    with pytest.raises(ValueError, match="image_format"):
        write_scenes(tmp_path, [SceneSet(1)], "gif")
