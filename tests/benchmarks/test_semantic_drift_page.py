"""The page of the drift experiment: both trainings in its figures, its table and every curve."""

from __future__ import annotations

from benchmarks.semantic_drift import SHOWN, charts_of
from benchmarks.semantic_drift_page import page_of
from wsis.data.scenes import SceneSet
from wsis.viz.report_page import render_report


def test_both_trainings_stand_side_by_side():
    figures = {
        "off": [{"step": 100, "ap50": 0.2, "ap75": 0.1, "recall": 0.3, "recall_touching": 0.1}],
        "on": [
            {"step": 100, "ap50": 0.1, "ap75": 0.0, "recall": 0.3, "recall_touching": 0.1},
            {"step": 200, "ap50": 0.5, "ap75": 0.2},
        ],
    }
    drift = {"components": 60, "components_with_several": 29, "settings": {"steps": "200"}}
    figures["on"][1] |= {"recall": 0.6, "recall_touching": 0.55}
    page = page_of(drift, figures, SceneSet(2))
    assert [row[:3] for row in page.tables[0].rows] == [[100, 0.2, 0.1], [200, None, 0.5]]
    assert ("AP50, refinement on", "50.0", "after 200 steps") in page.figures
    assert [[curve.name for curve in chart.curves] for chart in charts_of(figures)] == [
        ["refinement off", "refinement on"]
    ] * len(SHOWN)
    html = render_report(page, ()).html
    assert html.count('class="curve curve-1"') >= len(SHOWN)
    assert "29 of 60 components hold several instances" in html
    assert 'id="distributions"' not in html
