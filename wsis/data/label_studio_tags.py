"""Image labels from an export of Label Studio in its format JSON: the choices of every task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wsis.data.point_annotations import image_of_task, path_ends
from wsis.errors import Problems

__all__ = ["choice_rows", "is_label_studio"]


def is_label_studio(value: Any) -> bool:
    """Whether a list holds tasks and not rows of names and tags."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping) and "annotations" in value[0]


def choice_rows(tasks: Sequence[Any], path: Path, problems: Problems) -> Iterator[tuple[str, str, list[Any]]]:
    """``(place, name, choices)`` of every task with an annotation.

    Of several annotations the newest counts, cancelled ones do not. An annotation without any choice labels its image
    as empty. An image is known under its path and every shorter end of it, without suffix; an end that several
    tasks share names none of them.
    """
    found: dict[str, list[tuple[str, list[Any]]]] = {}
    for number, task in enumerate(tasks):
        where = f"{path}: [{number}]"
        image = image_of_task(task)
        annotations = task.get("annotations") if isinstance(task, Mapping) else None
        if image is None or not isinstance(annotations, list):
            text = "has no data with the image's path, or no annotations"
            problems.add(where, text, "export from Label Studio as JSON, not JSON-MIN")
            continue
        kept = [(k, a) for k, a in enumerate(annotations) if isinstance(a, Mapping) and not a.get("was_cancelled")]
        if not kept:
            continue
        newest, annotation = max(kept, key=lambda one: (str(one[1].get("updated_at") or ""), one[0]))
        result = annotation.get("result")
        if not isinstance(result, list):
            problems.add(f"{where}.annotations[{newest}].result", f"got {str(result)[:60]}, expected a list")
            continue
        values = [item.get("value") for item in result if isinstance(item, Mapping) and item.get("type") == "choices"]
        chosen: list[Any] = []
        for value in values:
            choices = value.get("choices") if isinstance(value, Mapping) else None
            if isinstance(choices, list):
                chosen += [one for one in choices if one not in chosen]
            else:
                problems.add(f"{where}.annotations[{newest}]", f"got {str(value)[:60]}, expected choices")
        for end in path_ends(image):
            found.setdefault(end, []).append((where, chosen))
    for end, rows in found.items():
        if len(rows) == 1:
            yield rows[0][0], end, rows[0][1]
