"""Puts the goals of a result file into README.md and docs/performance.md: ``python -m benchmarks.readme RESULT.json``.

The table stands between ``<!-- benchmarks -->`` and ``<!-- /benchmarks -->``; everything else stays as it is.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.report import goals

__all__ = ["FILES", "put", "table"]

BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
FILES = (machine.ROOT / "README.md", machine.ROOT / "docs" / "performance.md")
MEMORY = "memory of this machine, two cores instead of one"
FIRST_TOUCH = "first touch of free memory"


def _beside(result: dict[str, Any]) -> dict[str, str]:
    """For goals on two cores: what two processes of one thread each gain over one, the most that there is to gain."""
    infos = [case["info"] for cases in result["groups"].values() for case in cases]
    return {
        what: f"two processes: {info['gain_of_two_processes']:.3g}"
        for info in infos
        if "gain_of_two_processes" in info
        for what in info["goals"]
    }


def memory_rows(result: dict[str, Any]) -> list[str]:
    """What the second core gains where memory is all there is to do, and what memory costs that lay free."""
    rows = [
        f"| {case['case'].partition('[')[2].rstrip(']').replace('-', ', ')}: GB/s of one core, and of two | | | "
        f"{case['info']['gb_per_s_1']:.3g}, {case['info']['gb_per_s_2']:.3g} ({case['info']['gain']:.3g} times) |"
        for case in result["groups"].get(MEMORY, [])
    ]
    return rows + [
        "| touch a huge page that lay free for 5 s, and again right after | | | "
        f"{case['info']['us_a_page_at_first']:.0f} us, {case['info']['us_a_page_again']:.0f} us |"
        for case in result["groups"].get(FIRST_TOUCH, [])
    ]


def table(result: dict[str, Any], memory: bool = False) -> str:
    """Every goal with what was wanted and reached, after a line that says where; ``memory`` adds its rows."""
    about = result["machine"]
    timers = "" if result.get("timers", ["perf_counter"]) == ["perf_counter"] else ", in processor seconds"
    lines = [
        f"{machine.headline(about)}; {result['date'][:10]}{timers}; load at the start {about['load_average']}.",
        "",
        "| what | against | wanted | reached |",
        "|---|---|---|---|",
    ]
    beside = _beside(result)
    for what, peer, reached, wanted in goals(result):
        peer, shown = peer or beside.get(what, ""), f"{reached:.3g}" if reached >= wanted else f"**{reached:.3g}**"
        lines.append(f"| {what} | {peer} | {wanted:.3g} | {shown} |".replace("[", "\\["))
    for group, cases in sorted(result["groups"].items()):
        for case in cases:
            if "images_per_second" in case["info"]:
                rate = case["info"]["images_per_second"]
                lines.append(f"| {group}: {case['case'].removeprefix('test_')} | | | {rate:.3g} images a second |")
    return "\n".join(lines + memory_rows(result) * memory)


def put(path: Path, text: str) -> None:
    """Raises: ValueError: the file has not exactly one pair of marks."""
    before, found, rest = path.read_text().partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed or BEGIN in rest or END in after:
        raise ValueError(f"{path} must hold {BEGIN} and {END} once")
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description=__doc__.partition("\n")[0])
    parser.add_argument("result", type=Path, help="the .json that python -m benchmarks.report wrote")
    result = json.loads(parser.parse_args(arguments).result.read_text())
    for path in FILES:
        put(path, table(result, memory=path.parent.name == "docs"))
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
