"""Figures of a run, by hand."""

from tests.label_runs import boxes, row_of, skipped_row
from wsis.viz.run_summary import RunSummary


def test_by_hand():
    summary = RunSummary(["cat", "dog"], min_score=0.5)
    summary.add(row_of("a", boxes((10, 10), (0, 0, 5, 10, 0, 0.5), (5, 0, 6, 10, 0, 1.0), (6, 0, 7, 10, 1, 0.25))))
    summary.add(row_of("b", boxes((10, 10), (0, 0, 1, 1, 0, 0.75))))
    summary.add(row_of("c", boxes((10, 10))))
    summary.add(skipped_row("d", "E_MISSING", "gone"))
    summary.add(skipped_row("e", "E_DECODE", "bad"))
    summary.add(skipped_row("f", "E_DECODE", "bad"))
    assert (summary.images, summary.empty, summary.skipped) == (3, 1, 3)
    assert (summary.instances, summary.dropped) == (3, 1)
    table = summary.class_table()
    cat, dog = table.rows
    assert cat[:4] == ["cat", 2, 3, 0.75]
    assert round(cat[4], 6) == 0.1
    assert dog == ["dog", 0, 0, None, None]
    score, area, per_image = summary.histograms()
    assert sum(score.counts) == sum(area.counts) == 3
    assert score.counts[12] == score.counts[18] == score.counts[23] == 1
    assert per_image.counts == [1, 1, 1]
    assert per_image.edges == [0, 1, 2, 3]
    groups = summary.faults()
    assert [(g.code, g.count, g.examples[0]) for g in groups] == [
        ("E_DECODE", 2, ("e", "bad")),
        ("E_MISSING", 1, ("d", "gone")),
    ]
    assert groups[1].meaning == "the file does not exist"


def test_empty_and_crowded():
    assert [sum(h.counts) for h in RunSummary(["a"]).histograms()] == [0, 0, 0]
    assert [sum(h.counts) for h in RunSummary([]).histograms()] == [0, 0, 0]
    crowd = RunSummary(["a"])
    crowd.add(row_of("x", boxes((40, 40), *[(k, 0, k + 1, 5, 0, 1.0) for k in range(40)])))
    per_image = crowd.histograms()[2]
    assert len(per_image.counts) == 31
    assert per_image.counts[30] == 1
    assert "30 or more" in per_image.note


def test_examples_are_bounded():
    summary = RunSummary(["a"])
    for k in range(100):
        summary.add(skipped_row(str(k)))
    (group,) = summary.faults()
    assert group.count == 100
    assert len(group.examples) == 20
