"""Operators and the steps above them have names in a profile."""

from __future__ import annotations

import torch
from torch.profiler import ProfilerActivity, profile

from wsis import ops
from wsis.profiling import span
from wsis.runtime.progress import StageClock


def names_in(profiler: profile) -> set[str]:
    return {event.key for event in profiler.key_averages()}


def test_operators_have_their_names():
    logits = torch.randn(1, 12, 12, requires_grad=True)
    displacement = torch.randn(1, 2, 12, 12, requires_grad=True)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        ops.random_walk(torch.rand(1, 12, 12), torch.zeros(1, 12, 12))
        ops.connected_components(torch.ones(1, 4, 4, dtype=torch.int32))
        sum(ops.inter_pixel_loss(logits, displacement, torch.ones(1, 12, 12, dtype=torch.uint8))).backward()
    wanted = {"random_walk", "connected_components", "inter_pixel_loss", "inter_pixel_loss_backward"}
    assert {f"wsis::{name}" for name in wanted} <= names_in(profiler)


def test_stages_and_spans_have_their_names():
    clock = StageClock()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        with span("steps.label"), clock("nets"):
            torch.ones(3).sum()
        with clock("write"):
            pass
    assert {"wsis.steps.label", "wsis.nets", "wsis.write"} <= names_in(profiler)
    assert set(clock.seconds) == {"nets", "write"}
