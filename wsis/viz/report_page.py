"""The HTML report: one file that needs no network, no server and no other file.

Photographs and maps are embedded as JPEG, masks as vector outlines, so that they stay sharp at any zoom and
can be pointed at. The size is bounded: pictures are taken in the order given until the bound is reached, and
the page says how many were left out. A content security policy forbids the page to load anything.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

import cv2
import numpy as np
from PIL import Image

from wsis.viz.colors import distinct_colors, heat_ramp
from wsis.viz.curves import chart_html
from wsis.viz.overlay import displacement_wheel, resize
from wsis.viz.report_data import ReportImage, ReportInstance, ReportLayer, ReportPage
from wsis.viz.report_parts import faults_html, figures_html, histogram_html, lines_html, settings_html, table_html

__all__ = ["Rendered", "render_report"]

PHOTO_SIDE = 720
LAYER_SIDE = 360
OUTLINE_SLACK = 0.7


@dataclass(frozen=True)
class Rendered:
    """The page, and how many of the pictures are in it."""

    html: str
    shown: int
    left_out: int


def render_report(
    page: ReportPage, images: Iterable[ReportImage], *, max_bytes: int = 32 << 20, quality: int = 82
) -> Rendered:
    """Build the page.

    Args:
        page: everything but the pictures.
        images: the pictures, in the order in which they are shown; may be a generator.
        max_bytes: bound of the file's size; at least 200 kB.
        quality: of the JPEG photographs, 1 to 95.

    Raises:
        ValueError: if an argument is out of range.
    """
    if max_bytes < 200_000:
        raise ValueError(f"render_report: max_bytes must be at least 200000, got {max_bytes}")
    if not 1 <= quality <= 95:
        raise ValueError(f"render_report: quality must be in 1..95, got {quality}")
    before, after = _frame(page)
    room = max_bytes - len(before.encode()) - len(after.encode()) - 8192
    entries, left_out = [], 0
    for image in images:
        if left_out:
            left_out += 1
            continue
        entry = _dump(_encode_image(image, quality))
        room -= len(entry.encode()) + 1
        if room < 0:
            left_out += 1
        else:
            entries.append(entry)
    head = {
        "categories": list(page.categories),
        "colors": [_hex(c) for c in distinct_colors(64)],
        "leftOut": left_out,
    }
    data = f'{{"head":{_dump(head)},"images":[{",".join(entries)}]}}'
    return Rendered(before + data + after, len(entries), left_out)


def _frame(page: ReportPage) -> tuple[str, str]:
    """The page before and after the data of its pictures."""
    script, style = _asset("report.js"), _asset("report.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    ramp = ", ".join(_hex(heat_ramp()[k]) for k in range(0, 256, 15))
    values = {
        "TITLE": escape(page.title),
        "SUBTITLE": escape(page.subtitle),
        "FOOTER": escape(page.footer),
        "FIGURES": figures_html(page.figures),
        "TABLES": "".join(table_html(table) for table in page.tables) or '<p class="calm">No tables.</p>',
        "RECALL": "".join(map(lines_html, page.recall)),
        "DISTRIBUTIONS": _section("distributions", "Distributions", [histogram_html(h) for h in page.histograms]),
        "DISTRIBUTIONSLINK": '<a href="#distributions">Distributions</a>' if page.histograms else "",
        "TRAINING": _section("training", "Training", [chart_html(chart) for chart in page.charts]),
        "TRAININGLINK": '<a href="#training">Training</a>' if page.charts else "",
        "FAULTS": faults_html(page.faults),
        "SETTINGS": settings_html(page.settings),
        "WHEEL": _data_url(displacement_wheel(96), "PNG"),
        "RAMP": ramp,
        "DIGEST": digest,
        "STYLE": style,
        "SCRIPT": script,
    }
    before, after = (_fill(part, values) for part in _asset("report.html").split("@DATA@"))
    return before, after


def _section(name: str, title: str, drawn: Sequence[str]) -> str:
    """A section of charts; nothing where there are none."""
    if not drawn:
        return ""
    return (
        f'<section id="{name}" aria-labelledby="h-{name}"><h2 id="h-{name}">{title}</h2>'
        f'<div class="charts">{"".join(drawn)}</div></section>'
    )


def _fill(template: str, values: dict[str, str]) -> str:
    """Replace every ``@NAME@`` of the template, once; what was put in is not looked at again."""
    pieces = template.split("@")
    pieces[1::2] = [values[name] for name in pieces[1::2]]
    return "".join(pieces)


def _encode_image(image: ReportImage, quality: int) -> dict[str, Any]:
    height, width = image.photo.shape[:2]
    size = _fit((height, width), PHOTO_SIDE)
    photo = resize(image.photo, size) if size[0] < height else image.photo
    return {
        "id": image.id,
        "w": size[1],
        "h": size[0],
        "size": f"{width} × {height}",
        "photo": _data_url(photo, "JPEG", quality),
        "layers": [_encode_layer(layer, size, quality) for layer in image.layers],
        "found": [_encode_instance(one, size) for one in image.instances],
        "truth": [_encode_instance(one, size) for one in image.truth],
        "tags": [int(tag) for tag in image.tags],
        "note": image.note,
        "figures": {name: round(float(value), 4) for name, value in image.figures.items()},
    }


def _encode_layer(layer: ReportLayer, size: tuple[int, int], quality: int) -> dict[str, Any]:
    picture = resize(layer.picture, _fit(size, LAYER_SIDE), smooth=layer.legend != "wheel")
    url = _data_url(picture, "JPEG", max(60, quality - 6))
    return {"name": layer.name, "url": url, "opacity": layer.opacity, "legend": layer.legend}


def _encode_instance(one: ReportInstance, size: tuple[int, int]) -> dict[str, Any]:
    area = float(np.mean(one.mask)) if one.mask.size else 0.0
    row = {"c": int(one.label), "s": round(float(one.score), 4), "a": round(area, 5)}
    path, top = outline_path(one.mask, size)
    return row | {"d": path, "p": top}


def outline_path(mask: np.ndarray, size: tuple[int, int]) -> tuple[str, tuple[int, int]]:
    """A mask ``[H, W]`` as an SVG path at ``size``, and the highest point of its largest part.

    Returns:
        Path data (holes by the even-odd rule), empty for an empty mask; and ``(x, y)``.
    """
    inside = resize(np.asarray(mask, dtype=np.float32), size) > 0.5
    if not inside.any():
        inside = resize(np.asarray(mask, dtype=np.float32), size) > 0
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    parts, largest, top = [], -1.0, (0, 0)
    for contour in contours:
        if cv2.contourArea(contour) > largest:
            largest = cv2.contourArea(contour)
            top = tuple(int(v) for v in contour[contour[:, 0, 1].argmin(), 0])
        points = cv2.approxPolyDP(contour, OUTLINE_SLACK, True)[:, 0, :]
        steps = np.diff(points, axis=0)
        line = "".join(f"l{x} {y}" for x, y in steps.tolist())
        parts.append(f"M{points[0, 0]} {points[0, 1]}{line}z")
    return "".join(parts), top


def _fit(size: tuple[int, int], side: int) -> tuple[int, int]:
    """``size`` brought to a long side of ``side`` if it is longer, or shorter than half of it."""
    longest = max(size)
    if side / 2 <= longest <= side:
        return size
    return tuple(max(1, round(s * side / longest)) for s in size)


def _data_url(picture: np.ndarray, kind: str, quality: int = 82) -> str:
    buffer = io.BytesIO()
    options = {"quality": quality, "optimize": True} if kind == "JPEG" else {"optimize": True}
    Image.fromarray(picture).save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _dump(value: Any) -> str:
    """JSON that may stand inside a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _hex(color: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*(int(c) for c in color))


def _asset(name: str) -> str:
    return files("wsis.viz").joinpath(name).read_text(encoding="utf-8")
