"""The label step: what it writes, that nothing but the input decides it, and that nothing is lost."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.label_runs import contents
from tests.label_runs import label_config as config
from wsis import ops
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.data.images import read_index_map
from wsis.errors import ConfigError, DataFault
from wsis.formats.fields import read_fields
from wsis.labels import irnet
from wsis.labels.cam import multi_scale_cam
from wsis.labels.labeller import Labeller
from wsis.models import IRNet, build_backbone
from wsis.runtime import label_units
from wsis.runtime.shards import iterate_rows, run_categories, run_data, shard_path
from wsis.steps import label, report
from wsis.training.checkpoint import load_network, save_network


def test_rows_are_what_the_labels_functions_give(tmp_path, straight, scenes, weights):
    data = open_data(scenes)
    nets = [load_network(path, "cpu") for path in weights.values()]
    labeller = Labeller(*nets, irnet.Config(), (1.0, 0.5), 64)
    rows = list(iterate_rows(straight.out))
    assert [row.image_id for row in rows] == list(data.ids)
    assert run_categories(straight.out) == data.categories
    assert straight.job.instances == sum(len(row) for row in rows) > 0
    for index, row in enumerate(rows):
        image = torch.from_numpy(data.load_image(index)).permute(2, 0, 1)
        fields = labeller.fields([image], [data[index].labels])
        size = tuple(image.shape[1:])
        want = irnet.instances_from_cam(fields.cams, fields.classes, fields.boundary[0], fields.displacement[0], size)
        assert (row.height, row.width) == size
        assert torch.equal(ops.rle_to_mask(row.rles()).bool(), want.masks)
        assert row.label == want.labels.tolist()
        assert row.score == want.scores.tolist()
        assert row.area == want.masks.sum((1, 2)).tolist()
        for mask, (x, y, width, height) in zip(want.masks, row.bbox_xywh):
            ys, xs = mask.nonzero(as_tuple=True)
            assert (x, y, x + width - 1, y + height - 1) == (xs.min(), ys.min(), xs.max(), ys.max())
        semantic = irnet.semantic_from_cam(fields.cams, fields.classes, fields.boundary[0], size)
        path = straight.out / "maps" / f"{row.image_id}.png"
        assert np.array_equal(read_index_map(path, len(data.categories)), semantic.numpy())


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (8, 1), (2, 3)])
def test_output_does_not_depend_on_batches_and_workers(tmp_path, straight, scenes, weights, batch_size, workers):
    out = tmp_path / "other"
    label.run(config(scenes, out, weights, semantic=str(out / "maps"), batch_size=batch_size, workers=workers))
    assert contents(out) == contents(straight.out)


@pytest.mark.parametrize("ahead", [0, 2800])
def test_output_does_not_depend_on_where_pictures_are_scaled(tmp_path, straight, scenes, weights, ahead, monkeypatch):
    monkeypatch.setattr(label_units, "_SCALED_AHEAD", ahead)
    label.run(config(scenes, tmp_path / "other", weights, semantic=str(tmp_path / "other" / "maps")))
    assert contents(tmp_path / "other") == contents(straight.out)


def test_equal_sizes_share_a_batch(tmp_path, weights):
    data = DataConfig(kind="scenes", num=5, min_side=48, max_side=48)
    label.run(config(data, tmp_path / "one", weights, batch_size=1))
    label.run(config(data, tmp_path / "four", weights, batch_size=4))
    assert contents(tmp_path / "one") == contents(tmp_path / "four")


def test_stopped_and_resumed_equals_straight(tmp_path, straight, scenes, weights, monkeypatch):
    out = tmp_path / "stopped"
    settings = config(scenes, out, weights, semantic=str(out / "maps"))
    fill_rows = label_units.fill_rows

    def stop_here(rows, made):
        os.kill(os.getpid(), signal.SIGTERM)
        monkeypatch.setattr(label_units, "fill_rows", fill_rows)
        fill_rows(rows, made)

    monkeypatch.setattr(label_units, "fill_rows", stop_here)
    first = label.run(settings)
    assert first.exit_code == 75
    assert "goes on" in first.summary()
    assert len(list(iterate_rows(out, incomplete=True))) == 4
    with pytest.raises(ConfigError, match="not finished"):
        list(iterate_rows(out))
    assert label.run(settings).exit_code == 0
    assert contents(out) == contents(straight.out)
    again = label.run(settings)
    assert again.job.seconds == {}
    assert again.job.instances == straight.job.instances


def test_damaged_shard_is_done_again(straight, tmp_path, scenes, weights):
    before = contents(straight.out)
    path = shard_path(straight.out, 1)
    path.write_bytes(path.read_bytes()[:-7])
    result = label.run(config(scenes, straight.out, weights, semantic=str(tmp_path / "straight" / "maps")))
    assert result.exit_code == 0
    assert "shard-000001.parquet has" in result.job.redone[0]
    after = contents(straight.out)
    assert after == before


def test_bad_images_are_recorded_and_the_rest_is_the_same(tmp_path, photos, weights):
    label.run(config(photos, tmp_path / "clean", weights))
    clean = {row.image_id: row for row in iterate_rows(tmp_path / "clean")}
    folder = Path(photos.root) / "JPEGImages"
    names = sorted(path.stem for path in folder.iterdir())
    whole = (folder / f"{names[0]}.png").read_bytes()
    (folder / f"{names[0]}.png").write_bytes(b"")
    (folder / f"{names[1]}.png").write_bytes(whole[: len(whole) // 2])
    (folder / f"{names[2]}.png").unlink()
    (folder / f"{names[3]}.png").write_bytes(b"<html>404</html>")
    result = label.run(config(photos, tmp_path / "dirty", weights))
    rows = {row.image_id: row for row in iterate_rows(tmp_path / "dirty")}
    assert result.exit_code == 3
    codes = [rows[name].code for name in names[:4]]
    assert codes == ["E_DECODE", "E_TRUNCATED", "E_MISSING", "E_DECODE"]
    assert all(rows[name].status == "skipped" and rows[name].text for name in names[:4])
    assert [rows[name] for name in names[4:]] == [clean[name] for name in names[4:]]
    assert result.job.ok + result.job.ok_empty + result.job.skipped == 8
    assert "E_DECODE" in result.summary()


def test_too_many_faults_stop_the_run(tmp_path, photos, weights):
    for path in (Path(photos.root) / "JPEGImages").iterdir():
        path.write_bytes(b"")
    result = label.run(config(photos, tmp_path / "run", weights, max_faults=1, unit_size=2))
    assert result.exit_code == 4
    assert result.job.skipped == 2
    assert "max_faults" in result.summary()
    assert label.run(config(photos, tmp_path / "run", weights, max_faults=8, unit_size=2)).exit_code == 3


def test_file_that_changes_after_the_start_is_named(tmp_path, photos, weights):
    settings = config(photos, tmp_path / "run", weights, max_faults=8)
    label.run(settings)
    shard_path(tmp_path / "run", 0).unlink()
    name = next(iter(iterate_rows_ids(photos)))
    path = Path(photos.root) / "JPEGImages" / f"{name}.png"
    path.write_bytes(path.read_bytes() + b"x")
    assert label.run(settings).exit_code == 3
    assert next(iterate_rows(tmp_path / "run")).code == "E_CHANGED"


def iterate_rows_ids(data):
    return open_data(data).ids


def test_images_without_class_are_empty_and_without_entry_are_skipped(tmp_path, photos, weights):
    root = Path(photos.root)
    names = list(open_data(photos).ids)
    lines = [f"{name},{'' if name == names[0] else 'ball'}" for name in names if name != names[1]]
    (root / "tags.csv").write_text("\n".join(lines) + "\n")
    data = dataclasses.replace(photos, tags=str(root / "tags.csv"))
    result = label.run(config(data, tmp_path / "run", weights, semantic=str(tmp_path / "maps")))
    rows = list(iterate_rows(tmp_path / "run"))
    assert result.exit_code == 3
    assert (rows[0].status, rows[0].label, rows[0].height > 0) == ("ok_empty", [], True)
    assert read_index_map(tmp_path / "maps" / f"{names[0]}.png").max() == 0
    assert (rows[1].status, rows[1].code) == ("skipped", "E_LABEL")


def test_values_that_are_not_finite_are_recorded(tmp_path, scenes, weights, monkeypatch):
    fields = Labeller.fields

    def poisoned(self, *args, **kwargs):
        made = fields(self, *args, **kwargs)
        made.boundary[0, 0, 0] = float("nan")
        return made

    monkeypatch.setattr(Labeller, "fields", poisoned)
    result = label.run(config(scenes, tmp_path / "run", weights, batch_size=8, max_faults=6))
    assert result.exit_code == 3
    assert set(result.job.reasons) == {"E_NUMERIC"}


def test_fields_select_keeps_what_belongs_together(scenes, weights):
    data = open_data(DataConfig(kind="scenes", num=3, min_side=48, max_side=48))
    labeller = Labeller(*(load_network(path) for path in weights.values()), irnet.Config(), (1.0,), 48)
    images = [torch.from_numpy(data.load_image(index)).permute(2, 0, 1) for index in range(3)]
    together = labeller.fields(images, [(0, 2), (1,), ()])
    alone = labeller.fields(images[1:], [(1,), ()])
    chosen = together.select(torch.tensor([False, True, True]))
    assert chosen.images is alone.images is None
    for got, want in zip(chosen[:-1], alone[:-1]):
        assert torch.equal(got, want)


def test_another_setting_is_refused_by_name(straight, scenes, weights, tmp_path):
    changed = config(scenes, straight.out, weights, semantic="x", propagation=irnet.Config(background=0.3))
    with pytest.raises(ConfigError, match=r"propagation\.background was 0\.25 and is now 0\.3"):
        label.run(changed)
    with pytest.raises(ConfigError, match="inputs was"):
        label.run(config(dataclasses.replace(scenes, num=5), straight.out, weights, semantic="x"))


def test_fields_are_kept_on_request(tmp_path, scenes, weights):
    folder = tmp_path / "fields"
    label.run(config(scenes, tmp_path / "run", weights, dump_fields=str(folder), semantic=str(tmp_path / "maps")))
    with np.load(folder / "train_000000.npz", allow_pickle=False) as file:
        names = set(file.files)
        assert file["cam"].shape == (len(file["classes"]), *file["boundary"].shape)
        assert file["displacement"].shape == (2, *file["boundary"].shape)
        assert len(file["walk"]) == len(file["walk_label"])
        assert file["walk_class"].shape == file["cam"].shape
    assert names == {"classes", "cam", "boundary", "displacement", "walk", "walk_label", "walk_class"}
    assert set(read_fields(folder / "train_000000.npz", "train_000000")) == names - {"walk_label"}


def test_fields_that_cannot_be_used(tmp_path):
    arrays = {"classes": np.zeros(1, np.int64), "cam": np.zeros((1, 2, 2), np.float32)}
    bad = {
        "pickle": ({**arrays, "cam": np.array([{}], dtype=object)}, "E_DECODE", "is no npz of plain arrays"),
        "flat": ({**arrays, "cam": np.zeros(4)}, "E_SHAPE", "cam is float64 [4], expected 3 dimensions"),
        "three": ({**arrays, "displacement": np.zeros((3, 2, 2))}, "E_SHAPE", "displacement is float64 [3, 2, 2]"),
        "nan": ({**arrays, "cam": np.full((1, 2, 2), np.nan)}, "E_NUMERIC", "cam holds values that are not finite"),
        "count": ({**arrays, "classes": np.zeros(3, np.int64)}, "E_SHAPE", "cam has 1 maps for 3 classes"),
    }
    for name, (values, code, words) in bad.items():
        np.savez(tmp_path / f"{name}.npz", **values)
        with pytest.raises(DataFault) as caught:
            read_fields(tmp_path / f"{name}.npz", name)
        assert caught.value.code.value == code, name
        assert words in caught.value.text
    content = (tmp_path / "count.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[:-30])
    for name, code in (("cut", "E_DECODE"), ("none", "E_MISSING")):
        with pytest.raises(DataFault, match=code):
            read_fields(tmp_path / f"{name}.npz", name)
    np.save(tmp_path / "old.npy", {"cam": arrays["cam"]}, allow_pickle=True)
    with pytest.raises(DataFault, match=r"E_DECODE old .*old\.npy is a pickle.*wsis label \.\.\. --dump_fields"):
        read_fields(tmp_path / "old.npz", "old")


def test_semantic_alone(tmp_path, straight, scenes, weights):
    maps = tmp_path / "alone"
    label.run(config(scenes, tmp_path / "run", weights, instances=False, semantic=str(maps)))
    assert all(len(row) == 0 for row in iterate_rows(tmp_path / "run"))
    want = {path.name: path.read_bytes() for path in (straight.out / "maps").iterdir()}
    assert {path.name: path.read_bytes() for path in maps.iterdir()} == want


def test_every_problem_is_found_before_work(tmp_path, scenes):
    with pytest.raises(ConfigError) as caught:
        label.run(label.Config(data=DataConfig(kind="folder", root=str(tmp_path / "none"))))
    text = str(caught.value)
    for word in ("out: is empty", "cam_weights: is empty", "irnet_weights: is empty", "does not exist"):
        assert word in text
    with pytest.raises(ConfigError) as caught:
        label.Config(batch_size=0, scales=(0.0,), device="tpu", precision="fp8", max_faults=-1, instances=False)
    assert len(caught.value.problems) == 6


def test_wrong_networks_are_refused(tmp_path, scenes, weights):
    swapped = {"cam_weights": weights["irnet_weights"], "irnet_weights": weights["cam_weights"]}
    with pytest.raises(ConfigError) as caught:
        label.run(config(scenes, tmp_path / "run", swapped))
    assert len(caught.value.problems) == 2
    with pytest.raises(ConfigError, match="classes"):
        label.run(config(dataclasses.replace(scenes, num_classes=3), tmp_path / "run", weights))
    assert not (tmp_path / "run").exists()


def test_inputs_are_never_overwritten(photos, weights, tmp_path):
    for folder in (photos.root, f"{photos.root}/SegmentationClass", f"{photos.root}/JPEGImages"):
        with pytest.raises(ConfigError, match="never overwritten"):
            label.run(config(photos, tmp_path / "run", weights, semantic=folder))
    with pytest.raises(ConfigError, match="never overwritten"):
        label.run(config(photos, photos.root, weights))


def test_nets_of_another_backbone_work_together(tmp_path, scenes, weights):
    torch.manual_seed(1)
    save_network(tmp_path / "irnet", IRNet(build_backbone("mobilenet_v2")), {"backbone": "mobilenet_v2"})
    mixed = {**weights, "irnet_weights": str(tmp_path / "irnet.safetensors")}
    data = dataclasses.replace(scenes, num=1)
    assert label.run(config(data, tmp_path / "run", mixed)).exit_code == 0


def test_baseline_is_the_components_of_thresholded_maps(tmp_path, scenes, weights):
    weights = {"cam_weights": weights["cam_weights"]}
    settings = config(scenes, tmp_path / "cam", weights, method="cam", semantic=str(tmp_path / "maps"), batch_size=2)
    assert label.run(settings).exit_code == 0
    data, net = open_data(scenes), load_network(weights["cam_weights"])
    for index, row in enumerate(iterate_rows(tmp_path / "cam")):
        image = torch.from_numpy(data.load_image(index)).permute(2, 0, 1)
        classes = torch.tensor(data[index].labels)
        maps = multi_scale_cam(net, image, classes, (1.0, 0.5)).full
        winner = torch.cat([torch.full_like(maps[:1], 0.15), maps]).argmax(0)
        want = torch.cat([torch.zeros(1, dtype=torch.int64), classes + 1])[winner]
        got = read_index_map(tmp_path / "maps" / f"{row.image_id}.png", len(data.categories))
        assert np.array_equal(got, want.numpy())
        ids, counts = ops.connected_components(winner[None], 4)
        assert len(row) == int(counts)
        masks = ops.rle_to_mask(row.rles()).bool()
        assert torch.equal(masks.any(0), ids[0] > 0)
        assert (masks.sum(0) <= 1).all()
    with pytest.raises(ConfigError, match="has no fields"):
        config(scenes, tmp_path, weights, method="cam", dump_fields="x")
    with pytest.raises(ConfigError, match="expected irnet or cam"):
        config(scenes, tmp_path, weights, method="sam")


def test_parts_in_any_order_give_the_same_run(tmp_path, straight, scenes, weights):
    out = tmp_path / "parts"
    settings = {"semantic": str(out / "maps"), "unit_size": 4}
    last = label.run(config(scenes, out, weights, shard="1/2", **settings))
    assert (last.exit_code, last.job.images, last.job.whole) == (0, 2, False)
    assert "the run is whole when the others are" in last.summary()
    assert len(list(iterate_rows(out, incomplete=True))) == 2
    first = label.run(config(scenes, out, weights, shard="0/2", **settings))
    assert (first.exit_code, first.job.images, first.job.whole) == (0, 4, True)
    assert "all parts are done" in first.summary()
    parts = {name: data for name, data in contents(out).items() if not name.startswith("log-")}
    assert parts == contents(straight.out)


def test_run_names_its_data(tmp_path, photos, weights, monkeypatch):
    (tmp_path / "voc" / "names.txt").write_text("\n".join(open_data(photos).categories.names))
    monkeypatch.chdir(tmp_path)
    given = dataclasses.replace(photos, root="voc", classes="voc/names.txt")
    run = label.run(config(given, tmp_path / "run", weights)).out
    monkeypatch.chdir("/")
    said = run_data(run)
    assert said == dataclasses.replace(photos, classes=str(tmp_path / "voc" / "names.txt"))
    page = report.run(report.Config(run=str(run)))
    assert page.shown == len(open_data(photos))
    assert "map_50" in page.figures
    (tmp_path / "voc").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="voc, which is not there; give --data"):
        report.run(report.Config(run=str(run)))
    moved = dataclasses.replace(photos, root=str(tmp_path / "elsewhere"))
    assert report.run(report.Config(run=str(run), data=moved)).shown == page.shown


def test_run_of_before_does_not_name_its_data(straight):
    file = straight.out / "run.json"
    said = json.loads(file.read_text())
    assert said.pop("data")["kind"] == "scenes"
    file.write_text(json.dumps(said))
    with pytest.raises(ConfigError, match="does not say from which data"):
        report.run(report.Config(run=str(straight.out)))
