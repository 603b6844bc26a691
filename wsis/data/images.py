"""The one image reader (Pillow). Nothing else in the library reads a picture or a label map from a file.

Only the formats asked for are tried, limits are checked from the header before anything is decoded, and a
picture that ends early is refused, never filled with grey. What goes wrong with one file is a
:class:`DataFault`; what goes wrong with the machine is a :class:`SystemFault`.

Conversions to 8-bit RGB, the same everywhere:

==================  ==============================================================================
grayscale, 1-bit    the value in all three channels (1-bit: 0 and 255)
16-bit grayscale    scaled, ``round(v * 255 / 65535)``, never saturated; 16-bit colour: the high byte
palette             looked up
any transparency    composited on white
CMYK, YCbCr         Pillow's conversion
MPO (camera JPEG)   the first picture
animated, float,    refused with ``E_MODE``
32-bit integer
==================  ==============================================================================

EXIF rotation is ignored, here and in label maps alike; ``notes`` counts the pictures that carry one.
A JPEG whose bits were flipped and that still decodes cannot be noticed without a recorded sha256; the checksums of
a PNG are looked at.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from wsis.data.categories import IGNORE
from wsis.errors import Code, ConfigError, DataFault, SystemFault, is_system_error, system_fault

__all__ = [
    "FORMATS",
    "IMAGE_SUFFIXES",
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "MAX_SIDE",
    "NOT_IMAGES",
    "FileStamp",
    "ImageInfo",
    "file_stamp",
    "read_image",
    "read_image_info",
    "read_index_map",
]

FORMATS = ("JPEG", "PNG")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
NOT_IMAGES = ("Annotations", "ImageSets")
MAX_PIXELS = 64_000_000
MAX_SIDE = 16_384
MAX_FILE_BYTES = 1 << 29

_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    AttributeError,
    NotImplementedError,
    ZeroDivisionError,
    struct.error,
    zlib.error,
)
_MAGIC = ((b"\xff\xd8", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"))
_EXIF_ORIENTATION = 0x0112

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class FileStamp:
    """Size and time of change of a file, to notice that it changed during a run."""

    size: int
    mtime_ns: int


@dataclass(frozen=True)
class ImageInfo:
    """What the header of a picture tells.

    Attributes:
        height, width: pixels.
        format: ``JPEG``, ``PNG``, ...; from the content, whatever the file is called.
        mode: Pillow's name of the pixel format.
        exif_rotated: whether an EXIF orientation other than "upright" is recorded (and ignored).
    """

    height: int
    width: int
    format: str
    mode: str
    exif_rotated: bool


def file_stamp(path: PathLike, stage: str = "read") -> FileStamp:
    """The present :class:`FileStamp`; ``DataFault`` if ``path`` is not a readable regular file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        _raise_open(error, path, stage)
    if not stat.S_ISREG(status.st_mode):
        raise DataFault(Code.E_NOT_FILE, path, stage, f"is {_kind(status.st_mode)}, expected a regular file")
    return FileStamp(status.st_size, status.st_mtime_ns)


def read_image(
    path: PathLike,
    *,
    formats: Sequence[str] = FORMATS,
    stage: str = "read",
    min_side: int = 1,
    stamp: FileStamp | None = None,
    sha256: str | None = None,
    notes: Counter[str] | None = None,
) -> np.ndarray:
    """The picture as ``[H, W, 3]`` uint8 RGB.

    Args:
        path: the file; its content decides the format, not its name.
        formats: Pillow formats to try; add e.g. ``"TIFF"`` to accept more.
        stage: recorded in the fault.
        min_side: shorter sides are refused with ``E_TOO_SMALL``.
        stamp: refuse with ``E_CHANGED`` a file that is not the one recorded.
        sha256: refuse with ``E_HASH`` other content.
        notes: counts conversions (``exif_rotated``, ``from_L``, ``from_CMYK``, ...).

    Raises:
        DataFault: the file is missing, no file, unreadable, not an image, truncated, too large or of a pixel
            format without a defined conversion.
        SystemFault: the machine failed.
    """
    data = _read_bytes(path, stage, stamp, sha256)
    with _open(data, path, stage, formats) as image:
        if min(image.size) < min_side:
            raise DataFault(
                Code.E_TOO_SMALL,
                path,
                stage,
                f"is {image.height} x {image.width}, expected sides of at least {min_side}",
            )
        _load(image, data, path, stage)
        if notes is not None:
            notes["exif_rotated"] += _exif_rotated(image)
            notes[f"from_{image.mode}"] += image.mode != "RGB"
        try:
            return _to_rgb(image, path, stage)
        except _DECODE_ERRORS as error:
            _raise_decode(error, data, path, stage)
        except MemoryError as error:
            raise system_fault(error, "converting", path) from error


def read_index_map(
    path: PathLike,
    num_classes: int | None = None,
    *,
    size: tuple[int, int] | None = None,
    stage: str = "read",
) -> np.ndarray:
    """A map of indices as ``[H, W]`` uint8, or uint16 if the file has 16 bits.

    Palette, grayscale and 1-bit PNG are read as the numbers that stand in the file; colours are not looked up
    and grayscale of 2 or 4 bits is not stretched.

    Args:
        path: a PNG file.
        num_classes: if given, values must be ``0..num_classes`` or 255, else ``E_RANGE``.
        size: ``(height, width)`` that the map must have, else ``E_SHAPE``.
        stage: recorded in the fault.

    Raises:
        DataFault: as :func:`read_image`; ``E_MODE`` for colour or lossy files.
        SystemFault: the machine failed.
    """
    data = _read_bytes(path, stage)
    if data[:2] == b"\xff\xd8":
        raise DataFault(Code.E_MODE, path, stage, "is a JPEG, which does not keep indices; expected a PNG")
    with _open(data, path, stage, ("PNG",)) as image:
        if image.mode not in ("P", "L", "1", "I;16"):
            raise DataFault(
                Code.E_MODE,
                path,
                stage,
                f"has pixel format {image.mode}, expected indices (palette, 8- or 16-bit gray)",
            )
        if size is not None and image.size != (size[1], size[0]):
            text = f"is {image.height} x {image.width}, expected {size[0]} x {size[1]} like its image"
            raise DataFault(Code.E_SHAPE, path, stage, text)
        _load(image, data, path, stage)
        values = np.array(image)
    bits, color_type = data[24], data[25]
    values = values.astype(np.uint16 if values.dtype.itemsize > 1 else np.uint8)
    if color_type == 0 and bits in (2, 4):
        values //= 255 // ((1 << bits) - 1)
    if num_classes is not None:
        _check_range(values, num_classes, path, stage)
    return values


def read_image_info(path: PathLike, *, formats: Sequence[str] = FORMATS, stage: str = "read") -> ImageInfo:
    """Size and format from the header, without decoding; faults as :func:`read_image`."""
    file_stamp(path, stage)
    try:
        with open(path, "rb") as file:
            head = file.read(64)
            file.seek(0)
            with _open_file(file, head, path, stage, formats) as image:
                return ImageInfo(
                    image.height, image.width, image.format or "", image.mode, _exif_rotated(image)
                )
    except (OSError, ValueError) as error:
        _raise_open(error, path, stage)


def _check_range(values: np.ndarray, num_classes: int, path: PathLike, stage: str) -> None:
    if num_classes >= IGNORE:
        raise ValueError(f"read_index_map: num_classes must be below {IGNORE}, got {num_classes}")
    bad = np.unique(values[(values > num_classes) & (values != IGNORE)])
    if bad.size:
        shown = ", ".join(map(str, bad[:10])) + (", ..." if bad.size > 10 else "")
        text = f"holds the values {shown}; expected 0..{num_classes} or {IGNORE}"
        raise DataFault(Code.E_RANGE, path, stage, text)


def _read_bytes(
    path: PathLike, stage: str, stamp: FileStamp | None = None, sha256: str | None = None
) -> bytes:
    """The whole file, so that errors of the disk and of the content cannot be mixed up."""
    before = file_stamp(path, stage)
    if stamp is not None and before != stamp:
        raise DataFault(Code.E_CHANGED, path, stage, f"was {stamp} when the run began and is {before}")
    if before.size > MAX_FILE_BYTES:
        text = f"has {before.size:,} bytes, expected at most {MAX_FILE_BYTES:,}"
        raise DataFault(Code.E_TOO_LARGE, path, stage, text)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
            after = os.fstat(file.fileno())
    except MemoryError as error:
        raise system_fault(error, "reading", path) from error
    except OSError as error:
        _raise_open(error, path, stage)
    if len(data) != before.size or FileStamp(after.st_size, after.st_mtime_ns) != before:
        raise DataFault(Code.E_CHANGED, path, stage, "changed while it was being read")
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256.lower():
        raise DataFault(Code.E_HASH, path, stage, f"does not have the recorded sha256 {sha256}")
    if not data:
        raise DataFault(Code.E_DECODE, path, stage, "is empty")
    return data


def _open(data: bytes, path: PathLike, stage: str, formats: Sequence[str]) -> Image.Image:
    return _open_file(io.BytesIO(data), data, path, stage, formats)


def _open_file(file, head: bytes, path: PathLike, stage: str, formats: Sequence[str]) -> Image.Image:
    """Read the header and check the limits; ``head`` is the content or its beginning."""
    try:
        image = Image.open(file, formats=list(formats))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataFault(Code.E_TOO_LARGE, path, stage, str(error)) from error
    except MemoryError as error:
        raise system_fault(error, "opening", path) from error
    except _DECODE_ERRORS as error:
        _raise_decode(error, head, path, stage)
    width, height = image.size
    if width < 1 or height < 1:
        raise DataFault(Code.E_DECODE, path, stage, f"claims a size of {height} x {width}")
    if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
        limit = f"sides of at most {MAX_SIDE:,} and {MAX_PIXELS:,} pixels"
        raise DataFault(Code.E_TOO_LARGE, path, stage, f"is {height:,} x {width:,}, expected {limit}")
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise DataFault(Code.E_MODE, path, stage, f"has {image.n_frames} frames, expected a still picture")
    return image


def _load(image: Image.Image, data: bytes, path: PathLike, stage: str) -> None:
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ConfigError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on (some library of this process has set it): "
            "broken pictures would be filled with grey; set it to False"
        )
    if image.format == "PNG" and data.rfind(b"IEND") < 0:
        text = f"is a PNG without its end mark; it ends after {len(data):,} bytes"
        raise DataFault(Code.E_TRUNCATED, path, stage, text)
    try:
        if image.format == "PNG":
            _check_pixels_of_png(data)
        image.load()
    except MemoryError as error:
        raise system_fault(error, "decoding", path) from error
    except _DECODE_ERRORS as error:
        _raise_decode(error, data, path, stage)


def _check_pixels_of_png(data: bytes) -> None:
    """Refuse pixel data that do not have their checksums, which Pillow checks in the other chunks alone."""
    at, view = 8, memoryview(data)
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(view[at : at + 4], "big")
        kind = bytes(view[at + 4 : at + 8])
        if kind == b"IDAT" and end + 4 <= len(data):
            if zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
                raise ValueError(f"the pixel data at byte {at:,} do not have their checksum")
        elif kind == b"IEND":
            return
        at = end + 4


def _to_rgb(image: Image.Image, path: PathLike, stage: str) -> np.ndarray:
    if image.mode.startswith("I;16"):
        gray = (np.array(image).astype(np.uint32) * 255 + 32767) // 65535
        return np.repeat(gray.astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return np.array(Image.alpha_composite(white, rgba).convert("RGB"))
    if image.mode not in ("RGB", "RGBX", "L", "1", "P", "CMYK", "YCbCr"):
        text = f"has pixel format {image.mode}, which has no defined conversion to 8-bit RGB"
        raise DataFault(Code.E_MODE, path, stage, text)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _exif_rotated(image: Image.Image) -> bool:
    """Whether an orientation is recorded; where a PNG is not decoded yet, in front of its pixels."""
    if image.format == "PNG" and "exif" not in image.info:
        return False
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1) not in (0, 1)
    except _DECODE_ERRORS:
        return False


def _raise_decode(error: BaseException, data: bytes, path: PathLike, stage: str) -> NoReturn:
    """``E_TRUNCATED`` for a file that begins as an image and has no end, else ``E_DECODE``."""
    if isinstance(error, OSError) and is_system_error(error):
        raise system_fault(error, "reading", path) from error
    reason = str(error)
    if isinstance(error, UnidentifiedImageError):
        reason = "it is none of the accepted formats"
    format_ = next((name for magic, name in _MAGIC if data.startswith(magic)), None)
    ended = {"JPEG": b"\xff\xd9" in data[-4096:], "PNG": b"IEND" in data[-64:], None: True}[format_]
    if not ended or "truncated" in reason.lower():
        text = f"begins as {format_ or 'an image'} and ends too early after {len(data):,} bytes ({reason})"
        raise DataFault(Code.E_TRUNCATED, path, stage, text) from error
    begin = "" if format_ else f"; it begins with {data[:16]!r}"
    raise DataFault(Code.E_DECODE, path, stage, f"does not decode: {reason}{begin}") from error


def _raise_open(error: BaseException, path: PathLike, stage: str) -> NoReturn:
    """Turn an error of opening or reading into the right fault."""
    number = getattr(error, "errno", None)
    if isinstance(error, ValueError):
        raise DataFault(Code.E_PATH, repr(path), stage, f"is not a path: {error}") from error
    if is_system_error(error):
        raise system_fault(error, "reading", path) from error
    if number in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        raise DataFault(Code.E_MISSING, path, stage, "does not exist") from error
    if number in (errno.EACCES, errno.EPERM):
        raise DataFault(Code.E_PERM, path, stage, "may not be read") from error
    if number in (errno.ELOOP, errno.EISDIR):
        raise DataFault(Code.E_NOT_FILE, path, stage, str(error)) from error
    raise SystemFault(f"reading {os.fspath(path)}: {error}") from error


def _kind(mode: int) -> str:
    names = (("a folder", stat.S_ISDIR), ("a FIFO", stat.S_ISFIFO), ("a socket", stat.S_ISSOCK))
    return next((name for name, test in names if test(mode)), "a device")
