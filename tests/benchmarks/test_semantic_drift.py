"""The drift experiment: what its two losses say of an instance without a label, and its mean over seeds."""

from __future__ import annotations

import pytest
import torch

from benchmarks.semantic_drift import MissingIsBackground, mean_of
from wsis.models import CenterOffsetOutput, build_center_offset_net
from wsis.structures import CenterOffsetTarget
from wsis.training.center_offset_training import CenterOffsetTraining
from wsis.training.config import OptimConfig


def losses(kind, center: torch.Tensor) -> tuple[float, float]:
    """Centre and offset loss of a batch whose left half alone is labelled."""
    weight = torch.zeros(1, 1, 8, 8)
    weight[..., :4] = 1
    target = CenterOffsetTarget(torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8), weight)
    prediction = CenterOffsetOutput(torch.zeros(1, 3, 8, 8), center, torch.ones(1, 2, 8, 8))
    training = kind(build_center_offset_net("tiny", 2), OptimConfig("adam", steps=1), 1)
    made = training.compared(prediction, torch.zeros(1, 8, 8, dtype=torch.uint8), target, None, "image")
    weighted = 1.0 * made.semantic + 200.0 * made.center + 0.01 * made.offset
    assert float(made.total) == pytest.approx(float(weighted))
    return float(made.center), float(made.offset)


def test_a_centre_without_a_label_costs_where_it_is_background_alone():
    center = torch.zeros(1, 2, 8, 8)
    center[0, 0, 2, 6] = 1.0
    assert losses(CenterOffsetTraining, center) == (0.0, 2.0)
    assert losses(MissingIsBackground, center) == (pytest.approx(1 / 64), 2.0)


def test_the_mean_takes_the_steps_that_all_seeds_have():
    made = [
        {"off": [{"step": 100, "ap50": 0.2}, {"step": 200, "ap50": 0.4}], "on": [{"step": 100, "ap50": 0.1}]},
        {"off": [{"step": 100, "ap50": 0.4}], "on": [{"step": 100, "ap50": 0.5}]},
    ]
    assert mean_of(made) == {
        "off": [{"step": 100, "ap50": pytest.approx(0.3)}],
        "on": [{"step": 100, "ap50": pytest.approx(0.3)}],
    }
