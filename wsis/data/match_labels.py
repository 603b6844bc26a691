"""Which labels of a tag file belong to which image of a list."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wsis.data.columns import Coded, Table, Texts
from wsis.data.images import IMAGE_SUFFIXES
from wsis.data.tags import TagTable
from wsis.errors import ConfigError

__all__ = ["match_labels"]

_SUFFIX = "(?:" + "|".join(IMAGE_SUFFIXES).replace(".", "[.]") + ")$"


def match_labels(
    ids: Texts, tags: TagTable, suffixes: Coded[str]
) -> tuple[Coded[tuple[int, ...] | None], tuple[str, ...]]:
    """The labels of each id, looked up by id, then by file name; and notes about what did not match.

    Raises:
        ConfigError: nothing matches at all.
    """
    table = Table.of(tags.labels, ())
    codes = np.full(len(ids), -1, dtype=np.int32)
    _look_up(codes, ids, table.names, table.items_of.codes)
    with_suffix = pc.match_substring_regex(table.names.array, _SUFFIX)
    if (codes < 0).any() and pc.any(with_suffix).as_py():
        stems = pc.replace_substring_regex(table.names.array.filter(with_suffix), _SUFFIX, "")[::-1]
        chosen = table.items_of.codes[with_suffix.to_numpy(zero_copy_only=False)][::-1]
        _look_up(codes, ids, Texts(pa.concat_arrays([stems])), chosen)
    without = int((codes < 0).sum())
    if len(ids) and without == len(ids):
        example = next(iter(tags.labels))
        raise ConfigError(
            f"{tags.source}: none of its {len(tags.labels)} names is one of the {len(ids)} images; "
            f"it has {example!r}, the images are like {ids[0] + suffixes[0]!r}"
        )
    notes = [f"labels from {tags.source}"]
    if without:
        notes.append(f"{without} of {len(ids)} images have no label in {tags.source}")
    unused = len(tags.labels) - (len(ids) - without)
    if unused:
        notes.append(f"{unused} of {len(tags.labels)} names in {tags.source} are not in this list of images")
    return Coded(codes + 1, (None, *table.items_of.values)), tuple(notes)


def _look_up(codes: np.ndarray, ids: Texts, names: Texts, of_names: np.ndarray) -> None:
    """Give those of ``codes`` that are negative the code of the name that is the id."""
    open_ = np.flatnonzero(codes < 0)
    if len(names) == len(ids) == len(open_) and names.array.type == ids.array.type and names.array.equals(ids.array):
        codes[:] = of_names
        return
    wanted = ids.array if len(open_) == len(ids) else ids.array.take(pa.array(open_))
    places = pc.index_in(wanted.cast(names.array.type), value_set=names.array).fill_null(-1).to_numpy()
    known = places >= 0
    codes[open_[known]] = of_names[places[known]]
