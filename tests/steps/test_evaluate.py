"""evaluate: label runs, COCO files and PNG folders give the same figures, and every misfit is named."""

import json
import math

import numpy as np
import pytest

from tests.label_runs import boxes, row_of, skipped_row, write_run
from wsis.data.artifacts import write_json, write_png
from wsis.data.categories import Categories
from wsis.data.dataset import DataConfig, open_data
from wsis.errors import ConfigError
from wsis.evaluation import instance_coco, instance_voc, semantic
from wsis.steps import evaluate, export
from wsis.structures import Instances

SCENES = DataConfig(kind="scenes", num=5, num_classes=3, min_side=48, max_side=64)


def shifted(instances: Instances, by: int, seed: int) -> Instances:
    """The instances moved sideways, with random scores, one of them left out."""
    rng = np.random.default_rng(seed)
    keep = np.arange(len(instances)) != rng.integers(len(instances) + 1)
    scores = np.round(rng.random(len(instances)), 2).astype(np.float32)
    masks = instances.masks.roll(by, dims=2)
    masks[:, :, :by] = False
    instances = Instances(masks, instances.labels, masks.new_tensor(scores, dtype=instances.scores.dtype))
    return Instances(instances.masks[keep], instances.labels[keep], instances.scores[keep])


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Scenes, moved predictions of them, and a label run of these."""
    data = open_data(SCENES)
    found = [shifted(data.load_instances(i), 2, i) for i in range(len(data))]
    rows = [row_of(data[i].id, found[i]) for i in range(len(data))]
    run = write_run(tmp_path_factory.mktemp("runs") / "labels", rows, data.categories)
    return data, found, run


def figures(**options) -> dict:
    return evaluate.run(evaluate.Config(data=SCENES, **options)).figures


def test_label_run_agrees_with_the_functions(case):
    data, found, run = case
    truth = [data.load_instances(i) for i in range(len(data))]
    (one,) = figures(runs=(str(run),))["runs"]
    voc = instance_voc.evaluate(found, truth, num_classes=3)
    for key in (25, 50, 70, 75):
        assert one["voc"][f"map_{key}"] == pytest.approx(voc[f"map_{key}"], nan_ok=True)
        np.testing.assert_allclose(np.array(one["voc"][f"ap_{key}"], float), voc[f"ap_{key}"].numpy())
    assert one["voc"]["abo"] == pytest.approx(voc["abo"])
    assert 0 < one["voc"]["map_50"] < 1
    coco = instance_coco.evaluate(found, truth, num_classes=3)
    assert one["coco"]["map"] == pytest.approx(coco["map"])
    maps = []
    for instances in found:
        canvas = np.zeros(instances.masks.shape[1:], np.uint8)
        for k in np.argsort(instances.scores.numpy(), kind="stable"):
            canvas[instances.masks[k].numpy()] = int(instances.labels[k]) + 1
        maps.append(canvas)
    expected = semantic.evaluate(maps, [data.load_semantic(i) for i in range(len(data))], 3)
    assert one["semantic"]["miou"] == pytest.approx(expected["miou"])
    assert one["semantic"]["source"] == "instances"


def test_every_form_gives_the_same_figures(case, tmp_path):
    _, _, run = case
    exports = {name: str(tmp_path / name) for name in ("coco", "coco-results", "voc")}
    for name, path in exports.items():
        export.run(export.Config(run=str(run), format=name, output=path, min_score=0.0))
    label, coco, voc = figures(runs=(str(run), exports["coco"], exports["voc"]))["runs"]
    assert [one["kind"] for one in (label, coco, voc)] == ["label run", "coco json", "png maps"]
    assert coco["voc"] == label["voc"]
    assert coco["coco"] == label["coco"]
    assert coco["semantic"]["miou"] == label["semantic"]["miou"] == voc["semantic"]["miou"]
    assert voc["voc"]["num_truth"] == label["voc"]["num_truth"]
    assert voc["semantic"]["source"] == "maps"


def test_results_list_by_number_and_by_text(tmp_path):
    data = open_data(SCENES)
    rows = [row_of(f"{7 + i:06d}", data.load_instances(i)) for i in range(2)]
    run = write_run(tmp_path / "run", rows, data.categories)
    root = tmp_path / "voc"
    export.run(export.Config(run=str(run), format="voc", output=str(root)))
    (root / "JPEGImages").mkdir()
    for i in range(2):
        write_png(root / "JPEGImages" / f"{7 + i:06d}.png", data.load_image(i))
    export.run(export.Config(run=str(run), format="coco-results", output=str(tmp_path / "r.json")))
    texts = json.loads((tmp_path / "r.json").read_text())
    assert {row["image_id"] for row in texts} == {7, 8}
    for row in texts:
        row["image_id"] = f"{row['image_id']:06d}"
    write_json(tmp_path / "t.json", texts)
    here = DataConfig(kind="voc", root=str(root), split="exported")
    runs = (str(tmp_path / "r.json"), str(tmp_path / "t.json"), str(root / "SegmentationClass"))
    one, two, maps = evaluate.run(evaluate.Config(runs=runs, data=here)).figures["runs"]
    assert one["voc"] == two["voc"]
    assert one["voc"]["map_75"] == 1.0
    assert maps["voc"] is None
    assert maps["coco"] is None
    assert maps["semantic"]["miou"] == 1.0


def test_semantic_folder_is_used(case, tmp_path):
    data, _, run = case
    for i in range(len(data)):
        write_png(tmp_path / f"{data[i].id}.png", data.load_semantic(i))
    (one,) = figures(runs=(str(run),), semantic=(str(tmp_path),))["runs"]
    assert one["semantic"]["miou"] == 1.0
    assert one["semantic"]["source"] == "maps"
    assert one["voc"]["map_75"] < 1


def test_skipped_and_absent_images_count_as_missing(case, tmp_path):
    data, found, _ = case
    rows = [row_of(data[0].id, found[0]), skipped_row(data[1].id), row_of("elsewhere", boxes((4, 4)))]
    run = write_run(tmp_path / "part", rows, data.categories)
    result = evaluate.run(evaluate.Config(runs=(str(run),), data=SCENES))
    (one,) = result.figures["runs"]
    assert one["missing"] == 4
    assert one["skipped"] == 1
    assert result.exit_code == 0
    assert "part: 4 of 5 images have no prediction" in result.summary()
    truth = [data.load_instances(i) for i in range(len(data))]
    padded = [found[0]] + [Instances.empty(t.masks.shape[1:]) for t in truth[1:]]
    expected = instance_voc.evaluate(padded, truth, num_classes=3)
    assert one["voc"]["map_25"] == pytest.approx(expected["map_25"])


def test_misfits_are_recorded_and_counted_for_no_run(case, tmp_path):
    data, found, good = case
    rows = [row_of(data[i].id, found[i] if i else boxes((9, 9), (0, 0, 4, 4, 0, 1.0))) for i in range(len(data))]
    bad = write_run(tmp_path / "bad", rows, data.categories)
    result = evaluate.run(evaluate.Config(runs=(str(good), str(bad)), data=SCENES))
    assert result.exit_code == 3
    (fault,) = result.figures["faults"]
    assert (fault["id"], fault["code"]) == (data[0].id, "E_SHAPE")
    assert "prediction is [9, 9]" in fault["text"]
    one, two = result.figures["runs"]
    assert result.figures["images"] == one["voc"]["num_images"] == two["voc"]["num_images"] == len(data) - 1
    assert one["voc"] == two["voc"]
    assert one["semantic"]["confusion"] == two["semantic"]["confusion"]


def test_json_and_tables(case, tmp_path):
    _, _, run = case
    path = tmp_path / "out" / "figures.json"
    result = evaluate.run(evaluate.Config(runs=(str(run), str(run)), data=SCENES, output=str(path)))
    content = json.loads(path.read_text())
    assert content["protocols"]["instance"] == instance_voc.PROTOCOL
    assert content["protocols"]["coco"] == instance_coco.PROTOCOL
    assert content["classes"] == list(open_data(SCENES).categories.names)
    assert content["made_by"].startswith("wsis ")
    assert content["runs"][0]["fingerprint"]
    text = result.summary()
    for part in ("AP50", "COCO AP75", "mIoU", "background", "by class", str(path), str(run)):
        assert part in text


def test_names_that_look_like_markup_are_shown_as_they_are(tmp_path):
    root = tmp_path / "voc"
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        (root / folder).mkdir(parents=True)
        write_png(root / folder / "x.png", np.ones((9, 9, 3) if folder == "JPEGImages" else (9, 9), np.uint8))
    names = ("a[/b]", "[red]dog", ":cat:")
    (root / "classes.txt").write_text("\n".join(names))
    here = DataConfig(kind="voc", root=str(root))
    run = write_run(tmp_path / "run[bold]", [row_of("x", boxes((9, 9), (0, 0, 9, 9, 0, 1.0)))], Categories(names))
    text = evaluate.run(evaluate.Config(runs=(str(run),), data=here)).summary()
    for name in (*names, "run[bold]"):
        assert name in text


def test_a_folder_in_the_place_of_the_output_is_found_before_the_work(case, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "compare_image", None)
    with pytest.raises(ConfigError, match="is a folder, expected the name of a file"):
        figures(runs=(str(case[2]),), output=str(tmp_path))


def test_no_coco_and_other_thresholds(case):
    _, _, run = case
    config = evaluate.Config(runs=(str(run),), data=SCENES, coco="none", iou_thresholds=(0.3,), per_class=False)
    result = evaluate.run(config)
    assert result.figures["runs"][0]["coco"] is None
    assert "AP30" in result.summary()
    assert "COCO" not in result.summary()
    assert "by class" not in result.summary()


def test_min_score_keeps_what_is_equal(case):
    _, found, run = case
    score = float(found[0].scores[0])
    (one,) = figures(runs=(str(run),), min_score=score)["runs"]
    kept = sum(int((f.scores >= np.float32(score)).sum()) for f in found)
    assert sum(one["voc"]["num_predictions"]) == kept


def test_void_counts_against_instances_and_not_against_maps(tmp_path):
    """The object has 50 pixels, the void 20; a prediction of both has IoU 50/70, below 0.75."""
    root = tmp_path / "voc"
    for folder, value in (("SegmentationClass", 2), ("SegmentationObject", 1)):
        canvas = np.zeros((10, 10), np.uint8)
        canvas[:5], canvas[5:7] = value, 255
        (root / folder).mkdir(parents=True)
        write_png(root / folder / "x.png", canvas)
    (root / "JPEGImages").mkdir()
    write_png(root / "JPEGImages" / "x.png", np.zeros((10, 10, 3), np.uint8))
    (root / "classes.txt").write_text("cat\ndog\n")
    here = DataConfig(kind="voc", root=str(root))
    data = open_data(here)
    run = write_run(tmp_path / "run", [row_of("x", boxes((10, 10), (0, 0, 7, 10, 1, 1.0)))], data.categories)
    (one,) = evaluate.run(evaluate.Config(runs=(str(run),), data=here)).figures["runs"]
    assert (one["voc"]["map_70"], one["voc"]["map_75"]) == (1.0, 0.0)
    assert one["semantic"]["miou"] == 1.0


def test_config_names_every_problem():
    with pytest.raises(ConfigError) as caught:
        evaluate.Config(semantic=("a",), coco="fast", ties="x", min_score=math.nan, iou_thresholds=(2.0,))
    text = str(caught.value)
    for part in (
        "runs: is empty",
        "semantic: got 1",
        "coco: got 'fast'",
        "ties: got 'x'",
        "min_score",
        "got 2.0",
    ):
        assert part in text


def test_every_unusable_source_is_named_at_once(case, tmp_path):
    data, _, _ = case
    other = write_run(tmp_path / "other", [row_of("a", boxes((4, 4)))], Categories(("x", "y")))
    foreign = write_run(tmp_path / "foreign", [row_of("a", boxes((4, 4)))], data.categories)
    (tmp_path / "empty").mkdir()
    runs = tuple(map(str, (other, foreign, tmp_path / "empty", tmp_path / "absent")))
    with pytest.raises(ConfigError) as caught:
        evaluate.run(evaluate.Config(runs=runs, data=SCENES))
    text = str(caught.value)
    for part in (
        "its classes are x, y (2)",
        "none of its 1 images is in the data",
        "holds no run.json and no PNG maps",
        "absent does not exist",
    ):
        assert part in text
