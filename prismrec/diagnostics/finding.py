"""What a diagnosis comes to."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True)
class Finding:
    """One measurement: what it says, the numbers behind it, and how they look.

    ``name``: lower case, the name of the function that made it. ``says``: one to three sentences with the main numbers, in
    plain English. ``table``: flat columns, full precision. ``figures``: SVG texts as ``prismrec.figures`` makes them.
    """

    name: str
    title: str
    says: str
    table: pl.DataFrame
    figures: tuple[str, ...] = ()
