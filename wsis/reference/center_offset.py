"""Oracles of :mod:`wsis.labels.center_offset`: one image, one class, one component, one pixel after the other.

Written from the description of the method (BESTIE, CVPR 2022, sections 3.2 and 3.3), with lists and sets of pixels
``(y, x)`` and nothing of the operators.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wsis.structures import CenterOffsetTarget, Instances, Points

__all__ = ["decode", "encode", "pseudo_targets", "refine"]

Pixel = tuple[int, int]


def components(pixels: set[Pixel], connectivity: int) -> list[list[Pixel]]:
    """Connected parts of a set of pixels, each in raster order, in raster order of their first pixels."""
    steps = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
    if connectivity == 4:
        steps = [(dy, dx) for dy, dx in steps if dy == 0 or dx == 0]
    left, parts = set(pixels), []
    for start in sorted(pixels):
        if start not in left:
            continue
        left.remove(start)
        part, todo = [], [start]
        while todo:
            y, x = todo.pop()
            part.append((y, x))
            for dy, dx in steps:
                if (y + dy, x + dx) in left:
                    left.remove((y + dy, x + dx))
                    todo.append((y + dy, x + dx))
        parts.append(sorted(part))
    return parts


def class_pixels(semantic: Tensor, label: int) -> set[Pixel]:
    """Pixels of class ``label`` (0-based) in a semantic map ``[H, W]``."""
    return {(y, x) for y, x in (semantic == label + 1).nonzero().tolist()}


def single(number: float) -> float:
    """The float32 number next to a threshold, to which the maps are compared."""
    return torch.tensor(number, dtype=torch.float32).item()


def centroid(pixels: list[Pixel]) -> Pixel:
    """Mean pixel, truncated."""
    return sum(y for y, _ in pixels) // len(pixels), sum(x for _, x in pixels) // len(pixels)


class Target:
    """The targets of one image while they are being drawn."""

    def __init__(self, classes: int, height: int, width: int, sigma: float) -> None:
        self.center = torch.zeros(classes, height, width)
        self.offset, self.weight = torch.zeros(2, height, width), torch.zeros(1, height, width)
        self.sigma = sigma

    def gaussian(self, label: int, at: Pixel) -> None:
        reach = int(3 * self.sigma + 1)
        height, width = self.weight.shape[1:]
        for y in range(max(at[0] - reach, 0), min(at[0] + reach + 1, height)):
            for x in range(max(at[1] - reach, 0), min(at[1] + reach + 1, width)):
                value = math.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / (2 * self.sigma**2))
                self.center[label, y, x] = max(self.center[label, y, x].item(), value)

    def instance(self, pixels: list[Pixel], at: Pixel, weight: float) -> None:
        for y, x in pixels:
            self.offset[0, y, x], self.offset[1, y, x] = at[0] - y, at[1] - x
            self.weight[0, y, x] = weight


def stack(targets: list[Target]) -> CenterOffsetTarget:
    return CenterOffsetTarget(*(torch.stack([getattr(t, n) for t in targets]) for n in ("center", "offset", "weight")))


def points_of(points: Points, image: int, label: int) -> list[Pixel]:
    rows = [i for i in range(len(points)) if int(points.image_index[i]) == image and int(points.label[i]) == label]
    return [(int(points.y[i]), int(points.x[i])) for i in rows]


def encode(instances: list[tuple[int, list[Pixel], Pixel, float]], target: Target) -> Target:
    """Draws ``(label, pixels, centre, weight)`` of every instance of one image."""
    for label, pixels, at, weight in instances:
        target.gaussian(label, at)
        target.instance(pixels, at, weight)
    return target


def pseudo_targets(
    semantic: Tensor, points: Points, image_labels: Tensor, *, supervision: str, config
) -> CenterOffsetTarget:
    """Section 3.2: components with exactly one point of their class."""
    targets = []
    for b in range(semantic.shape[0]):
        target = Target(image_labels.shape[1], *semantic.shape[1:], config.sigma)
        for label in image_labels[b].nonzero().flatten().tolist():
            given = points_of(points, b, label)
            for part in components(class_pixels(semantic[b], label), 8):
                if len(part) < config.min_area or sum(p in part for p in given) != 1:
                    continue
                target.instance(part, centroid(part), 1.0)
                if supervision == "image":
                    target.gaussian(label, centroid(part))
            for at in given if supervision == "point" else []:
                target.gaussian(label, at)
        targets.append(target)
    return stack(targets)


def peak_centers(heat: dict[Pixel, float], window: int, threshold: float) -> list[Pixel]:
    """Step 1: pixels above the threshold that are the maximum of their window."""
    reach = window // 2
    found = []
    for (y, x), value in sorted(heat.items()):
        around = (v for (q, p), v in heat.items() if abs(q - y) <= reach and abs(p - x) <= reach)
        if value > single(threshold) and value == max(around):
            found.append((y, x))
    return found


def cluster_centers(
    part: list[Pixel], heat: dict[Pixel, float], offset: Tensor, peaks: list[Pixel], config
) -> list[Pixel]:
    """Step 2: centroids of small clusters of weak offsets, far from every peak."""
    weak = {(y, x) for y, x in part if math.hypot(*offset[:, y, x].tolist()) < config.weak_offset}
    found = []
    for cluster in components(weak, 4):
        if not abs(len(cluster) - config.cluster_area) < config.cluster_area_margin:
            continue
        y, x = centroid(cluster)
        if heat.get((y, x), 0.0) <= single(config.cluster_threshold):
            continue
        if all(math.hypot(y - q, x - p) > config.cluster_distance for q, p in peaks):
            found.append((y, x))
    return found


def nearest(pixels, offset: Tensor, centers: list[Pixel]) -> list[list[Pixel]]:
    """Step 4: the pixels of every centre."""
    of_center: list[list[Pixel]] = [[] for _ in centers]
    at = torch.tensor(centers, dtype=torch.float32)
    for y, x in pixels:
        away = at - (torch.tensor([y, x], dtype=torch.float32) + offset[:, y, x])
        distance = (away[:, 0] * away[:, 0] + away[:, 1] * away[:, 1]).tolist()
        of_center[distance.index(min(distance))].append((y, x))
    return of_center


def component_instances(part: list[Pixel], heat: dict[Pixel, float], offset: Tensor, threshold: float, config):
    """``(place of the centre, pixels)`` of every instance of a component, and ``heat`` after step 2."""
    peaks = peak_centers(heat, config.window, threshold)
    added = cluster_centers(part, heat, offset, peaks, config)
    raised = heat | dict.fromkeys(added, 1.0)
    centers = peaks + added
    groups = nearest(part, offset, centers) if centers else []
    return [(k, group) for k, group in enumerate(groups) if group], raised


def refine(prediction, semantic: Tensor, image_labels: Tensor, points: Points | None, config) -> CenterOffsetTarget:
    """Section 3.3: targets from the prediction, inside the semantic map."""
    targets = []
    for b in range(semantic.shape[0]):
        softmax, center = prediction.semantic[b].softmax(0), prediction.center[b]
        target = Target(center.shape[0], *semantic.shape[1:], config.sigma)
        for label in image_labels[b].nonzero().flatten().tolist():
            pixels = class_pixels(semantic[b], label)
            if points is not None:
                given = points_of(points, b, label)
                for at in given:
                    target.gaussian(label, at)
                groups = nearest(sorted(pixels), prediction.offset[b], given) if given else []
                for at, group in zip(given, groups):
                    target.instance(group, at, 1.0)
                continue
            for part in components(pixels, 8):
                if len(part) >= config.min_area:
                    found = refined(part, label, softmax, center, prediction.offset[b], config)
                    encode(found, target)
        targets.append(target)
    return stack(targets)


def refined(part: list[Pixel], label: int, softmax: Tensor, center: Tensor, offset: Tensor, config):
    """``(label, pixels, centre, weight)`` of the instances of one component."""
    heat = {(y, x): center[label, y, x].item() for y, x in part}
    found, heat = component_instances(part, heat, offset, config.refine_threshold, config)
    if any(place >= config.max_centers for place, _ in found):
        return []
    rows = []
    for _, pixels in found:
        top = max(heat[p] for p in pixels)
        seg = sum(softmax[label + 1, y, x].item() for y, x in pixels) / len(pixels)
        if top < single(config.refine_threshold):
            rows.append((label, pixels, centroid(part), seg))
        else:
            at = next(p for p in pixels if heat[p] == top)
            rows.append((label, pixels, at, min(max(top * seg, 0.0), 1.0)))
    return rows


def decode(prediction, image_labels: Tensor | None, points: Points | None, config) -> list[Instances]:
    """Section 3.3: instances inside the predicted foreground."""
    result = []
    for b in range(prediction.semantic.shape[0]):
        softmax, offset = prediction.semantic[b].softmax(0), prediction.offset[b]
        if image_labels is not None:
            softmax[1:][image_labels[b] == 0] = 0
        strongest, rows = softmax.argmax(0), []
        for label in range(softmax.shape[0] - 1):
            pixels = class_pixels(strongest, label)
            if points is not None:
                given = points_of(points, b, label)
                groups = nearest(sorted(pixels), offset, given) if given else []
                rows += [(label, group, None) for group in groups if group]
                continue
            for part in components(pixels, 8):
                if len(part) < config.min_area:
                    continue
                heat = {(y, x): prediction.center[b, label, y, x].item() for y, x in part}
                found, heat = component_instances(part, heat, offset, config.threshold, config)
                if not found and config.whole_components:
                    found = [(0, part)]
                rows += [(label, group, max(heat[p] for p in group)) for _, group in found]
        result.append(to_instances(rows, softmax))
    return result


def to_instances(rows: list[tuple[int, list[Pixel], float | None]], softmax: Tensor) -> Instances:
    """Masks and scores of ``(label, pixels, largest centre value)`` of one image; None: class score alone."""
    masks = torch.zeros((len(rows), *softmax.shape[1:]), dtype=torch.bool)
    scores = []
    for mask, (label, pixels, top) in zip(masks, rows):
        for y, x in pixels:
            mask[y, x] = True
        seg = softmax[label + 1][mask].double().mean().item()
        scores.append(seg if top is None else seg * (seg if top >= 1 else top))
    return Instances(masks, torch.tensor([row[0] for row in rows], dtype=torch.int64), torch.tensor(scores))
