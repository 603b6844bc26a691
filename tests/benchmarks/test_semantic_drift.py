"""The drift experiment: its mean over seeds."""

from __future__ import annotations

import pytest

from benchmarks.semantic_drift import mean_of


def test_the_mean_takes_the_steps_that_all_seeds_have():
    made = [
        {"off": [{"step": 100, "ap50": 0.2}, {"step": 200, "ap50": 0.4}], "on": [{"step": 100, "ap50": 0.1}]},
        {"off": [{"step": 100, "ap50": 0.4}], "on": [{"step": 100, "ap50": 0.5}]},
    ]
    mean = mean_of(made)
    assert isinstance(mean["off"][0]["step"], int)
    assert mean == {
        "off": [{"step": 100, "ap50": pytest.approx(0.3)}],
        "on": [{"step": 100, "ap50": pytest.approx(0.3)}],
    }
