"""The one writer: everything that is kept goes to disk through this file.

A file is written as ``.<name>.<host>-<pid>.tmp`` beside its target, flushed to the disk, renamed onto the target,
and the folder is flushed: at every moment the target is absent, old and whole, or new and whole. On a full
disk the temporary is removed and :class:`SystemFault` names the needed and the free bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import socket
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from wsis.errors import ConfigError, SystemFault, system_fault

__all__ = [
    "atomic_file",
    "check_file_name",
    "check_relative",
    "encode_png",
    "file_sha256",
    "fingerprint",
    "fingerprint_text",
    "make_folder",
    "remove_stale",
    "safe_join",
    "write_bytes",
    "write_json",
    "write_png",
    "write_with",
    "writer_host",
]

PathLike = str | os.PathLike[str]

_NAME_BYTES = 255
_TEMPORARY = re.compile(r"^\..+\.([0-9a-f]{8})-(\d+)\.tmp$")


def check_relative(name: str) -> str | None:
    """Why ``name`` is no safe relative path, or ``None`` if it is one.

    Refused: empty text, absolute paths, ``..`` and ``.`` parts, empty parts, backslashes, NUL and other
    control characters, parts that begin with ``-`` (other programs would take them for options), surrogates,
    and parts of more than 255 bytes.
    """
    if not isinstance(name, str) or not name:
        return "is empty"
    if any(ord(ch) < 32 or ord(ch) == 127 for ch in name):
        return "holds control characters"
    if name.startswith("/") or re.match(r"^[A-Za-z]:/", name):
        return "is an absolute path; expected one relative to the data folder"
    if "\\" in name:
        return "holds a backslash; expected / between folders"
    try:
        raw = name.encode("utf-8")
    except UnicodeEncodeError:
        return "is not valid Unicode"
    for part in raw.split(b"/"):
        if part in (b"..", b"."):
            return f"has the part {part.decode()!r}, which would leave the data folder"
        if not part:
            return "has an empty part (// or a slash at the end)"
        if part.startswith(b"-"):
            return "has a part that begins with '-'"
        if len(part) > _NAME_BYTES:
            return f"has a part of {len(part)} bytes, expected at most {_NAME_BYTES}"
    return None


def safe_join(root: PathLike, name: str) -> Path:
    """``root / name``, certain to lie inside ``root`` also after links are followed.

    Raises:
        ConfigError: see :func:`check_relative`, or a link leads outside.
    """
    reason = check_relative(name)
    if reason:
        raise ConfigError(f"path {name!r} {reason}")
    path = Path(root) / name
    base, target = os.path.realpath(root), os.path.realpath(path)
    if target != base and not target.startswith(base.rstrip(os.sep) + os.sep):
        raise ConfigError(f"path {name!r} leads through a link to {target}, outside {base}")
    return path


def check_file_name(path: PathLike) -> None:
    """``ConfigError`` if a file cannot stand at ``path`` because a folder does."""
    if Path(path).is_dir():
        raise ConfigError(f"{os.fspath(path)}: is a folder, expected the name of a file")


def make_folder(path: PathLike) -> Path:
    """Create ``path`` and its parents; ``ConfigError`` if it cannot be a folder."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(f"folder {path}: a file is in the way ({error.filename})") from error
    except PermissionError as error:
        raise ConfigError(f"folder {path}: may not be created ({error})") from error
    except OSError as error:
        raise system_fault(error, "creating", path) from error
    return path


@contextlib.contextmanager
def atomic_file(path: PathLike, needed: int | None = None) -> Iterator[IO[bytes]]:
    """A binary file that appears at ``path`` whole or not at all; a device or pipe (``/dev/stdout``) is written to.

    Args:
        path: the target; its folder must exist.
        needed: bytes that will be written, where known; named when the disk is full.

    Raises:
        ConfigError: ``path`` is a folder.
        SystemFault: writing failed; the temporary is removed and ``path`` is as it was.
    """
    path = Path(path)
    check_file_name(path)
    temporary = _temporary(path)
    try:
        if _is_device(path):
            with open(path, "wb") as file:
                yield file
            return
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _fsync_folder(path.parent)
    except OSError as error:
        _remove(temporary)
        if isinstance(error, (FileNotFoundError, NotADirectoryError)) and not path.parent.is_dir():
            raise SystemFault(f"writing {path}: its folder does not exist any more") from error
        raise system_fault(error, "writing", path, needed) from error
    except BaseException:
        _remove(temporary)
        raise


def write_with(path: PathLike, write: Callable[[Path], None]) -> None:
    """As :func:`atomic_file` for libraries that want a file name: ``write(temporary)`` makes the content."""
    path = Path(path)
    temporary = _temporary(path)
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _fsync_folder(path.parent)
    except OSError as error:
        _remove(temporary)
        raise system_fault(error, "writing", path) from error
    except BaseException:
        _remove(temporary)
        raise


def write_bytes(path: PathLike, data: bytes | bytearray | memoryview) -> None:
    """Write ``data`` to ``path``, whole or not at all."""
    with atomic_file(path, needed=len(data)) as file:
        file.write(data)


def write_json(path: PathLike, value: Any, indent: int | None = 1) -> None:
    """Write ``value`` as UTF-8 JSON; NaN and infinities are refused with ``ValueError``.

    Lone surrogates, as file names that are no UTF-8 have, stand there as JSON's escapes.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode("utf-8", "backslashreplace"))


def encode_png(array: np.ndarray, palette: np.ndarray | None = None) -> bytes:
    """PNG bytes of a picture or map.

    Args:
        array: ``[H, W, 3]`` uint8 (RGB), ``[H, W]`` uint8 or bool (indices or gray), ``[H, W]`` uint16.
        palette: ``[256, 3]`` uint8 colours for an 8-bit map.

    Raises:
        TypeError: another dtype; values are never wrapped into 8 bits.
        ValueError: another shape, or a palette with 16 bits or colours.
    """
    array = np.asarray(array)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    if array.dtype not in (np.uint8, np.uint16):
        raise TypeError(f"encode_png: array must be uint8, uint16 or bool, got {array.dtype}")
    color = array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8
    if not (color or array.ndim == 2) or 0 in array.shape:
        raise ValueError(
            f"encode_png: array must be [H, W] or [H, W, 3] uint8 and not empty, got {array.dtype} "
            f"{list(array.shape)}"
        )
    image = Image.fromarray(np.ascontiguousarray(array))
    if palette is not None:
        if array.ndim != 2 or array.dtype != np.uint8:
            raise ValueError(f"encode_png: a palette needs an [H, W] uint8 map, got {array.dtype}")
        image.putpalette(np.asarray(palette, dtype=np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def write_png(path: PathLike, array: np.ndarray, palette: np.ndarray | None = None) -> None:
    """Write :func:`encode_png` of ``array`` to ``path``."""
    write_bytes(path, encode_png(array, palette))


def file_sha256(path: PathLike) -> str:
    """Hex sha256 of a file's content."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except FileNotFoundError as error:
        raise ConfigError(f"file {os.fspath(path)} does not exist") from error
    except OSError as error:
        raise system_fault(error, "reading", path) from error
    return digest.hexdigest()


def fingerprint_text(value: Any) -> str:
    """The JSON text whose sha256 :func:`fingerprint` gives: sorted keys, no blanks."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def fingerprint(value: Mapping[str, Any]) -> str:
    """Hex sha256 over a JSON-like mapping; the order of its keys does not matter."""
    text = fingerprint_text(value)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def remove_stale(folder: PathLike, alone: bool = False) -> list[Path]:
    """Remove the temporaries below ``folder`` whose writer is gone (or is this process); what was removed.

    Args:
        folder: where to look.
        alone: nobody else writes there (an exclusive lock is held), so that those of other hosts go too.
    """
    removed = []
    for base, _, files in os.walk(folder):
        for name in files:
            match = _TEMPORARY.match(name)
            if match and _stale(match[1], int(match[2]), alone):
                path = Path(base) / name
                if _remove(path):
                    removed.append(path)
    return removed


def _is_device(path: Path) -> bool:
    """Whether ``path`` is neither a file nor a folder: a file put in its place would take it from everyone."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _temporary(path: Path) -> Path:
    """``.<name>.<host>-<pid>.tmp`` beside ``path``; a name that would be too long is shortened with a checksum."""
    end = f".{writer_host()}-{os.getpid()}.tmp"
    raw = path.name.encode("utf-8", "surrogateescape")
    if len(raw) + len(end) + 1 > _NAME_BYTES:
        short = raw[:150].decode("utf-8", "ignore")
        return path.with_name(f".{short}{zlib.crc32(raw):08x}{end}")
    return path.with_name(f".{path.name}{end}")


def writer_host() -> str:
    """Eight hex digits that tell apart the machines and containers that share a folder: a process number means
    something only within one of them."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{zlib.crc32(f'{socket.gethostname()} {space}'.encode()):08x}"


def _stale(host: str, pid: int, alone: bool) -> bool:
    return (pid == os.getpid() or not _alive(pid)) if host == writer_host() else alone


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True


def _fsync_folder(folder: Path) -> None:
    """Flush the folder's entries; file systems that cannot do that for folders are left alone."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
