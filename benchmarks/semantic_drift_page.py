"""A report page of :mod:`benchmarks.semantic_drift`: its curves, and scenes with what both networks make of them.

    python -m benchmarks.semantic_drift --out /tmp/drift
    python -m benchmarks.semantic_drift_page /tmp/drift

writes ``/tmp/drift/drift.html``. Of every scene: the instances that the network trained with refinement finds, beside
the true ones; as layers those of the network trained without, and, on scenes of the training, the pseudo labels from
which both learned. Layers are drawn where both networks are kept (the newest checkpoint of each is taken).
"""

from __future__ import annotations

import argparse
import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.semantic_drift import ARMS, SHOWN, SIDES, charts_of, measured_in, write_weak_labels
from wsis.data.atomic import write_bytes
from wsis.data.points import open_points
from wsis.data.scenes import SceneSet
from wsis.errors import ConfigError
from wsis.labels import center_offset
from wsis.labels.center_offset.network import network_fields
from wsis.models import CenterOffsetNet, build_center_offset_net, checked_state
from wsis.structures import Instances, Points
from wsis.training.checkpoint_io import newest_state
from wsis.viz.report_data import ReportImage, ReportLayer, ReportPage, ReportTable, report_instances
from wsis.viz.report_page import render_report

WORDS = {"off": "Refinement off", "on": "Refinement on"}


def network_of(folder: Path, settings: dict[str, str], num_classes: int) -> CenterOffsetNet:
    """The network of one training as its newest checkpoint has it."""
    state, rejected = newest_state(folder / "checkpoints")
    if state is None:
        raise ConfigError([*rejected, f"{folder}: has no checkpoint; run python -m benchmarks.semantic_drift first"])
    net = build_center_offset_net(settings["architecture"], num_classes)
    net.load_state_dict(checked_state(state["net"], net.state_dict(), str(folder)))
    return net.eval()


def pictures(
    scenes: SceneSet, nets: dict[str, CenterOffsetNet], count: int, weak: Path | None
) -> Iterator[ReportImage]:
    """The first scenes; ``weak`` is the folder of the points and maps that a training learned from."""
    points = open_points(weak / "points", scenes.categories) if weak else None
    for index in range(min(count, len(scenes))):
        scene, name = scenes.scene(index), scenes.ids[index]
        present = torch.from_numpy(scenes.label_vector(index))[None]
        image = torch.from_numpy(scene.image).permute(2, 0, 1)[None]
        with torch.no_grad():
            found = {arm: center_offset.decode(network_fields(net, image), present)[0] for arm, net in nets.items()}
        layers = [ReportLayer.instances(WORDS[arm], scene.image, one) for arm, one in found.items()]
        if points is not None:
            rows = points.read(name, scene.image.shape[:2]).rows
            semantic = torch.from_numpy(scene.semantic)[None]
            pseudo = center_offset.pseudo_instances(semantic, Points.from_rows([rows]), present).to_instances()[0]
            layers.insert(0, ReportLayer.instances("Pseudo labels", scene.image, pseudo, rows))
        best: Instances = found.get("on", next(iter(found.values())))
        yield ReportImage(
            name,
            scene.image,
            layers,
            report_instances(best),
            report_instances(scene.instances),
            scenes[index].labels,
            note="Seen in training, with the pseudo labels it learned from." if weak else "Not seen in training.",
        )


def page_of(drift: dict[str, Any], figures: dict[str, list[dict[str, float]]], scenes: SceneSet) -> ReportPage:
    """Everything but the pictures."""
    last = {arm: rows[-1] for arm, rows in figures.items() if rows}
    steps = sorted({row["step"] for rows in figures.values() for row in rows})
    by_step = {arm: {row["step"]: row for row in rows} for arm, rows in figures.items()}
    columns = [f"{title}, {arm}" for title in SHOWN.values() for arm in figures]
    rows = [
        [int(step), *(by_step[arm].get(step, {}).get(key) for key in SHOWN for arm in figures)] for step in steps
    ]
    heads = [
        (f"{title}, {WORDS[arm].lower()}", f"{100 * row[key]:.1f}", f"after {int(row['step'])} steps")
        for key, title in SHOWN.items()
        for arm, row in last.items()
    ]
    shares = f"{drift['components_with_several']:,} of {drift['components']:,} components hold several instances"
    return ReportPage(
        "Semantic drift and its cure",
        scenes.categories.names,
        subtitle=f"Made-up scenes whose objects touch; {shares}",
        figures=heads,
        tables=[ReportTable("By step", ["step", *columns], rows, "The same training, refinement off and on.", columns)],
        charts=charts_of(figures),
        settings={"experiment": drift["settings"]},
        footer="Made by python -m benchmarks.semantic_drift_page",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what semantic_drift wrote")
    parser.add_argument("--pictures", type=int, default=12, help="scenes of the training, and as many others")
    args: Namespace = parser.parse_args()
    torch.set_grad_enabled(False)
    drift = json.loads((args.folder / "drift.json").read_text())
    settings, seed = drift["settings"], int(drift["settings"]["seed"])
    seen = SceneSet(int(settings["scenes"]), seed, "train", **SIDES)
    others = SceneSet(int(settings["measured"]), seed, "val", **SIDES)
    arms = [arm for arm in ARMS if (args.folder / arm / "validation.jsonl").is_file()]
    figures = {arm: measured_in(args.folder / arm) for arm in arms}
    nets = {arm: network_of(args.folder / arm, settings, len(seen.categories)) for arm in figures}
    write_weak_labels(seen, args.folder, float(settings["missed"]), seed)

    def every() -> Iterator[ReportImage]:
        yield from pictures(others, nets, args.pictures, None)
        yield from pictures(seen, nets, args.pictures, args.folder)

    rendered = render_report(page_of(drift, figures, seen), every())
    write_bytes(args.folder / "drift.html", rendered.html.encode())
    print(f"{args.folder / 'drift.html'} ({len(rendered.html) / 1e6:.1f} MB, {rendered.shown} pictures)")


if __name__ == "__main__":
    main()
