"""What the nets alone achieve on images with masks: the figures between the tags and the final labels.

    python benchmarks/field_quality.py --root ROOT --split val --cam RUN/cam/cam --irnet RUN/irnet/irnet

Prints, as JSON: mIoU of the activation maps at several background scores; AP of the connected components of
the thresholded maps (what one gets without IRNet); clusters of the displacement field per image; and, of all
pairs of neighbouring true objects of one class (masks nearer than 16 pixels), the share whose masks lie
mostly in different clusters. Masks are read for these figures only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsis import ops
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.data.image_set import ImageSet
from wsis.evaluation import instance_voc, semantic
from wsis.labels import irnet
from wsis.labels.cam import CamMaps, multi_scale_cams
from wsis.labels.fields import boundary_and_displacement
from wsis.structures import Instances
from wsis.training.checkpoint import load_network

BACKGROUNDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35)


def cam_map(maps: CamMaps, classes: tuple[int, ...], background: float) -> np.ndarray:
    """Argmax of the full maps against a constant background, ``[H, W]`` uint8."""
    values = torch.tensor([0, *(c + 1 for c in classes)], dtype=torch.uint8)
    full = maps.full.float()
    return values[torch.cat([torch.full_like(full[:1], background), full]).argmax(0)].numpy()


def components(semantic_map: np.ndarray, maps: CamMaps, classes: tuple[int, ...], min_area: float) -> Instances:
    """4-connected components of each class; the score is the map's maximum inside, 0 below the smallest
    area.
    """
    masks, labels, scores = [], [], []
    for row, label in enumerate(classes):
        ids, count = ops.connected_components(torch.from_numpy((semantic_map == label + 1).astype(np.int32))[None], 4)
        for number in range(1, int(count[0]) + 1):
            mask = ids[0] == number
            masks.append(mask)
            labels.append(label)
            large = float(mask.float().mean()) >= min_area
            scores.append(float(maps.full[row].float()[mask].max()) if large else 0.0)
    if not masks:
        return Instances.empty(semantic_map.shape)
    return Instances(torch.stack(masks), torch.tensor(labels), torch.tensor(scores))


def neighbour_pairs(truth: Instances, clusters: Tensor, reach: int = 2) -> Iterator[bool]:
    """For each pair of neighbours of one class: whether most of each lies in another cluster."""
    height, width = clusters.shape
    masks = truth.masks[:, ::4, ::4][:, :height, :width]
    if not len(masks):
        return
    near = F.max_pool2d(masks[:, None].float(), 2 * reach + 1, 1, reach)[:, 0] > 0
    major = [int(clusters[mask].bincount().argmax()) if bool(mask.any()) else -1 for mask in masks]
    for a in range(len(masks)):
        for b in range(a):
            same = truth.labels[a] == truth.labels[b] and min(major[a], major[b]) >= 0
            if same and bool((near[a] & near[b]).any()):
                yield major[a] != major[b]


def measure(data: ImageSet, cam_net, net, args: argparse.Namespace) -> dict:
    """All figures of one split."""
    config = irnet.Config(weak_displacement=args.weak_displacement)
    clusters, pairs, cams = [], [], []
    for index in range(len(data)):
        image = torch.from_numpy(data.load_image(index)).permute(2, 0, 1)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            cams.append(multi_scale_cams(cam_net, [image], [data[index].labels], args.scales)[0])
            pair = boundary_and_displacement(net, image[None], args.min_side)
        cams[-1] = CamMaps(cams[-1].strided, cams[-1].full.half())
        found = irnet.cluster_pixels(pair.displacement, config)[0]
        clusters.append(int(found.max()) + 1)
        pairs += neighbour_pairs(data.load_instances(index), found)
    result: dict = {"images": len(data), "clusters_per_image": float(np.mean(clusters))}
    result |= {"neighbour_pairs": len(pairs), "separated": int(sum(pairs))}
    for background in BACKGROUNDS:
        made = [cam_map(maps, data[i].labels, background) for i, maps in enumerate(cams)]
        truth = (data.load_semantic(i) for i in range(len(data)))
        miou = semantic.evaluate(made, truth, len(data.categories))["miou"]
        parts = (components(m, maps, data[i].labels, 0.01) for i, (m, maps) in enumerate(zip(made, cams)))
        ap = instance_voc.evaluate(parts, (data.load_instances(i) for i in range(len(data))))
        result[f"cam_{background}"] = {"miou": miou, **{f"ap_{t}": ap[f"map_{t}"] for t in (25, 50, 70, 75)}}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--split", nargs="+", default=["val"])
    parser.add_argument("--cam", required=True)
    parser.add_argument("--irnet", required=True)
    parser.add_argument("--scales", type=float, nargs="+", default=[0.5, 1.0, 1.5])
    parser.add_argument("--min-side", type=int, default=512)
    parser.add_argument("--weak-displacement", type=float, default=2.5)
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    cam_net, net = load_network(args.cam, kind="cam_net"), load_network(args.irnet, kind="irnet")
    for split in args.split:
        data = open_data(DataConfig(root=args.root, split=split))
        print(json.dumps({"split": split, **measure(data, cam_net, net, args)}), flush=True)


if __name__ == "__main__":
    main()
