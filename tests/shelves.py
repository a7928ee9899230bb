"""An export with a plan behind it: six kinds of items, users who like one of them, two modalities that tell the kinds apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from prismrec.data.ids import IdMap
from prismrec.export import Shelf, Side
from prismrec.export.tables import Dense, Seen

KINDS = ("shoes", "bags", "hats", "books", "lamps", "toys")


def planted(
    n_users: int = 40,
    n_items: int = 60,
    *,
    dim: int = 8,
    taken: int = 5,
    seed: int = 0,
    pictures: Path | None = None,
    number_ids: bool = False,
) -> Shelf:
    """Users ``u00000`` … and items ``i00000`` …, or numbers from 100 on."""
    rng = np.random.default_rng(seed)
    kind, likes = rng.integers(0, len(KINDS), n_items), rng.integers(0, len(KINDS), n_users)
    centres = rng.standard_normal((len(KINDS), dim))

    def drawn(which: np.ndarray, strength: float) -> np.ndarray:
        return (centres[which] * strength + rng.standard_normal((len(which), dim))).astype(np.float32)

    image, text = drawn(kind, 1.0), drawn(kind, 0.7)
    sides = {m: Side(Dense(drawn(likes, 0.8) / 8), Dense(items)) for m, items in (("image", image), ("text", text))}
    both = Dense((sides["image"].user.stored + sides["text"].user.stored) / 2)  # type: ignore[union-attr]
    sides = {"fused": Side(both, Dense((image + text) / 2)), **sides}
    seen = np.stack([np.sort(rng.choice(n_items, taken, replace=False)) for _ in range(n_users)]).astype(np.int32)
    ids = [100 + n for n in range(n_items)] if number_ids else [f"i{n:05d}" for n in range(n_items)]
    users = [100 + n for n in range(n_users)] if number_ids else [f"u{n:05d}" for n in range(n_users)]
    table = pl.DataFrame(
        {
            "item": ids,
            "title": [f"{KINDS[k].title()} number {n}" for n, k in enumerate(kind)],
            "category": [KINDS[k] for k in kind],
            "price": np.round(rng.random(n_items) * 90 + 5, 2),
        }
    )
    return Shelf(
        IdMap(pl.Series(users), "user"),
        IdMap(pl.Series(ids), "item"),
        sides,
        Seen(np.arange(n_users + 1) * taken, seen.reshape(-1)),
        np.bincount(seen.reshape(-1), minlength=n_items),
        table,
        contents={"image": Dense(image), "text": Dense(text)},
        info={"model": "planted", "data": "shop"},
        pictures=None if pictures is None else str(pictures),
    )
