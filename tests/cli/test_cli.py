"""The command line from outside: what it prints and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import types
from dataclasses import dataclass

import pytest
import torch

from wsis import cli
from wsis.__main__ import main
from wsis.errors import ConfigError, ExitCode, SystemFault


@dataclass(frozen=True)
class Config:
    """Options.

    Attributes:
        mode: how to end.
        count: a number.
    """

    mode: str = "fine"
    count: int = 1


@dataclass(frozen=True)
class Result:
    exit_code: int
    images: int = 3


@pytest.fixture
def step(monkeypatch):
    """A step named ``probe`` that ends as it is told."""
    endings = {
        "config": ConfigError(["one: wrong", "two: wrong"]),
        "system": SystemFault("writing x: disk full"),
        "stop": KeyboardInterrupt(),
        "pipe": BrokenPipeError(),
        "disk": OSError(28, "No space left on device"),
        "memory": MemoryError(),
        "torch": RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate 8 bytes"),
        "gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nand more lines"),
        "bug": ValueError("a fault of the program"),
    }

    def run(config):
        if config.mode in endings:
            raise endings[config.mode]
        return Result(int(config.mode) if config.mode.isdigit() else 0)

    module = types.ModuleType("probe_step", "A step that ends as it is told.")
    module.Config, module.run = Config, run
    monkeypatch.setitem(sys.modules, "probe_step", module)
    command = cli.Command("probe", "probe_step", "ends as it is told")
    monkeypatch.setattr(cli, "COMMANDS", (*cli.COMMANDS, command))
    monkeypatch.setattr(cli.Command, "exists", lambda self: self.name == "probe")
    monkeypatch.setattr(cli, "_mute_stdout", lambda: None)


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        ("fine", ExitCode.OK),
        ("3", ExitCode.WITH_FAULTS),
        ("4", ExitCode.TOO_MANY_FAULTS),
        ("75", ExitCode.STOPPED),
        ("config", ExitCode.BAD_INPUT),
        ("system", ExitCode.SYSTEM),
        ("disk", ExitCode.SYSTEM),
        ("memory", ExitCode.SYSTEM),
        ("torch", ExitCode.SYSTEM),
        ("gpu", ExitCode.SYSTEM),
        ("stop", ExitCode.STOPPED),
        ("pipe", ExitCode.OK),
    ],
)
def test_exit_codes(step, mode, code):
    assert main(["probe", f"--mode={mode}"]) == code


def test_every_problem_is_printed(step, capsys):
    assert main(["probe", "--mode=config"]) == 2
    assert capsys.readouterr().err.splitlines() == ["wsis: one: wrong", "wsis: two: wrong"]
    assert main(["probe", "--mod=x", "--count=many"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "wsis: --mod: unknown option; did you mean mode?"
    assert lines[1] == "wsis: --count: got 'many', expected a whole number"


def test_what_was_stopped_says_how_it_goes_on(step, capsys, monkeypatch):
    assert main(["probe", "--mode=stop"]) == ExitCode.STOPPED
    assert capsys.readouterr().err == "wsis: stopped; the same command begins anew\n"
    monkeypatch.setattr(cli, "_RESUMING", ("probe",))
    main(["probe", "--mode=stop"])
    assert capsys.readouterr().err == "wsis: stopped; the same command resumes\n"


def test_a_fault_of_the_program_keeps_its_trace(step):
    with pytest.raises(ValueError, match="a fault of the program"):
        main(["probe", "--mode=bug"])


def test_result_is_shown(step, capsys):
    assert main(["probe"]) == 0
    assert capsys.readouterr().out == "images: 3\n"


def test_help_of_a_step(step, capsys):
    assert main(["probe", "--help"]) == 0
    text = capsys.readouterr().out
    assert "A step that ends as it is told." in text
    assert "how to end. (type: str, default: fine)" in " ".join(text.split())


def test_unknown_command_is_answered_with_the_nearest(step, capsys):
    assert main(["prove"]) == 2
    assert "did you mean probe?" in capsys.readouterr().err


def test_half_of_a_command_is_answered_with_all_of_them(capsys):
    for words in (["data"], ["data", "--help"], ["data", "chek"]):
        assert main(words) == 2
        assert capsys.readouterr().err == "wsis: 'data' has more than one word: data check, data split\n"


def test_overview_and_version(capsys):
    for words in ([], ["--help"], ["help"]):
        assert main(words) == 0
        assert "run RECIPE" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("wsis ")


def test_names_of_commands_are_the_documented_ones():
    documented = """demo, run, train-cam, make-seed-labels, train-irnet, train-peaks, make-points,
        train-center-offset, label, export, train-detector, predict, evaluate, data check, data split, verify, tune,
        report, convert, doctor"""
    names = {command.name for command in cli.COMMANDS} | {"run"}
    assert names == {name.strip() for name in documented.split(",")}


def test_python_dash_m():
    done = subprocess.run([sys.executable, "-m", "wsis", "lable"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("wsis: unknown command 'lable'")


def test_a_library_that_is_not_built_ends_with_the_command_that_mends_it(step, capsys, monkeypatch):
    def run(config):
        raise ImportError("wsis: the compiled operators are missing. Build them with\n    pip install .")

    monkeypatch.setattr(sys.modules["probe_step"], "run", run)
    assert main(["probe"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "wsis: the compiled operators are missing. Build them with",
        "wsis:     pip install .",
    ]


def test_sigterm_while_a_step_starts_is_a_stop(monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(cli, "_dispatch", lambda words: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(5))
    assert cli.run_command(["label"]) == 75
    assert "the same command resumes" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("streams", "environment"),
    [(">&-", {}), ("2>&-", {}), ("", {"PYTHONIOENCODING": "ascii"}), ("", {"PYTHONIOENCODING": "utf-8:strict"})],
)
def test_streams_that_are_closed_or_know_few_characters(tmp_path, streams, environment):
    """A name that is no UTF-8 and the lines of a table reach every kind of stream."""
    for name in (b"good.jpg", b"caf\xe9.jpg"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"")
    (tmp_path / "tags.csv").write_text("good.jpg,a\n")
    report = tmp_path / "report.json"
    command = f"{sys.executable} -m wsis data check {tmp_path} --report={report} {streams}"
    env = {**os.environ, **environment}
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, timeout=60, env=env)
    assert done.returncode == 2, done.stderr.decode("utf-8", "replace")
    assert b"Traceback" not in done.stderr
    (problem,) = json.loads(report.read_text(encoding="utf-8"))["problems"]
    assert "is not valid Unicode" in problem["text"]
    assert streams == ">&-" or b"is not valid Unicode" in done.stdout
