"""How the cost of every operator grows: with the pixels of an image, with channels or images, and with a second core.

Times are processor seconds of one thread. An exponent compares sizes that all lie beyond the last-level cache: small
calls are dominated by what a call costs at all, which hides growth, and between a size that fits a cache and one that
does not every operator seems worse than linear. So ``Case.bytes`` is what one array holds for a cell: the smallest
result of the size of the image, without one the input, for ``random_walk`` and ``dense_crf`` the weights and the
lattice that they visit again and again. At the smallest size that array is 1.25 times the cache, at each further one
twice as large, for every operator and along both axes. What lies below stands in the tables by side and by number.
Nothing may be worse than linear; the rest of ``MOST`` is for what else the machine does.
"""

from __future__ import annotations

import functools
import math
import multiprocessing
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

from benchmarks.cost import cache_bytes, exponent, peak_bytes, thread_seconds, touch_fresh_memory
from wsis import ops
from wsis.structures import InstanceMap, Points

MOST = 1.25
FEW_FAULTS, AHEAD = 2, 1 << 30
SIDES, MANY, BEYOND = (32, 64, 128, 256), (1, 4, 16), (1, 2)
ALL_SIDES, ALL_MANY, ALL_BEYOND = (32, 64, 128, 256, 512, 1024), (1, 4, 16, 64), (1, 2, 4)
Call = Callable[[], object]


def smooth(count: int, channels: int, side: int, cells: int = 8) -> torch.Tensor:
    """Smooth noise in 0..1, its patches ``cells`` wide at every size."""
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, side // cells + 2, side // cells + 2, generator=g)
    return F.interpolate(coarse, (side, side), mode="bilinear", align_corners=False)


def regions(count: int, side: int, above: float = 0.5) -> torch.Tensor:
    """Components; above 0.6 they stay small however large the image is, at 0.5 one runs through all of it."""
    return ops.connected_components((smooth(count, 1, side)[:, 0] > above).int()).ids


def walk(side: int, many: int) -> Call:
    seeds, boundary = smooth(1, many, side)[0], 0.9 * smooth(1, 1, side)[:, 0]
    return lambda: ops.random_walk(seeds, boundary, num_steps=16)


def loss(side: int, many: int) -> Call:
    logits, displacement = (smooth(many, c, side).requires_grad_() for c in (1, 2))
    seeds = (smooth(many, 1, side, 16)[:, 0] * 3).to(torch.uint8)

    def step() -> object:
        losses = ops.inter_pixel_loss(logits.squeeze(1), displacement, seeds, radius=5)
        return torch.autograd.grad(sum(losses[:4]), (logits, displacement))

    return step


def trace(side: int, many: int) -> Call:
    displacement = 8 * smooth(many, 2, side) - 4
    return lambda: ops.trace_displacement(displacement, 4)


def stats(side: int, many: int) -> Call:
    ids, scores = regions(many, side), smooth(many, 1, side)[:, 0]
    return lambda: ops.instance_stats(ids, scores)


def grouping(side: int, many: int) -> Call:
    """A pixel looks at every centre of its own component, so components keep their size when images grow."""
    offsets, ids = 10 * smooth(many, 2, side) - 5, regions(many, side, 0.6)
    rows = [[(x, y, 0, 1.0) for y in range(8, side, 32) for x in range(8, side, 32)]] * many
    points = Points.from_rows(rows)
    return lambda: ops.group_pixels(offsets, points, ids)


def target(side: int, many: int) -> Call:
    ids = regions(1, side)
    found = ops.instance_stats(ids)
    table = InstanceMap(
        ids, found.image_index, found.id, found.id % many, torch.ones(len(found.id)), found.centroid_yx.float()
    )
    return lambda: ops.center_target(table, many)


def crf(side: int, many: int) -> Call:
    image = (255 * smooth(1, 3, side)).to(torch.uint8)
    labels = (smooth(1, many, side, 16) * 2.99).to(torch.uint8)
    return lambda: ops.dense_crf(image, labels, [3], steps=2)


def overlaps(side: int, many: int) -> Call:
    masks = (smooth(min(many, 16), 1, side)[:, 0] > 0.5).repeat(math.ceil(many / 16), 1, 1)[:many]
    return lambda: ops.mask_iou(masks, masks[:1])


def scores(side: int, many: int) -> Call:
    semantic, center = smooth(1, many + 1, side), smooth(1, many, side)
    labels = (smooth(1, 1, side)[:, 0] * many).int()
    return lambda: ops.class_scores(semantic, center, labels)


@dataclass(frozen=True)
class Case:
    """``make(side, many)`` gives a call; ``many`` counts channels or images.

    ``bytes`` of the array that decides are there for a cell of one of them, ``shared`` for a cell of all of them.
    """

    name: str
    many: str
    make: Callable[[int, int], Call]
    bytes: int
    shared: int = 0
    largest: int = 1024

    def beyond_by_side(self, factors: tuple[int, ...]) -> tuple[int, list[int]]:
        """How many at once, and the sides."""
        many = math.ceil(4 / (self.bytes + self.shared))
        cells = 1.25 * cache_bytes() / (self.bytes * many + self.shared)
        return many, [math.ceil(math.sqrt(cells * factor)) for factor in factors]

    def beyond_by_number(self, factors: tuple[int, ...]) -> tuple[int, list[int]]:
        """The side, and how many."""
        cells = 1.25 * cache_bytes() / (16 * self.bytes)
        return math.ceil(math.sqrt(cells)), [16 * factor for factor in factors]


def of(op: Callable[..., object], make: Callable[[int, int], torch.Tensor], **options: object) -> Callable[..., Call]:
    """Calls of an operator on one tensor."""
    return lambda side, many: functools.partial(op, make(side, many), **options)


def field(side: int, many: int) -> torch.Tensor:
    return smooth(many, 1, side)[:, 0]


def halves(side: int, many: int) -> torch.Tensor:
    return (field(side, many) > 0.5).int()


def ids(side: int, many: int) -> torch.Tensor:
    return regions(many, side)


def heat(side: int, many: int) -> torch.Tensor:
    return smooth(1, many, side)


CASES = [
    Case("edge_to_affinity", "images", of(ops.edge_to_affinity, field), 136, largest=512),
    Case("random_walk", "channels", walk, 16, 150),
    Case("inter_pixel_loss", "images", loss, 24, largest=512),
    Case("trace_displacement", "images", trace, 8),
    Case("connected_components", "images", of(ops.connected_components, halves), 4),
    Case("instance_stats", "images", stats, 4),
    Case("filter_ids", "images", of(ops.filter_ids, ids, min_area=20), 4),
    Case("class_scores", "channels", scores, 4),
    Case("peaks", "channels", of(ops.peak_mask, heat, window=41, threshold=0.3), 4),
    Case("group_pixels", "images", grouping, 4),
    Case("center_target", "channels", target, 4),
    Case("dense_crf", "label maps", crf, 60, 60),
    Case("mask_rle", "images", of(ops.mask_rle, ids), 4),
    Case("mask_iou", "masks", overlaps, 1),
]


def seconds_beyond(case: Case, factors: tuple[int, ...]) -> tuple[dict[int, float], dict[int, float]]:
    """Seconds by cells of one image and by number, all beyond the cache."""
    many, sides = case.beyond_by_side(factors)
    by_cells = {side * side: thread_seconds(case.make(side, many)) for side in sides}
    side, numbers = case.beyond_by_number(factors)
    return by_cells, {number: thread_seconds(case.make(side, number)) for number in numbers}


def measure(case: Case, sides: tuple[int, ...], counts: tuple[int, ...], factors: tuple[int, ...]) -> dict[str, object]:
    """Seconds and peak memory by side (one at a time) and by number (64 x 64), and exponents beyond the cache."""
    sides = tuple(side for side in sides if side <= case.largest)
    seconds, memory = {}, {}
    for side in sides:
        call = case.make(side, 1)
        call()
        memory[side] = peak_bytes(call)
        seconds[side] = thread_seconds(call)
    by_count = {count: thread_seconds(case.make(64, count)) for count in counts}
    by_cells, by_number = seconds_beyond(case, factors)
    largest, many = sides[-1], case.many.replace(" ", "_")
    return {
        "exponent_in_pixels": exponent(list(by_cells), list(by_cells.values())),
        f"exponent_in_{many}": exponent(list(by_number), list(by_number.values())),
        "ms_by_cells_beyond_the_cache": {cells: round(1e3 * value, 3) for cells, value in by_cells.items()},
        f"ms_by_{many}_beyond_the_cache": {number: round(1e3 * value, 3) for number, value in by_number.items()},
        "ms_by_side": {side: round(1e3 * value, 3) for side, value in seconds.items()},
        f"ms_by_{many}": {n: round(1e3 * value, 3) for n, value in by_count.items()},
        "peak_mib_by_side": {side: None if v is None else round(v / 2**20, 2) for side, v in memory.items()},
        "peak_bytes_per_pixel": None if memory[largest] is None else memory[largest] / largest**2,
    }


def check(figures: dict[str, object]) -> None:
    for name, value in figures.items():
        assert not name.startswith("exponent") or float(value) < MOST, f"{name} is {value}"


@pytest.mark.last
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
@pytest.mark.benchmark(group="cost against size")
def test_wsis_small(benchmark, case):
    figures = measure(case, SIDES, MANY, BEYOND)
    benchmark.extra_info.update(threads=1, **figures)
    benchmark.pedantic(case.make(128, 1), rounds=3)
    check(figures)


@pytest.mark.full
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
@pytest.mark.benchmark(group="cost against size, all sizes")
def test_wsis_all_sizes(benchmark, case):
    figures = measure(case, ALL_SIDES, ALL_MANY, ALL_BEYOND)
    benchmark.extra_info.update(threads=1, **figures)
    benchmark.pedantic(case.make(128, 1), rounds=3)
    check(figures)


def page_faults(call: Call) -> int:
    """How often a call makes the system hand fresh pages, small or huge, to this thread."""
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    call()
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


def wall_seconds(call: Call, least: int = 8, most: int = 200, budget: float = 0.7) -> dict[int, float]:
    """Fewest seconds on the wall with one thread and with two, which take turns: a call that wakes the threads, then
    the one that is timed. Short calls take more turns, ``most`` within ``budget`` seconds.

    Before calls that need fresh memory a GiB is touched: with one thread the system hands out the pages that it
    has just taken back, with two others too, and on a virtual machine these may be the host's (``touch_fresh_memory``).
    """
    call()
    if page_faults(call) > FEW_FAULTS:
        touch_fresh_memory(AHEAD)
    times: dict[int, list[float]] = {1: [], 2: []}
    began = time.perf_counter()
    while len(times[2]) < least or (len(times[2]) < most and time.perf_counter() - began < budget):
        for threads, taken in times.items():
            torch.set_num_threads(threads)
            call()
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return {threads: min(taken) for threads, taken in times.items()}


def seconds_beside(call: Call, rounds: int) -> float:
    """Fewest seconds on the wall in which two processes of one thread each have made the same call at the same time.

    They share the machine and nothing else: half of it is the best that two cores can do with this work.
    """
    context = multiprocessing.get_context("fork")
    start, answers = context.Barrier(2, timeout=60), context.SimpleQueue()

    def take_turns() -> list[tuple[float, float]]:
        turns = []
        for _ in range(2 + rounds):
            start.wait()
            begin = time.monotonic()
            call()
            turns.append((begin, time.monotonic()))
        return turns

    torch.set_num_threads(1)
    other = context.Process(target=lambda: answers.put(take_turns()), daemon=True)
    other.start()
    turns = zip(take_turns(), answers.get())
    other.join()
    return min([max(a[1], b[1]) - min(a[0], b[0]) for a, b in turns][2:])


def batch_walk() -> Call:
    seeds, boundary = smooth(16, 8, 96).flatten(0, 1), 0.9 * smooth(16, 1, 96)[:, 0]
    index = torch.arange(16).repeat_interleave(8)
    return lambda: ops.random_walk(seeds, boundary, index)


def crf_batch(side: int, many: int) -> Call:
    images, labels = (255 * smooth(many, 3, side)).to(torch.uint8), (smooth(many, 2, side, 16) * 2.99).to(torch.uint8)
    return lambda: ops.dense_crf(images, labels, [3] * many)


def target_batch() -> Call:
    ids = regions(8, 416)
    found = ops.instance_stats(ids)
    rows = (found.image_index, found.id, found.id % 20, torch.ones(len(found.id)), found.centroid_yx.float())
    return lambda: ops.center_target(InstanceMap(ids, *rows), 20)


def scores_batch() -> Call:
    semantic, center = smooth(8, 21, 416), smooth(8, 20, 416)
    labels = (smooth(8, 1, 416, 64)[:, 0] * 20).int()
    return lambda: ops.class_scores(semantic, center, labels)


def error_batch() -> Call:
    prediction, target = smooth(8, 20, 416), smooth(8, 20, 416, 16)
    weight = (smooth(8, 1, 416, 64) > 0.6).float()
    return lambda: ops.weighted_error(prediction, [target], [weight], 2)


BATCH = [
    ("edge_to_affinity", functools.partial(of(ops.edge_to_affinity, field), 128, 16)),
    ("random_walk", batch_walk),
    ("inter_pixel_loss", functools.partial(loss, 128, 8)),
    ("trace_displacement", functools.partial(trace, 128, 8)),
    ("connected_components", functools.partial(of(ops.connected_components, halves), 512, 16)),
    ("instance_stats", functools.partial(stats, 512, 16)),
    ("filter_ids", functools.partial(of(ops.filter_ids, ids, min_area=20), 512, 16)),
    ("class_scores", scores_batch),
    ("peaks", functools.partial(of(ops.peak_mask, heat, window=41, threshold=0.3), 416, 8)),
    ("group_pixels", functools.partial(grouping, 416, 8)),
    ("center_target", target_batch),
    ("weighted_error", error_batch),
    ("mask_rle", functools.partial(of(ops.mask_rle, ids), 512, 16)),
    ("mask_iou", functools.partial(overlaps, 512, 64)),
    ("dense_crf", functools.partial(crf_batch, 160, 4)),
]


@pytest.mark.skipif(torch.get_num_threads() < 2, reason="needs two threads")
@pytest.mark.parametrize(("name", "make"), BATCH, ids=[name for name, _ in BATCH])
@pytest.mark.benchmark(group="two cores instead of one, a batch")
def test_wsis_two_cores(benchmark, name, make):
    call, before = make(), torch.get_num_threads()
    try:
        seconds, faults = wall_seconds(call), page_faults(call)
        benchmark.extra_info.update(threads=2, goals={f"{name}: 1 to 2 cores": [seconds[1] / seconds[2], 1.8]})
        rounds = min(100, max(6, round(0.3 / seconds[1])))
        benchmark.extra_info.update(gain_of_two_processes=2 * seconds[1] / seconds_beside(call, rounds), faults=faults)
        torch.set_num_threads(2)
        benchmark.pedantic(call, rounds=3)
    finally:
        torch.set_num_threads(before)
