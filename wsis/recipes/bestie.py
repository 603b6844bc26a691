"""BESTIE (Kim et al., CVPR 2022) from image labels, or from anyone's semantic maps and points, to a network that
repairs its own labels."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from wsis.errors import ConfigError
from wsis.labels import center_offset, points
from wsis.recipes.irnet import Numbers, irnet_stages, small_numbers, voc_numbers
from wsis.recipes.stages import Options, Stage
from wsis.steps import evaluate, export, label, make_points, report, train_cam, train_center_offset, train_peaks
from wsis.training.config import MachineConfig, OptimConfig

__all__ = ["BestieNumbers", "BestieOptions", "bestie_coco", "bestie_small", "bestie_stages", "bestie_voc"]


@dataclass(frozen=True)
class BestieOptions(Options):
    """What a whole run shares; the numbers of single stages follow below, each under the stage's name.

    Attributes:
        semantic: folder of semantic maps (PNG, 0 background, class + 1, 255 ignore) of the training images; empty =
            IRNet makes them.
        points: folder of points files or LabelMe files, a CSV table, or key points as JSON of Label Studio or COCO;
            empty = peaks of a network, or under point supervision the middles of the data's masks.
        supervision: image, or point (the points were annotated).
        compare: compare the labels with masks; false for data without.
    """

    out: str = "runs/bestie"
    semantic: str = ""
    points: str = ""
    supervision: str = "image"
    compare: bool = True

    __doc__ = (Options.__doc__ or "").rstrip() + "\n" + (__doc__ or "").split("Attributes:\n", 1)[1]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.supervision not in ("image", "point"):
            raise ConfigError(f"supervision: got {self.supervision!r}, expected image or point")


@dataclass(frozen=True)
class BestieNumbers:
    """What distinguishes one recipe from another.

    Attributes:
        irnet: numbers of the road to the semantic maps.
        peaks: fields of ``train_peaks.Config``.
        on_classifier: the peak network and the network begin with the trained classifier, which is trained even where
            the semantic maps are given.
        points: how points are read from the peak network's maps.
        network: fields of ``train_center_offset.Config``.
        pretrained: peak network and network must not start from random weights.
        label_split: split to label where the options leave it empty; empty = the training images.
        labels: thresholds of pseudo labels, refinement and inference.
    """

    irnet: Numbers
    peaks: dict
    network: dict
    on_classifier: bool = False
    pretrained: bool = False
    label_split: str = ""
    points: points.Config = dataclasses.field(default_factory=points.Config)
    labels: center_offset.Config = dataclasses.field(default_factory=center_offset.Config)


def bestie_voc(options: BestieOptions) -> list[Stage]:
    """The paper on PASCAL VOC 2012: HRNet-W48, 50,000 steps on train_aug; the network labels ``val``.

    Published, from image labels: AP25/50/70/75 = 53.5/41.8/28.3/24.2 on ``val``. The paper's semantic maps are those
    of another method than IRNet's; ``--semantic`` takes them. ``--train_peaks.weights`` and
    ``--train_center_offset.weights`` name the ImageNet weights of VGG-16 and HRNet.
    """
    numbers = BestieNumbers(
        irnet=voc_numbers(),
        peaks={"backbone": "vgg16"},
        network={"architecture": "hrnet_w48"},
        pretrained=True,
        label_split="val",
    )
    voc = dataclasses.replace(options.data, split=options.data.split or ("" if options.data.list else "train_aug"))
    return bestie_stages(dataclasses.replace(options, data=voc), numbers)


def bestie_coco(options: BestieOptions) -> list[Stage]:
    """COCO with the paper's numbers for VOC: HRNet-W48, 50,000 steps; ``--label_split`` says what is labelled.

    Published: 14.3 AP (28.0 at IoU 0.5) on ``val`` from image labels, 17.7 (34.0) from points, with semantic maps of
    another method than IRNet's (``--semantic``).
    """
    irnet = dataclasses.replace(voc_numbers(), label_split="", irnet={**voc_numbers().irnet, "mean_split": ""})
    numbers = BestieNumbers(
        irnet=irnet, peaks={"backbone": "vgg16"}, network={"architecture": "hrnet_w48"}, pretrained=True
    )
    return bestie_stages(options, numbers)


def bestie_small(options: BestieOptions) -> list[Stage]:
    """MobileNetV2 for a CPU and a few hundred images; ``docs/results.md`` has its figures."""
    backbone = options.backbone or "mobilenet_v2"
    numbers = BestieNumbers(
        irnet=small_numbers(),
        peaks={
            "backbone": backbone,
            "width": 192,
            "trainable_from": 5,
            "side": 352,
            "crop": 320,
            "optim": OptimConfig(
                "adamw", lr=1e-4, new_layers=10.0, weight_decay=0.01, epochs=4, min_steps=200, batch_size=16
            ),
        },
        on_classifier=True,
        points=points.Config(side=352),
        network={
            "architecture": backbone,
            "trainable_from": 2,
            "point_confidence": 0.3,
            "hardest": 0.4,
            "loss_weights": (1.0, 100.0, 0.05),
            "long_side": 353,
            "crop": 320,
            "validate_every": 800,
            "keep": "last",
            "optim": OptimConfig(
                "adamw", lr=1e-4, new_layers=10.0, weight_decay=0.01, steps=1600, batch_size=4, warmup=50
            ),
        },
        labels=center_offset.Config(sigma=8.0, network_side=353),
    )
    return bestie_stages(options, numbers)


def bestie_stages(options: BestieOptions, numbers: BestieNumbers) -> list[Stage]:
    """Semantic maps, points, the network, its labels, comparison, page."""
    out = Path(options.out)
    semantic = options.semantic or str(out / "semantic_maps" / "maps")
    cues = options.points or str(out / "points")
    stages = _semantic_stages(options, numbers, semantic)
    if options.semantic:
        stages = [stage for stage in stages if numbers.on_classifier and stage.name == "train_cam"]
    if not options.points:
        stages += _point_stages(options, numbers)
    begun = {"cam_weights": _classifier(out)} if numbers.on_classifier else {}
    network = train_center_offset.Config(
        data=options.data,
        semantic=semantic,
        points=cues,
        out=str(out / "train_center_offset"),
        supervision=options.supervision,
        labels=numbers.labels,
        seed=options.seed,
        machine=_machine(options),
        **{**begun, **numbers.network},
    )
    needed = network.architecture if numbers.pretrained else ""
    stages.append(Stage("train_center_offset", "train_center_offset", network, needed))
    return [*stages, *_label_stages(options, numbers, network)]


def _semantic_stages(options: BestieOptions, numbers: BestieNumbers, semantic: str) -> list[Stage]:
    """IRNet's stages up to its labels, of which the semantic maps of the training images are made."""
    irnet = irnet_stages(
        dataclasses.replace(options, num_pictures=0), dataclasses.replace(numbers.irnet, evaluate=False)
    )
    kept = [stage for stage in irnet if stage.name in ("train_cam", "make_seed_labels", "train_irnet")]
    config = next(stage.config for stage in irnet if stage.name == "label")
    maps = dataclasses.replace(
        config,
        data=options.data,
        out=str(Path(options.out) / "semantic_maps" / "run"),
        semantic=semantic,
        instances=False,
        dump_fields="",
    )
    return [*kept, Stage("make_semantic", "label", maps)]


def _point_stages(options: BestieOptions, numbers: BestieNumbers) -> list[Stage]:
    out = Path(options.out)
    shared = {"data": options.data, "out": str(out / "points"), "device": options.device, "workers": options.workers}
    if options.supervision == "point":
        return [Stage("make_points", "make_points", make_points.Config(from_masks=True, **shared))]
    peaks = train_peaks.Config(
        data=options.data,
        out=str(out / "train_peaks"),
        cam_weights=_classifier(out) if numbers.on_classifier else "",
        seed=options.seed,
        machine=_machine(options),
        **numbers.peaks,
    )
    network = str(out / "train_peaks" / train_peaks.NETWORK)
    found = make_points.Config(peak_weights=network, precision=options.precision, points=numbers.points, **shared)
    needed = peaks.backbone if numbers.pretrained else ""
    return [Stage("train_peaks", "train_peaks", peaks, needed), Stage("make_points", "make_points", found)]


def _label_stages(
    options: BestieOptions, numbers: BestieNumbers, training: train_center_offset.Config
) -> list[Stage]:
    """The network's labels; where they are of the training images, annotated points are its centres, and the page shows
    what it learned from."""
    out = Path(options.out)
    split = options.label_split or numbers.label_split
    data = dataclasses.replace(options.data, split=split, list="") if split else options.data
    labels, maps, fields = (str(out / "labels" / name) for name in ("run", "semantic", "fields"))
    config = label.Config(
        data=data,
        out=labels,
        method="center_offset",
        center_offset_weights=str(Path(training.out) / train_center_offset.NETWORK),
        center_offset=numbers.labels,
        points=training.points if options.supervision == "point" and not split else "",
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
        workers=options.workers,
        semantic=maps,
        dump_fields=fields if options.num_pictures else "",
    )
    comparison = evaluate.Config(runs=(labels,), semantic=(maps,), data=data, output=str(out / "evaluation.json"))
    stages = [
        Stage("label", "label", config),
        Stage("export", "export", export.Config(run=labels, output=str(out / "instances.json"))),
    ]
    if options.compare:
        stages.append(Stage("evaluate", "evaluate", comparison))
    if options.num_pictures:
        page = report.Config(
            run=labels,
            data=data,
            fields=fields,
            training=(training.out,),
            semantic="" if split else training.semantic,
            points="" if split else training.points,
            supervision=options.supervision,
            num_images=options.num_pictures,
            output=str(out / "report.html"),
            title=out.name,
        )
        stages.append(Stage("report", "report", page))
    return stages


def _classifier(out: Path) -> str:
    return str(out / "train_cam" / train_cam.NETWORK)


def _machine(options: BestieOptions) -> MachineConfig:
    return MachineConfig(device=options.device, precision=options.precision, workers=options.workers)
