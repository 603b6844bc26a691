"""``wsis run RECIPE``: options of the whole and of every stage, then the stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsis.errors import ConfigError, did_you_mean
from wsis.options import build, parse, read_values
from wsis.recipes import OPTIONS, RECIPES
from wsis.recipes.execute import RunResult, run_stages, write_predict
from wsis.recipes.stages import Options, Stage

__all__ = ["read_recipe", "run_recipe_command"]


@dataclass(frozen=True)
class _Force:
    """Which stages to make again.

    Attributes:
        force: names of stages, separated by commas.
    """

    force: tuple[str, ...] = ()


def run_recipe_command(words: Sequence[str]) -> RunResult:
    """Carry out ``wsis run`` with these words.

    Raises:
        ConfigError: every problem found in the words, the YAML file and the stages.
    """
    if not words or words[0].startswith("-"):
        names = "\n".join(f"  {name:<14} {(recipe.__doc__ or '').splitlines()[0]}" for name, recipe in RECIPES.items())
        print(f"usage: wsis run RECIPE [--config FILE.yaml] [--name=value ...]\n\nrecipes:\n{names}")
        if words and words[0] in ("-h", "--help"):
            raise SystemExit(0)
        raise ConfigError("run: which recipe?")
    name, rest = words[0], words[1:]
    if name not in RECIPES:
        raise ConfigError(f"run: unknown recipe {name!r}; {did_you_mean(name, tuple(RECIPES))}")
    options, stages, force = read_recipe(RECIPES[name], rest, f"wsis run {name}", OPTIONS[name]())
    result = run_stages(options.out, stages, force)
    write_predict(Path(options.out), stages)
    print(result.summary())
    return result


def read_recipe(
    recipe: Callable[[Options], list[Stage]], words: Sequence[str], prog: str, base: Options | None = None
) -> tuple[Options, list[Stage], tuple[str, ...]]:
    """Options, stages with every change that the words make, and the stages to force.

    The options come first: they decide the defaults of the stages, which the words may then change.
    """
    base = base or Options()
    first = _kind(base, recipe(base))
    values = read_values(first, words, prog, recipe.__doc__ or "", defaults=first())
    options = build(type(base), {field.name: values[field.name] for field in dataclasses.fields(base)})
    stages = recipe(options)
    kind = _kind(options, stages)
    run = parse(kind, words, prog, defaults=kind())
    return options, [dataclasses.replace(stage, config=getattr(run, stage.name)) for stage in stages], run.force


def _kind(options: Options, stages: Sequence[Stage]) -> type:
    """A dataclass with the options, ``force`` and one field per stage, the present values as defaults."""
    fields: list[tuple] = []
    for owner in (options, _Force()):
        hints = {item.name: getattr(owner, item.name) for item in dataclasses.fields(owner)}
        types = _types(type(owner))
        fields += [(name, types[name], _default(value)) for name, value in hints.items()]
    fields += [(stage.name, type(stage.config), _default(stage.config)) for stage in stages]
    made = dataclasses.make_dataclass("Run", fields, frozen=True)
    made.__doc__ = _doc(options, stages)
    return made


def _types(kind: type) -> dict[str, type]:
    import typing

    return typing.get_type_hints(kind)


def _default(value: object) -> dataclasses.Field:
    return dataclasses.field(default_factory=lambda: value)


def _doc(options: Options, stages: Sequence[Stage]) -> str:
    """Docstring with a line per field, for ``--help``."""
    own = (type(options).__doc__ or "").rstrip().splitlines()
    lines = [*own, "        force: stages to make again, separated by commas."]
    for stage in stages:
        first = (type(stage.config).__doc__ or stage.name).strip().splitlines()[0]
        lines.append(f"        {stage.name}: {first}")
    return "\n".join(lines)
