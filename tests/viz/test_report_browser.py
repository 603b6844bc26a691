"""The report page in a real browser: filters, orders, toggles, keys, sizes of screens, time to load."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.viz.browser import chromium
from wsis.viz.report_data import (
    FaultGroup,
    Histogram,
    Lines,
    ReportImage,
    ReportInstance,
    ReportLayer,
    ReportPage,
    ReportTable,
)
from wsis.viz.report_page import render_report

CLASSES = ["cat", "dog", "bird"]


def picture(number: int, side: int = 96) -> ReportImage:
    """A picture with ``number % 3`` objects of classes 0, 1 with scores 0.9 and 0.4."""
    rng = np.random.default_rng(number)
    photo = np.kron(rng.integers(60, 200, (side // 8, side // 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    found = []
    for k in range(number % 3):
        mask = np.zeros(photo.shape[:2], bool)
        mask[10 + 30 * k : 30 + 30 * k, 20:60] = True
        found.append(ReportInstance(k, 0.9 - 0.5 * k, mask))
    layers = [
        ReportLayer.heat("CAM", rng.random((12, 16))),
        ReportLayer.heat("Boundary", rng.random((12, 16))),
        ReportLayer.displacement("Displacement", rng.normal(size=(2, 12, 16))),
        ReportLayer.heat("Walk", rng.random((12, 16))),
    ]
    figures = {"uncertainty": (number * 7 % 12) / 12}
    return ReportImage(f"photo-{number:03d}", photo, layers, found, found[:1], (0,), figures=figures)


def write_page(folder: Path, count: int) -> str:
    page = ReportPage(
        "A run",
        CLASSES,
        figures=[("Images", str(count), "")],
        tables=[ReportTable("By class", ["class", "objects"], [["cat", 2], ["dog", 11], ["bird", 5]])],
        recall=[Lines("Precision", [("IoU 0.5", [1, 0.5, 0]), ("IoU 0.75", [0.5, 0.2, 0])], "recall", "precision")],
        histograms=[Histogram("Score", [0, 0.5, 1], [3, 4])],
        faults=[FaultGroup("E_MISSING", "the file does not exist", 3, [("a", "gone")])],
        settings={"seed": 0},
    )
    path = folder / f"page-{count}.html"
    path.write_text(render_report(page, map(picture, range(count))).html, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    return write_page(tmp_path_factory.mktemp("page"), 12)


@pytest.fixture
def page(browser, address):
    """The page in a wide window; nothing may have been complained about when the test ends."""
    opened = browser.new_page(viewport={"width": 1400, "height": 900})
    told = []
    opened.on("console", lambda message: told.append(message.text))
    opened.on("pageerror", lambda error: told.append(str(error)))
    opened.on("request", lambda request: told.append(request.url) if request.url.startswith("http") else None)
    opened.goto(address)
    yield opened
    opened.close()
    assert told == []


def shown(page) -> list[str]:
    return page.locator(".card .name").all_inner_texts()


def visible_masks(page) -> int:
    return page.evaluate(
        "[...document.querySelectorAll('.card .found g')].filter((g) => g.getBoundingClientRect().width > 0).length"
    )


def test_filters_and_orders(page):
    assert len(shown(page)) == 12
    assert visible_masks(page) == 12
    page.select_option("#class", label="dog")
    assert shown(page) == [f"photo-{n:03d}" for n in (2, 5, 8, 11)]
    assert visible_masks(page) == 4
    page.select_option("#class", label="all")
    page.locator("#score").fill("50")
    assert page.locator("#score-text").inner_text() == "0.50"
    assert visible_masks(page) == 8
    page.select_option("#order", label="uncertainty, highest")
    uncertain = sorted(range(12), key=lambda n: -(n * 7 % 12))
    assert shown(page) == [f"photo-{n:03d}" for n in uncertain]
    page.select_option("#order", label="most objects")
    assert shown(page)[0] in {"photo-002", "photo-005", "photo-008", "photo-011"}


def test_toggles(page):
    for name in ("CAM", "Boundary", "Displacement", "Walk", "Photo"):
        page.get_by_role("radio", name=name, exact=True).first.click()
        layers = page.locator(".card img.layer")
        assert layers.nth(0).is_visible() == (name != "Photo")
        assert page.locator("#legend-wheel").is_visible() == (name == "Displacement")
    page.locator("label.switch", has_text="Masks").click()
    assert visible_masks(page) == 0
    page.locator("label.switch", has_text="True objects").click()
    assert page.locator(".card svg.true").nth(1).is_visible()


def test_keyboard(page):
    page.keyboard.press("m")
    assert visible_masks(page) == 0
    page.keyboard.press("m")
    page.keyboard.press("2")
    assert page.locator(".card img.layer").first.is_visible()
    page.locator(".card > button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#viewer").is_visible()
    assert page.locator("#viewer-title").inner_text() == "photo-000"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator("#viewer-title").inner_text() == "photo-002"
    assert page.locator("#viewer-list li").count() == 2
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()
    page.get_by_role("button", name="objects").focus()
    page.keyboard.press("Enter")
    assert page.locator("table.sortable tbody th").all_inner_texts() == ["dog", "bird", "cat"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(360, 740), (1920, 1080)])
def test_phone_and_wide_dark_and_light(browser, address, scheme, width, height):
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    back, ink = page.evaluate("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
    light = [sum(map(int, color[4:-1].split(","))) for color in (back, ink)]
    assert (light[0] > light[1]) == (scheme == "light")
    columns = page.evaluate("new Set([...document.querySelectorAll('.card')].map((c) => c.offsetLeft)).size")
    assert columns <= 2 if width < 400 else columns >= 4
    page.locator(".card > button").first.click()
    box = page.locator("#viewer").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    page.keyboard.press("d")
    assert page.evaluate("document.documentElement.dataset.theme") == {"light": "dark", "dark": "light"}[scheme]
    page.close()


def test_500_images_load_within_3_seconds(browser, tmp_path):
    """On the wall's clock; on a machine that is busy with other things, by the processor's clock of the page."""
    address, wall, work = write_page(tmp_path, 500), [], []
    for _ in range(3):
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        meter = page.context.new_cdp_session(page)
        meter.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.goto(address)
        page.wait_for_function("document.querySelectorAll('.card img.photo').length && document.images[1].complete")
        wall.append(page.evaluate("performance.now()") / 1000)
        metrics = {row["name"]: row["value"] for row in meter.send("Performance.getMetrics")["metrics"]}
        work.append(metrics["TaskDuration"])
        assert page.locator(".card").count() == 500
        page.close()
        if wall[-1] < 3:
            break
    size = Path(address.removeprefix("file://")).stat().st_size / 1e6
    print(f"500 images, {size:.1f} MB: {min(wall):.2f} s to the first pictures, {min(work):.2f} s of processor time")
    assert min(wall) < 3 or (os.getloadavg()[0] > 2 * (os.cpu_count() or 1) and min(work) < 1.5)
