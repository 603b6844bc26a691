"""data split: seeded, stratified lists that the readers find, from every kind of labels."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from wsis.__main__ import main
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.errors import ConfigError
from wsis.steps import data_split

TAGS = ("cat", "dog", "bird")


def photos(root, names) -> None:
    for name in names:
        path = root / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)


@pytest.fixture
def root(tmp_path):
    """40 cats, 10 dogs, 4 of them with a cat, 2 birds, 8 without anything."""
    tags = [["cat"]] * 36 + [["cat", "dog"]] * 4 + [["dog"]] * 6 + [["bird"]] * 2 + [[]] * 8
    names = [f"film{n // 4}/p{n:02d}" for n in range(len(tags))]
    photos(tmp_path / "data", names)
    rows = [json.dumps({"name": f"{name}.png", "tags": row}) for name, row in zip(names, tags)]
    (tmp_path / "data" / "tags.jsonl").write_text("\n".join(rows))
    return tmp_path / "data"


def split(root, **options) -> data_split.Result:
    return data_split.run(data_split.Config(root=str(root), **options))


def test_every_class_in_its_share(root):
    result = split(root, share=0.25)
    assert sum(result.counts) == 56
    assert 13 <= result.counts[1] <= 15
    second = {name: there for name, _, there in result.classes}
    assert (second["bird"], second["cat"]) == (1, 10)
    assert second["dog"] in (2, 3)
    train, val = (open_data(DataConfig(root=str(root), split=name)) for name in ("train", "val"))
    assert not set(train.ids) & set(val.ids)
    assert sorted([*train.ids, *val.ids]) == sorted(open_data(DataConfig(root=str(root))).ids)
    assert Counter(len(record.labels) for record in val)[0] in (1, 2, 3)
    assert "bird" in result.summary()


def test_names_that_a_list_would_change_are_refused(tmp_path):
    names = ["#1", "a ", " b", "c.jpg", "fine", "good one"]
    photos(tmp_path, names)
    (tmp_path / "tags.json").write_text(json.dumps({name + ".png": ["cat"] for name in names}))
    with pytest.raises(ConfigError) as caught:
        split(tmp_path)
    assert [str(problem).split("'")[1] for problem in caught.value.problems] == [" b", "#1", "a ", "c.jpg"]
    assert not (tmp_path / "ImageSets").exists()


def test_seeded_and_never_overwritten_unasked(root):
    first = [path.read_bytes() for path in split(root).paths]
    with pytest.raises(ConfigError, match=r"train\.txt exists; give --overwrite=true"):
        split(root)
    assert [path.read_bytes() for path in split(root, overwrite=True).paths] == first
    other = split(root, split_seed=1, names=("a", "b"))
    assert [path.read_bytes() for path in other.paths] != first


def test_groups_stay_together(root):
    result = split(root, together=r"^(film\d+)/", share=0.3)
    films = [{line.split("/")[0] for line in path.read_text().splitlines()} for path in result.paths]
    assert not films[0] & films[1]
    assert all(films)


@pytest.mark.parametrize("seed", range(5))
def test_both_lists_hold_something(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 30))
    labels = [tuple(np.flatnonzero(rng.random(4) < 0.3)) for _ in range(count)]
    chosen = data_split.stratified(labels, range(count), float(rng.uniform(0.01, 0.99)), seed)
    assert 0 < chosen.sum() < count


def test_one_folder_per_class(tmp_path):
    photos(tmp_path, [f"{tag}/{n}" for tag in TAGS for n in range(5)])
    result = split(tmp_path, tags="folders")
    assert result.classes == (("bird", 4, 1), ("cat", 4, 1), ("dog", 4, 1))


def task(address: str, *choices: str, **more) -> dict:
    result = [{"type": "choices", "value": {"choices": list(choices)}}] if choices else []
    return {"id": 1, "data": {"image": address}, "annotations": [{"result": result, **more}]}


def test_choices_of_label_studio(tmp_path):
    photos(tmp_path, ["a/one", "b/one", "two", "three"])
    tasks = [
        task("/data/local-files/?d=photos/a/one.png", "cat", "dog"),
        task("/data/local-files/?d=photos/b/one.png", "bird"),
        task("/data/upload/3/1a2b3c4d-two.png"),
        task("https://host/three.png", "cat", was_cancelled=True),
    ]
    (tmp_path / "tags.json").write_text(json.dumps(tasks))
    data = open_data(DataConfig(root=str(tmp_path)))
    labels = {record.id: record.labels for record in data}
    assert data.categories.names == ("bird", "cat", "dog")
    assert labels == {"a/one": (1, 2), "b/one": (0,), "two": (), "three": None}
    with pytest.raises(ConfigError, match="1 of 4 images have no image labels"):
        split(tmp_path)
    tasks[1]["annotations"][0]["result"][0]["value"] = 7
    tasks[3]["data"] = {}
    (tmp_path / "tags.json").write_text(json.dumps(tasks))
    with pytest.raises(ConfigError, match=r"(?s)\[1\]\.annotations\[0\]: got 7, expected choices.*\[3\]: has no data"):
        open_data(DataConfig(root=str(tmp_path)))


def test_command_and_refusals(root, capsys):
    assert main(["data", "split", str(root), "--share=0.5"]) == 0
    assert "train.txt: 28 images" in capsys.readouterr().out
    assert main(["data", "split", str(root), "--share=1", "--names=[val]", "--together=("]) == 2
    told = capsys.readouterr().err
    for part in ("share: got 1", "names: got ['val']", "no regular expression"):
        assert part in told
    with pytest.raises(ConfigError, match="scenes have splits by name"):
        data_split.run(data_split.Config(kind="scenes"))
