"""Pictures of every kind that folders hold: opened, or refused with the reason."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from encoding import as_bytes, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from prismrec.encode import pictures
from prismrec.encode.base import Unreadable


def seen(content: bytes, side: int = 32) -> tuple[Image.Image, tuple[str, ...]]:
    with pictures.guarded():
        return pictures.opened(content, side)


def refused(content: bytes) -> str:
    with pytest.raises(Unreadable) as why:
        seen(content)
    return str(why.value)


def test_a_plain_picture_is_itself() -> None:
    image, notes = seen(as_bytes(picture(1)))
    assert notes == () and image.mode == "RGB" and np.array_equal(np.asarray(image), np.asarray(picture(1)))


def test_other_colours_become_rgb_and_are_counted() -> None:
    red = Image.new("RGB", (30, 20), (200, 10, 10))
    for mode, format, note in (("L", "PNG", "greyscale"), ("1", "PNG", "greyscale"), ("CMYK", "JPEG", "CMYK"),
                               ("P", "GIF", "palette"), ("I;16", "PNG", "greyscale of more than 8 bits")):  # fmt: skip
        made = Image.fromarray(np.full((20, 30), 40_000, np.uint16)) if mode == "I;16" else red.convert(mode)
        image, notes = seen(as_bytes(made, format))
        assert (image.mode, image.size, notes) == ("RGB", (30, 20), (note,)), mode
    deep, _ = seen(as_bytes(Image.fromarray(np.full((20, 30), 40_000, np.uint16))))
    assert np.asarray(deep).min() == np.asarray(deep).max() == 40_000 >> 8
    back, _ = seen(as_bytes(red.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(np.asarray(back).astype(int) - (200, 10, 10)).max() < 12


def test_what_is_transparent_stands_on_white() -> None:
    image, notes = seen(as_bytes(Image.new("RGBA", (8, 8), (10, 20, 30, 0))))
    assert notes == ("transparent: on white",) and np.asarray(image).min() == 255


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    for format in ("GIF", "WEBP"):
        moving = as_bytes(frames[0], format, save_all=True, append_images=frames[1:])
        image, notes = seen(moving)
        assert "animated: first frame" in notes
        assert np.asarray(image)[8, 8, 0] > 200 > 60 > np.asarray(image)[8, 8, 2]


def test_a_photograph_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image, notes = seen(as_bytes(picture(0, (40, 20)), "JPEG", exif=exif))
    assert image.size == (20, 40) and notes == ("turned upright by its EXIF data",)


def test_a_large_jpeg_is_decoded_small() -> None:
    image, _ = seen(as_bytes(Image.new("RGB", (1600, 1200), "teal"), "JPEG"))
    assert image.size == (200, 150)  # an eighth; its shorter side is still more than 2 × 32


def test_of_a_very_long_picture_the_middle_is_taken() -> None:
    image, notes = seen(as_bytes(Image.new("RGB", (3000, 3), "navy")))
    assert image.size == (24, 3) and notes == ("very long: its middle",)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says that it is so large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(9000, 9000), (10_000, 10_000), (60_000, 60_000)])
def test_decompression_bombs_are_refused_before_a_pixel_is_decoded(size: tuple[int, int]) -> None:
    assert refused(bomb(*size)) == pictures.BOMB


def test_what_is_no_picture_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = as_bytes(picture(3, (80, 60)), "JPEG")
    assert refused(b"") == pictures.EMPTY
    assert refused(b"<html>404 Not Found</html>") == pictures.STRANGE
    assert refused(whole[: len(whole) // 2]) == pictures.CORRUPT
    assert (
        refused(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == pictures.STRANGE
    )  # would start another program
    monkeypatch.setattr(pictures, "BYTES", 100)
    assert refused(whole) == pictures.LARGE


ORIGINALS = [as_bytes(picture(5, (24, 18)), format) for format in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ORIGINALS), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
       st.integers(0, 2000))  # fmt: skip
def test_broken_bytes_give_a_picture_or_a_reason(original: bytes, flips: list[tuple[int, int]], cut: int) -> None:
    broken = bytearray(original[: max(cut, 1)])
    for place, value in flips:
        broken[place % len(broken)] = value
    try:
        image, _ = seen(bytes(broken))
    except Unreadable as why:
        assert str(why) in {pictures.BOMB, pictures.STRANGE, pictures.CORRUPT, pictures.EMPTY}
    else:
        assert image.mode == "RGB" and min(image.size) > 0


def test_formats_that_are_looked_for_are_read() -> None:
    for format in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"):
        file = io.BytesIO()
        picture(2).save(file, format)
        assert seen(file.getvalue())[0].size == (40, 30)
