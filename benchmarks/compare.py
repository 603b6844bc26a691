"""What became slower between two reports: ``python -m benchmarks.compare OLD.json NEW.json``.

Exit code 1 when a case of wsis became slower by more than the tolerance. Reports of different machines are compared
by their ratios to the peers of the same run, since times of different machines say nothing about the code.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Change", "changes"]


@dataclass(frozen=True)
class Change:
    """One figure in both reports; ``factor`` > 1: slower now."""

    group: str
    case: str
    old: float
    new: float
    unit: str

    @property
    def factor(self) -> float:
        return self.old / self.new if self.unit == "x" else self.new / self.old


def same_machine(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether times can be compared: same CPU, cores, threads and GPUs."""
    return all(old["machine"][key] == new["machine"][key] for key in ("cpu", "cores", "threads", "gpus"))


def _figures(report: dict[str, Any], relative: bool) -> Iterator[tuple[tuple[str, str], float]]:
    for group, cases in report["groups"].items():
        peers = [case for case in cases if not case["ours"]]
        for case in cases:
            if not case["ours"]:
                continue
            if not relative:
                yield (group, case["case"]), case["median"]
                continue
            for peer in peers:
                yield (group, f"{case['case']} over {peer['case']}"), peer["median"] / case["median"]


def changes(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[Change], list[tuple[str, str]]]:
    """Figures in both reports, the worst first, and those that only the old one has."""
    relative = not same_machine(old, new)
    before, after = dict(_figures(old, relative)), dict(_figures(new, relative))
    unit = "x" if relative else "s"
    found = [Change(*key, before[key], after[key], unit) for key in before if key in after]
    return sorted(found, key=lambda change: -change.factor), sorted(set(before) - set(after))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.partition("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.15, help="share by which a case may become slower")
    options = parser.parse_args(arguments)
    old, new = (json.loads(path.read_text()) for path in (options.old, options.new))
    if not same_machine(old, new):
        print("different machines or thread counts: comparing ratios to the peers of the same run")
    found, gone = changes(old, new)
    slower = [change for change in found if change.factor > 1 + options.tolerance]
    for change in found:
        mark = "SLOWER" if change in slower else "faster" if change.factor < 1 / (1 + options.tolerance) else ""
        print(f"{change.factor:7.2f}  {change.old:10.4g} -> {change.new:10.4g} {change.unit}  ", end="")
        print(f"{change.group}: {change.case}  {mark}".rstrip())
    for group, case in gone:
        print(f"   gone  {group}: {case}")
    if not found:
        print("the two reports have no case in common", file=sys.stderr)
        return 2
    print(f"{len(slower)} of {len(found)} became slower by more than {options.tolerance:.0%}")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
