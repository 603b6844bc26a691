"""What is particular to ``dense_crf``: golden cases, marginals, sharing of lattices, and its laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.golden_cases import SEEDS, load_scene
from tests.ops.spec import generator
from tests.ops.specs.dense_crf import label_maps, picture
from wsis import ops
from wsis.reference import dense_crf as reference


def scene(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
    """Image [1, 3, H, W], seeds and answers of the reference program [1, 2, H, W], number of labels."""
    arrays = load_scene(seed)
    image = torch.from_numpy(arrays["in_rgb"].copy()).permute(2, 0, 1)[None]
    seeds = np.stack([arrays["in_crf_fg_seed"], arrays["in_crf_bg_seed"]])[None]
    wanted = np.stack([arrays["crf_fg"], arrays["crf_bg"]])[None]
    return image, torch.from_numpy(seeds), torch.from_numpy(wanted), len(arrays["in_keys"]) + 1


@pytest.mark.parametrize("seed", SEEDS)
def test_dense_crf_gives_the_golden_labels(seed: int):
    image, seeds, wanted, count = scene(seed)
    refined = ops.dense_crf(image, seeds, [count])
    assert refined.dtype == seeds.dtype
    assert torch.equal(refined, wanted)


@pytest.mark.parametrize("seed", SEEDS[:1])
def test_the_oracle_gives_the_golden_labels(seed: int):
    image, seeds, wanted, count = scene(seed)
    refined = reference.dense_crf(image, seeds[0], [count, count], image_index=[0, 0])
    assert torch.equal(refined, wanted[0])


@pytest.mark.parametrize("threads", [1, 2])
def test_marginals_agree_with_the_oracle(threads: int):
    g = generator(threads)
    images = picture(g, 2, 26, 19)
    labels = label_maps(g, [2, 17, 5], 26, 19)
    options = {"image_index": torch.tensor([1, 0, 1]), "sizes": torch.tensor([[26, 19], [20, 11]])}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        actual = ops.dense_crf_marginals(images, labels, [2, 17, 5], **options)
    finally:
        torch.set_num_threads(before)
    expected = reference.dense_crf_marginals(images, labels, [2, 17, 5], **options)
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-6)


def test_marginals_sum_to_one_and_decide_the_labels():
    g = generator(3)
    images, labels = picture(g, 1, 31, 40), label_maps(g, [6], 31, 40)
    marginals = ops.dense_crf_marginals(images, labels, [6], max_labels=9)
    assert marginals.shape == (1, 9, 31, 40)
    assert not marginals[:, 6:].any()
    torch.testing.assert_close(marginals.sum(1), torch.ones(1, 31, 40))
    assert torch.equal(marginals.argmax(1), ops.dense_crf(images, labels, [6]))
    with pytest.raises(
        ValueError, match=r"max_labels must be at least the largest of num_labels \(6\), got 5"
    ):
        ops.dense_crf_marginals(images, labels, [6], max_labels=5)


def test_without_steps_the_maps_come_back():
    g = generator(4)
    images, labels = picture(g, 2, 9, 8), label_maps(g, [4, 3], 9, 8)
    assert torch.equal(ops.dense_crf(images, labels, [4, 3], steps=0), labels)


def test_one_label_is_all_background_without_a_crf():
    images = picture(generator(5), 1, 6, 7)
    labels = torch.zeros(1, 2, 6, 7, dtype=torch.int16)
    assert not ops.dense_crf(images, labels, [1]).any()
    assert torch.equal(ops.dense_crf_marginals(images, labels, [1]), torch.ones(1, 2, 1, 6, 7))


def test_the_answer_does_not_depend_on_the_batch():
    g = generator(6)
    images, counts = picture(g, 3, 22, 15), [4, 2, 30]
    labels = label_maps(g, counts * 2, 22, 15)
    index = torch.tensor([0, 1, 2, 2, 0, 1])
    sizes = torch.tensor([[22, 15], [13, 15], [22, 7]])
    together = ops.dense_crf_marginals(
        images, labels, counts * 2, image_index=index, sizes=sizes, max_labels=30
    )
    for s, b in enumerate(index):
        h, w = sizes[b]
        alone = ops.dense_crf_marginals(
            images[b : b + 1, :, :h, :w], labels[s : s + 1, :h, :w], [(counts * 2)[s]], max_labels=30
        )
        assert torch.equal(together[s, :, :h, :w], alone[0])
        assert not together[s, :, h:].any()
        assert not together[s, :, :, w:].any()


def test_many_label_maps_of_one_image_are_filtered_in_groups():
    g = generator(7)
    images, counts = picture(g, 1, 12, 14), [21, 21, 40, 70, 3]
    labels = label_maps(g, counts, 12, 14)
    together = ops.dense_crf_marginals(images, labels, counts, image_index=[0] * 5)
    for s, count in enumerate(counts):
        alone = ops.dense_crf_marginals(images, labels[s : s + 1], [count], max_labels=70)
        assert torch.equal(together[s], alone[0])


def test_renaming_labels_renames_the_answer():
    g = generator(8)
    images, labels = picture(g, 1, 20, 20), label_maps(g, [3], 20, 20)
    plain = ops.dense_crf_marginals(images, labels, [3])
    renamed = ops.dense_crf_marginals(images, 2 - labels, [3])
    torch.testing.assert_close(renamed.flip(1), plain, rtol=1e-5, atol=1e-6)


def test_a_kernel_without_weight_does_nothing():
    g = generator(9)
    images, labels = picture(g, 1, 10, 12), label_maps(g, [3], 10, 12)
    none = ops.dense_crf(images, labels, [3], spatial=(3.0, 0.0), bilateral=(50.0, 5.0, 0.0))
    assert torch.equal(none, labels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_every_integer_type_gives_the_same_labels(dtype: torch.dtype):
    g = generator(10)
    images, labels = picture(g, 1, 11, 13), label_maps(g, [5], 11, 13)
    refined = ops.dense_crf(images, labels.to(dtype), torch.tensor([5], dtype=dtype))
    assert refined.dtype == dtype
    assert torch.equal(refined.long(), ops.dense_crf(images, labels, [5]))


def test_labels_outside_the_size_are_not_looked_at():
    images = picture(generator(11), 1, 6, 6)
    labels = torch.zeros(1, 6, 6, dtype=torch.int64)
    labels[:, 4:] = 99
    labels[:, :, 5] = -7
    refined = ops.dense_crf(images, labels, [2], sizes=torch.tensor([[4, 5]]))
    assert not refined.any()


def test_labels_that_the_dtype_cannot_hold_are_refused():
    images = picture(generator(12), 1, 5, 5)
    labels = torch.zeros(1, 5, 5, dtype=torch.int8)
    assert not ops.dense_crf(images, labels, [128]).any()
    with pytest.raises(ValueError, match=r"dense_crf: num_labels\[0\] must be 1..128, got 129"):
        ops.dense_crf(images, labels, [129])
