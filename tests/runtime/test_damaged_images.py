"""Images damaged in many ways among good ones: the good are labelled as if nothing were wrong, byte for byte, and each
damaged one is recorded with its reason.

``WSIS_DAMAGED_IMAGES=1000`` takes a thousand images, of which two to three are damaged in each way.
"""

from __future__ import annotations

import io
import os
import signal
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wsis.data import images
from wsis.data.config import DataConfig
from wsis.data.dataset import open_data
from wsis.data.scenes import SceneSet, write_scenes
from wsis.models import CamNet, IRNet, build_backbone
from wsis.runtime.shards import iterate_rows, rows_sha256
from wsis.steps import label, verify
from wsis.training.checkpoint import save_network

TOTAL = int(os.environ.get("WSIS_DAMAGED_IMAGES", "60"))
TIMEOUT = 3.0


def encoded(path: Path, mode: str = "RGB", kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.open(path).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def bomb() -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = (30_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"x")) + chunk(b"IEND", b"")


def animated(path: Path) -> bytes:
    frame = Image.open(path).convert("RGB")
    other = Image.fromarray(255 - np.array(frame))
    buffer = io.BytesIO()
    frame.save(buffer, "PNG", save_all=True, append_images=[other])
    return buffer.getvalue()


def rotated(path: Path) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(path, kind="JPEG", exif=exif)


def sixteen_bits(path: Path) -> bytes:
    gray = np.array(Image.open(path).convert("L")).astype(np.uint16) * 257
    buffer = io.BytesIO()
    Image.fromarray(gray).save(buffer, "PNG")
    return buffer.getvalue()


def float_tiff(path: Path) -> bytes:
    gray = np.array(Image.open(path).convert("L"), dtype=np.float32)
    buffer = io.BytesIO()
    Image.fromarray(gray).save(buffer, "TIFF")
    return buffer.getvalue()


def broken_inside(path: Path) -> bytes:
    data = bytearray(path.read_bytes())
    at = data.index(b"IDAT") + 20
    data[at : at + 40] = bytes(40)
    return bytes(data)


def replaced_by(make):
    """The path by something that is no regular file."""

    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def outside(path: Path) -> None:
    target = path.parents[2] / f"elsewhere-{path.name}"
    target.write_bytes(path.read_bytes())
    replaced_by(lambda place: place.symlink_to(target))(path)


CONTENT = {
    "truncated png": ("E_TRUNCATED", lambda path: path.read_bytes()[: path.stat().st_size // 2]),
    "truncated jpeg": ("E_TRUNCATED", lambda path: encoded(path, kind="JPEG")[:600]),
    "empty": ("E_DECODE", lambda path: b""),
    "zero bytes": ("E_DECODE", lambda path: bytes(2000)),
    "html": ("E_DECODE", lambda path: b"<!doctype html><title>404 Not Found</title>"),
    "bomb": ("E_TOO_LARGE", lambda path: bomb()),
    "animated": ("E_MODE", animated),
    "float tiff": ("E_DECODE", float_tiff),
    "bmp": ("E_DECODE", lambda path: encoded(path, kind="BMP")),
    "broken inside": ("E_DECODE", broken_inside),
    "jpeg called png": ("ok", lambda path: encoded(path, kind="JPEG")),
    "cmyk": ("ok", lambda path: encoded(path, "CMYK", "JPEG")),
    "gray": ("ok", lambda path: encoded(path, "L")),
    "palette": ("ok", lambda path: encoded(path, "P")),
    "transparent": ("ok", lambda path: encoded(path, "RGBA")),
    "16 bits": ("ok", sixteen_bits),
    "exif rotation": ("ok", rotated),
}
PLACES = {
    "fifo": ("E_NOT_FILE", replaced_by(os.mkfifo)),
    "folder": ("E_NOT_FILE", replaced_by(Path.mkdir)),
    "link loop": ("E_NOT_FILE", replaced_by(lambda path: path.symlink_to(path))),
    "link outside": ("E_PATH", outside),
    "gone": ("E_MISSING", Path.unlink),
}
LATER = {
    "vanishes": ("E_MISSING", Path.unlink),
    "changes": ("E_CHANGED", lambda path: path.write_bytes(path.read_bytes() + b"x")),
}
HABITS = {"permission": "E_PERM", "crash": "E_POISON", "hang": "E_POISON"}
CODES = {name: code for name, (code, _) in (CONTENT | PLACES | LATER).items()} | HABITS


@pytest.fixture(scope="module")
def nets(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("nets")
    names = list(open_data(DataConfig(kind="scenes", num=1)).categories.names)
    torch.manual_seed(0)
    save_network(folder / "cam", CamNet(build_backbone("tiny"), len(names)), {"backbone": "tiny", "categories": names})
    save_network(folder / "irnet", IRNet(build_backbone("tiny")), {"backbone": "tiny"})
    return {"cam_weights": str(folder / "cam.safetensors"), "irnet_weights": str(folder / "irnet.safetensors")}


def label_all(root: Path, out: Path, nets: dict[str, str]) -> label.Result:
    data = DataConfig(kind="voc", root=str(root), split="train")
    small = {"min_side": 32, "scales": (1.0,), "unit_size": 16, "workers": 2}
    config = label.Config(
        data=data, out=str(out), semantic=str(out / "maps"), max_faults=TOTAL, decode_timeout=TIMEOUT, **small, **nets
    )
    return label.run(config)


def spread(names: list[str]) -> dict[str, str]:
    """Image -> how it is damaged; every way at least once, far apart."""
    copies = max(1, TOTAL // 400)
    ways = list(CODES) * copies
    step = len(names) // len(ways)
    assert step >= 2, "too few images"
    return {names[number * step + 1]: way for number, way in enumerate(ways)}


def misbehave(monkeypatch, files: dict[Path, str]) -> None:
    """Opening some files is refused, or kills or holds up the process that decodes."""
    run = os.getpid()
    ways = {str(path): way for path, way in files.items()}

    def opened(path, *args, **options):
        way = ways.get(str(path))
        if way == "permission":
            raise PermissionError(13, "Permission denied", str(path))
        if way is not None:
            assert os.getpid() != run, "decoded within the run"
            os.kill(os.getpid(), signal.SIGSEGV) if way == "crash" else time.sleep(600)
        return open(path, *args, **options)

    monkeypatch.setattr(images, "open", opened, raising=False)


def test_good_images_do_not_notice(tmp_path, nets, monkeypatch):
    root = tmp_path / "voc"
    write_scenes(root, [SceneSet(TOTAL, min_side=32, max_side=40)])
    names = list(open_data(DataConfig(kind="voc", root=str(root), split="train")).ids)
    path = {name: root / "JPEGImages" / f"{name}.png" for name in names}
    clean = label_all(root, tmp_path / "clean", nets)
    assert clean.exit_code == 0
    damaged = spread(names)
    for name, way in damaged.items():
        if way in CONTENT:
            path[name].write_bytes(CONTENT[way][1](path[name]))
        elif way in PLACES:
            PLACES[way][1](path[name])
    misbehave(monkeypatch, {path[name]: way for name, way in damaged.items() if way in HABITS})
    freeze = label.freeze_inputs

    def then_damage(*args):
        frozen = freeze(*args)
        for name, way in damaged.items():
            if way in LATER:
                LATER[way][1](path[name])
        return frozen

    monkeypatch.setattr(label, "freeze_inputs", then_damage)
    start = time.monotonic()
    dirty = label_all(root, tmp_path / "dirty", nets)
    seconds = time.monotonic() - start
    want, got = ({row.image_id: row for row in iterate_rows(tmp_path / run)} for run in ("clean", "dirty"))
    assert list(got) == names
    for name in names:
        code = CODES[damaged[name]] if name in damaged else "ok"
        assert (got[name].code or "ok") == code, (name, damaged.get(name), got[name].text)
        assert (got[name].status == "skipped") == (code != "ok")
        if name not in damaged:
            assert rows_sha256([got[name]]) == rows_sha256([want[name]])
            maps = [(tmp_path / run / "maps" / f"{name}.png").read_bytes() for run in ("clean", "dirty")]
            assert maps[0] == maps[1]
    skipped = sum(CODES[way] != "ok" for way in damaged.values())
    assert (dirty.job.skipped, dirty.exit_code) == (skipped, 3)
    assert verify.run(verify.Config(run=str(tmp_path / "dirty"))).whole
    equal = TOTAL - len(damaged)
    print(
        f"{TOTAL} images, {len(damaged)} damaged in {len(CODES)} ways: {skipped} recorded, {equal} others equal, ",
        end="",
    )
    print(f"{seconds:.1f} s")
