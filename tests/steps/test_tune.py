"""Sweeps on kept fields: the same figures as labelling again, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import yaml

from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.errors import ConfigError
from wsis.labels import irnet
from wsis.options import parse
from wsis.steps import evaluate, label, tune
from wsis.viz.charts import Chart, charts_svg

SMALL = irnet.Config(walk_steps=8, trace_steps=8, min_area=0.0)


@pytest.fixture
def labelled(photos, weights, tmp_path):
    """Options of a finished label run with its fields."""
    folder = tmp_path / "labels"
    base = {"scales": (1.0,), "min_side": 64, "device": "cpu", "batch_size": 2, **weights}
    config = label.Config(photos, str(folder / "run"), propagation=SMALL, dump_fields=str(folder / "fields"), **base)
    assert label.run(config).exit_code == 0
    return config


def _config(labelled, **changes):
    base = {"backgrounds": (0.1, 0.4), "walk_steps": (8, 16), "min_scores": (0.0, 0.5)}
    return tune.Config(run=labelled.out, **({"data": labelled.data} | base | changes))


def test_figures_are_those_of_labelling_again(labelled, tmp_path):
    result = tune.run(_config(labelled))
    figures = result.figures
    assert result.exit_code == 0
    assert figures["images"] == 8
    assert len(figures["settings"]) == 4
    chosen = next(
        row for row in figures["settings"] if (row["setting"]["background"], row["setting"]["walk_steps"]) == (0.4, 16)
    )
    values = {"background": 0.4, "semantic_background": 0.4, "walk_steps": 16}
    again = dataclasses.replace(
        labelled,
        out=str(tmp_path / "again"),
        dump_fields="",
        semantic=str(tmp_path / "maps"),
        propagation=dataclasses.replace(SMALL, **values),
    )
    label.run(again)
    compare = evaluate.Config((again.out,), labelled.data, (again.semantic,), coco="none")
    one = evaluate.run(compare).figures["runs"][0]
    assert chosen["figures"]["miou"] == pytest.approx(one["semantic"]["miou"])
    for key in tune.OBJECTIVES:
        assert chosen["figures"][key] == pytest.approx(one["voc"][key]), key


def test_what_is_written_can_be_used(labelled):
    result = tune.run(_config(labelled, objective="abo"))
    stored = json.loads((result.out / "tune.json").read_text())
    assert stored["best"]["min_score"]["min_score"] in (0.0, 0.5)
    assert stored["filters"][0]["instances"] >= stored["filters"][1]["instances"]
    kept = yaml.safe_load((result.out / "tune.yaml").read_text())["propagation"]
    assert kept["background"] == stored["best"]["instances"]["setting"]["background"]
    config = parse(label.Config, [f"--config={result.out / 'tune.yaml'}"], "wsis label")
    assert config.propagation == irnet.Config(**kept)
    best = max(row["figures"]["abo"] for row in stored["settings"])
    assert stored["best"]["instances"]["abo"] == best
    text = (result.out / "tune.svg").read_text()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert "background" in result.summary()
    assert "tune.yaml" in result.summary()


def test_a_share_of_the_images_and_damaged_fields(labelled):
    fields = sorted((tune.Path(labelled.out).parent / "fields").rglob("*.npz"))
    fields[0].write_bytes(b"PK no archive")
    np.savez(fields[1], classes=np.zeros(1))
    result = tune.run(_config(labelled, walk_steps=(), backgrounds=()))
    assert (result.exit_code, result.figures["images"]) == (3, 6)
    assert {row["code"] for row in result.figures["faults"]} == {"E_DECODE", "E_SHAPE"}
    for path in fields[2:]:
        path.unlink()
    with pytest.raises(ConfigError, match="none of the 2 images could be used"):
        tune.run(_config(labelled))
    assert len(open_data(labelled.data)) == 8


def test_images_without_masks_are_left_out_and_the_run_names_the_data(labelled, photos):
    masks = sorted((Path(photos.root) / "SegmentationObject").glob("*.png"))
    for path in masks[1:]:
        path.unlink()
    result = tune.run(_config(labelled, data=DataConfig()))
    assert result.exit_code == 0
    assert result.figures["images"] == 1
    masks[0].unlink()
    with pytest.raises(ConfigError, match="no image with fields has masks in SegmentationObject"):
        tune.run(_config(labelled))


def test_a_stopped_sweep_shows_what_it_has_and_goes_on(labelled, tmp_path, monkeypatch):
    whole = tune.run(_config(labelled, out=str(tmp_path / "whole")))
    looked_at, real = [], tune._image

    def three_and_stop(data, index, *rest):
        looked_at.append(index)
        if len(looked_at) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real(data, index, *rest)

    monkeypatch.setattr(tune, "_image", three_and_stop)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/wsis", "tune", labelled.out])
    stopped = tune.run(_config(labelled))
    assert (stopped.exit_code, stopped.left, stopped.figures["images"]) == (75, 5, 3)
    assert "4 settings on 3 images" in stopped.summary()
    assert stopped.summary().endswith(f"this goes on: wsis tune {labelled.out}")
    assert [path.name for path in stopped.out.iterdir()] == ["partial"]
    with pytest.raises(ConfigError, match=r"(?s)walk_steps was \[8, 16\] and is now \[8\].*rm -r "):
        tune.run(_config(labelled, walk_steps=(8,)))
    with open(stopped.out / "partial" / "images.jsonl", "ab") as file:
        file.write(b'{"id": "torn')
    result = tune.run(_config(labelled))
    assert sorted(looked_at) == list(range(8))
    assert result.figures == whole.figures
    names = ["tune.json", "tune.svg", "tune.yaml"]
    assert sorted(path.name for path in result.out.iterdir()) == names
    for name in names:
        assert (result.out / name).read_bytes() == (whole.out / name).read_bytes()


def test_stopped_before_the_first_image(labelled, monkeypatch):
    monkeypatch.setattr(tune.StopRequest, "asked", True, raising=False)
    monkeypatch.setattr(tune.StopRequest, "__init__", lambda self: setattr(self, "_before", {}))
    result = tune.run(_config(labelled))
    assert (result.exit_code, result.left, result.figures) == (75, 8, {})
    assert result.summary() == "stopped with 8 images to do; this goes on: the same command"


def test_an_empty_list_keeps_what_the_run_had():
    base = dataclasses.replace(SMALL, crf=0.5, semantic_background=0.7)
    kept = tune._settings(tune.Config(run="a", backgrounds=(), walk_steps=()), base)
    assert kept == [base, base]
    swept = tune._settings(tune.Config(run="a", backgrounds=(0.2,), walk_steps=(), crfs=(0.6,)), base)[1]
    assert (swept.crf, swept.semantic_crf, swept.background, swept.semantic_background) == (0.6, 0.6, 0.2, 0.2)


def test_problems_are_found_before_work(labelled, tmp_path):
    with pytest.raises(ConfigError, match=r"(?s)objective.*did you mean.*min_scores"):
        tune.Config(objective="map50", min_scores=(2.0,))
    with pytest.raises(ConfigError, match=r"(?s)no label run|run.json"):
        tune.run(tune.Config(run=str(tmp_path / "nothing"), data=labelled.data))
    with pytest.raises(ConfigError, match="dump_fields"):
        tune.run(_config(labelled, fields=str(tmp_path / "gone")))
    with pytest.raises(ConfigError, match=r"background = 1.5, expected 0 to 1"):
        tune.run(_config(labelled, backgrounds=(1.5,)))


def test_charts_leave_out_what_is_no_number():
    text = charts_svg([Chart("a < b", "x", "y", {"one": [(0.0, 1.0), (1.0, float("nan"))], "none": []})])
    root = ElementTree.fromstring(text)
    assert len(root.findall(".//{*}circle")) == 1
    assert "nothing to draw" in charts_svg([Chart("t", "x", "y", {})])
