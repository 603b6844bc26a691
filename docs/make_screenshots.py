"""The pictures of the demo and of its report page in README and documentation.

    make demo && pip install -e .[browser] && python docs/make_screenshots.py runs/demo

Everything on them is a made-up scene. Needs a Chromium (``WSIS_CHROMIUM`` names one that is not in the path).
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from wsis.data import rle
from wsis.data.artifacts import write_bytes
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.formats.fields import read_fields
from wsis.runtime.shards import iterate_rows
from wsis.structures import Instances
from wsis.viz.overlay import colorize_heat, contact_sheet, overlay_heat, overlay_instances

OUT = Path(__file__).parent / "images"
MAX_BYTES = 290_000
QUANTILES = (0.9, 0.7, 0.5)


def main() -> None:
    run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
    page = (run / "report.html").resolve()
    save("demo", demo_sheet(run, page))
    program = os.environ.get("WSIS_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        for name, picture in screens(browser, page.as_uri(), shown_by_overlap(page)):
            save(name, picture)
        browser.close()


def shown_by_overlap(page: Path) -> list[str]:
    """Ids of the pictures of a report page, the best overlap first."""
    text = re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.S)[1]
    images = [image for image in json.loads(text)["images"] if "best overlap" in image["figures"]]
    return [image["id"] for image in sorted(images, key=lambda image: -image["figures"]["best overlap"])]


def demo_sheet(run: Path, page: Path) -> np.ndarray:
    """Scene, activation map, boundary and masks of three scenes: by the quality of their labels, not by looks."""
    names = shown_by_overlap(page)
    chosen = [names[round((1 - share) * (len(names) - 1))] for share in QUANTILES]
    labels = run / "labels" / "run"
    seed = json.loads((run / "stages" / "label.json").read_text())["settings"]["data"]["seed"]
    data = open_data(DataConfig(kind="scenes", num=1 + max(int(name[-6:]) for name in names), split="val", seed=seed))
    rows = {row.image_id: row for row in iterate_rows(labels) if row.image_id in chosen}
    panels: list[tuple[str, np.ndarray]] = []
    for name in chosen:
        fields = read_fields(run / "labels" / "fields" / f"{name}.npz", name)
        photo, row = data.load_image(list(data.ids).index(name)), rows[name]
        panels += [
            ("scene", photo),
            ("activation map", overlay_heat(photo, fields["cam"])),
            ("boundary", colorize_heat(fields["boundary"], photo.shape[:2])),
            ("instances from tags", overlay_instances(photo, instances_of(row), data.categories)),
        ]
    print(f"demo: {', '.join(chosen)}, of {len(names)} scenes on the page")
    return contact_sheet(panels, columns=4, panel_width=230)


def instances_of(row: Any) -> Instances:
    """The instances of a row that are no fragments."""
    kept = [k for k, score in enumerate(row.score) if score > 1e-5]
    size = (row.height, row.width)
    masks = rle.to_masks([row.rles()[k] for k in kept], size)
    labels, scores = (torch.tensor([values[k] for k in kept]) for values in (row.label, row.score))
    return Instances(torch.from_numpy(masks), labels.long(), scores.float())


def screens(browser: Browser, address: str, by_overlap: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """``(name, picture)`` of the grid, an opened picture, the figures, and a phone."""
    page = opened(browser, address, 1280, 800, "light")
    yield "report_grid", shot(page)
    page.get_by_role("radio", name="Boundary", exact=True).first.click()
    page.select_option("#order", label="uncertainty, highest")
    page.wait_for_timeout(400)
    yield "report_boundary", shot(page)
    page.locator("#tables").evaluate("node => window.scrollTo(0, node.offsetTop - 60)")
    page.wait_for_timeout(600)
    yield "report_figures", shot(page)
    page.close()
    page = opened(browser, f"{address}#picture={by_overlap[2]}", 1280, 800, "dark")
    yield "report_picture", shot(page)
    page.close()
    phone = opened(browser, address, 390, 780, "light")
    grid = shot(phone)
    phone.close()
    phone = opened(browser, f"{address}#picture={by_overlap[2]}", 390, 780, "dark")
    phone.locator("#strip button", has_text="CAM").click()
    yield "report_phone", np.concatenate((grid, np.full((780, 20, 3), 255, np.uint8), shot(phone)), axis=1)
    phone.close()


def opened(browser: Browser, address: str, width: int, height: int, scheme: str) -> Page:
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(address)
    page.wait_for_timeout(900)
    return page


def shot(page: Page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))


def save(name: str, picture: np.ndarray) -> None:
    """As PNG of 256 colours, made smaller until it is below :data:`MAX_BYTES`."""
    image, share = Image.fromarray(picture), 1.0
    while True:
        size = tuple(round(side * share) for side in image.size)
        buffer = io.BytesIO()
        small = image.resize(size, Image.Resampling.LANCZOS).quantize(256, dither=Image.Dither.NONE)
        small.save(buffer, "PNG", optimize=True)
        if buffer.tell() <= MAX_BYTES:
            break
        share -= 0.05
    write_bytes(OUT / f"{name}.png", buffer.getvalue())
    print(f"{name}.png: {size[0]} x {size[1]}, {buffer.tell() / 1000:.0f} kB")


if __name__ == "__main__":
    main()
