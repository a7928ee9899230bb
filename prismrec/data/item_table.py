"""What of a table of items is known by its name: the columns that hold texts, and those that name pictures."""

from __future__ import annotations

TEXT = (
    "title", "name", "brand", "category", "categories", "genres", "director", "actors", "description", "plot", "text",
)  # fmt: skip
"""Columns that are joined to the text of an item, those that exist, in this order; where none says anything it has no text."""

PICTURE = ("picture", "image", "poster", "image_file", "picture_file", "poster_file", "image_path")
"""Columns that hold names of picture files, the first that is there."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
"""How the name of a picture file ends, in small letters."""
