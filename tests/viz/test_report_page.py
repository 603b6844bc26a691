"""The report page: whole, bounded, escaped, and without anything that would need a network."""

import base64
import hashlib
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from wsis.viz.curves import Chart, Curve
from wsis.viz.report_data import (
    FaultGroup,
    Histogram,
    ReportImage,
    ReportInstance,
    ReportLayer,
    ReportPage,
    ReportTable,
)
from wsis.viz.report_page import outline_path, render_report
from wsis.viz.report_parts import number

EVIL = '</script><img src=x onerror=alert(1)>&"\u2028@SCRIPT@@DATA@'


def picture(name="one", height=60, width=80, **more) -> ReportImage:
    rng = np.random.default_rng(len(name))
    photo = rng.integers(0, 255, (height, width, 3)).astype(np.uint8)
    mask = np.zeros((height, width), bool)
    mask[10:30, 20:50] = True
    layers = [
        ReportLayer.heat("CAM", rng.random((15, 20))),
        ReportLayer.displacement("Displacement", rng.normal(size=(2, 15, 20))),
    ]
    return ReportImage(name, photo, layers, [ReportInstance(1, 0.75, mask)], [ReportInstance(0, 1.0, mask)], **more)


def data_of(html: str) -> dict:
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)[1]
    return json.loads(text)


def test_page_holds_everything():
    page = ReportPage(
        "A run",
        ["cat", "dog"],
        figures=[("Images", "12", "")],
        tables=[ReportTable("Per class", ["class", "AP50"], [["cat", 0.5], ["dog", float("nan")]], bars=["AP50"])],
        histograms=[Histogram("Score", [0, 0.5, 1], [3, 4])],
        faults=[FaultGroup("E_MISSING", "the file does not exist", 3, [("a", "gone")])],
        settings={"seed": 0, "walk": {"beta": 10.0, "deep": {"x": [1, 2]}}},
    )
    result = render_report(page, [picture(tags=(1,), figures={"best overlap": 0.5})])
    assert (result.shown, result.left_out) == (1, 0)
    for text in ("A run", "Per class", "50.0", "E_MISSING", "and 2 more", "deep.x", "1, 2", "0 to 0.5: 3"):
        assert text in result.html
    assert "@" not in re.sub(r"@(media|keyframes)", "", result.html.split('id="data"')[0])
    (image,) = data_of(result.html)["images"]
    assert image["found"][0] == {"c": 1, "s": 0.75, "a": 0.125, **{k: image["found"][0][k] for k in "dp"}}
    assert [layer["name"] for layer in image["layers"]] == ["CAM", "Displacement"]
    kind, code = image["photo"].split(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(code))).size == (80, 60)


def test_nothing_is_loaded_from_anywhere():
    html = render_report(ReportPage("t", ["a"]), [picture()]).html
    assert "default-src 'none'" in html
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:|//)", html)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|innerHTML", html)
    script = re.search(r"<script>(.*)</script>", html, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html


def test_text_from_outside_stays_text():
    page = ReportPage(
        EVIL,
        [EVIL],
        subtitle=EVIL,
        figures=[(EVIL, EVIL, EVIL)],
        tables=[ReportTable(EVIL, [EVIL], [[EVIL]], note=EVIL)],
        histograms=[Histogram(EVIL, [0, 1], [1], note=EVIL)],
        charts=[Chart(EVIL, [Curve(EVIL, [1, 2], [0.1, 0.2])], note=EVIL)],
        faults=[FaultGroup(EVIL, EVIL, 1, [(EVIL, EVIL)])],
        settings={EVIL: EVIL, "group" + EVIL: {EVIL: EVIL}},
        footer=EVIL,
    )
    html = render_report(page, [picture(EVIL, note=EVIL, figures={EVIL: 1.0})]).html
    assert "<img src=x" not in html
    assert html.count("</script>") == 2
    data = data_of(html)
    assert data["images"][0]["id"] == EVIL
    assert data["head"]["categories"] == [EVIL]


def test_size_is_bounded_and_the_rest_is_counted():
    made = []

    def stream():
        for k in range(12):
            made.append(k)
            yield picture(f"image{k}", 400, 500)

    result = render_report(ReportPage("t", ["a", "b"]), stream(), max_bytes=700_000)
    assert len(result.html.encode()) <= 700_000
    assert 0 < result.shown < 12
    assert result.shown + result.left_out == len(made) == 12
    assert data_of(result.html)["head"]["leftOut"] == result.left_out


def test_empty_page_renders():
    html = render_report(ReportPage("t", []), []).html
    assert data_of(html)["images"] == []
    assert "No image was skipped." in html


def test_outline_of_a_box_and_a_ring():
    mask = np.zeros((20, 20), bool)
    mask[5:15, 4:16] = True
    path, top = outline_path(mask, (20, 20))
    assert path == "M4 5l0 9l11 0l0 -9z"
    assert top == (4, 5)
    mask[9:11, 9:11] = False
    assert outline_path(mask, (20, 20))[0].count("M") == 2
    speck = np.zeros((900, 900), bool)
    speck[450, 450] = True
    assert outline_path(speck, (90, 90)) == ("M45 45z", (45, 45))
    assert outline_path(np.zeros((5, 5), bool), (5, 5)) == ("", (0, 0))


def test_flag_stands_on_the_largest_part():
    mask = np.zeros((40, 40), bool)
    mask[0:2, 0:2] = True
    mask[20:35, 10:30] = True
    assert outline_path(mask, (40, 40))[1] == (10, 20)


def test_large_photos_shrink_and_small_ones_keep_their_pixels():
    html = render_report(ReportPage("t", ["a", "b"]), [picture("big", 900, 1440), picture("s", 40, 60)]).html
    big, small = data_of(html)["images"]
    assert (big["w"], big["h"]) == (720, 450)
    assert (small["w"], small["h"]) == (720, 480)
    assert Image.open(io.BytesIO(base64.b64decode(small["photo"].split(",")[1]))).size == (60, 40)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234, "1,234"),
        (0.51234, "0.512"),
        (12.345, "12.3"),
        (float("nan"), "–"),
        (None, "–"),
        (True, "yes"),
        ("x", "x"),
    ],
)
def test_number(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: render_report(ReportPage("t", []), [], max_bytes=199_999),
            "max_bytes must be at least 200000",
        ),
        (lambda: render_report(ReportPage("t", []), [], quality=96), "quality must be in 1..95, got 96"),
        (
            lambda: ReportLayer("x", np.zeros((3, 3), np.uint8)),
            r"picture must be \[h, w, 3\] uint8, got \[3, 3\]",
        ),
        (lambda: ReportLayer("x", np.zeros((3, 3, 3), np.uint8), legend="map"), "legend must be"),
        (lambda: ReportImage("a", np.zeros((3, 3), np.uint8)), r"ReportImage 'a': photo must be"),
        (
            lambda: ReportImage(
                "a", np.zeros((3, 3, 3), np.uint8), instances=[ReportInstance(0, 1.0, np.zeros((2, 2)))]
            ),
            r"masks must have the photo's size \[3, 3\], got \[2, 2\]",
        ),
    ],
)
def test_rejects(call, message):
    with pytest.raises(ValueError, match=message):
        call()
