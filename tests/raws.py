"""Raw files as shops and research have them, small; and a text encoder that needs no model."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from encoding import picture

from prismrec.encode import Encoder, Kind, Ready
from prismrec.encode.handcrafted import Handcrafted


class Hashed(Encoder):
    """Counts of words by a hash: 24 numbers a text, without weights."""

    kind: ClassVar[Kind] = "text"
    name, key, width = "hashed", "0" * 32, 24

    def prepare(self, content: bytes) -> Ready:
        vector = np.zeros(self.width, np.float32)
        for word in content.split():
            vector[zlib.crc32(word) % self.width] += 1
        return Ready(vector)

    def encode(self, batch: Sequence[Any]) -> np.ndarray:
        return np.stack(batch)


def light_encoders(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """The default encoders without a model to load, and a cache of their own."""

    def load(name: str, kind: Kind, *settings: Any) -> Encoder:
        return Hashed() if kind == "text" else Handcrafted()

    monkeypatch.setattr("prismrec.encode.load", load)
    monkeypatch.setattr("prismrec.encode.features.load", load)
    monkeypatch.setenv("PRISMREC_CACHE", str(cache))


def taken(users: int, items: int, seed: int = 0, each: int = 9) -> list[tuple[int, int, int]]:
    """User, item, time: each takes mostly items of a remainder by 3 that is theirs."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        odds = np.where(np.arange(items) % 3 == user % 3, 6.0, 1.0)
        for item in rng.choice(items, each, replace=False, p=odds / odds.sum()):
            rows.append((user, int(item), int(rng.integers(1_300_000_000, 1_400_000_000))))
    return rows


def amazon(folder: Path, users: int = 30, items: int = 24) -> None:
    """``reviews.json.gz``, ``meta.json.gz`` in the loose form, ``DIR`` with a picture for most items."""
    (folder / "DIR").mkdir(parents=True)
    reviews = [
        json.dumps({"reviewerID": f"A{user:013d}", "asin": f"B{item:09d}", "overall": 5.0, "unixReviewTime": time})
        for user, item, time in taken(users, items)
    ]
    kinds = ("soft bib", "red train", "night lamp")
    products = [
        f"{{'asin': 'B{item:09d}', 'title': 'A {kinds[item % 3]} &amp; {item}', 'imUrl': 'http://host/{item}.jpg', "
        f"'categories': [['Baby', '{kinds[item % 3]}']]}}"
        for item in range(items)
    ]
    for name, lines in (("reviews", [*reviews, "{cut"]), ("meta", products)):
        (folder / f"{name}.json.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    for item in range(items - 3):
        picture(item % 3).save(folder / "DIR" / f"B{item:09d}.jpg")
    (folder / "DIR" / f"B{items - 3:09d}.jpg").write_bytes(b"no picture")


def movielens(folder: Path, users: int = 40, items: int = 30) -> None:
    """``u.data`` and ``u.item`` as published, plots in ``items.tsv``, ``posters``."""
    (folder / "posters").mkdir(parents=True)
    rows = [f"{user + 1}\t{item + 1}\t{item % 5 + 1}\t{time}" for user, item, time in taken(users, items, each=11)]
    (folder / "u.data").write_text("\n".join(rows))
    flags = [["1" if genre == item % 3 + 1 else "0" for genre in range(19)] for item in range(items)]
    films = [f"{item + 1}|Film {item} (1990)|01-Jan-1990||http://x|{'|'.join(flags[item])}" for item in range(items)]
    (folder / "u.item").write_bytes("\n".join(films).encode("latin-1"))
    words = ("a cowboy rides", "two hearts meet", "the ship explodes")
    plots = [f"{item + 1}\t{words[item % 3]} in film {item}\t{item + 1}.jpg" for item in range(items - 1)]
    (folder / "items.tsv").write_text("\n".join(["movie_id\tplot\tposter_file", *plots]))
    for item in range(items - 2):
        picture(item % 3).save(folder / "posters" / f"{item + 1}.jpg")
