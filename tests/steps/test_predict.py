"""Single photographs: overlay, json, tags, and pictures that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wsis.__main__ import main
from wsis.data.dataset import open_data
from wsis.data.images import read_image
from wsis.errors import ConfigError
from wsis.steps import predict


@pytest.fixture
def photo(photos) -> Path:
    return sorted((Path(photos.root) / "JPEGImages").iterdir())[0]


def config(weights, *names, **changes):
    base = {"scales": (1.0,), "min_side": 64, "device": "cpu"}
    return predict.Config(photos=tuple(map(str, names)), **weights, **(base | changes))


def test_picture_and_json_beside_the_photograph(photo, weights, photos):
    names = open_data(photos).categories.names
    result = predict.run(config(weights, photo, tags=(names[0], names[2]), json=True))
    assert result.exit_code == 0
    assert result.pictures == (photo.with_name(f"{photo.stem}_instances.png"),)
    assert read_image(result.pictures[0]).shape[2] == 3
    found = json.loads(result.pictures[0].with_suffix(".json").read_text())
    assert [item["category"] for item in found["instances"]] == [names[label] for label in result.rows[0].label]
    assert len(found["instances"]) > 0
    assert {item["category"] for item in found["instances"]} <= {names[0], names[2]}
    assert names[result.rows[0].label[0]] in result.summary()


def test_unreadable_photographs_do_not_stop_the_rest(photo, weights, tmp_path, capsys):
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    words = [f"--{name}={path}" for name, path in weights.items()]
    words += ["--tags=ball", "--scales=1.0", "--min_side=64", f"--out={tmp_path / 'out'}"]
    assert main(["predict", str(tmp_path / "bad.jpg"), str(tmp_path / "no.jpg"), str(photo), *words]) == 3
    text = capsys.readouterr().out
    assert "E_DECODE" in text
    assert "E_MISSING" in text
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"{photo.stem}_instances.png"]


def test_photographs_that_would_give_one_picture_are_refused(photo, weights, tmp_path):
    other = tmp_path / photo.name
    with pytest.raises(ConfigError, match=f"{photo} and {other} would give one picture"):
        predict.run(config(weights, photo, other, out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_without_tags_the_classifier_decides(photo, weights):
    everything = predict.run(config(weights, photo, tag_threshold=0.0))
    assert everything.rows[0].status == "ok"
    nothing = predict.run(config(weights, photo, tag_threshold=1.0))
    assert nothing.rows[0].status == "ok_empty"
    assert "nothing found" in nothing.summary()


def test_problems_are_found_before_work(photo, weights):
    with pytest.raises(ConfigError, match="did you mean 'ball'"):
        predict.run(config(weights, photo, tags=("bal",)))
    with pytest.raises(ConfigError) as caught:
        predict.run(predict.Config())
    assert len(caught.value.problems) == 3
    with pytest.raises(ConfigError) as caught:
        predict.Config(tag_threshold=1.5, min_side=0, scales=(), device="abacus")
    assert len(caught.value.problems) == 4
