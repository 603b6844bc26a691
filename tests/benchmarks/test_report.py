"""The report and the comparison of benchmarks, on made-up measurements."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import compare, machine, readme, report

ROOT = Path(__file__).resolve().parents[2]


def measured(name: str, group: str, median: float, **info) -> dict:
    stats = {"median": median, "min": 0.9 * median, "rounds": 5}
    return {"name": name, "fullname": f"bench.py::{name}", "group": group, "stats": stats, "extra_info": info}


@pytest.fixture
def result() -> dict:
    raw = {
        "datetime": "2026-01-02T03:04:05+00:00",
        "benchmarks": [
            measured("test_wsis", "walk 8x8", 0.002, threads=2, target=20),
            measured("test_dense", "walk 8x8", 0.1, threads=2, peak_megabytes=12.34),
            measured("test_peaks", "peaks 4x4", 3e-6, threads=1),
            measured("test_max_pool", "peaks 4x4", 3e-5, threads=1),
        ],
    }
    about = {**machine.describe(), "gpus": [], "cpu": "A CPU", "cores": 2, "threads": 2, "load_average": 0.1}
    return report.collect(raw, about)


def test_machine_is_described():
    about = machine.describe()
    assert about["cores"] >= 1
    assert about["versions"]["torch"]
    json.dumps(about)
    assert str(about["threads"]) in machine.headline(about)


def test_ours_is_named_wsis_or_after_the_op(result):
    ours = {case["case"] for cases in result["groups"].values() for case in cases if case["ours"]}
    assert ours == {"test_wsis", "test_peaks"}


def test_table_gives_ratios_goals_and_the_missing_gpu(result):
    table = report.markdown(result)
    assert "| walk 8x8 | **wsis** | 2 | 2 ms |" in table
    assert "| dense | 2 | 100 ms | 50.0x (goal 20x) | peak megabytes 12.34 |" in table
    assert "| peaks 4x4 | **peaks** | 1 | 3 µs |" in table
    assert "10.0x" in table
    assert "no GPU: nothing here says anything about one" in table
    assert "Other work was running" not in table
    result["machine"]["load_average"] = 5.0
    assert "Other work was running" in report.markdown(result)


def test_groups_without_a_case_of_wsis_are_named(result):
    result["groups"]["lost 1x1"] = [{**result["groups"]["walk 8x8"][1], "ours": False}]
    assert "No case of wsis in: lost 1x1." in report.markdown(result)


def test_files_are_named_after_machine_and_day(result, tmp_path):
    data, table = report.write(result, tmp_path / "new")
    assert (data.name, table.name) == ("cpu2-2026-01-02.json", "cpu2-2026-01-02.md")
    assert json.loads(data.read_text()) == result
    result["machine"]["gpus"] = [{"name": "NVIDIA H200"}]
    assert report.write(result, tmp_path)[0].name == "nvidia-h200-2026-01-02.json"


def slower(result: dict, factor: float) -> dict:
    new = copy.deepcopy(result)
    new["groups"]["walk 8x8"][0]["median"] *= factor
    return new


@pytest.mark.parametrize(("factor", "code"), [(1.0, 0), (1.14, 0), (1.16, 1), (0.5, 0)])
def test_compare_finds_what_became_slower(result, tmp_path, capsys, factor, code):
    paths = []
    for name, content in (("old.json", result), ("new.json", slower(result, factor))):
        paths.append(tmp_path / name)
        paths[-1].write_text(json.dumps(content))
    assert compare.main([str(path) for path in paths]) == code
    out = capsys.readouterr().out
    assert ("SLOWER" in out) == bool(code)
    assert f"{code} of 2 became slower by more than 15%" in out


def test_compare_of_two_machines_uses_ratios(result):
    new = slower(result, 1.0)
    new["machine"]["cpu"] = "Another CPU"
    for cases in new["groups"].values():
        for case in cases:
            case["median"] *= 7
    found, gone = compare.changes(result, new)
    assert [change.unit for change in found] == ["x", "x"]
    assert [change.factor for change in found] == pytest.approx([1.0, 1.0])
    assert gone == []
    del new["groups"]["peaks 4x4"]
    assert compare.changes(result, new)[1] == [("peaks 4x4", "test_peaks over test_max_pool")]


def test_compare_without_common_cases_says_so(result, tmp_path, capsys):
    (tmp_path / "old.json").write_text(json.dumps(result))
    (tmp_path / "new.json").write_text(json.dumps({**result, "groups": {}}))
    assert compare.main([str(tmp_path / "old.json"), str(tmp_path / "new.json")]) == 2
    assert "no case in common" in capsys.readouterr().err


def test_report_from_a_raw_file(tmp_path):
    raw = {"datetime": "2026-05-06T00:00:00", "benchmarks": [measured("test_wsis", "walk 8x8", 0.5, threads=1)]}
    (tmp_path / "raw.json").write_text(json.dumps(raw))
    assert report.main(["--raw", str(tmp_path / "raw.json"), "--output", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob("*-2026-05-06.*"))) == 2
    (tmp_path / "none.json").write_text(json.dumps({"benchmarks": []}))
    assert report.main(["--raw", str(tmp_path / "none.json"), "--output", str(tmp_path)]) == 1


def test_smoke_without_a_gpu_says_so():
    environment = {"CUDA_VISIBLE_DEVICES": "", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "benchmarks.gpu_smoke", "--first"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "sees no CUDA device to launch the first one on" in done.stderr


def test_a_report_begins_with_its_goals(result):
    """The ratio to the peer that is meant, not to the fastest; and figures that a case measured itself."""
    cases = result["groups"]["walk 8x8"]
    cases.append({**cases[1], "case": "test_sparse[8-csr]", "median": 0.01})
    cases[0]["info"].update(peer="dense", goals={"memory": [19.5, 20]})
    assert report.goals(result) == [("memory", "", 19.5, 20), ("walk 8x8", "dense", pytest.approx(50.0), 20)]
    cases[0]["info"]["peer"] = "csr"
    assert report.goals(result)[1] == ("walk 8x8", "sparse[8-csr]", pytest.approx(5.0), 20)
    table = report.markdown(result)
    assert "| memory |  | 20 | 19.5 | **not reached** |" in table
    assert "processor seconds" not in table
    assert "processor seconds (process_time)" in report.markdown({**result, "timers": ["process_time"]})


def test_goals_are_put_between_their_marks(result, tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    readme.put(page, readme.table(result))
    text = page.read_text()
    assert "| walk 8x8 | dense | 20 | 50 |" in text
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith(f"{readme.END}\nafter\n")
    readme.put(page, "again")
    assert page.read_text() == f"before\n{readme.BEGIN}\nagain\n{readme.END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="must hold <!-- benchmarks --> and <!-- /benchmarks --> once"):
        readme.put(page, "text")


def test_what_memory_costs_is_told_where_it_was_measured(result):
    assert readme.memory_rows(result) == []
    raw = [
        measured("test_two_cores[fill-beyond the cache]", readme.MEMORY, 1, gb_per_s_1=10, gb_per_s_2=15, gain=1.5),
        measured("test_first_touch", readme.FIRST_TOUCH, 1.0, us_a_page_at_first=4500.0, us_a_page_again=200.0),
    ]
    groups = report.collect({"datetime": result["date"], "benchmarks": raw}, result["machine"])
    assert readme.memory_rows(groups) == [
        "| fill, beyond the cache: GB/s of one core, and of two | | | 10, 15 (1.5 times) |",
        "| touch a huge page that lay free for 5 s, and again right after | | | 4500 us, 200 us |",
    ]


def test_pages_hold_the_marks():
    for page in readme.FILES:
        assert page.read_text().count(readme.BEGIN) == page.read_text().count(readme.END) == 1
