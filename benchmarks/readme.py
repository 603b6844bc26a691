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


def table(result: dict[str, Any]) -> str:
    """Every goal with what was wanted and reached, after a line that says where."""
    about = result["machine"]
    timers = "" if result.get("timers", ["perf_counter"]) == ["perf_counter"] else ", in processor seconds"
    lines = [
        f"{machine.headline(about)}; {result['date'][:10]}{timers}; load at the start {about['load_average']}.",
        "",
        "| what | against | wanted | reached |",
        "|---|---|---|---|",
    ]
    for what, peer, reached, wanted in goals(result):
        shown = f"{reached:.3g}" if reached >= wanted else f"**{reached:.3g}**"
        lines.append(f"| {what} | {peer} | {wanted:.3g} | {shown} |".replace("[", "\\["))
    for group, cases in sorted(result["groups"].items()):
        for case in cases:
            if "images_per_second" in case["info"]:
                rate = case["info"]["images_per_second"]
                lines.append(f"| {group}: {case['case'].removeprefix('test_')} | | | {rate:.3g} images a second |")
    return "\n".join(lines)


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
        put(path, table(result))
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
