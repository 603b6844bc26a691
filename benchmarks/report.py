"""Runs the benchmarks and writes one JSON and one Markdown table: ``python -m benchmarks.report``.

Each pytest-benchmark group holds the same work done by wsis and by its peers; the table gives the peers' time over
that of wsis, all from one run. Ours is the case with the word ``wsis`` in its name or parameters, or ``test_<op>``,
where ``<op>`` is the first word of the group.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine

__all__ = ["collect", "markdown", "write"]

HERE = Path(__file__).resolve().parent


def is_ours(group: str, case: str) -> bool:
    """Whether the case is the one of wsis in its group."""
    name, _, parameters = case.removeprefix("test_").partition("[")
    words = {*name.split("_"), *re.split(r"[\[\]-]", parameters)}
    return "wsis" in words or name == re.split(r"[\s,:]", group)[0]


def collect(raw: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """What pytest-benchmark wrote, cut down to what is compared.

    Returns:
        ``{"machine": .., "date": .., "timers": [..], "groups": {group: [{"case", "ours", "median", "minimum",
        "rounds", "info"}]}}``, times in seconds.
    """
    timers = sorted({item.get("options", {}).get("timer", "perf_counter") for item in raw["benchmarks"]})
    groups: dict[str, list[dict[str, Any]]] = {}
    for item in raw["benchmarks"]:
        group = item["group"] or item["fullname"]
        groups.setdefault(group, []).append(
            {
                "case": item["name"],
                "ours": is_ours(group, item["name"]),
                "median": item["stats"]["median"],
                "minimum": item["stats"]["min"],
                "rounds": item["stats"]["rounds"],
                "info": item["extra_info"],
            }
        )
    return {"machine": about, "date": raw["datetime"], "timers": timers, "groups": groups}


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def _info(info: dict[str, Any]) -> str:
    shown = {key: value for key, value in info.items() if key not in ("threads", "target", "peer", "goals")}
    return ", ".join(
        f"{key.replace('_', ' ')} {value:.4g}" if isinstance(value, float) else f"{key.replace('_', ' ')} {value}"
        for key, value in shown.items()
    )


def _rows(group: str, cases: list[dict[str, Any]]) -> list[str]:
    ours = [case for case in cases if case["ours"]]
    best = min((case["median"] for case in ours), default=None)
    target = next((case["info"]["target"] for case in ours if "target" in case["info"]), None)
    rows = []
    for case in sorted(cases, key=lambda case: (not case["ours"], case["median"])):
        ratio = "" if case["ours"] or best is None else f"{case['median'] / best:.1f}x"
        if ratio and target is not None:
            ratio += f" (goal {target:g}x)"
        name = case["case"].removeprefix("test_")
        name = f"**{name}**" if case["ours"] else name
        threads = case["info"].get("threads", "")
        cells = (group, name, threads, _time(case["median"]), ratio, _info(case["info"]))
        rows.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
        group = ""
    return rows


def markdown(result: dict[str, Any]) -> str:
    """The table, with what it was measured on above it."""
    about = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if version)
    lines = [
        f"# Benchmarks, {result['date'][:10]}",
        "",
        machine.headline(about) + ".",
        f"{about['system']}, Python {about['python']}, {about['memory_gib']} GiB; {versions}.",
    ]
    if result.get("timers", ["perf_counter"]) != ["perf_counter"]:
        lines.append(
            f"Times are processor seconds ({', '.join(result['timers'])}), not those of a clock on the wall: what can "
            "be measured on a machine with other work."
        )
    if not about["gpus"]:
        lines.append("This machine has no GPU: nothing here says anything about one.")
    if about["load_average"] is not None and about["load_average"] > 0.5 * about["cores"]:
        lines.append(
            f"Other work was running (load {about['load_average']:g} on {about['cores']} cores at the start): times "
            "are too long, ratios of one run less so."
        )
    lines += _goal_rows(result)
    lines += ["", "| group | case | threads | median | slower than wsis | more |", "|---|---|---|---|---|---|"]
    for group, cases in sorted(result["groups"].items()):
        lines += _rows(group, cases)
    missing = sorted(group for group, cases in result["groups"].items() if not any(case["ours"] for case in cases))
    if missing:
        lines += ["", "No case of wsis in: " + ", ".join(missing) + "."]
    return "\n".join(lines) + "\n"


def goals(result: dict[str, Any]) -> list[tuple[str, str, float, float]]:
    """What a case of ours set out to reach: ``(what, peer, reached, goal)``, from the run's own figures.

    ``info["target"]`` is a ratio of times to the case ``info["peer"]`` of the group (else the fastest peer);
    ``info["goals"]`` holds other figures, ``{what: [reached, goal]}``.
    """
    rows = []
    for group, cases in sorted(result["groups"].items()):
        for case in (case for case in cases if case["ours"]):
            rows += [(what, "", *pair) for what, pair in case["info"].get("goals", {}).items()]
            wanted = case["info"].get("peer")
            peers = [c for c in cases if not c["ours"] and (wanted is None or _is_named(c["case"], wanted))]
            if "target" not in case["info"] or not peers:
                continue
            peer = min(peers, key=lambda c: c["median"])
            name = peer["case"].removeprefix("test_")
            rows.append((group, name, peer["median"] / case["median"], case["info"]["target"]))
    return rows


def _is_named(case: str, wanted: str) -> bool:
    name = case.removeprefix("test_")
    return name == wanted or wanted in re.split(r"[\[\]-]", name)


def _goal_rows(result: dict[str, Any]) -> list[str]:
    rows = goals(result)
    if not rows:
        return []
    lines = ["", "| goal | peer | wanted | reached | |", "|---|---|---|---|---|"]
    for what, peer, reached, goal in rows:
        met = "" if reached >= goal else "**not reached**"
        lines.append(f"| {what} | {peer} | {goal:g} | {reached:.4g} | {met} |".replace("[", "\\["))
    return lines


def write(result: dict[str, Any], folder: Path) -> tuple[Path, Path]:
    """``<machine>-<date>.json`` and ``.md``; the machine is the first GPU, or ``cpu<cores>``."""
    gpus = result["machine"]["gpus"]
    place = re.sub(r"\W+", "-", gpus[0]["name"]).strip("-").lower() if gpus else f"cpu{result['machine']['cores']}"
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{place}-{result['date'][:10]}"
    data, table = stem.with_suffix(".json"), stem.with_suffix(".md")
    data.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    table.write_text(markdown(result))
    return data, table


def run(files: list[Path], selection: list[str]) -> tuple[int, dict[str, Any] | None]:
    """Runs pytest on these files with these options; exit code, and what pytest-benchmark wrote."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "raw.json"
        paths = [str(file.resolve()) for file in files]
        command = [sys.executable, "-m", "pytest", *paths, f"--benchmark-json={output}", *selection]
        code = subprocess.run(command, cwd=HERE.parent, check=False).returncode
        return code, json.loads(output.read_text()) if output.exists() and output.stat().st_size else None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__.partition("\n")[0])
    parser.add_argument("files", type=Path, nargs="*", default=[HERE], help="benchmarks to run; all when left out")
    parser.add_argument("--full", action="store_true", help="every size, longer and with warm-up")
    parser.add_argument("-k", metavar="WORDS", help="only the benchmarks that match, as in pytest")
    parser.add_argument("--limit", metavar="SECONDS", help="start no benchmark after so many seconds")
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder of the two files")
    parser.add_argument(
        "--raw", type=Path, nargs="+", help="files of pytest-benchmark from this machine, instead of a run"
    )
    options = parser.parse_args(arguments)
    about = machine.describe()
    code = 0
    if options.raw:
        parts = [json.loads(path.read_text()) for path in options.raw]
        raw = {**parts[0], "benchmarks": [item for part in parts for item in part["benchmarks"]]}
    else:
        selection = ["--full"] * options.full + (["-k", options.k] if options.k else [])
        code, raw = run(options.files, selection + (["--limit", options.limit] if options.limit else []))
    if not raw or not raw["benchmarks"]:
        print("benchmarks.report: no benchmark ran, nothing was written", file=sys.stderr)
        return code or 1
    raw.setdefault("datetime", datetime.datetime.now(datetime.timezone.utc).isoformat())
    for path in write(collect(raw, about), options.output):
        print(path)
    if not torch.cuda.is_available():
        print("no GPU here: the CUDA benchmarks were skipped")
    return code


if __name__ == "__main__":
    sys.exit(main())
