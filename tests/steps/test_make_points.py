"""make-points: the points of the function, in files and a table; from masks; resumed, mended, refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wsis.__main__ import main
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.data.points import open_points, read_points
from wsis.errors import ConfigError
from wsis.labels.points import Config as Points
from wsis.labels.points import center_points, peak_points
from wsis.models import build_peak_net
from wsis.steps import make_points
from wsis.training.checkpoint import load_network, save_network


@pytest.fixture(scope="module")
def network(tmp_path_factory, scenes) -> str:
    folder: Path = tmp_path_factory.mktemp("peaks")
    names = list(open_data(scenes).categories.names)
    torch.manual_seed(2)
    save_network(
        folder / "peaks.safetensors",
        build_peak_net("tiny", len(names), 0.6, 16),
        {"backbone": "tiny", "categories": names},
    )
    return str(folder / "peaks.safetensors")


def config(data, out, network, **changes):
    base = {"device": "cpu", "peak_weights": network, "points": Points(side=48, window=9, top=4)}
    return make_points.Config(data=data, out=str(out), **(base | changes))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (*folder.glob("*.txt"), folder / make_points.TABLE)}


def test_files_and_table_hold_the_points_of_the_function(tmp_path, scenes, network):
    out = tmp_path / "points"
    result = make_points.run(config(scenes, out, network))
    assert (result.made, result.kept, result.skipped, result.exit_code) == (6, 0, 0, 0)
    assert "6 points files made" in result.summary()
    data, net = open_data(scenes), load_network(network)
    assert net.alpha == 0.6
    table = open_points(out / make_points.TABLE, data.categories)
    total = 0
    for index, name in enumerate(data.ids):
        picture = data.load_image(index)
        image = torch.from_numpy(picture).permute(2, 0, 1)
        want = peak_points(net, image, data[index].labels, Points(side=48, window=9, top=4))
        got = read_points(out / f"{name}.txt", picture.shape[:2], len(data.categories), data[index].labels)
        assert got.notes.keys() <= {"two classes on one pixel"}
        assert [row[:3] for row in got.rows] == [row[:3] for row in want]
        assert [row[3] for row in got.rows] == pytest.approx([row[3] for row in want], abs=6e-4)
        assert {row[2] for row in got.rows} <= set(data[index].labels)
        if got.rows:
            assert table.read(name, picture.shape[:2]).rows == got.rows
        total += len(got.rows)
    assert total > 6


def test_nothing_is_made_twice_and_damage_is_mended(tmp_path, scenes, network):
    out = tmp_path / "points"
    make_points.run(config(scenes, out, network))
    whole = files(out)
    again = make_points.run(config(scenes, out, network, workers=0))
    assert (again.made, again.kept) == (0, 6)
    first, second = sorted(path.name for path in out.glob("*.txt"))[:2]
    (out / first).unlink()
    (out / second).write_bytes(whole[second].replace(b".", b",", 1))
    assert make_points.run(config(scenes, out, network)).made == 2
    assert files(out) == whole
    with pytest.raises(ConfigError, match=r"points\.top was 4 and is now 5"):
        make_points.run(config(scenes, out, network, points=Points(side=48, window=9, top=5)))


def test_points_in_the_middle_of_masks(tmp_path, scenes):
    result = make_points.run(make_points.Config(data=scenes, out=str(tmp_path / "points"), from_masks=True))
    assert (result.made, result.exit_code) == (6, 0)
    data = open_data(scenes)
    for index, name in enumerate(data.ids):
        instances = data.load_instances(index)
        size = tuple(instances.masks.shape[1:])
        rows = read_points(tmp_path / "points" / f"{name}.txt", size, len(data.categories)).rows
        assert list(rows) == center_points(instances)
        assert all(bool(mask[y, x]) for mask, (x, y, _, _) in zip(instances.masks, rows))


def test_bad_images_are_recorded(tmp_path, photos, network):
    names = sorted((Path(photos.root) / "JPEGImages").iterdir())
    names[0].write_bytes(b"")
    names[1].unlink()
    result = make_points.run(config(photos, tmp_path / "points", network))
    assert (result.exit_code, result.made, result.skipped) == (3, 6, 2)
    assert result.reasons == {"E_DECODE": 1, "E_MISSING": 1}
    assert len((tmp_path / "points" / make_points.TABLE).read_text().splitlines()) > 1


def test_values_that_are_not_finite_are_recorded(tmp_path, scenes, network, monkeypatch):
    def broken(*_):
        raise ArithmeticError("the net gave values that are not finite")

    monkeypatch.setattr(make_points.points, "peak_points", broken)
    result = make_points.run(config(scenes, tmp_path / "points", network))
    assert result.reasons == {"E_NUMERIC": 6}


def test_problems_are_found_before_work(tmp_path, photos, scenes, network, weights, capsys):
    with pytest.raises(ConfigError) as caught:
        make_points.run(make_points.Config(data=photos))
    assert "out: is empty" in str(caught.value)
    assert "peak_weights: is empty" in str(caught.value)
    with pytest.raises(ConfigError, match="never overwritten"):
        make_points.run(config(photos, photos.root, network))
    with pytest.raises(ConfigError, match="given together with from_masks"):
        config(photos, tmp_path / "points", network, from_masks=True)
    with pytest.raises(ConfigError, match=r"peak_weights: .*cam_net"):
        make_points.run(config(scenes, tmp_path / "points", weights["cam_weights"]))
    other = DataConfig(kind="scenes", num=2, num_classes=3)
    with pytest.raises(ConfigError, match="classes"):
        make_points.run(config(other, tmp_path / "points", network))
    assert main(["make-points", "--data.kind=scenes", f"--out={tmp_path / 'p'}", "--points.window=4"]) == 2
    assert "window = 4, expected an odd number" in capsys.readouterr().err
