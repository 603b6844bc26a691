"""The labelling job itself, with nets so small that the job is what is measured.

    python -m benchmarks.label_job run --images 10000 --out /tmp/job10k
    python -m benchmarks.label_job list --images 1000000 --out /dev/shm/list
    python -m benchmarks.label_job ray --images 1500 --out /tmp/jobray

``run``: images a second, milliseconds an image by stage, memory, descriptors and threads while it works, the slope of
memory after the first 1,000 images. ``list``: seconds and memory until a list of ids with tags is open and frozen.
``ray``: one worker against two. Pictures are JPEG files of mixed sizes, ``--distinct`` different ones under all names.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.data.scenes import SceneSet
from wsis.models import CamNet, IRNet, build_backbone
from wsis.runtime import progress
from wsis.runtime.inputs import freeze_inputs
from wsis.steps import label
from wsis.training.checkpoint import save_network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "list", "ray"))
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--distinct", type=int, default=500)
    parser.add_argument("--method", choices=("irnet", "cam"), default="irnet")
    parser.add_argument("--min_side", type=int, default=48)
    parser.add_argument("--max_side", type=int, default=96)
    parser.add_argument("--unit_size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--no_list", action="store_true", help="list: every picture of the folder instead of a list")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    figures = {"run": _run, "list": _list, "ray": _ray}[options.what](options)
    print(json.dumps(figures, indent=1))


def _run(options: argparse.Namespace) -> dict[str, Any]:
    config = _prepare(options)
    samples: list[tuple[int, float, int, int]] = []
    done = 0
    write = progress.RunLog.write

    def sampled(self: progress.RunLog, event: str, values: dict[str, Any]) -> None:
        nonlocal done
        write(self, event, values)
        if event == "unit":
            done += values["count"]
            samples.append((done, _memory(), len(os.listdir("/proc/self/fd")), threading.active_count()))

    progress.RunLog.write = sampled
    result = label.run(config)
    progress.RunLog.write = write
    table = np.array([sample for sample in samples if sample[0] > min(1000, options.images // 2)])
    slope = np.polyfit(table[:, 0], table[:, 1], 1)[0]
    return {
        "images": result.job.images,
        "exit_code": result.exit_code,
        "instances": result.job.instances,
        "images_per_second": round(result.job.rate, 2),
        "threads_of_nets": torch.get_num_threads(),
        "ms_per_image": {name: round(1000 * s / options.images, 3) for name, s in result.job.seconds.items()},
        "memory_slope_kb_per_image": round(float(slope), 4),
        "memory_mb": [round(float(table[0, 1]) / 1024, 1), round(float(table[-1, 1]) / 1024, 1)],
        "descriptors": [int(table[:, 2].min()), int(table[:, 2].max())],
        "threads": [int(table[:, 3].min()), int(table[:, 3].max())],
        "sha256": _tree(Path(config.out)),
    }


def _list(options: argparse.Namespace) -> dict[str, Any]:
    root = options.out / "data"
    names = [f"{number // 1000:04d}/{number:07d}" for number in range(options.images)]
    if not root.exists():
        for name in names:
            path = root / f"{name}.jpg"
            if number_in_folder(name) == 0:
                path.parent.mkdir(parents=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        tags = ("dog", "cat", "dog;cat")
        (root / "tags.csv").write_text("".join(f"{name},{tags[n % 3]}\n" for n, name in enumerate(names)))
        (options.out / "list.txt").write_text("".join(f"{name}\n" for name in names))
    del names
    run = options.out / "run"
    run.mkdir(exist_ok=True)
    (run / "inputs.parquet").unlink(missing_ok=True)
    before, start, busy = _memory(), time.perf_counter(), time.process_time()
    names_file = "" if options.no_list else str(options.out / "list.txt")
    data = open_data(DataConfig(kind="folder", root=str(root), list=names_file))
    opened = time.perf_counter()
    data.fingerprint()
    hashed = time.perf_counter()
    freeze_inputs(run, data)
    frozen, busy = time.perf_counter(), time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    freeze_inputs(run, data)
    return {
        "ids": len(data),
        "seconds": {
            "open": round(opened - start, 2),
            "fingerprint": round(hashed - opened, 2),
            "freeze": round(frozen - hashed, 2),
            "all": round(frozen - start, 2),
            "of_the_processor": round(busy, 2),
            "read_again": round(time.perf_counter() - frozen, 2),
        },
        "peak_mb_above_the_imports": round((peak - before) / 1024, 1),
        "kept_mb_above_the_imports": round((_memory() - before) / 1024, 1),
    }


def number_in_folder(name: str) -> int:
    """The place of an id in its folder of a thousand."""
    return int(name[-3:])


def _ray(options: argparse.Namespace) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for processes in (1, 2):
        config = _prepare(options, engine="ray", processes=processes, out=str(options.out / f"ray{processes}"))
        result = label.run(config)
        log = [json.loads(line) for line in (Path(config.out) / "log.jsonl").read_text().splitlines()]
        units = [event for event in log if event["event"] == "unit"]
        warm = units[2 * processes :]
        span = warm[-1]["seconds"] - units[2 * processes - 1]["seconds"]
        figures[f"{processes} workers"] = {
            "exit_code": result.exit_code,
            "images_per_second": round(sum(event["count"] for event in warm) / span, 2),
            "with_the_start": round(result.job.rate, 2),
            "sha256": _tree(Path(config.out)),
        }
    one, two = figures.values()
    figures["speed_up"] = round(two["images_per_second"] / one["images_per_second"], 2)
    return figures


def _prepare(options: argparse.Namespace, **changes: Any) -> label.Config:
    """Pictures, tags and nets, made once; the configuration of a run."""
    root = options.out / "data"
    scenes = SceneSet(options.distinct, min_side=options.min_side, max_side=options.max_side)
    classes = list(scenes.categories.names)
    if not root.exists():
        (root / "first").mkdir(parents=True)
        lines = []
        for number in range(options.images):
            distinct = number % options.distinct
            first = root / "first" / f"{distinct:05d}.jpg"
            path = root / f"{number // 1000:03d}" / f"{number:06d}.jpg"
            if number < options.distinct:
                Image.fromarray(scenes.load_image(number)).save(first, quality=90)
            path.parent.mkdir(exist_ok=True)
            os.link(first, path)
            tags = ";".join(classes[label] for label in scenes[distinct].labels)
            lines.append(f"{number // 1000:03d}/{number:06d},{tags}\n")
        (root / "tags.csv").write_text("".join(lines))
        (root / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
        (options.out / "list.txt").write_text("".join(line.split(",")[0] + "\n" for line in lines))
        torch.manual_seed(0)
        cam = CamNet(build_backbone("tiny"), len(classes))
        save_network(options.out / "cam", cam, {"backbone": "tiny", "categories": classes})
        save_network(options.out / "irnet", IRNet(build_backbone("tiny")), {"backbone": "tiny"})
    settings = {
        "data": DataConfig(kind="folder", root=str(root), list=str(options.out / "list.txt")),
        "out": str(options.out / "run"),
        "cam_weights": str(options.out / "cam.safetensors"),
        "irnet_weights": str(options.out / "irnet.safetensors"),
        "method": options.method,
        "scales": tuple(options.scales),
        "min_side": options.max_side,
        "unit_size": options.unit_size,
        "workers": options.workers,
        "device": "cpu",
    }
    return label.Config(**(settings | changes))


def _memory() -> int:
    """Resident memory in KB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * (os.sysconf("SC_PAGE_SIZE") // 1024)


def _tree(run: Path) -> str:
    """sha256 over the results of a run."""
    digest = hashlib.sha256()
    for path in sorted((run / "shards").iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
