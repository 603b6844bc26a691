"""The pages: commands and options that exist, docstrings that are there, links that lead somewhere."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from wsis.cli import COMMANDS
from wsis.options import option_types
from wsis.recipes import OPTIONS, RECIPES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]


def _commands(page: Path) -> list[str]:
    """The ``wsis`` lines of indented or fenced blocks, without comments, continued lines joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.startswith(("    wsis ", "wsis "))]
    return [line.split(" #")[0].strip() for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page):
    for line in _commands(page):
        words = shlex.split(line)[1:]
        command = next((c for c in COMMANDS if words[: len(c.name.split())] == c.name.split()), None)
        options = [word[2:].partition("=")[0] for word in words if word.startswith("--")]
        options = [name for name in options if name not in ("help", "config", "version")]
        if words[0] == "run":
            assert words[1] in RECIPES or words[1] == "NAME", line
            if words[1] in RECIPES:
                known = _recipe_options(words[1])
                assert set(options) <= known, f"{page.name}: {line}: {set(options) - known}"
        elif not words[0].startswith("--") and words[0] != "COMMAND":
            assert command is not None, f"{page.name}: {line}"
            known = set(option_types(importlib.import_module(command.module).Config))
            assert {name.replace("-", "_") for name in options} <= known, f"{page.name}: {line}"


def _recipe_options(name: str) -> set[str]:
    stages = RECIPES[name](OPTIONS[name]())
    known = set(option_types(OPTIONS[name])) | {"force"}
    return known | {f"{stage.name}.{option}" for stage in stages for option in option_types(type(stage.config))}


def _hooks():
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    return hooks


def test_docstrings_are_put_into_the_pages():
    hooks = _hooks()
    text = hooks.on_page_markdown((ROOT / "docs" / "kernels.md").read_text(encoding="utf-8"))
    assert "{{" not in text
    assert "random_walk(" in text
    with pytest.raises(ValueError, match="has no nothing"):
        hooks.on_page_markdown("{{ wsis/ops/random_walk.py nothing }}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pictures_and_pages_that_are_named_are_there(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_operator_is_on_the_page_of_kernels():
    page = (ROOT / "docs" / "kernels.md").read_text(encoding="utf-8")
    stems = {path.stem for path in (ROOT / "wsis" / "ops").glob("*.py") if not path.stem.startswith("_")}
    assert {stem for stem in stems if f"ops/{stem}.py" not in page} == set()
