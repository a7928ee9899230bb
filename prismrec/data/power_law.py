"""Interactions of any size whose popularity follows power laws, written as a stream: memory does not grow with them.

Rows are drawn in blocks, each with a generator of its own made of seed and number, so that a drawing that was cut short goes
on with the blocks that are missing and ends in the same bytes. The r-th most active user takes a row with probability ∝
r^-``user_skew``, an item likewise with ``item_skew`` (Zipf's law; 0 is uniform), and ranks are dealt out to ids by an affine
map modulo their number. Each user has a taste, one of ``groups``: with probability ``loyalty`` a row's item is moved to the
nearest rank in that group, and features lie around the group's centre. So there is something to learn, from both sides.

A pair can be drawn twice, as in a log; rows are in the order of time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from prismrec import io
from prismrec.errors import PrismError

BLOCK = 1 << 23
"""Rows of a file; a part of what is drawn, like the seed."""
_FEATURES = 8192  # items drawn at a time
_LATENT = 32  # factors behind features: real ones have fewer degrees of freedom than columns
_LARGEST = 2**31 - 2  # of internal ids
_RECORD = "draw.json"
_YEAR = 31_536_000
_START = 1_700_000_000

Told = Callable[[str, int, int], None]
"""(what is drawn, how much of it is there, of how much)."""


@dataclass(frozen=True)
class PowerLaw:
    """What to draw: counts, widths of features by modality, skews in [0, 1), the share of rows that follow taste in [0, 1].

    ``noise``: standard deviation of white noise on features, whose signal has variance one.
    """

    users: int
    items: int
    interactions: int
    features: Mapping[str, int] = field(default_factory=dict)
    user_skew: float = 0.3
    item_skew: float = 0.7
    groups: int = 200
    loyalty: float = 0.5
    noise: float = 0.2
    seed: int = 0

    def check(self) -> None:
        """Raise ``PrismError`` for what cannot be drawn."""
        for what, n in (("users", self.users), ("items", self.items), ("interactions", self.interactions)):
            if not 1 <= n <= _LARGEST:
                raise PrismError(f"{n:,} {what} were asked for; expected 1 to {_LARGEST:,}.")
        for what, skew in (("users", self.user_skew), ("items", self.item_skew)):
            if not 0 <= skew < 1:
                raise PrismError(f"The skew of {what} is {skew:g}; expected a number from 0 (uniform) to below 1.")
        for what, share in (("loyalty", self.loyalty), ("noise", self.noise)):
            if not 0 <= share <= 1:
                raise PrismError(f"The {what} is {share:g}; expected a number in [0, 1].")
        for name, width in self.features.items():
            if width < 1:
                raise PrismError(f"Modality {name!r} is {width} wide; give its features a width of at least 1.")
        if self.groups < 1:
            raise PrismError(f"{self.groups} groups of items were asked for; expected at least 1.")


def write(spec: PowerLaw, folder: Path, told: Told = lambda what, done, of: None) -> Path:
    """Draw ``spec`` into ``folder``: ``interactions.N.parquet`` (user, item, timestamp), ``items.parquet``, ``M_feat.npy``.

    ``prismrec.read`` reads the folder. One that holds a part of the same drawing is gone on with; any other that is not
    empty is refused with ``PrismError``.
    """
    spec.check()
    record = {"drawn": "power law", "block": BLOCK, **asdict(spec), "features": dict(spec.features)}
    if not io.vacant(folder) and (not (folder / _RECORD).is_file() or io.read_json(folder / _RECORD) != record):
        raise PrismError(
            f"{folder} exists and holds no part of this very drawing: name another folder, or draw what was begun."
        )
    folder.mkdir(parents=True, exist_ok=True)
    io.write_json(folder / _RECORD, record)
    io.remove_parts(folder)
    blocks = math.ceil(spec.interactions / BLOCK)
    digits = len(str(blocks - 1))
    for number in range(blocks):
        told("interactions", number * BLOCK, spec.interactions)
        path = folder / f"interactions.{number:0{digits}}.parquet"
        if not path.exists():
            with io.atomic(path) as part:
                rows(spec, number).write_parquet(part, row_group_size=1 << 20)
    told("interactions", spec.interactions, spec.interactions)
    with io.atomic(folder / "items.parquet") as part:
        pl.DataFrame({"item": np.arange(spec.items)}).write_parquet(part)
    for position, (name, width) in enumerate(spec.features.items()):
        if not (folder / f"{name}_feat.npy").exists():
            with io.atomic(folder / f"{name}_feat.npy") as part:
                _features(spec, position, name, width, part, told)
    return folder


def rows(spec: PowerLaw, number: int) -> pl.DataFrame:
    """Block ``number`` of the interactions: user, item, timestamp (seconds, rising), int64."""
    first = number * BLOCK
    n = min(BLOCK, spec.interactions - first)
    rng = np.random.default_rng([spec.seed, 0, number])
    user = _ranks(rng.random(n), spec.users, spec.user_skew)
    item = _ranks(rng.random(n), spec.items, spec.item_skew)
    groups = _groups(spec)
    taste = _dealt(user, spec.users, spec.seed + 1) % groups
    own = item - item % groups + taste
    own[own >= spec.items] -= groups
    item = np.where(rng.random(n) < spec.loyalty, own, item)
    time = _START + (np.arange(first, first + n) * (_YEAR / spec.interactions)).astype(np.int64)
    return pl.DataFrame(
        {
            "user": _dealt(user, spec.users, spec.seed),
            "item": _dealt(item, spec.items, spec.seed),
            "timestamp": time,
        }
    )


def _groups(spec: PowerLaw) -> int:
    return max(1, min(spec.groups, spec.items // 10))


def _ranks(x: np.ndarray, n: int, skew: float) -> np.ndarray:
    """Uniform numbers in [0, 1) → ranks 0..n-1, rank r with probability ∝ about (r + 1)^-``skew``."""
    ranks: np.ndarray = np.minimum(n * x ** (1 / (1 - skew)), n - 1).astype(np.int64)
    return ranks


def _dealt(ranks: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Ranks → ids: r ↦ (a r + b) mod n with a and n coprime."""
    a, b = _affine(n, seed)
    dealt: np.ndarray = (ranks * a + b) % n
    return dealt


def _affine(n: int, seed: int) -> tuple[int, int]:
    rng = np.random.default_rng([seed, 1])
    a = int(rng.integers(n // 2, n)) or 1
    while math.gcd(a, n) > 1:
        a += 1
    return a % n or 1, int(rng.integers(n))


def _features(spec: PowerLaw, position: int, name: str, width: int, path: Path, told: Told) -> None:
    """float32 (I, width), a block of items at a time: latent factors around the centre of an item's group, mixed, and noise."""
    groups = _groups(spec)
    rng = np.random.default_rng([spec.seed, 2, position])
    centres = rng.standard_normal((groups, _LATENT), dtype=np.float32)
    mixing = rng.standard_normal((_LATENT, width), dtype=np.float32) / np.float32(math.sqrt(2 * _LATENT))
    a, b = _affine(spec.items, spec.seed)
    back = pow(a, -1, spec.items) if spec.items > 1 else 0
    with path.open("wb") as file:  # written, not mapped: pages of a map would count as memory
        header = {"descr": "<f4", "fortran_order": False, "shape": (spec.items, width)}
        np.lib.format.write_array_header_2_0(file, header)
        for start in range(0, spec.items, _FEATURES):
            told(f"features of {name}", start, spec.items)
            ids = np.arange(start, min(start + _FEATURES, spec.items))
            group = (ids - b) * back % spec.items % groups
            rng = np.random.default_rng([spec.seed, 3, position, start])
            latent = centres[group] + rng.standard_normal((len(ids), _LATENT), dtype=np.float32)
            noise = rng.standard_normal((len(ids), width), dtype=np.float32)
            file.write((latent @ mixing + np.float32(spec.noise) * noise).astype("<f4").data)
    told(f"features of {name}", spec.items, spec.items)
