"""A sweep of settings shares work, and every setting has what it has alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from wsis.labels import irnet, sweep

BASE = irnet.Config(walk_steps=8, trace_steps=20, min_area=0.002)
SIZE = (45, 62)


@pytest.fixture
def fields():
    """Two smooth class maps, soft boundaries, and a displacement with several centroids."""
    generator = torch.Generator().manual_seed(3)

    def smooth(*shape):
        noise = torch.rand((1, *shape, 4, 5), generator=generator)
        return F.interpolate(noise, size=irnet.grid_size(SIZE), mode="bilinear")[0]

    image = (F.interpolate(torch.rand((1, 3, 6, 7), generator=generator), size=SIZE)[0] * 255).to(torch.uint8)
    return smooth(2), torch.tensor([1, 4]), smooth(1)[0] * 0.6, (smooth(2) - 0.5) * 12, image


def test_every_setting_is_what_it_is_alone(fields):
    cams, classes, boundary, displacement, image = fields
    changes = [
        {},
        {"background": 0.6},
        {"background": 0.9, "semantic_background": 0.7},
        {"crf": 0.55},
        {"crf": 0.55, "background": 0.6, "semantic_crf": 0.55},
        {"walk_steps": 32, "beta": 4.0, "crf": 0.55},
        {"weak_displacement": 1.0, "crf": 0.7, "semantic_crf": 0.5},
        {"background": 0.6},
    ]
    settings = [dataclasses.replace(BASE, **change) for change in changes]
    (made,) = sweep.sweep(cams, classes, boundary, displacement, SIZE, settings, image)
    index = torch.zeros_like(classes)
    counts = []
    for k, setting in enumerate(settings):
        fields = (cams, classes, index, boundary[None], displacement[None])
        alone = irnet.propagate(*fields, SIZE, setting, semantic=True, images=image[None])
        own = made.instances.image_index == k
        assert torch.equal(made.semantic[k], alone.semantic[0]), changes[k]
        assert torch.equal(made.instances.ids[k], alone.instances.ids[0]), changes[k]
        for name in ("id", "label", "score"):
            assert torch.equal(getattr(made.instances, name)[own], getattr(alone.instances, name)), (changes[k], name)
        assert torch.equal(made.area[own], alone.area)
        assert torch.equal(made.box_xyxy[own], alone.box_xyxy)
        counts.append(int(own.sum()))
    assert len(set(counts)) > 2
    assert counts[1] == counts[7]


def test_clusters_and_walks_are_made_once(fields, monkeypatch):
    calls = {"cluster_pixels": 0, "walk_maps": 0, "refine_channels": 0}
    for name in calls:
        function = getattr(sweep, name)

        def counted(*args, function=function, name=name, **options):
            calls[name] += 1
            return function(*args, **options)

        monkeypatch.setattr(sweep, name, counted)
    backgrounds = [{"background": b, "crf": 0.5, "walk_steps": n} for n in (4, 16) for b in (0.2, 0.4, 0.6)]
    settings = [dataclasses.replace(BASE, **change) for change in backgrounds]
    sweep.sweep(*fields[:4], SIZE, settings, fields[4])
    assert calls == {"cluster_pixels": 1, "walk_maps": 2, "refine_channels": 1}


def test_parts_of_many_settings_and_what_is_refused(fields, monkeypatch):
    cams, classes, boundary, displacement, image = fields
    settings = [dataclasses.replace(BASE, background=b, crf=0.5) for b in (0.1, 0.5, 0.9)]
    whole = sweep.sweep(cams, classes, boundary, displacement, SIZE, settings, image)[0]
    monkeypatch.setattr(sweep, "_CHUNK_PIXELS", SIZE[0] * SIZE[1])
    parts = sweep.sweep(cams, classes, boundary, displacement, SIZE, settings, image)
    assert len(parts) == 3
    assert torch.equal(torch.cat([part.instances.ids for part in parts]), whole.instances.ids)
    with pytest.raises(ValueError, match="needs image"):
        sweep.sweep(cams, classes, boundary, displacement, SIZE, settings)
    with pytest.raises(ValueError, match="one min_area and one score"):
        sweep.sweep(cams, classes, boundary, displacement, SIZE, [BASE, dataclasses.replace(BASE, score="mean")])


def test_no_class_and_nothing_active(fields):
    _, _, boundary, displacement, image = fields
    none = torch.zeros((0, *boundary.shape)), torch.zeros(0, dtype=torch.int64)
    flat = torch.zeros((1, *boundary.shape)), torch.tensor([2])
    for cams, classes in (none, flat):
        setting = dataclasses.replace(BASE, crf=0.5, semantic_crf=0.5)
        (made,) = sweep.sweep(cams, classes, boundary, displacement, SIZE, [BASE, setting], image)
        assert len(made.instances) == 0
        assert not made.semantic.any()
