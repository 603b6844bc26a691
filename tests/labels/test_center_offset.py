"""BESTIE's label functions against the oracle, and at the edges of what they decide."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from wsis.errors import ConfigError
from wsis.labels import center_offset
from wsis.labels.center_offset import Config, decoding, tables
from wsis.labels.center_offset.tables import columns_by_count, columns_of_list
from wsis.reference import center_offset as reference
from wsis.structures import CenterOffsetTarget, InstanceMap, Points

SMALL = Config(
    min_area=12,
    sigma=2.0,
    window=9,
    refine_threshold=0.4,
    weak_offset=1.2,
    cluster_area=5,
    cluster_area_margin=4,
    cluster_distance=6.0,
    max_centers=4,
)


def smooth(g: torch.Generator, *shape: int, cell: int = 5) -> Tensor:
    """Noise without fine detail."""
    *lead, height, width = shape
    coarse = torch.randn(1, math.prod(lead), height // cell + 2, width // cell + 2, generator=g)
    return F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False).view(shape)


def scene(seed: int, batch: int = 2, classes: int = 3, height: int = 27, width: int = 34):
    """Random maps with ties: prediction, semantic map, points, image labels."""
    g = torch.Generator().manual_seed(seed)
    semantic = (smooth(g, batch, classes + 1, height, width) + 0.2).argmax(1)
    semantic[torch.rand(semantic.shape, generator=g) < 0.02] = 255
    prediction = SimpleNamespace(
        semantic=smooth(g, batch, classes + 1, height, width) * 4,
        center=(smooth(g, batch, classes, height, width, cell=4) * 4).round() / 8 + 0.1,
        offset=smooth(g, batch, 2, height, width, cell=3) * 3,
    )
    rows = []
    for _ in range(batch):
        places = torch.randint(0, 10**6, (9, 3), generator=g) % torch.tensor([width, height, classes])
        rows.append([(x, y, c, 0.5) for x, y, c in places.tolist()])
    labels = (torch.rand(batch, classes, generator=g) < 0.8).float()
    return prediction, semantic, Points.from_rows(rows), labels


def assert_targets_equal(got: CenterOffsetTarget, want: CenterOffsetTarget) -> None:
    torch.testing.assert_close(got.center, want.center, rtol=0, atol=1e-5)
    torch.testing.assert_close(got.offset, want.offset, rtol=0, atol=0)
    torch.testing.assert_close(got.weight, want.weight, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("supervision", ["image", "point"])
def test_pseudo_targets_match_reference(seed: int, supervision: str):
    _, semantic, points, labels = scene(seed)
    got = center_offset.pseudo_targets(semantic, points, labels, supervision=supervision, config=SMALL)
    assert_targets_equal(got, reference.pseudo_targets(semantic, points, labels, supervision=supervision, config=SMALL))


@pytest.mark.parametrize("seed", range(12))
def test_refine_matches_reference(seed: int):
    prediction, semantic, _, labels = scene(seed)
    got = center_offset.refine(prediction, semantic, labels, config=SMALL)
    assert_targets_equal(got, reference.refine(prediction, semantic, labels, None, SMALL))
    assert int(got.lost.sum()) == 0


def test_random_scenes_exercise_every_step(monkeypatch):
    """Added centres, crowded components, doubtful instances: the oracle must have met each of them."""
    met = {"added": 0, "crowded": 0, "doubtful": 0, "none": 0, "kept": 0}
    clusters, instances = reference.cluster_centers, reference.component_instances

    def counted_clusters(*args):
        found = clusters(*args)
        met["added"] += len(found)
        return found

    def counted_instances(part, heat, *rest):
        found, raised = instances(part, heat, *rest)
        met["none"] += not found
        crowded = any(place >= SMALL.max_centers for place, _ in found)
        met["crowded"] += crowded
        met["kept"] += bool(found) and not crowded
        met["doubtful"] += any(max(raised[p] for p in pixels) < SMALL.refine_threshold for _, pixels in found)
        return found, raised

    monkeypatch.setattr(reference, "cluster_centers", counted_clusters)
    monkeypatch.setattr(reference, "component_instances", counted_instances)
    for seed in range(12):
        prediction, semantic, _, labels = scene(seed)
        reference.refine(prediction, semantic, labels, None, SMALL)
    assert all(count >= 3 for count in met.values()), met


@pytest.mark.parametrize("seed", range(4))
def test_refine_with_points_matches_reference(seed: int):
    prediction, semantic, points, labels = scene(seed)
    got = center_offset.refine(prediction, semantic, labels, points, SMALL)
    assert_targets_equal(got, reference.refine(prediction, semantic, labels, points, SMALL))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("with_points", [True, False])
def test_decode_matches_reference(seed: int, clean: bool, with_points: bool):
    prediction, _, points, labels = scene(seed)
    config = Config(**{**SMALL.__dict__, "whole_components": seed % 2 == 0})
    labels, points = labels if clean else None, points if with_points else None
    got = center_offset.decode(prediction, labels, config, points=points)
    want = reference.decode(prediction, labels, points, config)
    assert len(got) == len(want)
    for g, w in zip(got, want):
        assert torch.equal(g.labels, w.labels)
        assert torch.equal(g.masks, w.masks)
        torch.testing.assert_close(g.scores, w.scores, rtol=0, atol=1e-5)


def blank(height: int, width: int, classes: int = 1) -> SimpleNamespace:
    """A prediction that is certain of class 0 everywhere and shows no centre; all offsets are long."""
    semantic = torch.zeros(1, classes + 1, height, width)
    semantic[:, 1] = 20.0
    return SimpleNamespace(
        semantic=semantic,
        center=torch.zeros(1, classes, height, width),
        offset=torch.full((1, 2, height, width), 50.0),
    )


def weak_disc(prediction: SimpleNamespace, y: int, x: int, heat: float = 0.2) -> None:
    """21 pixels of weak offset around ``(y, x)``, as the paper expects around a centre."""
    dy, dx = torch.meshgrid(torch.arange(-2, 3), torch.arange(-2, 3), indexing="ij")
    inside = dy.abs() + dx.abs() < 4
    prediction.offset[0, :, y + dy[inside], x + dx[inside]] = 0.5
    prediction.center[0, 0, y, x] = heat


def test_cluster_of_weak_offsets_is_a_centre_where_the_map_has_none():
    prediction = blank(60, 60)
    weak_disc(prediction, 20, 30)
    semantic, labels = torch.ones(1, 60, 60, dtype=torch.int64), torch.ones(1, 1)
    got = center_offset.refine(prediction, semantic, labels)
    assert got.center[0, 0, 20, 30] == 1
    assert got.offset[0, :, 0, 0].tolist() == [20, 30]
    assert got.weight.unique().tolist() == pytest.approx([1.0])
    (found,) = center_offset.decode(prediction, config=Config(threshold=0.3))
    assert len(found) == 1
    assert found.scores.item() == pytest.approx(1.0, abs=1e-5)
    weak_disc(prediction, 20, 30, heat=0.05)
    assert center_offset.refine(prediction, semantic, labels).weight.sum() == 0, "0.05 is not above the threshold"


@pytest.mark.parametrize(("column", "added"), [(110, 0), (111, 1)])
def test_cluster_must_be_far_from_every_peak(column: int, added: int):
    prediction = blank(40, 160)
    prediction.center[0, 0, 20, 10] = 0.9
    weak_disc(prediction, 20, column)
    prediction.offset[0, :, :, 80:] = torch.where(prediction.offset[0, :, :, 80:] > 1, 5.0, 0.5)
    prediction.offset[0, 0] = prediction.offset[0, 0].clamp_max(0.5)
    prediction.offset[0, 1, :, :80] = -50.0
    got = center_offset.refine(prediction, torch.ones(1, 40, 160, dtype=torch.int64), torch.ones(1, 1))
    assert (got.center[0, 0] == 1).sum() == 1 + added


def test_points_on_the_first_row_and_column_are_kept():
    semantic = torch.zeros(1, 20, 30, dtype=torch.int64)
    semantic[0, :10, :12] = 1
    semantic[0, 12:, 15:] = 2
    points = Points.from_rows([[(0, 5, 0, 0.9), (20, 12, 1, 0.9)]])
    got = center_offset.pseudo_targets(semantic, points, torch.ones(1, 2), supervision="point")
    assert got.center[0, 0, 5, 0] == 1
    assert got.weight[0, 0, 5, 0] == 1
    corner = Points.from_rows([[(0, 0, 0, 0.9)]])
    assert center_offset.pseudo_targets(semantic, corner, torch.ones(1, 2)).weight.sum() == 120
    prediction = SimpleNamespace(
        semantic=torch.zeros(1, 3, 20, 30), center=torch.zeros(1, 2, 20, 30), offset=torch.zeros(1, 2, 20, 30)
    )
    refined = center_offset.refine(prediction, semantic, torch.ones(1, 2), corner)
    assert refined.weight.sum() == 120
    assert refined.offset[0, :, 3, 4].tolist() == [-3, -4]


def test_component_with_no_or_several_points_is_no_instance():
    semantic = torch.ones(1, 10, 30, dtype=torch.int64)
    semantic[0, :, 14:16] = 0
    two = Points.from_rows([[(2, 2, 0, 1.0), (5, 5, 0, 1.0)]])
    assert center_offset.pseudo_targets(semantic, two, torch.ones(1, 2)).weight.sum() == 0
    other_class = Points.from_rows([[(2, 2, 0, 1.0), (5, 5, 1, 1.0)]])
    got = center_offset.pseudo_targets(semantic, other_class, torch.ones(1, 2))
    assert got.weight.sum() == 140, "a point of another class does not count"
    assert got.offset[0, :, 0, 0].tolist() == [4, 6], "the centroid, truncated"
    assert center_offset.pseudo_targets(semantic, two, torch.tensor([[0, 1]])).center.sum() == 0


@pytest.mark.parametrize(("height", "supervised"), [(5, 50), (4, 0)])
def test_small_components_are_ignored(height: int, supervised: int):
    semantic = torch.zeros(1, 20, 20, dtype=torch.uint8)
    semantic[0, :height, :10] = 1
    points = Points.from_rows([[(0, 0, 0, 1.0)]])
    assert center_offset.pseudo_targets(semantic, points, torch.ones(1, 1)).weight.sum() == supervised


@pytest.mark.parametrize(("count", "kept"), [(5, True), (6, False)])
def test_components_with_more_centres_than_allowed_are_left_out(count: int, kept: bool):
    prediction = blank(12, 300)
    prediction.offset[:] = 0
    prediction.offset[0, 1, :, ::2] = 4.0
    for k in range(count):
        prediction.center[0, 0, 6, 25 + 45 * k] = 0.8
    got = center_offset.refine(prediction, torch.ones(1, 12, 300, dtype=torch.int64), torch.ones(1, 1))
    assert bool(got.weight.any()) is kept
    assert len(center_offset.decode(prediction)[0]) == count


def test_decode_inverts_encode():
    ids = torch.zeros(2, 90, 120, dtype=torch.int32)
    y, x = torch.meshgrid(torch.arange(90), torch.arange(120), indexing="ij")
    rows = [(0, 1, 0, 30, 30), (0, 2, 0, 30, 66), (0, 3, 1, 70, 100), (1, 1, 2, 45, 20), (1, 2, 2, 45, 62)]
    for image, name, _, cy, cx in rows:
        ids[image][((y - cy) ** 2 + (x - cx) ** 2 < 19**2) & (ids[image] == 0)] = name
    image, name, label, cy, cx = (torch.tensor(column) for column in zip(*rows))
    given = InstanceMap(ids, image, name, label, torch.ones(5), torch.stack((cy, cx), 1).float())
    target = center_offset.encode(given, 3)
    semantic = torch.zeros(2, 90, 120, dtype=torch.int64)
    for b, n, c, _, _ in rows:
        semantic[b][ids[b] == n] = c + 1
    prediction = SimpleNamespace(
        semantic=F.one_hot(semantic, 4).permute(0, 3, 1, 2) * 20.0, center=target.center, offset=target.offset
    )
    for got, want in zip(center_offset.decode(prediction), given.to_instances()):
        assert torch.equal(got.masks, want.masks)
        assert torch.equal(got.labels, want.labels)
        assert (got.scores > 0.999).all()
    refined = center_offset.refine(prediction, semantic, torch.ones(2, 3))
    for part in ("center", "offset", "weight"):
        torch.testing.assert_close(getattr(refined, part), getattr(target, part), rtol=0, atol=1e-4)


def test_batch_composition_and_padding_do_not_matter():
    prediction, semantic, _, labels = scene(3, batch=3)
    sizes = torch.tensor([[27, 34], [20, 30], [25, 19]])
    together = center_offset.refine(prediction, semantic, labels, config=SMALL, sizes=sizes)
    found = center_offset.decode(prediction, labels, SMALL, sizes=sizes)
    for b, (height, width) in enumerate(sizes.tolist()):
        alone = SimpleNamespace(
            **{name: value[b : b + 1, ..., :height, :width] for name, value in prediction.__dict__.items()}
        )
        one = center_offset.refine(alone, semantic[b : b + 1, :height, :width], labels[b : b + 1], config=SMALL)
        for part in ("offset", "weight"):
            padded = getattr(together, part)[b : b + 1]
            assert torch.equal(padded[..., :height, :width], getattr(one, part))
            assert padded.count_nonzero() == getattr(one, part).count_nonzero()
        assert torch.equal(together.center[b : b + 1, ..., :height, :width], one.center)
        (want,) = center_offset.decode(alone, labels[b : b + 1], SMALL)
        assert torch.equal(found[b].masks, want.masks)
        assert torch.equal(found[b].scores, want.scores)


@pytest.mark.parametrize("shape", [(0, 8, 9), (2, 0, 9), (2, 8, 0)])
def test_empty_batches_and_images(shape: tuple[int, int, int]):
    batch, height, width = shape
    prediction = SimpleNamespace(
        semantic=torch.zeros(batch, 3, height, width),
        center=torch.zeros(batch, 2, height, width),
        offset=torch.zeros(batch, 2, height, width),
    )
    semantic, labels = torch.zeros(shape, dtype=torch.uint8), torch.ones(batch, 2)
    nothing = Points.from_rows([])
    for target in (
        center_offset.refine(prediction, semantic, labels),
        center_offset.refine(prediction, semantic, labels, nothing),
        center_offset.pseudo_targets(semantic, nothing, labels),
        center_offset.pseudo_targets(semantic, nothing, labels, supervision="point"),
    ):
        assert target.center.shape == (batch, 2, height, width)
        assert target.weight.shape == (batch, 1, height, width)
    assert [len(found) for found in center_offset.decode(prediction)] == [0] * batch


def test_nothing_present_gives_nothing():
    prediction, semantic, points, labels = scene(5)
    none = torch.zeros_like(labels)
    for target in (
        center_offset.refine(prediction, semantic, none, config=SMALL),
        center_offset.refine(prediction, semantic, none, points, SMALL),
        center_offset.refine(prediction, torch.zeros_like(semantic), labels, config=SMALL),
        center_offset.pseudo_targets(semantic, points, none, config=SMALL),
        center_offset.pseudo_targets(semantic, points, none, supervision="point", config=SMALL),
    ):
        assert all(t.count_nonzero() == 0 for t in (target.center, target.offset, target.weight))
    assert [len(found) for found in center_offset.decode(prediction, none, SMALL)] == [0, 0]


def test_centres_without_room_are_reported():
    prediction, semantic, labels = blank(40, 200), torch.ones(1, 40, 200, dtype=torch.int64), torch.ones(1, 1)
    for k in range(4):
        prediction.center[0, 0, 20, 20 + 50 * k] = 0.8
    full = center_offset.refine(prediction, semantic, labels, config=Config(center_capacity=4))
    assert full.lost.tolist() == [0]
    assert full.weight.any()
    lost = center_offset.refine(prediction, semantic, labels, config=Config(center_capacity=3))
    assert lost.lost.tolist() == [1]
    assert not lost.weight.any()
    with pytest.warns(RuntimeWarning, match="decode: 1 centres had no room"):
        center_offset.decode(prediction, config=Config(center_capacity=3))


@pytest.mark.parametrize("room", [1, 3, 9])
def test_both_ways_to_list_columns_agree(room: int):
    mask = torch.rand(5, 40, generator=torch.Generator().manual_seed(0)) < torch.tensor(
        [[0.0], [0.05], [0.2], [0.9], [1.0]]
    )
    assert torch.equal(columns_by_count(mask, room), columns_of_list(*mask.nonzero(as_tuple=True), 5, room))
    for row, columns in zip(mask, columns_of_list(*mask.nonzero(as_tuple=True), 5, room)):
        want = row.nonzero().flatten()[:room].tolist()
        assert columns.tolist() == want + [-1] * (room - len(want))


@pytest.mark.parametrize("seed", range(4))
def test_tables_of_fixed_length_give_the_same(seed: int, monkeypatch):
    """What runs on a GPU, where nothing is read back: full capacity instead of what is needed."""
    prediction, semantic, points, labels = scene(seed)

    def run() -> list[Tensor]:
        targets = [
            center_offset.refine(prediction, semantic, labels, config=SMALL),
            center_offset.pseudo_targets(semantic, points, labels, config=SMALL),
        ]
        found = center_offset.decode(prediction, labels, SMALL)
        maps = [x for t in targets for x in (t.center, t.offset, t.weight)]
        return maps + [x for f in found for x in (f.masks, f.scores)]

    def first_true(mask: Tensor, capacity: int) -> tables.Selected:
        room = min(capacity, mask.shape[1])
        return tables.Selected(columns_by_count(mask, room), (mask.sum(1) - room).clamp_min(0))

    expected = run()
    for module in (tables, decoding):
        monkeypatch.setattr(module, "room_for", lambda counts, bound: max(bound, 1))
        monkeypatch.setattr(module, "first_true", first_true)
    for got, want in zip(run(), expected, strict=True):
        assert torch.equal(got, want)


def test_mirror_average():
    prediction, _, _, _ = scene(7)
    mirrored = SimpleNamespace(**{name: value.flip(-1) for name, value in prediction.__dict__.items()})
    same = center_offset.mirror_average(prediction, mirrored)
    torch.testing.assert_close(same.semantic.softmax(1), prediction.semantic.softmax(1))
    assert torch.equal(same.center, prediction.center)
    assert torch.equal(same.offset, prediction.offset)
    other = center_offset.mirror_average(prediction, prediction)
    mean = (prediction.semantic.softmax(1) + prediction.semantic.flip(-1).softmax(1)) / 2
    torch.testing.assert_close(other.semantic.softmax(1), mean)


def test_results_carry_no_gradient_and_half_precision_is_taken():
    prediction, semantic, _, labels = scene(1)
    live = SimpleNamespace(**{name: value.clone().requires_grad_() for name, value in prediction.__dict__.items()})
    assert not center_offset.refine(live, semantic, labels, config=SMALL).center.requires_grad
    half = SimpleNamespace(**{name: value.bfloat16() for name, value in prediction.__dict__.items()})
    assert center_offset.refine(half, semantic, labels, config=SMALL).weight.dtype == torch.float32


def bad_calls():
    prediction, semantic, points, labels = scene(0)

    def changed(**change) -> SimpleNamespace:
        return SimpleNamespace(**{**prediction.__dict__, **change})

    def moved(**change) -> Points:
        names = ("image_index", "y", "x", "label", "score")
        return Points(**{name: change.get(name, getattr(points, name)) for name in names})

    refine, pseudo, decode = center_offset.refine, center_offset.pseudo_targets, center_offset.decode
    nan = prediction.offset.clone()
    nan[0, 0, 0, 0] = torch.nan
    poisoned = prediction.semantic.clone()
    poisoned[:, 0] = torch.nan
    many = points.y + 1000
    yield lambda: refine(object(), semantic, labels), TypeError, "refine: prediction must have tensors .*got object"
    yield lambda: refine(changed(offset=nan), semantic, labels), ValueError, "prediction.offset must be finite"
    yield lambda: refine(changed(semantic=poisoned), semantic, labels), ValueError, "softmax of .* must be finite"
    yield lambda: refine(changed(center=prediction.center[:, :2]), semantic, labels), ValueError, "center must have"
    yield lambda: refine(prediction, semantic[:1], labels), ValueError, r"semantic must be \[B, H, W\]"
    yield lambda: refine(prediction, semantic.float(), labels), TypeError, "semantic must be .*got float32"
    yield lambda: refine(prediction, semantic + 4, labels), ValueError, r"semantic must be 0..3 \(or 255"
    yield lambda: refine(prediction, semantic - 1, labels), ValueError, r"semantic must be 0..3 .*got -1"
    yield lambda: refine(prediction, semantic, labels[:, :2]), ValueError, "image_labels must have shape"
    yield lambda: refine(prediction, semantic, labels, points=[(1, 2)]), TypeError, "points must be Points, got list"
    yield lambda: pseudo(semantic, moved(y=many), labels), ValueError, r"points.y must be 0..26 .*got 10"
    yield lambda: pseudo(semantic, moved(x=-many), labels), ValueError, r"points.x must be 0..33 .*got -10"
    yield lambda: pseudo(semantic, moved(label=many), labels), ValueError, "points.label must be 0..2"
    yield lambda: pseudo(semantic, moved(image_index=many), labels), ValueError, "points.image_index must be 0..1"
    yield lambda: pseudo(semantic, points, labels, supervision="box"), ValueError, 'must be "image" or "point"'
    yield lambda: decode(changed(semantic=poisoned)), ValueError, "decode: prediction.semantic must be finite"
    yield lambda: decode(prediction, labels[:1]), ValueError, "decode: image_labels must have shape"


@pytest.mark.parametrize("case", range(17))
def test_bad_arguments_are_named(case: int):
    calls = list(bad_calls())
    assert len(calls) == 17
    call, error, text = calls[case]
    with pytest.raises(error, match=text):
        call()


def test_unvalidated_points_outside_are_passed_over():
    _, semantic, _, labels = scene(2)
    outside = Points.from_rows([[(-1, 3, 0, 1.0), (34, 3, 1, 1.0), (3, 27, 2, 1.0), (3, 3, 3, 1.0)]])
    got = center_offset.pseudo_targets(
        semantic, outside, torch.ones_like(labels), supervision="point", config=SMALL, validate=False
    )
    assert got.center.sum() == 0
    assert got.weight.sum() == 0


@pytest.mark.parametrize(
    "change", [{"window": 4}, {"window": 103}, {"min_area": 0}, {"threshold": -0.1}, {"sigma": 0.0}, {"max_centers": 0}]
)
def test_bad_config_is_refused(change: dict):
    with pytest.raises(ConfigError, match=next(iter(change))):
        Config(**change)
