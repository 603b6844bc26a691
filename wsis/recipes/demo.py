"""From made-up scenes and their tags to instance masks in a few minutes, every training included.

Needs no GPU, no download and no data. Ends with the figures of the labels beside those of plain activation
maps, on scenes that no training has seen, and with the path of a page of pictures.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from wsis.data.config import DataConfig
from wsis.labels.irnet import Config as Propagation
from wsis.labels.seeds import Config as Seeds
from wsis.recipes.execute import RunResult, run_stages, write_predict
from wsis.recipes.irnet import Numbers, irnet_stages
from wsis.recipes.stages import Options, Stage
from wsis.training.config import OptimConfig

__all__ = ["Config", "Result", "demo", "run"]

LABELLED = "val"


@dataclass(frozen=True)
class Config:
    """How large the demonstration is; the defaults fit two processor cores and a few minutes.

    Attributes:
        out: folder of the run; stages that are done and verified are skipped.
        scenes: made-up pictures to train on.
        labelled: other made-up pictures that are labelled and compared with their exact masks.
        cam_steps: training steps of the classifier.
        irnet_steps: training steps of the boundary and displacement network.
        pictures: on the page.
        device: auto, cpu, cuda or cuda:N.
        workers: threads that decode, and processes that prepare training images.
        seed: of everything random, the scenes included.
    """

    out: str = "runs/demo"
    scenes: int = 600
    labelled: int = 100
    cam_steps: int = 450
    irnet_steps: int = 400
    pictures: int = 48
    device: str = "auto"
    workers: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Result:
    """The figures of the demonstration.

    Attributes:
        rows: name, mIoU, AP50 and AP75 of activation maps and of the labels, in percent.
        page: path of the report.
        seconds: of the whole.
        run: how the stages ended.
    """

    rows: tuple[tuple[str, float, float, float], ...]
    page: Path
    seconds: float
    run: RunResult = field(repr=False)

    @property
    def exit_code(self) -> int:
        return self.run.exit_code

    def summary(self) -> str:
        lines = [self.run.summary()]
        if self.rows:
            table = Table(title="on scenes that no training has seen")
            for name in ("labels from tags alone", "mIoU", "instance AP50", "instance AP75"):
                table.add_column(name, justify="left" if name.startswith("labels") else "right")
            for name, *figures in self.rows:
                table.add_row(name, *(f"{figure:.1f}" for figure in figures))
            console = Console(width=100)
            with console.capture() as capture:
                console.print(table)
            lines += ["", capture.get().rstrip(), "", f"pictures: {self.page.resolve()}"]
            lines.append(f"your own photographs: wsis predict PHOTO --config={self.page.parent / 'predict.yaml'}")
        return "\n".join([*lines, f"{self.seconds:.0f} s in all"])


def demo(options: Options, config: Config | None = None) -> list[Stage]:
    """Made-up scenes, a tiny network from nothing: the whole road in a few minutes on two cores.

    The activation maps of so small a net are wide, so the seed maps are made with higher thresholds than the paper's:
    with those half of the pixels called star are none, and the boundary network finds no boundary around stars.
    """
    config = config or Config()
    numbers = Numbers(
        backbone="tiny",
        cam={
            "optim": OptimConfig(
                "adamw", lr=3e-3, new_layers=1.0, weight_decay=0.01, steps=config.cam_steps, batch_size=16, warmup=20
            ),
            "crop": 128,
            "min_side": 112,
            "max_side": 200,
        },
        seeds=Seeds(foreground=0.6, background=0.25),
        irnet={
            "optim": OptimConfig(
                "adamw", lr=2e-3, new_layers=2.0, weight_decay=0.01, steps=config.irnet_steps, batch_size=16, warmup=20
            ),
            "crop": 128,
            "min_scale": 0.8,
            "max_scale": 1.3,
            "mean_crop": 160,
        },
        share_backbone=True,
        scales=(1.0, 0.5, 1.5),
        min_side=128,
        propagation=Propagation(
            background=0.5, semantic_background=0.5, walk_steps=16, score="mean", crf=0.55, semantic_crf=0.55
        ),
    )
    stages = irnet_stages(options, numbers)
    to_label = dataclasses.replace(options.data, split=LABELLED, num=config.labelled)
    return [
        _on(stage, to_label) if stage.name in ("label", "label_cam", "evaluate", "report") else stage
        for stage in stages
    ]


def run(config: Config) -> Result:
    """Carry the demonstration out.

    Raises:
        ConfigError: the folder holds another run.
    """
    start = time.monotonic()
    data = DataConfig(kind="scenes", num=config.scenes, seed=config.seed, split="train")
    options = Options(
        data=data,
        out=config.out,
        device=config.device,
        workers=config.workers,
        seed=config.seed,
        num_pictures=config.pictures,
    )
    stages = demo(options, config)
    result = run_stages(config.out, stages)
    write_predict(Path(config.out), stages)
    figures = Path(config.out) / "evaluation.json"
    rows = _rows(json.loads(figures.read_text())) if result.exit_code == 0 else ()
    return Result(rows, Path(config.out) / "report.html", time.monotonic() - start, result)


def _on(stage: Stage, data: DataConfig) -> Stage:
    return dataclasses.replace(stage, config=dataclasses.replace(stage.config, data=data))


def _rows(figures: dict[str, Any]) -> tuple[tuple[str, float, float, float], ...]:
    names = ("activation maps (CAM), components", "IRNet: boundary, displacement, walk")
    return tuple(
        (name, 100 * one["semantic"]["miou"], 100 * one["voc"]["map_50"], 100 * one["voc"]["map_75"])
        for name, one in zip(names, figures["runs"])
    )
