"""Options of the benchmarks: a small default that ends within minutes, ``--full`` for everything."""

from __future__ import annotations

import time

import pytest

from benchmarks import machine

SHORT = {"benchmark_max_time": 0.4, "benchmark_min_rounds": 3, "benchmark_warmup": False}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="benchmarks: every size, longer and with warm-up")
    parser.addoption("--limit", type=float, help="benchmarks: start none after so many seconds")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: a benchmark that runs with --full only")
    config.addinivalue_line("markers", "last: a benchmark without a goal of its own, which others go before")
    if config.getoption("--full"):
        config.option.benchmark_warmup = True
        return
    for name, value in SHORT.items():
        setattr(config.option, name, value)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)
    if config.getoption("--full"):
        return
    for item in items:
        if item.get_closest_marker("full"):
            item.add_marker(pytest.mark.skip(reason="runs with --full"))


STARTED = time.monotonic()


def pytest_runtest_setup(item: pytest.Item) -> None:
    limit = item.config.getoption("--limit")
    if limit is not None and time.monotonic() - STARTED > limit:
        pytest.skip(f"the {limit:g} seconds of --limit are over")


def pytest_report_header() -> str:
    return machine.headline(machine.describe())
