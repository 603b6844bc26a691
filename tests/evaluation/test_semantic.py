"""mIoU and the CAM threshold curve: worked examples, boundaries, and agreement of the two ways."""

import math

import numpy as np
import pytest
import torch

from wsis.evaluation.semantic import ConfusionMatrix, ThresholdSweep, evaluate


def test_by_hand():
    """Background: 2 hits, union 3; class 1: 1 hit, union 3; class 2: 2 hits, union 3; one is ignored."""
    truth = torch.tensor([[0, 0, 1, 1, 2, 255]])
    found = torch.tensor([[0, 0, 0, 1, 2, 2]])
    found_b, truth_b = torch.tensor([[1, 2]]), torch.tensor([[2, 2]])
    result = evaluate([found, found_b], [truth, truth_b], num_classes=3)
    assert result["iou"].tolist()[:3] == pytest.approx([2 / 3, 1 / 3, 2 / 3])
    assert math.isnan(result["iou"][3])
    assert result["miou"] == pytest.approx((2 / 3 + 1 / 3 + 2 / 3) / 3)
    assert result["pixel_accuracy"] == pytest.approx(5 / 7)
    total = result["iou"] + result["false_positive"] + result["false_negative"]
    assert total[:3].tolist() == pytest.approx([1, 1, 1])


def test_prediction_255_counts_as_background():
    result = evaluate([torch.tensor([[255, 255]])], [torch.tensor([[0, 1]])], num_classes=1)
    assert result["iou"].tolist() == [0.5, 0.0]


def test_class_only_predicted_on_ignored_pixels_is_absent():
    result = evaluate([torch.tensor([[0, 1]])], [torch.tensor([[0, 255]])], num_classes=1)
    assert math.isnan(result["iou"][1])
    assert result["miou"] == 1.0


def test_class_only_predicted_is_zero():
    result = evaluate([torch.tensor([[0, 1]])], [torch.tensor([[0, 0]])], num_classes=1)
    assert result["iou"].tolist() == [0.5, 0.0]


@pytest.mark.parametrize("images", [0, 1])
def test_nothing_valid_is_nan(images):
    maps = [torch.full((2, 2), 255, dtype=torch.uint8)] * images
    result = evaluate(maps, maps, num_classes=2)
    assert math.isnan(result["miou"])
    assert result["confusion"].sum() == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64])
def test_any_integer_type(dtype):
    truth = np.array([[0, 1, 255]], dtype=dtype)
    assert evaluate([truth], [truth], num_classes=1)["miou"] == 1.0


def test_matches_plain_counting():
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 6, (2, 40, 50))
    truth[rng.random((40, 50)) < 0.1] = 255
    result = evaluate([found], [truth], num_classes=5)
    valid = truth != 255
    for label in range(6):
        a, b = (found == label) & valid, (truth == label) & valid
        assert result["iou"][label].item() == pytest.approx((a & b).sum() / (a | b).sum())


def test_sweep_boundary_and_ties():
    """A CAM equal to the threshold is background; of equal CAMs the first class wins."""
    cams = torch.tensor([[[0.3, 0.5, 0.5]], [[0.1, 0.5, 0.6]]])
    truth = torch.tensor([[1, 1, 3]])
    sweep = ThresholdSweep(3, [0.3, 0.5])
    sweep.add(cams, [0, 2], truth)
    low, high = sweep.confusion(0), sweep.confusion(1)
    assert low[1].tolist() == [1, 1, 0, 0]
    assert low[3].tolist() == [0, 0, 0, 1]
    assert high[1].tolist() == [2, 0, 0, 0]
    assert high[3].tolist() == [0, 0, 0, 1]


def test_sweep_agrees_with_evaluating_each_threshold():
    generator = torch.Generator().manual_seed(0)
    thresholds = [0.0, 0.15, 0.3, 0.5, 0.99]
    sweep = ThresholdSweep(4, thresholds)
    cases = []
    for size in [(7, 9), (12, 5), (6, 6)]:
        cams = (torch.rand((2, *size), generator=generator) * 20).round() / 20
        truth = torch.randint(0, 5, size, generator=generator)
        truth[0] = 255
        cases.append((cams, torch.tensor([3, 1]), truth))
        sweep.add(*cases[-1])
    cases.append((torch.zeros((0, 4, 4)), torch.zeros(0, dtype=torch.int64), torch.ones((4, 4), dtype=torch.uint8)))
    sweep.add(*cases[-1])
    result = sweep.result()
    for position, threshold in enumerate(thresholds):
        matrix = ConfusionMatrix(4)
        for cams, classes, truth in cases:
            padded = torch.cat([torch.full((1, *cams.shape[1:]), threshold), cams])
            keys = torch.cat([torch.zeros(1, dtype=torch.int64), classes + 1])
            matrix.add(keys[padded.argmax(0)], truth)
        assert torch.equal(matrix.counts, sweep.confusion(position))
        assert result["miou"][position].item() == matrix.result()["miou"]
    assert result["best"]["miou"] == result["miou"].max().item()


@pytest.mark.parametrize(
    ("found", "truth", "error", "message"),
    [
        ([[0]], [[0, 0]], ValueError, r"image 0 must have one size, got \[1, 1\] and \[1, 2\]"),
        ([[3]], [[0]], ValueError, r"prediction of image 0 must hold 0..2 or 255, got \[3\]"),
        ([[0]], [[7]], ValueError, r"ground truth of image 0 must hold 0..2 or 255, got \[7\]"),
        ([[-1]], [[0]], ValueError, r"prediction of image 0 must hold 0..255, got values from -1 to -1"),
        ([[300]], [[0]], ValueError, r"values from 300 to 300"),
        ([[0.5]], [[0]], TypeError, r"must hold integers, got torch.float32"),
        ([0], [[0]], ValueError, r"must be \[H, W\], got shape \[1\]"),
    ],
)
def test_rejects_maps(found, truth, error, message):
    with pytest.raises(error, match=message):
        evaluate([torch.tensor(found)], [torch.tensor(truth)], num_classes=2)


def test_rejects_unequal_lengths_and_class_counts():
    with pytest.raises(ValueError, match="ground_truth ended after 1"):
        evaluate([torch.zeros((1, 1), dtype=torch.int64)] * 2, [torch.zeros((1, 1), dtype=torch.int64)], 2)
    for count in (0, 255):
        with pytest.raises(ValueError, match=rf"num_classes must be in 1..254 .* got {count}"):
            ConfusionMatrix(count)
    ConfusionMatrix(254)


@pytest.mark.parametrize(
    ("cams", "classes", "message"),
    [
        (torch.zeros((1, 2, 3)), [0], r"must be \[K, H, W\]"),
        (torch.zeros((2, 2, 2)), [0], r"must be \[K, H, W\]"),
        (torch.full((1, 2, 2), math.nan), [0], "must be finite"),
        (torch.zeros((1, 2, 2)), [3], r"must be in 0..2"),
        (torch.zeros((1, 2, 2)), [-1], r"must be in 0..2"),
    ],
)
def test_sweep_rejects(cams, classes, message):
    with pytest.raises(ValueError, match=message):
        ThresholdSweep(3, [0.1]).add(cams, classes, torch.zeros((2, 2), dtype=torch.int64))


@pytest.mark.parametrize("thresholds", [[], [0.2, 0.1], [0.1, 0.1], [math.nan]])
def test_sweep_rejects_thresholds(thresholds):
    with pytest.raises(ValueError, match="must be finite and ascending"):
        ThresholdSweep(3, thresholds)
