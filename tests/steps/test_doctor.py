"""The doctor knows every operator, and notices one that is wrong."""

from __future__ import annotations

import pytest
import torch

from tests.ops.spec import flatten
from wsis import ops
from wsis.errors import ConfigError
from wsis.reference.examples import EXAMPLES
from wsis.steps import doctor


def test_every_operator_has_a_case():
    functions = {name for name in ops.__all__ if name[0].islower()}
    assert set(EXAMPLES) == functions


def test_all_well():
    result = doctor.run(doctor.Config(device="cpu"))
    assert result.exit_code == 0, result.summary()
    text = result.summary()
    for word in ("wsis", "torch", "kernels", "GPU", "random_walk", "all well"):
        assert word in text


def test_an_operator_that_is_wrong_is_named(monkeypatch):
    plain = ops.connected_components
    monkeypatch.setattr(ops, "connected_components", lambda *a, **k: plain(*a, **k)._replace(counts=torch.zeros(2)))
    result = doctor.run(doctor.Config(device="cpu"))
    assert result.exit_code == 2
    assert "connected_components on cpu: differs from its oracle" in result.summary()


def test_an_operator_that_raises_is_named(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(ops, "random_walk", broken)
    (check,) = [check for check in doctor.self_test() if check.op == "random_walk"]
    assert check.problem == "RuntimeError: no kernel image"


@pytest.mark.parametrize("name", EXAMPLES)
def test_arguments_move_whole(name):
    """No tensor of an example may stay behind on the CPU when a GPU is tested."""
    moved = flatten(doctor._move(EXAMPLES[name].arguments(), "meta"))
    assert all(leaf.is_meta for leaf in moved if isinstance(leaf, torch.Tensor))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_all_well_on_a_gpu():
    assert all(not check.problem for check in doctor.self_test("cuda"))


def test_unknown_device():
    with pytest.raises(ConfigError, match="a GPU that torch sees"):
        doctor.run(doctor.Config(device="abacus"))


def test_a_library_that_is_not_built_is_named_with_the_command_that_mends_it(monkeypatch):
    def missing(name):
        raise ImportError("wsis: the compiled operators (wsis/_C.abi3.so) are missing. Build them with pip")

    monkeypatch.setattr(doctor.importlib, "import_module", missing)
    result = doctor.run(doctor.Config(device="cpu"))
    assert result.exit_code == 2
    assert result.checks == ()
    assert "problem: the compiled operators (wsis/_C.abi3.so) are missing. Build them" in result.summary()
