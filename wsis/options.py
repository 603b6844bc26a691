"""From the words of a command line and a YAML file to a frozen dataclass, with every problem named at once.

jsonargparse does the typing, the ``--help`` page and the dotted names (``--data.root=PHOTOS``). What is
added here: all mistakes are collected before anything runs, an unknown key is answered with the nearest
known one, mistakes in a YAML file are named with file and line, a switch takes ``true`` or ``false`` and
nothing else, and ``~/`` at the start of a text is the home folder (a shell leaves that of ``--name=~/x`` alone).
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
import sys
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jsonargparse
import yaml

from wsis.errors import ConfigError, Problem

__all__ = ["build", "make_parser", "option_types", "parse", "read_values"]

T = TypeVar("T")
_HOME = re.compile(r"^~/")
_HOMES = re.compile(r"""(?:^|(?<=[,\['"])|(?<=, ))~/""")


def option_types(kind: type, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> type of every leaf field of a dataclass, nested dataclasses opened."""
    hints = typing.get_type_hints(kind)
    found: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            found |= option_types(hint, f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = hint
    return found


def make_parser(
    kind: type, prog: str, description: str = "", *, positional: str | None = None, defaults: Any = None
) -> jsonargparse.ArgumentParser:
    """A parser with one option per field of the dataclass ``kind``.

    Args:
        kind: a dataclass; nested dataclasses become dotted options.
        prog, description: what ``--help`` shows.
        positional: name of a field that is given without ``--`` (a sequence field takes one or more words).
        defaults: an instance of ``kind`` whose values replace the defaults of the class.
    """
    words = f" {positional.upper()} ..." if positional else ""
    usage = f"{prog}{words} [--config FILE.yaml] [--name=value ...]"
    parser = jsonargparse.ArgumentParser(prog=prog, usage=usage, description=description, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file with the options below; later words override it")
    if positional is not None:
        hint = typing.get_type_hints(kind)[positional]
        many = typing.get_origin(hint) in (tuple, list)
        item = typing.get_args(hint)[0] if many else hint
        parser.add_argument(positional, type=item, nargs="+" if many else None, help=_field_help(kind, positional))
    parser.add_class_arguments(kind, None, skip={positional} if positional else set())
    if defaults is not None:
        parser.set_defaults({name: _lookup(defaults, name) for name in option_types(kind)})
    return parser


def parse(
    kind: type[T],
    words: Sequence[str],
    prog: str,
    description: str = "",
    *,
    positional: str | None = None,
    defaults: T | None = None,
) -> T:
    """Read a command's configuration.

    Returns an instance of ``kind``. ``--help`` prints and raises ``SystemExit(0)``.

    Raises:
        ConfigError: with every unknown key, value of a wrong type and value out of range that was found.
    """
    return build(kind, read_values(kind, words, prog, description, positional=positional, defaults=defaults))


def read_values(
    kind: type,
    words: Sequence[str],
    prog: str,
    description: str = "",
    *,
    positional: str | None = None,
    defaults: Any = None,
) -> dict[str, Any]:
    """As :func:`parse`, without making the dataclass: nested mappings of typed values."""
    parser = make_parser(kind, prog, description, positional=positional, defaults=defaults)
    if {"-h", "--help"} & set(words):
        parser.print_help()
        raise SystemExit(0)
    types = option_types(kind)
    problems: list[str] = []
    given: list[_Option] = []
    for word in _joined(words, types):
        if not word.startswith("--"):
            given.append(_Option(word))
            if positional is None:
                problems.append(f"unexpected word {word!r}: options are written --name=value")
            continue
        name, equals, text = word[2:].partition("=")
        if name == "config":
            given += _read_yaml(types, text, problems) if equals else []
            if not equals:
                problems.append("--config: got nothing, expected the name of a YAML file")
        elif name.startswith("print_config"):
            given.append(_Option(word))
        else:
            option = _option(types, name, text if equals else None, f"--{name}", problems)
            given += [option] if option else []
    try:
        words = [option.word for option in given if not (problems and option.word.startswith("--print_config"))]
        space = parser.parse_args(words)
    except jsonargparse.ArgumentError as error:
        problems += _wrong_values(parser, [option for option in given if option.complaint])
        raise ConfigError(problems or [_tidy(str(error))]) from None
    if problems:
        raise ConfigError(problems)
    return space.as_dict()


def build(kind: type[T], values: dict[str, Any]) -> T:
    """Make the dataclass from plain values, nested ones first; collects the problems of all of them."""
    hints = typing.get_type_hints(kind)
    problems: list[str | Problem] = []
    made: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.name not in values:
            continue
        value = values[field.name]
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint) and not isinstance(value, hint):
            try:
                made[field.name] = build(hint, value)
            except ConfigError as error:
                problems += error.problems
        else:
            made[field.name] = tuple(value) if typing.get_origin(hint) is tuple and value is not None else value
    if problems:
        raise ConfigError(problems)
    try:
        return kind(**made)
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError([str(error)]) from error


def _lookup(owner: Any, dotted: str) -> Any:
    for name in dotted.split("."):
        owner = getattr(owner, name)
    return owner


def _field_help(kind: type, name: str) -> str:
    from docstring_parser import parse_from_object

    for item in parse_from_object(kind).params:
        if item.arg_name.split(",")[0].strip() == name:
            return item.description or ""
    return ""


def _joined(words: Sequence[str], types: dict[str, Any]) -> Iterator[str]:
    """``--name value`` becomes ``--name=value``; a switch that stands alone means true."""
    waiting: str | None = None
    for word in words:
        if waiting is not None:
            switch = types.get(waiting[2:].replace("-", "_")) is bool
            takes = word.lower() in ("true", "false") if switch else not word.startswith("--")
            yield f"{waiting}={word}" if takes else f"{waiting}=true" if switch else waiting
            waiting = None
            if takes:
                continue
        if word.startswith("--") and "=" not in word and not word.startswith("--print_config"):
            waiting = word
        else:
            yield word
    if waiting is not None:
        yield f"{waiting}=true" if types.get(waiting[2:].replace("-", "_")) is bool else waiting


class _Option(NamedTuple):
    """A word for the parser, and what to say if its value is wrong."""

    word: str
    complaint: str = ""


def _option(types: dict[str, Any], name: str, text: str | None, place: str, problems: list[str]) -> _Option | None:
    """One option as a word for the parser; None, and a problem, if it has no such name or no value."""
    if name.replace("-", "_") in types:
        name = name.replace("-", "_")
    if name not in types:
        problems.append(f"{place}: unknown option{_nearest(name, types)}")
        return None
    hint, given = types[name], text
    if text is None:
        problems.append(f"{place}: got no value, expected {_say(hint)}")
        return None
    if hint is bool and text.lower() not in ("true", "false"):
        problems.append(f"{place}: got {text!r}, expected true or false")
        return None
    if hint is str or _holds_text(hint):
        text = (_HOMES if _is_sequence(hint) else _HOME).sub(lambda _: os.path.expanduser("~/"), text)
    if _is_sequence(hint) and not text.lstrip().startswith("[") and text != "null":
        items = [item.strip() for item in text.split(",")] if text.strip() else []
        text = json.dumps(items) if _holds_text(hint) else f"[{', '.join(items)}]"
    return _Option(f"--{name}={text}", f"{place}: got {given!r}, expected {_say(hint)}")


def _wrong_values(parser: jsonargparse.ArgumentParser, given: Sequence[_Option]) -> list[str]:
    """The complaints of the options that the parser refuses. It names only the first of them and takes long over
    each call, so halves that it accepts are not looked at further."""
    if not given:
        return []
    try:
        parser.parse_args([*_placeholders(parser), *(option.word for option in given)])
    except jsonargparse.ArgumentError:
        middle = len(given) // 2
        if middle:
            return _wrong_values(parser, given[:middle]) + _wrong_values(parser, given[middle:])
        return [given[0].complaint]
    return []


def _placeholders(parser: jsonargparse.ArgumentParser) -> list[str]:
    return ["x" for action in parser._actions if not action.option_strings and action.dest != "help"]


def _read_yaml(types: dict[str, Any], file: str, problems: list[str]) -> list[_Option]:
    """The options of a YAML file, problems named ``FILE:LINE``."""
    try:
        tree = yaml.compose(Path(file).expanduser().read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except OSError as error:
        problems.append(f"--config {file}: {error.strerror} (working directory {Path.cwd()})")
        return []
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problems.append(f"{file}{line}: not a YAML file: {getattr(error, 'problem', None) or error}")
        return []
    if tree is None:
        return []
    options: list[_Option] = []
    for name, node in _leaves(tree, "", types):
        place = f"{file}:{node.start_mark.line + 1}: {name}" if name else f"{file}:{node.start_mark.line + 1}"
        if not name:
            problems.append(f"{place}: expected a mapping of options")
            continue
        try:
            text = _as_text(node)
        except yaml.YAMLError as error:
            problems.append(f"{place}: {getattr(error, 'problem', None) or error}")
            continue
        option = _option(types, name, text, place, problems)
        options += [option] if option else []
    return options


def _leaves(node: yaml.Node, prefix: str, types: dict[str, Any]) -> Iterator[tuple[str, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = prefix + str(key.value)
            nested = any(known.startswith(name + ".") for known in types)
            if nested or (isinstance(value, yaml.MappingNode) and name not in types):
                yield from _leaves(value, name + ".", types)
            else:
                yield name, value
    else:
        yield prefix.rstrip("."), node


def _as_text(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return node.value if node.tag != "tag:yaml.org,2002:null" else "null"
    text = yaml.serialize(node, Dumper=yaml.SafeDumper)
    return yaml.safe_dump(yaml.safe_load(text), default_flow_style=True, width=sys.maxsize).strip()


def _is_sequence(hint: Any) -> bool:
    options = typing.get_args(hint) if typing.get_origin(hint) not in (tuple, list) else (hint,)
    return any(typing.get_origin(option) in (tuple, list) for option in options)


def _holds_text(hint: Any) -> bool:
    args = typing.get_args(hint)
    return str in args or any(_holds_text(arg) for arg in args)


def _say(hint: Any) -> str:
    if hint is bool:
        return "true or false"
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, args))
    if origin in (tuple, list):
        return f"a list of {_say(args[0])}"
    if args:
        return " or ".join("null" if arg is type(None) else _say(arg) for arg in args)
    names = {int: "a whole number", float: "a number", str: "a text"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _nearest(name: str, types: dict[str, Any]) -> str:
    """The known option that the unknown one most likely means."""
    if not types:
        return ""
    close = difflib.get_close_matches(name, types, 1, 0.7)
    if not close:
        tail = name.rsplit(".", 1)[-1]
        tails = {known.rsplit(".", 1)[-1]: known for known in reversed(types)}
        ranked = difflib.get_close_matches(tail, tails, 1, 0.0)
        close = [tails[ranked[0]]]
    return f"; did you mean {close[0]}?"


def _tidy(text: str) -> str:
    return " ".join(text.split())
