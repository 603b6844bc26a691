"""Data sets from folders: VOC layout and a user's own pictures."""

import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsis.data.artifacts import fingerprint, write_png
from wsis.data.dataset import DataConfig, inspect_data, open_data
from wsis.data.image_set import instances_from_maps
from wsis.data.scenes import SceneSet, write_scenes
from wsis.errors import Code, ConfigError, DataFault, Problems

BESIDE = [Path(__file__).resolve().parents[n] / "shared" / "data" for n in (3, 4)]
SHARED = next((path for path in BESIDE if path.is_dir()), BESIDE[0])


def picture(path, size=(8, 9), value=50):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


@pytest.fixture(scope="module")
def voc_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(
        root, [SceneSet(5, min_side=40, max_side=56), SceneSet(3, split="val", min_side=40, max_side=56)]
    )
    return root


def problems(**options):
    with pytest.raises(ConfigError) as caught:
        open_data(DataConfig(**options))
    return [str(problem) for problem in caught.value.problems]


def test_written_scenes_are_read_back_exactly(voc_root):
    scenes = SceneSet(5, min_side=40, max_side=56)
    data = open_data(DataConfig(root=str(voc_root), split="train"))
    assert data.categories == scenes.categories
    assert list(data.ids) == list(scenes.ids)
    assert data.has_masks
    for index in range(5):
        assert data[index].labels == scenes[index].labels
        assert np.array_equal(data.load_image(index), scenes.load_image(index))
        assert np.array_equal(data.load_semantic(index), scenes.load_semantic(index))
        read, made = data.load_instances(index), scenes.load_instances(index)
        assert read.masks.equal(made.masks)
        assert read.labels.equal(made.labels)
        vector = data.label_vector(index)
        assert vector.dtype == np.float32
        assert tuple(np.flatnonzero(vector)) == data[index].labels
    assert data.fingerprint() == open_data(DataConfig(root=str(voc_root), split="train")).fingerprint()
    assert data.fingerprint() != open_data(DataConfig(root=str(voc_root), split="val")).fingerprint()
    assert np.array_equal(pickle.loads(pickle.dumps(data)).load_image(1), data.load_image(1))


def test_every_kind_of_selection(voc_root, tmp_path):
    root = str(voc_root)
    assert len(open_data(DataConfig(root=root, split="val"))) == 3
    assert len(open_data(DataConfig(root=root))) == 8
    assert len(open_data(DataConfig(root=root, kind="folder"))) == 8
    text(tmp_path / "own.txt", "val_000001\n# x\ntrain_000004.png\n")
    data = open_data(DataConfig(root=root, list=str(tmp_path / "own.txt")))
    assert list(data.ids) == ["val_000001", "train_000004"]
    assert "not in this list of images" in " ".join(data.notes)
    assert "did you mean 'train'" in problems(root=root, split="trian")[0]
    text(tmp_path / "foreign.txt", "x\ny\n")
    assert (
        "is this the list of another data set?" in problems(root=root, list=str(tmp_path / "foreign.txt"))[0]
    )
    assert "expected only one of them" in problems(root=root, list="a", split="b")[0]


def test_labels_from_xml(tmp_path):
    for name in ("a", "b", "c"):
        picture(tmp_path / f"JPEGImages/{name}.jpg")
    text(tmp_path / "Annotations/a.xml", "<annotation><object><name>dog</name></object></annotation>")
    text(tmp_path / "Annotations/b.xml", "<annotation></annotation>")
    data = open_data(DataConfig(root=str(tmp_path)))
    assert [data[i].labels for i in range(3)] == [(11,), (), None]
    assert "1 of 3 images have no label" in " ".join(data.notes)
    assert not data.has_masks
    with pytest.raises(ConfigError, match="1 of 3 images have no image labels: c"):
        data.require_labels()
    with pytest.raises(DataFault, match="has no image label") as caught:
        data.label_vector(2)
    assert caught.value.code == Code.E_LABEL
    with pytest.raises(DataFault) as caught:
        data.load_instances(0)
    assert caught.value.code == Code.E_MISSING


def test_a_users_own_folder(tmp_path):
    for name in ("x.jpg", "sub/y.png", "sub/deep/ü z.JPG", "SegmentationClass/no.png"):
        picture(tmp_path / name)
    text(tmp_path / "tags.csv", "name,tags\nx.jpg,pear;apple\nsub/y,fig\nsub/deep/ü z.JPG,\n")
    data = open_data(DataConfig(root=str(tmp_path)))
    assert list(data.ids) == ["sub/deep/ü z", "sub/y", "x"]
    assert data.categories.names == ("apple", "fig", "pear")
    assert [data[i].labels for i in range(3)] == [(), (1,), (0, 2)]
    assert [data.load_image(i).shape for i in range(3)] == [(8, 9, 3)] * 3
    data.require_labels()
    text(tmp_path / "classes.txt", "pear\nfig\napple\n")
    assert open_data(DataConfig(root=str(tmp_path)))[2].labels == (0, 2)
    assert open_data(DataConfig(root=str(tmp_path)))[1].labels == (1,)
    text(tmp_path / "list.txt", "x\n")
    assert len(open_data(DataConfig(root=str(tmp_path), split="list"))) == 1


def test_a_folder_per_class(tmp_path):
    for name in ("dog/a.jpg", "cat/b.jpg", "cat/more/c.jpg"):
        picture(tmp_path / name)
    data = open_data(DataConfig(root=str(tmp_path), tags="folders"))
    assert data.categories.names == ("cat", "dog")
    assert [data[i].labels for i in range(3)] == [(0,), (0,), (1,)]
    picture(tmp_path / "loose.jpg")
    assert "1 are not, e.g. 'loose'" in problems(root=str(tmp_path), tags="folders")[0]


def test_without_tags_the_classes_must_be_given(tmp_path):
    picture(tmp_path / "x.jpg")
    assert "has neither tags nor classes" in problems(root=str(tmp_path))[0]
    text(tmp_path / "classes.txt", "dog\n")
    data = open_data(DataConfig(root=str(tmp_path)))
    assert data[0].labels is None
    assert "no image labels" in data.notes[0]


def test_tags_of_other_pictures_are_refused(tmp_path):
    picture(tmp_path / "x.jpg")
    text(tmp_path / "tags.csv", "y.jpg,dog\n")
    assert (
        "none of its 1 names is one of the 1 images; it has 'y.jpg', the images are like 'x.jpg'"
        in problems(root=str(tmp_path))[0]
    )


def test_all_problems_of_all_files_at_once(tmp_path):
    picture(tmp_path / "JPEGImages/a.jpg")
    text(tmp_path / "ImageSets/Segmentation/train.txt", "a\na\n../b\n")
    text(tmp_path / "classes.txt", "dog\ncat\n")
    text(tmp_path / "image_labels.json", '{"a": ["cow"], "b": [7]}')
    found = problems(root=str(tmp_path), split="train")
    assert len(found) == 4
    assert [line.split(":")[0].rsplit("/", 1)[1] for line in found] == ["train.txt"] * 2 + [
        "image_labels.json"
    ] * 2
    text(tmp_path / "classes.txt", "dog\ndog\n")
    assert len(problems(root=str(tmp_path), split="train")) == 3


def test_roots_that_are_no_data(tmp_path):
    assert "is empty" in problems()[0]
    assert "does not exist (the current folder is" in problems(root=str(tmp_path / "none"))[0]
    text(tmp_path / "file", "x")
    assert "is not a folder" in problems(root=str(tmp_path / "file"))[0]
    assert "has no folder JPEGImages" in problems(root=str(tmp_path), kind="voc")[0]
    assert "holds no picture" in problems(root=str(tmp_path))[0]
    assert inspect_data(DataConfig(root=str(tmp_path)), Problems()) is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"kind": "vok"}, "did you mean 'voc'"),
        ({"num": 0}, "data.num: got 0"),
        ({"num_classes": 9}, "from 1 to 8"),
        ({"seed": -1}, "data.seed"),
        ({"min_side": 100, "max_side": 50}, "at most max_side"),
        ({"num": True}, "data.num: got True"),
    ],
)
def test_bad_descriptions(options, expected):
    assert expected in problems(**options)[0]


def test_faults_of_single_records_name_the_id(voc_root, tmp_path):
    root = tmp_path / "data"
    write_scenes(root, [SceneSet(6, min_side=40, max_side=56)])
    pictures = sorted((root / "JPEGImages").iterdir())
    pictures[0].write_bytes(pictures[0].read_bytes()[:500])
    pictures[1].unlink()
    pictures[2].unlink()
    pictures[2].symlink_to(voc_root / "classes.txt")
    write_png(root / "SegmentationClass/train_000003.png", np.full((40, 40), 9, np.uint8))
    write_png(root / "SegmentationObject/train_000004.png", np.ones((3, 3), np.uint8))
    data = open_data(DataConfig(root=str(root), split="train"))
    expected = [
        (data.load_image, 0, Code.E_TRUNCATED),
        (data.load_image, 1, Code.E_MISSING),
        (data.load_image, 2, Code.E_PATH),
        (data.load_semantic, 3, Code.E_RANGE),
        (data.load_instances, 4, Code.E_SHAPE),
    ]
    for load, index, code in expected:
        with pytest.raises(DataFault) as caught:
            load(index)
        assert (caught.value.code, caught.value.subject) == (code, f"train_00000{index}")
    assert data.load_image(5).ndim == 3
    (root / "JPEGImages/train_000002.png").unlink()
    (root / "JPEGImages/train_000002.png").symlink_to(voc_root / "JPEGImages/train_000000.png")
    linked = open_data(DataConfig(root=str(root), split="train", follow_links=True))
    assert linked.load_image(2).ndim == 3


class TestInstancesFromMaps:
    def test_worked_example(self):
        instance = np.array([[1, 1, 0, 2], [1, 255, 0, 2]], np.uint8)
        semantic = np.array([[3, 3, 0, 1], [0, 255, 0, 255]], np.uint8)
        found = instances_from_maps(instance, semantic)
        assert found.labels.tolist() == [2, 0]
        assert found.masks[0].int().tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]
        assert found.masks[1].int().tolist() == [[0, 0, 0, 1], [0, 0, 0, 1]]

    def test_none(self):
        found = instances_from_maps(np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.uint8))
        assert len(found) == 0
        assert found.masks.shape == (0, 2, 3)

    def test_sixteen_bits(self):
        instance = np.array([[255, 300, 65535]], np.uint16)
        found = instances_from_maps(instance, np.array([[1, 2, 255]], np.uint8))
        assert found.labels.tolist() == [0, 1]

    def test_an_instance_without_class(self):
        with pytest.raises(DataFault, match="instance 4 has no class") as caught:
            instances_from_maps(np.full((2, 2), 4, np.uint8), np.full((2, 2), 255, np.uint8), "x")
        assert caught.value.code == Code.E_LABEL


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not here")
def test_real_folder_with_its_own_classes(tmp_path):
    with tarfile.open(SHARED / "fruits_nuts.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    for kind in ("auto", "voc", "folder"):
        data = open_data(DataConfig(kind=kind, root=str(tmp_path / "fruits_nuts")))
        assert (len(data), data.categories.names) == (18, ("date", "fig", "hazelnut"))
        assert sum(len(data.load_instances(i)) for i in range(18)) == 165
        for index in range(18):
            assert set(data.load_instances(index).labels.tolist()) == set(data[index].labels)


def test_the_fingerprint_in_pieces_is_that_of_the_whole(voc_root, monkeypatch):
    monkeypatch.setattr("wsis.data.image_set._CHUNK", 2)
    data = open_data(DataConfig(kind="voc", root=str(voc_root), split="train"))
    rows = [[data[index].id, data[index].labels] for index in range(len(data))]
    assert len(rows) > 4
    assert data.fingerprint() == fingerprint({"categories": data.categories.to_json(), "rows": rows})
    scenes = open_data(DataConfig(kind="scenes", num=5))
    rows = [[scenes[index].id, scenes[index].labels] for index in range(5)]
    assert scenes.fingerprint() == fingerprint({"categories": scenes.categories.to_json(), "rows": rows})
