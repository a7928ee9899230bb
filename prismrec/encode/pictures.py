"""Pictures opened safely: what the world's picture folders hold, as RGB, or a reason why not.

Only the formats of ``FORMATS`` are looked for, so that no decoder runs that starts another program or is rarely used. The
size that a header claims is read before a pixel is decoded: a picture of more than ``PIXELS`` is refused.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from prismrec.encode.base import Unreadable, lacking

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
BYTES = 64 * 2**20
"""The largest file that is read."""
PIXELS = 2**26
"""The most pixels that are decoded (67 million: 8192 × 8192)."""
LONG = 8
"""Of a picture longer than this many times its width, the middle is taken: resizing it whole could fill the memory."""

MISSING, EMPTY, LARGE, BOMB = "no file", "empty file", "file too large", "too many pixels"
CORRUPT, STRANGE = "corrupt or cut short", "no picture of a known format"


@contextmanager
def guarded() -> Iterator[None]:
    """Pillow's own guard against decompression bombs refuses, and does not only warn, while this is open.

    Warnings are set for a whole process: open it in the main thread, around those that decode.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise lacking("pillow") from None
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        # what its decoders remark on odd metadata is nothing that a person can mend
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        yield


def opened(content: bytes, side: int) -> tuple[Image.Image, tuple[str, ...]]:
    """The first frame of a picture, upright, in RGB, on white where it is transparent; and what was done to get there.

    ``side``: the length that the caller will resize the shorter side to; a JPEG much larger than twice that is decoded at a
    half, a quarter or an eighth of its size, which takes a fraction of the time. Raises ``Unreadable``.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ModuleNotFoundError:
        raise lacking("pillow") from None
    if not content:
        raise Unreadable(EMPTY)
    if len(content) > BYTES:
        raise Unreadable(LARGE)
    Image.init()
    notes = []
    try:
        with Image.open(io.BytesIO(content), formats=[name for name in FORMATS if name in Image.OPEN]) as image:
            if image.width * image.height > PIXELS:
                raise Unreadable(BOMB)
            if getattr(image, "is_animated", False) and image.format != "MPO":
                notes.append("animated: first frame")
            if min(image.size) > 4 * side:
                image.draft(None, (2 * side, 2 * side))
            image.load()
            upright = ImageOps.exif_transpose(image)
            if image.getexif().get(_ORIENTATION, 1) != 1:
                notes.append("turned upright by its EXIF data")
            plain, note = _rgb(upright)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Unreadable(BOMB) from None
    except UnidentifiedImageError:
        raise Unreadable(STRANGE) from None
    except MemoryError:
        raise Unreadable(BOMB) from None
    # the decoders raise whatever their format's trouble is: OSError, SyntaxError, ValueError, struct.error, IndexError …
    except Unreadable:
        raise
    except Exception:
        raise Unreadable(CORRUPT) from None
    if note:
        notes.append(note)
    short, long = sorted(plain.size)
    if long > LONG * short:
        notes.append("very long: its middle")
        keep = LONG * short
        plain = ImageOps.fit(plain, (keep, short) if plain.width > plain.height else (short, keep))
    return plain, tuple(notes)


_ORIENTATION = 0x0112  # the tag of EXIF


def _rgb(image: Image.Image) -> tuple[Image.Image, str]:
    """In RGB, and what it was if it was anything else."""
    from PIL import Image

    if image.mode == "RGB":
        return image, ""
    if image.mode in ("1", "L"):
        return image.convert("RGB"), "greyscale"
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB"), "greyscale of more than 8 bits"
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        above = image.convert("RGBA")
        below = Image.new("RGBA", above.size, "white")
        return Image.alpha_composite(below, above).convert("RGB"), "transparent: on white"
    if image.mode == "P":
        return image.convert("RGB"), "palette"
    return image.convert("RGB"), "CMYK" if image.mode == "CMYK" else f"colours as {image.mode}"


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Integers of 16 bits by their upper half; others stretched from their least to their largest value."""
    if values.dtype == np.uint16 or (values.dtype.kind == "i" and 255 < values.max(initial=0) < 65536):
        return (values.clip(0) >> 8).astype(np.uint8)
    values = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    low, high = values.min(initial=0), values.max(initial=0)
    return np.asarray((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
