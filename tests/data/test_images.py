"""The one image reader: every defined conversion, every refusal, and the machine's faults kept apart."""

import builtins
import errno
import hashlib
import io
import os
import struct
import zlib
from collections import Counter
from unittest import mock

import numpy as np
import pytest
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngImageFile

from wsis.data import images
from wsis.data.images import file_stamp, read_image, read_image_info, read_index_map
from wsis.errors import Code, ConfigError, DataFault, SystemFault

RNG = np.random.default_rng(0)
COLORS = RNG.integers(0, 256, (13, 17, 3), dtype=np.uint8)
GRAY = RNG.integers(0, 256, (13, 17), dtype=np.uint8)


def save(path, array_or_image, **options):
    image = array_or_image if isinstance(array_or_image, Image.Image) else Image.fromarray(array_or_image)
    image.save(path, **options)
    return path


def smooth(height=60, width=90):
    y, x = np.mgrid[:height, :width]
    return np.stack([(y * 3) % 256, (x * 2) % 256, (x + y) % 256], axis=2).astype(np.uint8)


def png_header(width, height, bits=8, color=2):
    """A PNG that claims a size and has almost no content."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    content = chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + content


def fault(path, function=read_image, **options):
    with pytest.raises(DataFault) as caught:
        function(path, **options)
    assert caught.value.stage == options.get("stage", "read")
    return caught.value.code


def test_png_is_exact_whatever_it_is_called(tmp_path):
    path = save(tmp_path / "x.jpg", COLORS, format="PNG")
    image = read_image(path)
    assert image.dtype == np.uint8
    assert np.array_equal(image, COLORS)
    info = read_image_info(path)
    assert (info.height, info.width, info.format, info.mode) == (13, 17, "PNG", "RGB")
    assert not info.exif_rotated


def test_jpeg_equals_pillow(tmp_path):
    path = save(tmp_path / "x.jpg", smooth(), quality=80)
    assert np.array_equal(read_image(path), np.array(Image.open(path)))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 2)])
def test_tiny_images_are_images(tmp_path, size):
    array = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    path = save(tmp_path / "x.png", array)
    assert np.array_equal(read_image(path), array)
    assert fault(path, min_side=min(size) + 1) == Code.E_TOO_SMALL
    assert read_image(path, min_side=min(size)).shape == (*size, 3)


def test_gray_and_one_bit(tmp_path):
    assert np.array_equal(read_image(save(tmp_path / "l.png", GRAY)), np.repeat(GRAY[:, :, None], 3, 2))
    bits = Image.fromarray(GRAY > 99)
    assert np.array_equal(read_image(save(tmp_path / "b.png", bits))[:, :, 1], np.uint8(255) * (GRAY > 99))


def test_sixteen_bit_gray_is_scaled_not_saturated(tmp_path):
    values = np.array([[0, 1, 128, 129, 255, 256, 257, 40000, 65535]], dtype=np.uint16)
    read = read_image(save(tmp_path / "x.png", values))
    assert np.array_equal(read[0, :, 0], np.floor(values[0] * np.float64(255 / 65535) + 0.5).astype(np.uint8))
    assert read[0, -2, 0] == 156


def test_sixteen_bit_color_keeps_the_high_byte(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + struct.pack(">6H", 0x1234, 0xFFFF, 0, 0x80FF, 0x8000, 0x7FFF)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    data += chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(data)
    assert read_image(tmp_path / "x.png").tolist() == [[[0x12, 255, 0], [0x80, 0x80, 0x7F]]]


def test_transparency_is_composited_on_white(tmp_path):
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, :] = [[200, 100, 0, 255], [200, 100, 0, 0], [0, 0, 0, 51]]
    read = read_image(save(tmp_path / "x.png", rgba))
    assert read[0].tolist() == [[200, 100, 0], [255, 255, 255], [204, 204, 204]]
    la = Image.merge("LA", [Image.fromarray(rgba[:, :, 0]), Image.fromarray(rgba[:, :, 3])])
    assert read_image(save(tmp_path / "la.png", la))[0, 1].tolist() == [255, 255, 255]


def test_palette_is_looked_up_also_with_a_transparent_entry(tmp_path):
    index = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8))
    index.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    assert read_image(save(tmp_path / "x.png", index))[0].tolist() == [
        [10, 20, 30],
        [40, 50, 60],
        [70, 80, 90],
    ]
    read = read_image(save(tmp_path / "t.png", index, transparency=1))
    assert read[0].tolist() == [[10, 20, 30], [255, 255, 255], [70, 80, 90]]


def test_cmyk(tmp_path):
    path = save(tmp_path / "x.jpg", Image.fromarray(smooth()).convert("CMYK"), quality=95)
    read = read_image(path)
    assert read.shape == (60, 90, 3)
    assert np.array_equal(read, np.array(Image.open(path).convert("RGB")))


def test_notes_count_conversions_and_ignored_rotation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    rotated = save(tmp_path / "r.jpg", smooth(), exif=exif)
    notes = Counter()
    assert read_image(rotated, notes=notes).shape == (60, 90, 3)
    read_image(save(tmp_path / "l.png", GRAY), notes=notes)
    assert notes["exif_rotated"] == 1
    assert notes["from_L"] == 1
    assert read_image_info(rotated).exif_rotated


def test_animated_and_float_and_other_formats_are_refused(tmp_path):
    frames = [Image.fromarray(COLORS), Image.fromarray(255 - COLORS)]
    animated = tmp_path / "a.png"
    frames[0].save(animated, save_all=True, append_images=frames[1:])
    assert fault(animated) == Code.E_MODE
    tiff = save(tmp_path / "f.tif", Image.fromarray(GRAY.astype(np.float32)))
    assert fault(tiff) == Code.E_DECODE
    assert fault(tiff, formats=("TIFF",)) == Code.E_MODE
    rgb = save(tmp_path / "c.tif", COLORS)
    assert np.array_equal(read_image(rgb, formats=("JPEG", "TIFF")), COLORS)
    assert fault(save(tmp_path / "x.bmp", COLORS)) == Code.E_DECODE
    assert fault(save(tmp_path / "x.gif", GRAY)) == Code.E_DECODE


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 4000, b"<!DOCTYPE html><title>404</title>", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"{}"],
)
def test_what_is_no_image(tmp_path, content):
    (tmp_path / "x.jpg").write_bytes(content)
    expected = Code.E_TRUNCATED if content[:1] in (b"\xff", b"\x89") else Code.E_DECODE
    assert fault(tmp_path / "x.jpg") == expected
    if content:
        assert fault(tmp_path / "x.jpg", read_image_info) == expected


@pytest.mark.parametrize(
    "options", [{"format": "JPEG"}, {"format": "JPEG", "progressive": True}, {"format": "PNG"}]
)
def test_truncated_anywhere_is_refused_or_whole(tmp_path, options):
    path = save(tmp_path / "x", smooth(24, 36), **options)
    data, whole = path.read_bytes(), read_image(path)
    codes = Counter()
    for length in sorted({*range(2, len(data), 37), *range(len(data) - 40, len(data))}):
        path.write_bytes(data[:length])
        try:
            read = read_image(path)
        except DataFault as found:
            codes[found.code] += 1
        else:
            assert np.array_equal(read, whole), length
            codes["whole"] += 1
    assert codes[Code.E_TRUNCATED] >= sum(codes.values()) - 6
    assert codes[Code.E_DECODE] <= 2


def test_flipped_bits_give_a_fault_or_an_image_never_a_crash(tmp_path):
    path = tmp_path / "x"
    for options in ({"format": "JPEG"}, {"format": "PNG"}):
        data = save(path, smooth(24, 36), **options).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        for trial in range(150):
            rng = np.random.default_rng(trial)
            broken = bytearray(data)
            for position in rng.integers(0, len(data), 3):
                broken[position] ^= 1 << int(rng.integers(0, 8))
            path.write_bytes(broken)
            code = None
            try:
                read_image(path)
            except DataFault as found:
                code = found.code
            assert code in (None, Code.E_DECODE, Code.E_TRUNCATED, Code.E_TOO_LARGE, Code.E_MODE)
            if bytes(broken) != data:
                assert fault(path, sha256=digest) == Code.E_HASH
        path.write_bytes(data)
        assert read_image(path, sha256=digest.upper()).shape == (24, 36, 3)


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (16_385, 10), (10, 16_385), (8_000, 8_001)])
def test_bombs_are_refused_from_the_header(tmp_path, width, height):
    (tmp_path / "x.png").write_bytes(png_header(width, height))
    assert fault(tmp_path / "x.png") == Code.E_TOO_LARGE
    assert fault(tmp_path / "x.png", read_image_info) == Code.E_TOO_LARGE


def test_the_largest_sizes_pass_the_header(tmp_path):
    for width, height in ((8_000, 8_000), (16_384, 3_906)):
        (tmp_path / "x.png").write_bytes(png_header(width, height))
        assert read_image_info(tmp_path / "x.png").width == width
        assert fault(tmp_path / "x.png") in (Code.E_TRUNCATED, Code.E_DECODE)


def test_too_many_bytes_and_text_bombs(tmp_path, monkeypatch):
    path = save(tmp_path / "x.png", COLORS)
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 100)
    assert fault(path) == Code.E_TOO_LARGE
    monkeypatch.undo()
    data = path.read_bytes()
    body = b"zTXt" + b"a\0\0" + zlib.compress(b"\0" * (1 << 23))
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    path.write_bytes(data[:33] + chunk + data[33:])
    assert fault(path) == Code.E_DECODE


def test_paths_that_are_no_files(tmp_path):
    assert fault(tmp_path / "nothing.jpg") == Code.E_MISSING
    assert fault(tmp_path) == Code.E_NOT_FILE
    os.mkfifo(tmp_path / "fifo.jpg")
    assert fault(tmp_path / "fifo.jpg") == Code.E_NOT_FILE
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert fault(tmp_path / "a") == Code.E_NOT_FILE
    (tmp_path / "file").write_text("x")
    assert fault(tmp_path / "file" / "x.jpg") == Code.E_MISSING
    assert fault(tmp_path / ("n" * 300)) == Code.E_MISSING
    assert fault("a\0b") == Code.E_PATH


def _refuse_open(monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(builtins, "open", refuse)


def test_permission_is_a_data_fault(tmp_path, monkeypatch):
    path = save(tmp_path / "x.png", COLORS)
    _refuse_open(monkeypatch, errno.EACCES)
    assert fault(path) == Code.E_PERM


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENOMEM, errno.ESTALE, errno.ENFILE])
@pytest.mark.parametrize("function", [read_image, read_index_map, read_image_info])
def test_faults_of_the_machine_are_never_a_bad_image(tmp_path, monkeypatch, number, function):
    path = save(tmp_path / "x.png", GRAY)
    _refuse_open(monkeypatch, number)
    with pytest.raises(SystemFault, match=r"x\.png"):
        function(path)


def test_no_memory_is_a_system_fault(tmp_path, monkeypatch):
    path = save(tmp_path / "x.png", COLORS)

    def refuse(self):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    with pytest.raises(SystemFault):
        read_image(path)


def test_a_file_that_changed_is_named(tmp_path):
    path = save(tmp_path / "x.png", COLORS)
    stamp = file_stamp(path)
    assert read_image(path, stamp=stamp).shape == (13, 17, 3)
    save(path, GRAY)
    assert fault(path, stamp=stamp) == Code.E_CHANGED


def test_grey_filling_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "x.png", COLORS)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ConfigError, match="LOAD_TRUNCATED_IMAGES"):
        read_image(path)


class TestIndexMaps:
    values = np.array([[0, 1, 2], [20, 255, 3]], dtype=np.uint8)

    def test_palette_and_gray_are_numbers(self, tmp_path):
        gray = save(tmp_path / "l.png", self.values)
        image = Image.fromarray(self.values)
        image.putpalette(bytes(range(256)) * 3)
        for path in (gray, save(tmp_path / "p.png", image)):
            read = read_index_map(path, 20, size=(2, 3))
            assert read.dtype == np.uint8
            assert np.array_equal(read, self.values)

    @pytest.mark.parametrize("bits", [1, 2, 4])
    @pytest.mark.parametrize("color", [0, 3])
    def test_few_bits_are_not_stretched(self, tmp_path, bits, color):
        values = np.arange(8) % (1 << bits)
        packed = np.packbits(((values[:, None] >> np.arange(bits)[::-1]) & 1).astype(np.uint8).reshape(-1))

        def chunk(kind, data):
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 1, bits, color, 0, 0, 0))
        if color == 3:
            data += chunk(b"PLTE", bytes(range(3 << bits)))
        data += chunk(b"IDAT", zlib.compress(b"\0" + packed.tobytes())) + chunk(b"IEND", b"")
        (tmp_path / "x.png").write_bytes(data)
        assert read_index_map(tmp_path / "x.png").tolist() == [values.tolist()]

    def test_sixteen_bits_do_not_wrap(self, tmp_path):
        values = np.array([[0, 300, 65535]], dtype=np.uint16)
        read = read_index_map(save(tmp_path / "x.png", values))
        assert read.dtype == np.uint16
        assert np.array_equal(read, values)
        assert fault(tmp_path / "x.png", read_index_map, num_classes=20) == Code.E_RANGE

    def test_values_at_the_bound(self, tmp_path):
        path = save(tmp_path / "x.png", self.values)
        assert read_index_map(path, 20).max() == 255
        with pytest.raises(DataFault, match=r"holds the values 20; expected 0\.\.19 or 255") as caught:
            read_index_map(path, 19)
        assert caught.value.code == Code.E_RANGE
        with pytest.raises(ValueError, match="num_classes"):
            read_index_map(path, 255)

    def test_size_must_be_that_of_the_image(self, tmp_path):
        path = save(tmp_path / "x.png", self.values)
        assert fault(path, read_index_map, size=(3, 2)) == Code.E_SHAPE

    def test_color_and_lossy_files_are_refused(self, tmp_path):
        assert fault(save(tmp_path / "c.png", COLORS), read_index_map) == Code.E_MODE
        assert fault(save(tmp_path / "l.jpg", GRAY), read_index_map) == Code.E_MODE
        assert fault(tmp_path / "none.png", read_index_map, stage="mask") == Code.E_MISSING

    def test_truncated(self, tmp_path):
        path = save(tmp_path / "x.png", GRAY)
        path.write_bytes(path.read_bytes()[:-40])
        assert fault(path, read_index_map) == Code.E_TRUNCATED


def test_mpo_takes_the_first_picture(tmp_path):
    path = tmp_path / "x.jpg"
    first = Image.fromarray(smooth())
    try:
        first.save(path, format="MPO", save_all=True, append_images=[Image.fromarray(255 - smooth())])
    except (KeyError, ValueError):
        pytest.skip("this Pillow does not write MPO")
    assert np.abs(read_image(path).astype(int) - smooth()).mean() < 12
    assert io.BytesIO(path.read_bytes()).read(2) == b"\xff\xd8"


def test_the_header_of_a_png_is_read_without_its_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "r.png", smooth(), exif=exif)
    assert read_image_info(path).exif_rotated
    data = (tmp_path / "r.png").read_bytes()
    start = data.index(b"IDAT")
    (tmp_path / "r.png").write_bytes(data[: start + 20])
    assert read_image_info(path).exif_rotated
    plain = save(tmp_path / "p.png", smooth())
    with mock.patch.object(PngImageFile, "load", side_effect=AssertionError("decoded")):
        assert not read_image_info(plain).exif_rotated
