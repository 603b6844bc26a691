"""Line charts of trainings: where the points stand, gaps, files that are read, damage."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest

from wsis.errors import ConfigError
from wsis.viz.curves import BOTTOM, HEIGHT, LEFT, TOP, WIDTH, Chart, Curve, chart_html, curves_file
from wsis.viz.training_curves import training_charts


def points_of(text: str) -> list[list[tuple[float, float]]]:
    found = re.findall(r'points="([^"]*)"', text)
    return [[tuple(map(float, pair.split(","))) for pair in line.split()] for line in found]


def test_points_stand_where_they_belong():
    chart = Chart("AP50", [Curve("off", [0, 100], [0.0, 0.4]), Curve("on", [100, 50], [0.2, float("nan")])])
    off, on = points_of(chart_html(chart))
    bottom = HEIGHT - BOTTOM
    assert off == [(LEFT, bottom), (WIDTH - 4, TOP)]
    assert on == [(WIDTH - 4, (TOP + bottom) / 2)]
    assert "off, step 100: 40.0" in chart_html(chart)
    assert "AP50: off 40.0 at step 100, on 20.0 at step 100" in chart_html(chart)


@pytest.mark.parametrize("curves", [[], [Curve("none", [], [])], [Curve("flat", [0, 5], [0.0, 0.0])]])
def test_charts_without_anything_to_draw(curves):
    for text in (chart_html(Chart("t", curves)), curves_file([Chart("t", curves)])):
        assert "nan" not in text
        assert "inf" not in text


def test_the_file_is_well_formed_and_text_stays_text():
    chart = Chart("<b>&", [Curve('"><script>', [1, 2], [0.5, 1.5])])
    root = ElementTree.fromstring(curves_file([chart, chart]))
    assert root.get("role") == "img"
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))
    assert len(points_of(curves_file([chart, chart]))) == 2


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        Curve("x", [1, 2], [0.5]).points()


def written(folder, rows, tail=""):
    folder.mkdir(parents=True)
    (folder / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return str(folder)


def test_trainings_are_read_by_step_and_the_later_row_counts(tmp_path):
    rows = [{"step": 20, "ap50": 0.5}, {"step": 10, "ap50": 0.1}, {"step": 20, "ap50": 0.6, "recall_touching": 0.7}]
    one = written(tmp_path / "a" / "net", rows, '{"step": 30, "ap')
    two = written(tmp_path / "b" / "net", rows[:1])
    (tmp_path / "unmeasured").mkdir()
    (ap50, touching), notes = training_charts([one, two, str(tmp_path / "unmeasured")])
    assert notes == [f"training not drawn: {tmp_path / 'unmeasured'} has no validation.jsonl"]
    assert (ap50.title, touching.title) == ("AP50", "Recall touching")
    assert [curve.name for curve in ap50.curves] == ["net", "b/net"]
    assert ap50.curves[0].points() == [(10, 0.1), (20, 0.6)]
    assert touching.curves[0].points() == [(20, 0.7)]
    assert touching.curves[1].points() == []


def test_missing_folders_and_damage_are_named(tmp_path):
    bad = written(tmp_path / "bad", [{"ap50": 0.1}])
    with pytest.raises(ConfigError) as caught:
        training_charts([str(tmp_path / "none"), bad])
    assert "none is not a folder" in str(caught.value)
    assert "validation.jsonl:1: not a row of measurements" in str(caught.value)
