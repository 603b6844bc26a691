"""Kept fields of an image, as ``label`` dumps them: activation maps, boundary, displacement and walk, or the classes,
centres and offsets of a centre and offset network."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from wsis.errors import Code, DataFault, is_system_error, system_fault

__all__ = ["read_fields"]

MAX_CELLS = 1 << 28

_DIMENSIONS = {
    "classes": 1,
    "cam": 3,
    "boundary": 2,
    "displacement": 3,
    "walk": 3,
    "walk_class": 3,
    "probability": 3,
    "center": 3,
    "offset": 3,
}
_OF_CLASSES = {"cam", "walk_class", "probability", "center"}


def read_fields(path: Path, image_id: str) -> dict[str, np.ndarray]:
    """The arrays of one image, those that are there.

    Returns:
        ``classes [K]``, ``cam [K, h, w]``, ``boundary [h, w]``, ``displacement [2, h, w]``, ``walk [N, h, w]``
        (one per cluster and class), ``walk_class [K, h, w]``; or ``classes [K]``, ``probability [K, h, w]``,
        ``center [K, h, w]``, ``offset [2, h, w]``.

    Raises:
        DataFault: no such file, not an npz of plain numbers, arrays of other shapes, or values that are not finite.
        SystemFault: the machine failed.
    """
    if path.with_suffix(".npy").is_file():
        text = f"{path.with_suffix('.npy')} is a pickle, which can run code when opened, and is not read"
        hint = "let wsis make the fields: wsis label ... --dump_fields=FOLDER"
        raise DataFault(Code.E_DECODE, image_id, "fields", f"{text}; {hint}")
    if not path.is_file():
        raise DataFault(Code.E_MISSING, image_id, "fields", f"{path} does not exist")
    arrays: dict[str, np.ndarray] = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for name in set(file.files) & _DIMENSIONS.keys():
                arrays[name] = file[name]
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, OSError, NotImplementedError) as error:
        if is_system_error(error):
            raise system_fault(error, "reading", path) from error
        raise DataFault(Code.E_DECODE, image_id, "fields", f"{path} is no npz of plain arrays: {error}") from error
    for name, array in arrays.items():
        plain = array.dtype.kind in "fiub" and array.ndim == _DIMENSIONS[name] and array.size <= MAX_CELLS
        if not plain or (name in ("displacement", "offset") and array.shape[0] != 2):
            text = f"{path}: {name} is {array.dtype} {list(array.shape)}, expected {_DIMENSIONS[name]} dimensions"
            raise DataFault(Code.E_SHAPE, image_id, "fields", text)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataFault(Code.E_NUMERIC, image_id, "fields", f"{path}: {name} holds values that are not finite")
    classes = len(arrays.get("classes", ()))
    for name in _OF_CLASSES & arrays.keys() if "classes" in arrays else ():
        if len(arrays[name]) != classes:
            text = f"{path}: {name} has {len(arrays[name])} maps for {classes} classes"
            raise DataFault(Code.E_SHAPE, image_id, "fields", text)
    return arrays
