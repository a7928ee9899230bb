"""The sheet of neighbours as a picture: a row for each item, the item itself first, then those nearest to it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prismrec.encode import pictures
from prismrec.encode.base import Unreadable
from prismrec.encode.card import Card, Shown
from prismrec.encode.pipeline import Content, read

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

_WIDE, _HIGH, _LABEL, _GAP, _MARGIN = 150, 150, 50, 14, 18
_INK, _MUTED, _PAPER, _EDGE = "#1a1e27", "#586070", "#ffffff", "#2a5bd7"


def sheet(card: Card) -> bytes:
    """The sheet as PNG."""
    from PIL import Image, ImageDraw

    columns = 1 + max((len(near) for _, near in card.neighbours), default=0)
    width = 2 * _MARGIN + columns * (_WIDE + _GAP) - _GAP
    height = 2 * _MARGIN + len(card.neighbours) * (_HIGH + _LABEL + _GAP)
    image = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(image)
    with pictures.guarded():
        for row, (query, near) in enumerate(card.neighbours):
            for column, shown in enumerate([query, *near]):
                left = _MARGIN + column * (_WIDE + _GAP)
                top = _MARGIN + row * (_HIGH + _LABEL + _GAP)
                _cell(image, draw, left, top, shown, card.contents[shown.item], column == 0)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def thumbnail(content: Content, side: int = _WIDE) -> Image.Image | None:
    """The picture of an item, at most ``side`` high and wide; nothing for a text. Within ``pictures.guarded``."""
    if not isinstance(content, Path):
        return None
    try:
        image, _ = pictures.opened(read(0, content).content, side)
    except Unreadable:
        return None
    image.thumbnail((side, side))
    return image


def _cell(
    image: Image.Image, draw: ImageDraw.ImageDraw, left: int, top: int, shown: Shown, content: Content, first: bool
) -> None:
    import matplotlib  # for its font, which knows most scripts
    from PIL import ImageFont

    small = ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), 10)
    seen = thumbnail(content)
    if seen is None:
        text = content.decode(errors="replace") if isinstance(content, bytes) else "no picture"
        draw.multiline_text((left + 6, top + 6), _wrapped(draw, text, small, _WIDE - 12, 9), _INK, small, spacing=3)
        draw.rectangle((left, top, left + _WIDE - 1, top + _HIGH - 1), outline="#dde2ea")
    else:
        image.paste(seen, (left + (_WIDE - seen.width) // 2, top + (_HIGH - seen.height) // 2))
    if first:
        draw.rectangle((left - 5, top - 5, left + _WIDE + 4, top + _HIGH + 4), outline=_EDGE, width=2)
    label = _wrapped(draw, shown.title, small, _WIDE, 2)
    draw.multiline_text((left, top + _HIGH + 8), label, _INK, small, spacing=2)
    if not first:
        said = f"cosine {shown.cosine:.2f}"
        draw.text((left, top + _HIGH + _LABEL - 13), said, _MUTED, small)


def _wrapped(draw: ImageDraw.ImageDraw, text: str, font: Any, width: int, most: int) -> str:
    """At most so many lines, each as wide as fits."""
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and draw.textlength(longer, font=font) > width:
            lines.append(line)
            line = word
        else:
            line = longer
        if len(lines) == most:
            return "\n".join([*lines[:-1], f"{lines[-1]} …"])
    return "\n".join([*lines, line])
