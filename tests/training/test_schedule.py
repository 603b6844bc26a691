"""Learning rates by step, and which images make up which step."""

from __future__ import annotations

import importlib

import pytest
import torch

from wsis.errors import ConfigError
from wsis.training.batches import BatchPlan
from wsis.training.config import MachineConfig, OptimConfig
from wsis.training.schedule import build_optimizer, set_learning_rates


def test_polynomial_values():
    optim = OptimConfig()
    assert optim.factor(0, 100) == 1.0
    assert optim.factor(50, 100) == pytest.approx(0.5**0.9)
    assert optim.factor(99, 100) == pytest.approx(0.01**0.9)
    assert optim.factor(100, 100) == 0.0
    assert OptimConfig(power=2.0).factor(25, 100) == pytest.approx(0.75**2)


def test_warmup_rises_to_the_polynomial():
    optim = OptimConfig(warmup=10)
    assert optim.factor(0, 100) == pytest.approx(0.1)
    assert optim.factor(4, 100) == pytest.approx(0.5 * 0.96**0.9)
    assert optim.factor(9, 100) == OptimConfig().factor(9, 100)
    lifted = OptimConfig(warmup=10, warmup_from=0.001)
    assert lifted.factor(0, 100) == pytest.approx(0.001)
    assert lifted.factor(5, 100) == pytest.approx((0.001 + 0.999 / 2) * 0.95**0.9)
    assert lifted.factor(10, 100) == OptimConfig().factor(10, 100)


def test_milestones_divide_by_ten():
    optim = OptimConfig("nesterov", milestones=(4 / 15, 9 / 15))
    assert [optim.factor(step, 150) for step in (0, 39, 40, 89, 90, 149)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_groups_and_parity_preset():
    old, new = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))
    optimizer = build_optimizer(OptimConfig(), [old], [new])
    assert isinstance(optimizer, torch.optim.SGD)
    assert [group["momentum"] for group in optimizer.param_groups] == [0.0, 0.0]
    set_learning_rates(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.5]
    assert build_optimizer(OptimConfig(optimizer="momentum"), [old], [new]).param_groups[0]["momentum"] == 0.9
    assert len(build_optimizer(OptimConfig(optimizer="adamw"), [], [new]).param_groups) == 1


def test_steps_drop_the_incomplete_batch():
    assert OptimConfig(epochs=3, batch_size=16).total_steps(40) == 6
    assert OptimConfig(epochs=3, batch_size=16, min_steps=50).total_steps(40) == 50
    assert OptimConfig(epochs=3, batch_size=16, min_steps=50).total_steps(800) == 150
    assert OptimConfig(steps=7).total_steps(40) == 7


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lr", 0.0),
        ("lr", float("nan")),
        ("batch_size", 0),
        ("epochs", 0),
        ("optimizer", "adamx"),
        ("power", -1.0),
    ],
)
def test_optim_config_names_what_is_wrong(field, value):
    with pytest.raises(ConfigError, match=rf"optim\.{field}: got"):
        OptimConfig(**{field: value})


@pytest.mark.parametrize(("field", "value"), [("workers", -1), ("keep", 0), ("precision", "fp8"), ("device", "tpu")])
def test_machine_config_names_what_is_wrong(field, value):
    with pytest.raises(ConfigError, match=field):
        MachineConfig(**{field: value})


def test_every_pass_is_a_permutation():
    plan = BatchPlan(10, 3, 6, seed=1)
    batches = list(plan)
    assert len(batches) == len(plan) == 6
    for epoch in (0, 1):
        rows = [row for batch in batches[3 * epoch : 3 * epoch + 3] for row in batch]
        assert {e for e, _ in rows} == {epoch}
        assert len({i for _, i in rows}) == 9
    assert batches[:3] != [[(0, i) for _, i in batch] for batch in batches[3:]]


def test_a_plan_resumed_is_the_rest_of_the_plan():
    whole, rest = BatchPlan(10, 3, 6, seed=1), BatchPlan(10, 3, 6, seed=1)
    rest.start = 4
    assert list(rest) == list(whole)[4:]


def test_processes_share_a_batch():
    whole, parts = BatchPlan(10, 4, 2, seed=1), [BatchPlan(10, 4, 2, seed=1) for _ in range(2)]
    for rank, part in enumerate(parts):
        part.rank, part.world = rank, 2
    joined = [sorted(a + b) for a, b in zip(*map(list, parts))]
    assert joined == [sorted(batch) for batch in whole]


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ConfigError, match="batch_size"):
        BatchPlan(3, 4, 1, 0)


@pytest.mark.parametrize("step", ["cam", "irnet", "peaks", "center_offset", "detector"])
def test_a_seed_that_no_generator_takes_is_named(step):
    config = importlib.import_module(f"wsis.steps.train_{step}").Config
    assert config(seed=0).seed == 0
    with pytest.raises(ConfigError, match=r"seed: got -1, expected 0 to 2147483647"):
        config(seed=-1)
