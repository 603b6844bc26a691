"""Semantic drift and its cure (BESTIE, CVPR 2022, section 3.3), measured on made-up scenes.

    python -m benchmarks.semantic_drift --out /tmp/drift

Objects of one class touch, so half of the components of the semantic map hold several instances. Points are missing,
as peaks of an attention map are (``--missed``): pseudo labels leave a component with several points out, and one that
has several instances and one point becomes a single instance, a wrong one. The same training is run with refinement
off and on; everything else (weights at the start, order, crops, schedule) is the same. The network is measured while it
trains, on other scenes and their exact masks: AP50, AP75, and the share of the instances that it finds (IoU of at least
0.5, right class), also of those alone that share their component with another; and all that again inside the true
semantic map.

``--missing`` says what an instance without pseudo label is to the centre map. ``background``: nothing is there, in the
plain loss over all pixels; this is what the paper calls semantic drift. ``ignored``: these pixels do not count, by the
paper's instance-aware guidance.

The folder keeps ``off/`` and ``on/`` (a run that was stopped goes on; ``--only`` runs one of them), and receives
``drift.json`` and ``drift.svg``. ``--mean A B ..`` trains nothing: it averages finished folders that differ in their
seed into ``drift.json``, ``drift.svg`` and the table printed.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from wsis import ops
from wsis.data.atomic import make_folder, write_bytes, write_json, write_png
from wsis.data.points import open_points, point_lines
from wsis.data.scenes import Scene, SceneSet
from wsis.evaluation import instance_voc
from wsis.evaluation.overlap import mask_iou
from wsis.labels import center_offset
from wsis.labels.center_offset.inputs import Fields
from wsis.labels.center_offset.network import network_fields
from wsis.models import CenterOffsetNet, build_center_offset_net
from wsis.structures import Instances
from wsis.training.batches import BatchPlan, CropData
from wsis.training.center_offset_training import CenterOffsetSamples, CenterOffsetTraining
from wsis.training.config import MachineConfig, OptimConfig
from wsis.training.fit import fit
from wsis.training.validation import Validation
from wsis.viz.curves import Chart, Curve, curves_file

SIDES = {"min_side": 144, "max_side": 160}
MIN_PIXELS = 20
ARMS = ("off", "on")
SHOWN = {
    "ap50": "AP50",
    "ap75": "AP75",
    "recall": "instances found",
    "recall_touching": "touching instances found",
}
MISSING = ("background", "ignored")


@dataclass(frozen=True)
class Truth:
    """A scene to measure on.

    Attributes:
        image: ``[1, 3, H, W]`` uint8.
        labels: ``[1, C]``, the classes present.
        instances: the masks.
        touching: ``[N]`` bool, instances that share a component of the semantic map with another.
    """

    image: torch.Tensor
    labels: torch.Tensor
    instances: Instances
    touching: torch.Tensor


def middle(mask: np.ndarray) -> tuple[int, int]:
    """``(x, y)`` of the pixel of a mask that is nearest to its centroid."""
    y, x = mask.nonzero()
    near = np.argmin((y - y.mean()) ** 2 + (x - x.mean()) ** 2)
    return int(x[near]), int(y[near])


def write_weak_labels(scenes: SceneSet, folder: Path, missed: float, seed: int) -> None:
    """Semantic maps and points files of all scenes; a share of the points is left out."""
    rng = np.random.default_rng((seed, 5))
    for name in ("semantic", "points"):
        make_folder(folder / name)
    for index, name in enumerate(scenes.ids):
        scene = scenes.scene(index)
        write_png(folder / "semantic" / f"{name}.png", scene.semantic, scenes.categories.palette())
        rows = [(*middle(scene.ids == k + 1), label, 1.0) for k, label in enumerate(scene.classes)]
        rows = [row for row in rows if rng.random() >= missed]
        write_bytes(folder / "points" / f"{name}.txt", point_lines(rows))


def held(scene: Scene) -> list[np.ndarray]:
    """For every component of the semantic map that counts, the instances with a visible part in it."""
    semantic = torch.from_numpy(scene.semantic.astype(np.int32))[None]
    ids, count = ops.connected_components(semantic, 8)
    found = []
    for number in range(1, int(count[0]) + 1):
        sizes = np.bincount(scene.ids[(ids[0] == number).numpy()], minlength=len(scene.classes) + 1)
        if sizes.sum() >= center_offset.Config().min_area:
            found.append(np.flatnonzero(sizes >= MIN_PIXELS))
    return found


def truth_of(scenes: SceneSet, index: int) -> Truth:
    """What :func:`measure` compares one scene with."""
    scene = scenes.scene(index)
    touching = torch.zeros(len(scene.classes), dtype=torch.bool)
    for members in held(scene):
        if len(members) > 1:
            touching[torch.from_numpy(members) - 1] = True
    image = torch.from_numpy(scene.image).permute(2, 0, 1)[None]
    return Truth(image, torch.from_numpy(scenes.label_vector(index))[None], scene.instances, touching)


@torch.no_grad()
def measure(net: CenterOffsetNet, truths: list[Truth]) -> dict[str, float]:
    """AP50, and recall at IoU 0.5 of all instances and of the touching ones; image labels given, as for labelling.
    ``.._given``: the same inside the true semantic map, so that only the parting into instances counts."""
    figures: dict[str, float] = {}
    made = [network_fields(net, truth.image) for truth in truths]
    given = [fields._replace(semantic=true_logits(truth, fields)) for truth, fields in zip(truths, made)]
    for suffix, maps in (("", made), ("_given", given)):
        found = [center_offset.decode(fields, truth.labels)[0] for truth, fields in zip(truths, maps)]
        result = instance_voc.evaluate(found, [truth.instances for truth in truths], (0.5, 0.75))
        hits = torch.cat([recalled(one, truth.instances) for one, truth in zip(found, truths)]).float()
        touching = torch.cat([truth.touching for truth in truths])
        figures |= {
            f"ap50{suffix}": result["map_50"],
            f"ap75{suffix}": result["map_75"],
            f"recall{suffix}": float(hits.mean()),
            f"recall_touching{suffix}": float(hits[touching].mean()),
            f"recall_single{suffix}": float(hits[~touching].mean()),
        }
    return figures


def true_logits(truth: Truth, fields: Fields) -> torch.Tensor:
    """Logits that say the true semantic map."""
    masks, labels = truth.instances.masks, truth.instances.labels
    semantic = torch.zeros(masks.shape[1:], dtype=torch.int64)
    for mask, label in zip(masks, labels):
        semantic[mask] = label + 1
    return 10.0 * F.one_hot(semantic, fields.semantic.shape[1]).permute(2, 0, 1)[None].float()


def recalled(found: Instances, truth: Instances) -> torch.Tensor:
    """``[N]`` bool, true instances that one of their class overlaps with an IoU of at least 0.5."""
    if not len(found.labels) or not len(truth.labels):
        return torch.zeros(len(truth.labels), dtype=torch.bool)
    same = found.labels[:, None] == truth.labels[None]
    return ((torch.as_tensor(mask_iou(found.masks, truth.masks)) >= 0.5) & same).any(0)


def train(
    refine: bool, scenes: SceneSet, folder: Path, args: argparse.Namespace, watch: Callable[..., dict[str, float]]
) -> None:
    """One training, measured on its way."""
    torch.manual_seed(args.seed)
    net = build_center_offset_net(args.architecture, len(scenes.categories), args.weights or None)
    optim = OptimConfig(
        "adam", lr=args.lr, new_layers=1.0, weight_decay=0.0, steps=args.steps, batch_size=args.batch_size, warmup=50
    )
    guidance = args.missing == "ignored"
    training = CenterOffsetTraining(net, optim, args.steps, refine=refine, seed=args.seed, guidance=guidance)
    points = open_points(folder / "points", scenes.categories)
    where = (str(folder / "semantic"), points, 0.7, frozenset(), net.normalization)
    samples = CenterOffsetSamples(scenes, *where, args.long_side, args.crop, args.seed)
    out = make_folder(folder / ("on" if refine else "off"))
    watcher = Validation(watch, "ap50", args.every, out)
    machine = MachineConfig(device=args.device, workers=args.workers, checkpoint_every=args.every, log_every=50)
    plan = BatchPlan(len(scenes), args.batch_size, args.steps, args.seed)
    fit(training, CropData(samples, len(scenes)), plan, out, machine, callbacks=[watcher])


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--mean", type=Path, nargs="+", metavar="DIR", help="average these folders instead of training")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--measured", type=int, default=100, help="scenes of the measurement")
    parser.add_argument("--missed", type=float, default=0.3, help="share of the points that are missing")
    parser.add_argument("--missing", choices=MISSING, default="background", help="what instances without a label are")
    parser.add_argument("--architecture", default="tiny")
    parser.add_argument("--weights", default="")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--every", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--long-side", type=int, default=161)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=ARMS, help="run one of the two trainings")
    return parser


def main() -> None:
    args = options().parse_args()
    if args.mean:
        made = [json.loads((folder / "drift.json").read_text()) for folder in args.mean]
        finish(args.out, {"settings": {"mean_of": [one["settings"] for one in made]}}, mean_of(made))
        return
    scenes = SceneSet(args.scenes, args.seed, "train", **SIDES)
    others = SceneSet(args.measured, args.seed, "val", **SIDES)
    write_weak_labels(scenes, args.out, args.missed, args.seed)
    truths = [truth_of(others, index) for index in range(len(others))]
    for name in ARMS if args.only is None else (args.only,):
        began = time.monotonic()
        train(name == "on", scenes, args.out, args, lambda net: measure(net, truths))
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    figures = {name: measured_in(args.out / name) for name in ARMS if (args.out / name / "validation.jsonl").is_file()}
    counts = [len(members) for index in range(len(scenes)) for members in held(scenes.scene(index))]
    about = {
        "settings": {key: str(value) for key, value in vars(args).items() if key not in ("out", "only", "mean")},
        "components": len(counts),
        "components_with_several": sum(count > 1 for count in counts),
        "instances": sum(len(scenes.scene(index).classes) for index in range(len(scenes))),
        "measured": sum(len(truth.touching) for truth in truths),
        "measured_touching": sum(int(truth.touching.sum()) for truth in truths),
    }
    finish(args.out, about, figures)


def finish(out: Path, about: dict, figures: dict[str, list[dict[str, float]]]) -> None:
    """Write figures and curves, print the table."""
    write_json(make_folder(out) / "drift.json", about | figures)
    write_bytes(out / "drift.svg", curves_file(charts_of(figures)).encode())
    print(table_of(figures))


def mean_of(made: list[dict]) -> dict[str, list[dict[str, float]]]:
    """The mean of every figure over several ``drift.json``, at the steps that all of them have."""
    figures = {}
    for name in ARMS:
        by_step = [{row["step"]: row for row in one[name]} for one in made]
        common = sorted(set.intersection(*(set(rows) for rows in by_step)))
        figures[name] = [
            {key: float(np.mean([rows[step][key] for rows in by_step])) for key in by_step[0][step]} | {"step": step}
            for step in common
        ]
    return figures


def measured_in(folder: Path) -> list[dict[str, float]]:
    """The measurements of a training by step; of a step measured twice the later."""
    rows = [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()]
    return [row for _, row in sorted({row["step"]: row for row in rows}.items())]


def charts_of(figures: dict[str, list[dict[str, float]]]) -> list[Chart]:
    """A chart for each figure of :data:`SHOWN`."""
    return [
        Chart(
            title,
            [
                Curve(f"refinement {name}", [row["step"] for row in rows], [row.get(key, math.nan) for row in rows])
                for name, rows in figures.items()
            ],
        )
        for key, title in SHOWN.items()
    ]


def table_of(figures: dict[str, list[dict[str, float]]]) -> str:
    """The same as a table in Markdown, in percent, off / on."""
    lines = ["| step | " + " | ".join(SHOWN.values()) + " |", "|---|" + "---|" * len(SHOWN)]
    by_step = {name: {row["step"]: row for row in rows} for name, rows in figures.items()}
    for step in sorted({step for rows in by_step.values() for step in rows}):
        cells = [
            " / ".join(f"{100 * rows.get(step, {}).get(key, math.nan):.1f}" for rows in by_step.values())
            for key in SHOWN
        ]
        lines.append(f"| {step} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
