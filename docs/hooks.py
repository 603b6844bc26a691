"""The order of the pages, and docstrings in them.

A line ``{{ wsis/ops/random_walk.py random_walk }}`` becomes signature and docstring. The sources are read, not
imported, so the pages are built without torch and without compiled operators. Links to files of the repository that
lie outside ``docs`` become their paths: a built site does not have them.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
_ORDER = {
    "Start": ["index", "first_masks", "own_data", "voc_coco"],
    "Use": ["coming_from", "evaluation", "scaling", "faults", "results"],
    "Inside": ["kernels", "performance", "add_op", "cuda_sim"],
}
_MARK = re.compile(r"^\{\{ (?P<path>[\w/.]+\.py) (?P<name>\w+) \}\}$", re.MULTILINE)


_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)(?:#[^)]*)?\)")


def on_config(config: Any, **_: object) -> Any:
    """Called by MkDocs first: the pages that are there in the order above, new ones at the end."""
    there = sorted(path.stem for path in (_ROOT / "docs").glob("*.md"))
    known = {name for names in _ORDER.values() for name in names}
    order = {**_ORDER, "More": [name for name in there if name not in known]}
    sections = {title: [f"{name}.md" for name in names if name in there] for title, names in order.items()}
    config.nav = [{title: pages} for title, pages in sections.items() if pages]
    return config


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by MkDocs for each page; ``ValueError`` for a file or name that is not there."""
    markdown = _OUTSIDE.sub(r"\1 (`\2`)", markdown)
    return _MARK.sub(lambda match: _described(match["path"], match["name"]), markdown)


def _described(path: str, name: str) -> str:
    tree = ast.parse((_ROOT / path).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            text = ast.get_docstring(node)
            if not text:
                raise ValueError(f"{path}: {name} has no docstring")
            title = f"### `{name}` {{ #{name} }}"
            code = f"```python\n{_signature(node)}\n```"
            return f"{title}\n\n{code}\n\n```text\n{inspect.cleandoc(text)}\n```"
    raise ValueError(f"{path} has no {name}")


def _signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    if isinstance(node, ast.ClassDef):
        fields = [ast.unparse(item) for item in node.body if isinstance(item, ast.AnnAssign)]
        return "\n    ".join([f"class {node.name}:", *fields])
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{node.name}({ast.unparse(node.args)}){returns}"
    return line if len(line) < 100 else f"{node.name}(\n    " + ",\n    ".join(_arguments(node.args)) + f",\n){returns}"


def _arguments(args: ast.arguments) -> list[str]:
    """Every argument with annotation and default, as it stands in the source."""
    plain = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(args.defaults)) + list(args.defaults)
    parts = [_argument(arg, value) for arg, value in zip(plain, defaults)]
    if args.kwonlyargs:
        parts.append("*")
        parts += [_argument(arg, value) for arg, value in zip(args.kwonlyargs, args.kw_defaults)]
    return parts


def _argument(arg: ast.arg, value: ast.expr | None) -> str:
    return ast.unparse(arg) + (f" = {ast.unparse(value)}" if value is not None else "")
