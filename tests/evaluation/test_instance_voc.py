"""VOC instance AP: worked examples small enough to check by hand, the reference's answers, and an oracle."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.golden_cases import SEEDS, bestie_instances, load_scene, load_voc_ap, true_instances
from wsis.evaluation import instance_voc
from wsis.evaluation.instance_voc import InstanceAP, evaluate
from wsis.evaluation.overlap import mask_iou
from wsis.structures import Instances


def strip(start: int, stop: int, width: int = 20) -> torch.Tensor:
    """A mask ``[1, width]`` that covers the cells ``start..stop-1``."""
    mask = torch.zeros((1, width), dtype=torch.bool)
    mask[0, start:stop] = True
    return mask


def instances(*rows: tuple, width: int = 20) -> Instances:
    """Rows ``(start, stop, label[, score])`` on an image of one line."""
    if not rows:
        return Instances.empty((1, width))
    masks = torch.stack([strip(row[0], row[1], width) for row in rows])
    scores = torch.tensor([float(row[3]) if len(row) > 3 else 1.0 for row in rows])
    return Instances(masks, torch.tensor([row[2] for row in rows]), scores)


def one_ap(found: list[Instances], true: list[Instances], threshold: float = 0.5) -> float:
    return evaluate(found, true, (threshold,))[f"map_{round(100 * threshold)}"]


def test_matches_reference_on_golden_scenes():
    golden = load_voc_ap()
    scenes = [load_scene(int(seed)) for seed in golden["seeds"]]
    result = evaluate(map(bestie_instances, scenes), map(true_instances, scenes))
    assert len(SEEDS) == result["num_images"] == 3
    for key in (25, 50, 70, 75):
        np.testing.assert_allclose(result[f"ap_{key}"].numpy(), golden[f"ap_{key}"], rtol=0, atol=1e-12)
        assert result[f"map_{key}"] == pytest.approx(float(golden[f"map_{key}"]), abs=1e-12)


def test_perfect_predictions_reach_one():
    truth = [instances((0, 5, 0), (5, 9, 1)), instances((2, 7, 0))]
    result = evaluate(truth, truth)
    assert [result[f"map_{k}"] for k in (25, 50, 70, 75)] == [1.0] * 4
    assert result["abo"] == 1.0
    assert result["num_truth"].tolist() == [2, 1]


@pytest.mark.parametrize(("stop", "threshold"), [(5, 0.5), (7, 0.7), (3, 0.3), (9, 0.9), (1, 0.1)])
def test_iou_equal_to_the_threshold_is_a_match(stop, threshold):
    truth = [instances((0, 10, 0))]
    assert one_ap([instances((0, stop, 0))], truth, threshold) == 1.0
    assert one_ap([instances((0, stop, 0))], truth, threshold + 1e-4) == 0.0


def test_comparison_is_in_float32():
    """7/10 as float32 lies below 0.7 as float64; both as float32 are equal."""
    assert float(np.float32(0.7)) < 0.7
    assert one_ap([instances((0, 7, 0))], [instances((0, 10, 0))], 0.7) == 1.0


def test_duplicate_is_a_false_positive():
    """Hits by score: yes, no (duplicate), yes; two true objects: 1/2 * 1 + 1/2 * 2/3."""
    found = [instances((0, 5, 0, 0.9), (0, 4, 0, 0.8), (10, 15, 0, 0.7))]
    true = [instances((0, 5, 0), (10, 15, 0))]
    assert one_ap(found, true) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_no_search_for_the_second_best():
    """Both predictions overlap the first object most; the second would also pass with the other object."""
    true = [instances((0, 8, 0), (8, 12, 0), width=12)]
    found = [instances((0, 8, 0, 0.9), (0, 12, 0, 0.8), width=12)]
    assert one_ap(found, true, 0.25) == pytest.approx(0.5)


def test_first_of_equal_overlaps_is_taken():
    """IoU 1/2 with both objects: it takes the first, so the next prediction of the first is a duplicate."""
    true = [instances((0, 5, 0), (5, 10, 0))]
    found = [instances((0, 10, 0, 0.9), (0, 5, 0, 0.8), (5, 10, 0, 0.7))]
    assert one_ap(found, true) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_equal_scores_stand_in_reversed_order():
    """Two predictions with one score: the later one comes first, so the duplicate is the first."""
    true = [instances((0, 10, 0), (10, 20, 0))]
    found = [instances((0, 10, 0, 0.5), (0, 9, 0, 0.5), (19, 20, 0, 0.5))]
    # order 2 (miss), 1 (hit), 0 (duplicate): precision 1/2 at recall 1/2
    assert one_ap(found, true) == pytest.approx(0.25)


def test_envelope_is_monotone():
    """Hits no, yes, yes over three objects: precision 0, 1/2, 2/3 -> envelope 2/3 up to recall 2/3."""
    true = [instances((0, 4, 0), (4, 8, 0), (8, 12, 0))]
    found = [instances((18, 20, 0, 0.9), (0, 4, 0, 0.8), (4, 8, 0, 0.7))]
    assert one_ap(found, true) == pytest.approx(4 / 9)


def test_ranking_runs_over_all_images():
    true = [instances((0, 5, 0)), instances((0, 5, 0))]
    found = [instances((0, 5, 0, 0.2)), instances((10, 15, 0, 0.9))]
    assert one_ap(found, true) == pytest.approx(0.25)


def test_no_predictions_is_zero_and_no_truth_is_nan():
    result = evaluate([instances((0, 5, 2))], [instances((0, 5, 0))], (0.5,))
    ap = result["ap_50"].tolist()
    assert ap[0] == 0.0
    assert math.isnan(ap[1])
    assert math.isnan(ap[2])
    assert len(ap) == 3
    assert result["map_50"] == 0.0
    assert result["abo_class"].tolist()[0] == 0.0


@pytest.mark.parametrize("images", [0, 2])
def test_nothing_at_all_is_nan(images):
    result = evaluate([instances()] * images, [instances()] * images)
    assert math.isnan(result["map_50"])
    assert math.isnan(result["abo"])
    assert result["ap_50"].shape == (0,)
    assert result["num_images"] == images


def test_truth_without_predictions_anywhere():
    result = evaluate([instances()], [instances((0, 5, 1))])
    assert result["map_50"] == 0.0
    assert result["abo"] == 0.0


def test_classes_do_not_mix():
    assert one_ap([instances((0, 5, 1))], [instances((0, 5, 0))]) == 0.0


def test_void_counts_in_the_area_of_a_prediction():
    """The object is cells 0..4, void 5..9: a prediction of all ten has IoU 1/2, not 1."""
    true = [instances((0, 5, 0))]
    assert one_ap([instances((0, 10, 0))], true, 0.5) == 1.0
    assert one_ap([instances((0, 11, 0))], true, 0.5) == 0.0


def test_best_overlap_by_hand():
    """Object 1 is best met at 4/5 (by a prediction of low score), object 2 at 1/2, object 3 never."""
    true = [instances((0, 5, 0), (10, 15, 0)), instances((0, 5, 1))]
    found = [instances((0, 4, 0, 0.1), (0, 2, 0, 0.9), (10, 20, 0, 0.3)), instances((0, 5, 0))]
    result = evaluate(found, true)
    assert result["abo_class"].tolist() == pytest.approx([(0.8 + 0.5) / 2, 0.0])
    assert result["abo"] == pytest.approx(0.325)


def test_num_classes_pads_and_bounds():
    truth = [instances((0, 5, 1))]
    result = evaluate(truth, truth, num_classes=5)
    assert result["ap_50"].shape == (5,)
    assert result["map_50"] == 1.0
    with pytest.raises(ValueError, match=r"labels must be classes from 0 below num_classes = 1, got 1"):
        evaluate(truth, truth, num_classes=1)


def test_empty_masks_match_nothing():
    empty = Instances(torch.zeros((1, 1, 20), dtype=torch.bool), torch.tensor([0]))
    assert one_ap([empty], [instances((0, 5, 0))]) == 0.0
    assert mask_iou(empty.masks, empty.masks).tolist() == [[0.0]]


def test_accepts_arrays_generators_and_any_integer_type():
    truth = instances((0, 5, 0), (5, 9, 1))
    plain = SimpleNamespace(
        masks=truth.masks.numpy().astype(np.uint8),
        labels=np.array([0, 1], np.uint8),
        scores=np.array([0.5, 1.0]),
    )
    assert evaluate(iter([plain]), (t for t in [truth]))["map_75"] == 1.0


def oracle(found: list[Instances], true: list[Instances], threshold: float, stable: bool) -> np.ndarray:
    """The protocol word by word, with loops over masks."""
    kind = "stable" if stable else None
    labels = {int(v) for one in (*found, *true) for v in one.labels}
    ap = np.full(max(labels) + 1, np.nan)
    for label in labels:
        scores, hits, positives = [], [], 0
        for prediction, truth in zip(found, true):
            masks = prediction.masks[prediction.labels == label].numpy()
            values = prediction.scores[prediction.labels == label].numpy()
            objects = truth.masks[truth.labels == label].numpy()
            positives += len(objects)
            taken = set()
            for row in values.argsort(kind=kind)[::-1]:
                iou = [np.float32((masks[row] & o).sum() / (masks[row] | o).sum()) for o in objects]
                best = int(np.argmax(iou)) if iou else -1
                hit = bool(iou) and iou[best] >= np.float32(threshold)
                hits.append(hit and best not in taken)
                scores.append(values[row])
                if hit:
                    taken.add(best)
        if not positives:
            continue
        order = np.array(scores, np.float32).argsort(kind=kind)[::-1]
        ranked = np.array(hits, bool)[order]
        recalls = np.cumsum(ranked) / positives
        precisions = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
        ap[label] = sum(
            precisions[recalls >= hit / positives].max() / positives for hit in range(1, int(ranked.sum()) + 1)
        )
    return ap


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_matches_oracle_on_random_scenes_with_ties(seed, stable):
    rng = np.random.default_rng(seed)

    def scene(count):
        starts = rng.integers(0, 24, count)
        rows = [(int(s), int(s + rng.integers(1, 9)), int(rng.integers(0, 3)), rng.integers(0, 4) / 4) for s in starts]
        return instances(*rows, width=32)

    true = [scene(int(rng.integers(0, 7))) for _ in range(12)]
    found = [scene(int(rng.integers(0, 30))) for _ in range(12)]
    result = evaluate(found, true, ties="stable" if stable else "numpy")
    for threshold in instance_voc.THRESHOLDS:
        expected = oracle(found, true, threshold, stable)
        np.testing.assert_allclose(result[f"ap_{round(100 * threshold)}"].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("size", [(37, 41), (8, 8), (1, 1), (1, 65), (3, 21)])
def test_overlaps_are_exact(size):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand((n, *size), generator=generator) > 0.5 for n in (3, 5))
    a[0], b[0] = True, True
    direct = torch.tensor([[float((x & y).sum()) / max(float((x | y).sum()), 1.0) for y in b] for x in a])
    assert torch.equal(mask_iou(a, b), direct)
    assert mask_iou(a[:0], b).shape == (0, 5)
    assert mask_iou(a, b[:0]).shape == (3, 0)
    assert torch.equal(mask_iou(a.float(), b.long()), direct), "not 0 = inside, whatever the dtype"


BAD = {
    "predictions ended": (lambda t: ([], [t]), {}, ValueError, "predictions ended after 0"),
    "truth ended": (lambda t: ([t], []), {}, ValueError, "ground_truth ended after 0"),
    "size": (
        lambda t: ([instances((0, 5, 0), width=19)], [t]),
        {},
        ValueError,
        r"image 0 must have one size",
    ),
    "no masks": (
        lambda t: ([3], [t]),
        {},
        TypeError,
        r"predictions\[0\] must have masks and labels, got int",
    ),
    "flat masks": (
        lambda t: ([SimpleNamespace(masks=np.zeros((2, 2)), labels=[0, 0])], [t]),
        {},
        ValueError,
        r"masks must be \[N, H, W\], got shape \[2, 2\]",
    ),
    "labels count": (
        lambda t: ([SimpleNamespace(masks=t.masks, labels=[0, 0])], [t]),
        {},
        ValueError,
        r"labels must be \[N\] with N = 1",
    ),
    "labels float": (
        lambda t: ([SimpleNamespace(masks=t.masks, labels=[0.0])], [t]),
        {},
        TypeError,
        "labels must be integers",
    ),
    "labels negative": (
        lambda t: ([SimpleNamespace(masks=t.masks, labels=[-1])], [t]),
        {},
        ValueError,
        "classes from 0, got -1",
    ),
    "scores nan": (
        lambda t: ([SimpleNamespace(masks=t.masks, labels=[0], scores=[math.nan])], [t]),
        {},
        ValueError,
        "scores must be finite, got nan",
    ),
    "threshold high": (lambda t: ([t], [t]), {"iou_thresholds": (1.5,)}, ValueError, r"in \[0, 1\], got 1.5"),
    "threshold nan": (
        lambda t: ([t], [t]),
        {"iou_thresholds": (math.nan,)},
        ValueError,
        r"in \[0, 1\], got nan",
    ),
    "threshold none": (lambda t: ([t], [t]), {"iou_thresholds": ()}, ValueError, "must not be empty"),
    "threshold twice": (
        lambda t: ([t], [t]),
        {"iou_thresholds": (0.5, 0.501)},
        ValueError,
        "differ by a hundredth",
    ),
    "classes": (
        lambda t: ([t], [t]),
        {"num_classes": 0},
        ValueError,
        "num_classes must be at least 1, got 0",
    ),
    "ties": (lambda t: ([t], [t]), {"ties": "random"}, ValueError, "ties must be 'numpy' or 'stable'"),
}


@pytest.mark.parametrize("case", BAD)
def test_rejects(case):
    make, options, error, message = BAD[case]
    with pytest.raises(error, match=message):
        evaluate(*make(instances((0, 5, 0))), **options)


def test_add_rejects_wrong_shapes():
    with pytest.raises(ValueError, match=r"InstanceAP.add: iou must be \[N, M\] = \[2, 1\]"):
        InstanceAP().add(np.zeros((1, 1)), np.array([0, 0]), np.array([1.0, 1.0]), np.array([0]))
