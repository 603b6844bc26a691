"""IRNet (Ahn, Cho, Kwak, CVPR 2019) from image labels to instance masks, with the numbers of the paper or
smaller ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from wsis.data.config import DataConfig
from wsis.labels import cam_components
from wsis.labels.irnet import Config as Propagation
from wsis.labels.seeds import Config as Seeds
from wsis.recipes.stages import Options, Stage
from wsis.steps import evaluate, export, label, make_seed_labels, report, train_cam, train_irnet
from wsis.training.config import MachineConfig, OptimConfig

__all__ = [
    "Numbers",
    "custom_folder",
    "irnet_coco",
    "irnet_small",
    "irnet_stages",
    "irnet_voc",
    "small_numbers",
    "voc_numbers",
]


@dataclasses.dataclass(frozen=True)
class Numbers:
    """What distinguishes one recipe from another.

    Attributes:
        backbone: where :class:`Options` leaves it empty.
        pretrained: that backbone must not start from random weights.
        cam: fields of ``train_cam.Config``.
        seeds: thresholds of the seed maps.
        irnet: fields of ``train_irnet.Config``.
        boundary_backbone: of the boundary network, where it is not that of the classifier.
        share_backbone: the boundary network stands on the trained classifier's backbone.
        scales: image pyramid of the activation maps.
        min_side: see ``label.Config``.
        label_split: split to label where :class:`Options` leaves it empty; empty = the training images.
        propagation: thresholds of the labels.
        cam_background: score of the background in the baseline of plain activation maps; the paper's 0.15.
        evaluate: compare with masks.
    """

    backbone: str
    pretrained: bool = False
    cam: dict = dataclasses.field(default_factory=dict)
    seeds: Seeds = dataclasses.field(default_factory=Seeds)
    irnet: dict = dataclasses.field(default_factory=dict)
    boundary_backbone: str = ""
    share_backbone: bool = False
    scales: tuple[float, ...] = (1.0, 0.5, 1.5, 2.0)
    min_side: int = 512
    label_split: str = ""
    propagation: Propagation = dataclasses.field(default_factory=Propagation)
    cam_background: float = 0.15
    evaluate: bool = True


def voc_numbers() -> Numbers:
    """The paper's."""
    return Numbers(
        backbone="resnet50",
        pretrained=True,
        cam={"optim": OptimConfig(epochs=5, batch_size=16)},
        irnet={"optim": OptimConfig(epochs=3, batch_size=32), "mean_split": "train"},
        label_split="train",
    )


def small_numbers() -> Numbers:
    """For a CPU and a few hundred images."""
    return Numbers(
        backbone="mobilenet_v2",
        cam={
            "optim": OptimConfig(
                "adamw", lr=2e-4, new_layers=10.0, weight_decay=0.01, epochs=8, min_steps=200, batch_size=16
            ),
            "crop": 320,
            "min_side": 256,
            "max_side": 640,
        },
        irnet={
            "optim": OptimConfig("adamw", lr=1e-3, new_layers=3.0, steps=600, batch_size=8, warmup=20),
            "crop": 256,
            "mean_crop": 512,
        },
        boundary_backbone="mobilenet_v2_dilated",
        propagation=Propagation(background=0.3, semantic_background=0.3, walk_steps=64, score="mean", crf=0.55),
        cam_background=0.25,
        scales=(0.5, 1.0, 1.5),
        label_split="",
    )


def irnet_voc(options: Options) -> list[Stage]:
    """The paper on PASCAL VOC 2012: ResNet-50, train_aug tags; labels of ``train``, compared with its masks.

    Published: activation maps 48.3 mIoU, semantic labels 66.5 mIoU, instance labels 37.7 AP50 on ``train``.
    """
    voc = dataclasses.replace(options.data, split=options.data.split or ("" if options.data.list else "train_aug"))
    return irnet_stages(dataclasses.replace(options, data=voc), voc_numbers())


def irnet_coco(options: Options) -> list[Stage]:
    """COCO with the paper's numbers for VOC: ResNet-50, tags from the instances; the training images are labelled.

    ``--data.*`` name the data, ``--label_split`` other images to label. The paper has no figures for COCO.
    """
    numbers = dataclasses.replace(voc_numbers(), label_split="")
    irnet = {**numbers.irnet, "mean_split": ""}
    return irnet_stages(options, dataclasses.replace(numbers, irnet=irnet, evaluate=False))


def irnet_small(options: Options) -> list[Stage]:
    """MobileNetV2 for a CPU and a few hundred images; ``docs/results.md`` has its figures and why it is so.

    The boundary network stands on the dilated backbone. Its boundaries are softer than ResNet-50's, so the walk is
    shorter, and a dense CRF draws the labels to the edges of the photograph; more than some 600 steps let the
    displacement fit the noise of few seed maps.
    """
    return irnet_stages(options, small_numbers())


def custom_folder(options: Options) -> list[Stage]:
    """A folder of photographs with a file of tags, without masks: the numbers of ``irnet_small``, no
    comparison."""
    return [stage for stage in irnet_small(options) if stage.name not in ("evaluate", "label_cam")]


def irnet_stages(options: Options, numbers: Numbers) -> list[Stage]:
    """Classifier, seed maps, boundary network, labels, export, comparison, page."""
    out, backbone = Path(options.out), options.backbone or numbers.backbone
    boundary = options.backbone or numbers.boundary_backbone or numbers.backbone
    machine = MachineConfig(device=options.device, precision=options.precision, workers=options.workers)
    run = {"device": options.device, "precision": options.precision}
    batches = {"batch_size": options.batch_size, "workers": options.workers}
    cam, irn = str(out / "train_cam" / train_cam.NETWORK), str(out / "train_irnet" / train_irnet.NETWORK)
    split = options.label_split or numbers.label_split
    to_label = dataclasses.replace(options.data, split=split, list="") if split else options.data
    labels, maps, fields = (str(out / "labels" / name) for name in ("run", "semantic", "fields"))
    common = {"data": to_label, "cam_weights": cam, "scales": numbers.scales, **run, **batches}
    own = {"cam_weights": cam} if numbers.share_backbone else {"weights": options.weights}
    stages = [
        Stage(
            "train_cam",
            "train_cam",
            train_cam.Config(
                data=options.data,
                out=str(out / "train_cam"),
                backbone=backbone,
                weights=options.weights,
                seed=options.seed,
                machine=machine,
                **numbers.cam,
            ),
            numbers.backbone if numbers.pretrained else "",
        ),
        Stage(
            "make_seed_labels",
            "make_seed_labels",
            make_seed_labels.Config(
                data=options.data,
                out=str(out / "seeds"),
                cam_weights=cam,
                scales=numbers.scales,
                seeds=numbers.seeds,
                **run,
                **batches,
            ),
        ),
        Stage(
            "train_irnet",
            "train_irnet",
            train_irnet.Config(
                data=options.data,
                seeds=str(out / "seeds"),
                out=str(out / "train_irnet"),
                backbone=backbone if numbers.share_backbone else boundary,
                seed=options.seed,
                machine=machine,
                **own,
                **numbers.irnet,
            ),
            numbers.backbone if numbers.pretrained else "",
        ),
        Stage(
            "label",
            "label",
            label.Config(
                **common,
                out=labels,
                irnet_weights=irn,
                min_side=numbers.min_side,
                semantic=maps,
                propagation=numbers.propagation,
                dump_fields=fields if options.num_pictures else "",
            ),
        ),
        Stage("export", "export", export.Config(run=labels, output=str(out / "instances.json"))),
    ]
    if numbers.evaluate:
        stages += _comparison(out, to_label, common, labels, maps, numbers.cam_background)
    if options.num_pictures:
        stages.append(Stage("report", "report", _page(out, to_label, labels, fields, options.num_pictures)))
    return stages


def _comparison(out: Path, data: DataConfig, common: dict, labels: str, maps: str, background: float) -> list[Stage]:
    """The baseline from activation maps alone, and both against the masks."""
    base, base_maps = str(out / "cam_baseline" / "run"), str(out / "cam_baseline" / "semantic")
    plain = cam_components.Config(background=background)
    baseline = label.Config(**common, out=base, method="cam", cam_components=plain, semantic=base_maps)
    compare = evaluate.Config(
        runs=(base, labels), semantic=(base_maps, maps), data=data, output=str(out / "evaluation.json")
    )
    return [Stage("label_cam", "label", baseline), Stage("evaluate", "evaluate", compare)]


def _page(out: Path, data: DataConfig, labels: str, fields: str, pictures: int) -> report.Config:
    return report.Config(
        run=labels, data=data, fields=fields, num_images=pictures, output=str(out / "report.html"), title=out.name
    )
