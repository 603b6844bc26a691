"""The command line: one subcommand per step, one ``run`` for the recipes.

Every command takes ``--config FILE.yaml`` and ``--name=value`` for each field of its step's ``Config``.

Exit codes:
    0 all done; 2 a configuration or input that was found wrong before work began; 3 done, with recorded
    faults; 4 too many faults; 5 a system fault (disk full, I/O, device lost), resumable; 75 asked to stop,
    resume with the same command; 1 a fault of the program itself, shown with its trace.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from wsis.errors import ConfigError, ExitCode, SystemFault, is_system_error

__all__ = ["COMMANDS", "Command", "run_command"]


@dataclass(frozen=True)
class Command:
    """One subcommand.

    Attributes:
        name: the words that call it (``data check`` has two).
        module: where its ``Config`` and ``run(config)`` are.
        help: one line for ``wsis --help``.
        positional: the field given without ``--``, if there is one.
        subject: the field that a first word without ``--`` fills, if there is one.
    """

    name: str
    module: str
    help: str
    positional: str | None = None
    subject: str | None = None

    def exists(self) -> bool:
        return importlib.util.find_spec(self.module) is not None


_STEPS = (
    ("train-cam", "train the image classifier whose activation maps start everything"),
    (
        "make-seed-labels",
        "activation maps and a dense CRF to seed maps (confident foreground, background, unsure)",
    ),
    ("train-irnet", "train the boundary and displacement network on the seed maps"),
    ("label", "label every image of a data set: instance masks and semantic maps"),
    ("export", "a label run to COCO json, VOC PNGs, YOLO, LabelMe or Label Studio"),
    ("evaluate", "compare a label run with masks: VOC AP, COCO AP, ABO, mIoU"),
    ("report", "one self-contained HTML page with pictures and figures of a label run"),
    ("train-peaks", "train the peak network of BESTIE"),
    ("make-points", "peak points of every image"),
    ("train-center-offset", "train the centre and offset network of BESTIE"),
    ("train-detector", "train Mask R-CNN on the labels"),
    ("tune", "sweep thresholds on kept fields"),
    ("verify", "check the files of a label run, and mend what follows from them"),
    ("convert", "read checkpoints of other programs"),
)
_RESUMING = ("train-", "make-", "label", "run", "demo", "tune")
_SUBJECTS = {
    **dict.fromkeys(("export", "report", "verify", "tune"), "run"),
    "train-detector": "labels",
    "convert": "checkpoint",
}
COMMANDS: tuple[Command, ...] = (
    Command("demo", "wsis.recipes.demo", "from made-up scenes to masks in a few minutes, training included"),
    Command("predict", "wsis.steps.predict", "masks for single photographs", "photos"),
    *(
        Command(name, "wsis.steps." + name.replace("-", "_"), text, subject=_SUBJECTS.get(name))
        for name, text in _STEPS
    ),
    Command("data check", "wsis.steps.data_check", "every problem of a data set at once", subject="root"),
    Command("data split", "wsis.steps.data_split", "lists for training and validation, by class", subject="root"),
    Command(
        "doctor",
        "wsis.steps.doctor",
        "versions, compiled kernels, what the machine has, self-test of every op",
    ),
)


def run_command(words: Sequence[str]) -> int:
    """Run one command line (without the program's name); returns the exit code. Never raises but for faults
    of the program itself, whose trace is wanted."""
    try:
        with _terminable():
            return int(_dispatch(list(words)))
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else ExitCode.OK if error.code is None else ExitCode.BAD_INPUT
    except ConfigError as error:
        return _complain(str(error).splitlines(), ExitCode.BAD_INPUT)
    except SystemFault as error:
        return _complain([f"{error} (nothing finished is lost: the same command resumes)"], ExitCode.SYSTEM)
    except KeyboardInterrupt:
        again = "resumes" if words and words[0].startswith(_RESUMING) else "begins anew"
        return _complain([f"stopped; the same command {again}"], ExitCode.STOPPED)
    except BrokenPipeError:
        _mute_stdout()
        return ExitCode.OK
    except (OSError, MemoryError, RuntimeError) as error:
        if not is_system_error(error):
            raise
        reason = str(error).partition("\n")[0] or "out of memory"
        text = f"{reason} (nothing finished is lost: the same command resumes)"
        return _complain([text], ExitCode.SYSTEM)
    except ImportError as error:
        if not str(error).startswith("wsis:"):
            raise
        return _complain(str(error).removeprefix("wsis: ").splitlines(), ExitCode.BAD_INPUT)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM counts as Ctrl-C where no step says otherwise: while it starts, for instance."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return ExitCode.OK
    if words[0] == "--version":
        import wsis

        print(f"wsis {wsis.__version__}")
        return ExitCode.OK
    if words[0] == "run":
        from wsis.recipes.command import run_recipe_command

        return _code(run_recipe_command(words[1:]))
    for command in COMMANDS:
        parts = command.name.split()
        if words[: len(parts)] == parts and command.exists():
            return _run_step(command, words[len(parts) :])
    known = [command.name for command in COMMANDS if command.exists()] + ["run"]
    longer = [name for name in known if name.startswith(words[0] + " ")]
    if longer:
        return _complain([f"{words[0]!r} has more than one word: {', '.join(longer)}"], ExitCode.BAD_INPUT)
    close = difflib.get_close_matches(words[0], known, 1, 0.0)
    return _complain(
        [f"unknown command {words[0]!r}; did you mean {close[0]}? (wsis --help lists all)"],
        ExitCode.BAD_INPUT,
    )


def _run_step(command: Command, words: list[str]) -> int:
    from wsis.options import parse

    step = importlib.import_module(command.module)
    description = (step.__doc__ or command.help).strip()
    if command.subject and words and not words[0].startswith("-"):
        words = [f"--{command.subject}={words[0]}", *words[1:]]
    config = parse(step.Config, words, f"wsis {command.name}", description, positional=command.positional)
    with _span(command.module):
        result = step.run(config)
    _show(result)
    return _code(result)


def _span(module: str) -> contextlib.AbstractContextManager[None]:
    """Names a step for profilers, unless it needed no torch (which would have to be loaded for the name alone)."""
    if "torch" not in sys.modules:
        return contextlib.nullcontext()
    from wsis.profiling import span

    return span(module.removeprefix("wsis."))


def _code(result: Any) -> int:
    code = getattr(result, "exit_code", None)
    if code is None and isinstance(result, dict):
        code = result.get("exit_code")
    return ExitCode.OK if code is None else int(code)


def _show(result: Any) -> None:
    """Print what a step returned: its own ``summary()`` if it has one, else its plain fields."""
    summary: Callable[[], str] | None = getattr(result, "summary", None)
    if callable(summary):
        print(summary())
        return
    if dataclasses.is_dataclass(result):
        result = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    if isinstance(result, dict):
        for name, value in result.items():
            if isinstance(value, (str, int, float, os.PathLike)) and name != "exit_code":
                print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")


def _overview() -> str:
    lines = [
        "usage: wsis COMMAND [--config FILE.yaml] [--name=value ...]",
        "",
        "Weakly-supervised instance segmentation: from image labels to instance masks.",
        "",
        "commands (wsis COMMAND --help shows every option with its default):",
        "  run RECIPE           all steps of a recipe, each skipped where it is already done and verified",
    ]
    lines += [f"  {command.name:<20} {command.help}" for command in COMMANDS if command.exists()]
    return "\n".join(lines)


def _complain(problems: Sequence[str], code: ExitCode) -> ExitCode:
    for problem in problems:
        print(f"wsis: {problem}", file=sys.stderr)
    return code


def _mute_stdout() -> None:
    """After a reader has gone (``| head``): keep the interpreter from failing again when it flushes at
    exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
