"""Final representations with ids and seen items: all that is needed to recommend, without the data set.

On disk an index is a folder. ``manifest.json`` names its files with their checksums and is replaced last, in one step: a
save that is interrupted leaves the earlier index as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from prismrec import io
from prismrec.data.dataset import Dataset
from prismrec.data.ids import IdMap
from prismrec.errors import PrismError, first_fault, nearest
from prismrec.ranking import Csr, Ranked, top_k
from prismrec.sides import Side, folded, gram, own, packed, paired, stacked, trained, unit, unpacked
from prismrec.types import Reps

FORMAT = 1
MANIFEST = "manifest.json"
FUSED = "fused"
_SCORE_BLOCK = 4096

Ids = Sequence[Any] | pl.Series | np.ndarray


class _Manifest(BaseModel):
    """``sides``: name of a pair of sides → names of its two tensors; ``files``: kind → file name and SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: int
    generation: int
    users: int
    items: int
    sides: dict[str, tuple[str, str]]
    info: dict[str, Any]
    files: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Index:
    """Who is recommended what.

    ``sides``: ``"fused"`` and each modality → (U, d), (I, d) float32, dense or sparse CSR; ``seen``: the items of each
    user that are left out unless asked for; ``item_table``: what is known of items, in internal order; ``info``: where
    it came from.
    """

    sides: Mapping[str, Side]
    users: IdMap
    items: IdMap
    seen: Csr
    item_table: pl.DataFrame = field(default_factory=pl.DataFrame)
    info: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(
        reps: Reps,
        dataset: Dataset,
        parts: Sequence[str] = ("train", "valid", "test"),
        info: Mapping[str, Any] | None = None,
    ) -> Index:
        """From final representations of a data set; items of these ``parts`` count as seen."""
        kept: dict[int, Tensor] = {}

        def keep(side: Tensor) -> Tensor:
            if id(side) not in kept:
                kept[id(side)] = own(side)
            return kept[id(side)]

        sides = {FUSED: (keep(reps.user), keep(reps.item.values))}
        sides |= {m: (keep(user), keep(item.values)) for m, (user, item) in reps.modal.items()}
        known = dataset.interactions
        if known.split is not None:
            known = known.part(*parts)
        seen = Csr.of(known.user, known.item, dataset.n_users)
        source = {"data": dataset.name, "data_fingerprint": dataset.fingerprint}
        return Index(sides, dataset.users, dataset.items, seen, dataset.item_table, {**source, **(info or {})})

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities that have sides of their own."""
        return tuple(name for name in self.sides if name != FUSED)

    def recommend(
        self, user_ids: Ids, k: int = 10, exclude_seen: bool = True, modality: str | None = None
    ) -> pl.DataFrame:
        """The ``k`` best items of each user: columns user, rank (from 1), item, score, and title where known.

        ``modality``: by that modality alone. A user with fewer than ``k`` unseen items gets a shorter list.
        Raises ``PrismError`` for an unknown user or modality, and for k outside 1..I.
        """
        return self._recommend(_rows(self.users, user_ids), k, exclude_seen, modality)

    def recommend_all(
        self, k: int = 10, exclude_seen: bool = True, modality: str | None = None, block: int = 1 << 16
    ) -> Iterator[pl.DataFrame]:
        """The same for everybody, in tables of ``block`` users at a time."""
        for start in range(0, len(self.users), block):
            rows = torch.arange(start, min(start + block, len(self.users)))
            yield self._recommend(rows, k, exclude_seen, modality)

    def recommend_for(
        self, item_ids: Ids, k: int = 10, exclude_given: bool = True, modality: str | None = None
    ) -> pl.DataFrame:
        """The ``k`` best items for somebody who took ``item_ids``: columns rank (from 1), item, score, and title where known.

        He need not be a known user: his side is made of the items' (``prismrec.sides.folded``). ``exclude_given``: leave
        those items out. Raises ``PrismError`` for an unknown item or modality, no item at all, and k outside 1..I.
        """
        self._check(k)
        rows = _rows(self.items, item_ids).unique()
        if not len(rows):
            raise PrismError("recommend_for() got no items; name at least one that was taken.")
        user, item = self._side(modality)
        somebody = folded(user, item, rows, self._gram(modality or FUSED))
        given = Csr(torch.tensor([0, len(rows)]), rows)
        ranked = top_k(somebody, item, k, given if exclude_given else None)
        asked = ("user", IdMap(pl.Series(["somebody"]), "user"), torch.zeros(1, dtype=torch.int64))
        return self._table(ranked, asked, "item").drop("user")

    def with_items(self, ids: Ids, more: Mapping[str, Tensor], table: pl.DataFrame | None = None) -> Index:
        """The same index with n items more at its end; scores of the others stay what they are, bit for bit.

        ``more``: name of a pair of sides → the items' side (n, d), all that this index has. ``table``: what is known of the
        new items, a row for each in order; columns that it lacks are null. Raises ``PrismError`` for ids that are known.
        """
        known = self.items.external
        new = self.items.new(ids)
        parts = {name: (user, stacked(item, more[name])) for name, (user, item) in self.sides.items()}
        rows = pl.DataFrame({"item": new})
        if table is not None:
            if len(table) != len(new):
                raise PrismError(
                    f"The table of new items has {len(table):,} rows for {len(new):,} items; give one for each."
                )
            rows = rows.hstack(table.drop("item", strict=False))
        held = self.item_table.drop("item", strict=False).insert_column(0, known.alias("item"))
        items = pl.concat([held, rows], how="diagonal_relaxed")
        info = {**self.info, "added_items": int(self.info.get("added_items", 0)) + len(new)}
        return Index(parts, self.users, IdMap(pl.concat([known, new]), "item"), self.seen, items, info)

    def similar(self, item_ids: Ids, k: int = 10, modality: str | None = None) -> pl.DataFrame:
        """The ``k`` items most like each item: columns item, rank (from 1), similar, score, and title where known.

        The score is the cosine of the two representations, of that ``modality`` where one is named. Where users are rows
        of the training matrix (ItemKNN, EASE) it is instead what having taken the item adds to the other's score.
        Raises ``PrismError`` for an unknown item or modality, and for k outside 1..I-1.
        """
        if not 1 <= k < len(self.items):
            raise PrismError(
                f"k is {k}, but an item has {len(self.items) - 1:,} others; ask for k from 1 to that number."
            )
        rows = _rows(self.items, item_ids)
        itself = Csr(torch.arange(len(rows) + 1), rows)
        user, item = self._side(modality)
        if user.layout == torch.sparse_csr:
            ones = Csr(itself.indptr, trained(rows, item.shape[1]), torch.ones(len(rows)))
            ranked = top_k(ones.tensor(item.shape[1]), item, k, itself)
        else:
            unit = self._unit(modality or FUSED)
            ranked = top_k(unit[rows], unit, k, itself)
        return self._table(ranked, ("item", self.items, rows), "similar")

    def scores(self, user_ids: Ids, item_ids: Ids, modality: str | None = None) -> pl.DataFrame:
        """Scores of pairs, the first user with the first item and so on: columns user, item, score."""
        user, item = _rows(self.users, user_ids), _rows(self.items, item_ids)
        if len(user) != len(item):
            raise PrismError(
                f"scores() got {len(user):,} users and {len(item):,} items; it needs as many of one as of the other."
            )
        pair = self._side(modality)
        score = torch.empty(len(user))
        for start in range(0, len(user), _SCORE_BLOCK):
            cut = slice(start, start + _SCORE_BLOCK)
            score[cut] = paired(*pair, user[cut], item[cut])
        columns = {"user": self.users.decode(user.numpy()), "item": self.items.decode(item.numpy())}
        return pl.DataFrame({**columns, "score": score.numpy()})

    def save(self, path: str | Path) -> None:
        """Write the index to the folder ``path``, replacing an earlier index there in one step."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        old = _read_manifest(folder) if (folder / MANIFEST).exists() else None
        generation = old.generation + 1 if old else 1
        tensors = {"seen.indptr": self.seen.indptr, "seen.indices": self.seen.indices.int()}
        names: dict[int, str] = {}
        for title, pair in self.sides.items():
            for what, side in zip(("user", "item"), pair, strict=True):
                if id(side) not in names:
                    names[id(side)] = f"{title}.{what}"
                    tensors |= packed(names[id(side)], side)
        files = {
            kind: f"{kind}.{generation}.{end}"
            for kind, end in (("reps", "safetensors"), ("users", "parquet"), ("items", "parquet"))
        }
        known = [column for column in self.item_table.columns if column != "item"]
        items = pl.DataFrame({"item": self.items.external}).with_columns([self.item_table[column] for column in known])
        digests = {"reps": io.save_tensors(folder / files["reps"], tensors)}
        for kind, frame in (("users", pl.DataFrame({"user": self.users.external})), ("items", items)):
            with io.atomic(folder / files[kind]) as part:
                frame.write_parquet(part)
                digests[kind] = io.sha256(part)
        manifest = _Manifest(
            format=FORMAT,
            generation=generation,
            users=len(self.users),
            items=len(self.items),
            sides={title: (names[id(user)], names[id(item)]) for title, (user, item) in self.sides.items()},
            info=dict(self.info),
            files={kind: (name, digests[kind]) for kind, name in files.items()},
        )
        io.write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
        for name, _ in old.files.values() if old else ():
            (folder / name).unlink(missing_ok=True)

    @staticmethod
    def load(path: str | Path) -> Index:
        """Read what ``save`` wrote. A file that is missing, cut short, changed, or a pickle is a ``PrismError``."""
        folder = Path(path)
        manifest = _read_manifest(folder)
        tensors = io.load_tensors(*_named(folder, manifest, "reps"))
        users = _read_parquet(*_named(folder, manifest, "users"))
        items = _read_parquet(*_named(folder, manifest, "items"))
        known = {name: unpacked(name, tensors) for pair in manifest.sides.values() for name in pair}
        sides = {title: (known[user], known[item]) for title, (user, item) in manifest.sides.items()}
        seen = Csr(tensors["seen.indptr"], tensors["seen.indices"].long())
        return Index(sides, IdMap(users["user"], "user"), IdMap(items["item"], "item"), seen, items, manifest.info)

    def _side(self, modality: str | None) -> Side:
        if modality is not None and modality not in self.modalities:
            hint = nearest(modality, self.modalities) if self.modalities else "It has no sides by modality."
            raise PrismError(f"This model states nothing for modality {modality!r}. {hint}")
        return self.sides[modality or FUSED]

    @cached_property
    def _units(self) -> dict[str, Tensor]:
        """Items of unit length, of each pair of sides that was asked for."""
        return {}

    def _unit(self, side: str) -> Tensor:
        """Items of unit length (I, d); an item without a direction stays zero."""
        if side not in self._units:
            self._units[side] = unit(self.sides[side][1])
        return self._units[side]

    @cached_property
    def _grams(self) -> dict[str, Tensor]:
        """YᵀY of item sides, of each pair that was asked for."""
        return {}

    def _gram(self, side: str) -> Tensor:
        if side not in self._grams:
            self._grams[side] = gram(self.sides[side][1])
        return self._grams[side]

    def _check(self, k: int) -> None:
        if not 1 <= k <= len(self.items):
            raise PrismError(
                f"k is {k}, but the catalogue has {len(self.items):,} items; ask for k from 1 to that number."
            )

    def _recommend(self, rows: Tensor, k: int, exclude_seen: bool, modality: str | None) -> pl.DataFrame:
        self._check(k)
        user, item = self._side(modality)
        ranked = top_k(user, item, k, self.seen if exclude_seen else None, rows)
        return self._table(ranked, ("user", self.users, rows), "item")

    def _table(self, ranked: Ranked, asked: tuple[str, IdMap, Tensor], what: str) -> pl.DataFrame:
        """Lists on external ids, without the places that stayed empty."""
        name, ids, rows = asked
        n, k = ranked.items.shape
        filled = (ranked.items >= 0).reshape(-1).numpy()
        item = ranked.items.reshape(-1).numpy()[filled]
        columns: dict[str, Any] = {
            name: ids.decode(np.repeat(rows.numpy(), k)[filled]),
            "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), n)[filled],
            what: self.items.decode(item),
            "score": ranked.scores.reshape(-1).numpy()[filled],
        }
        if "title" in self.item_table.columns:
            columns["title"] = self.item_table["title"].gather(item)
        return pl.DataFrame(columns)


def _rows(known: IdMap, ids: Ids) -> Tensor:
    """Internal ids (n,) of a list of external ones."""
    if isinstance(ids, str | bytes) or not isinstance(ids, Sequence | pl.Series | np.ndarray):
        raise PrismError(f"Give a list of {known.what}s, such as [{ids!r}], not the single value {ids!r}.")
    return torch.from_numpy(np.array(known.encode(ids)))


def _read_manifest(folder: Path) -> _Manifest:
    content = io.read_json(folder / MANIFEST)
    version = content.get("format") if isinstance(content, dict) else None
    if version != FORMAT:
        raise PrismError(
            f"{folder / MANIFEST} has format {version!r}, this version of PrismRec reads format {FORMAT}; "
            "save the index again."
        )
    try:
        return _Manifest.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
    except ValidationError as error:
        raise PrismError(f"{folder / MANIFEST} is not the manifest of an index: {first_fault(error)}.") from None


def _named(folder: Path, manifest: _Manifest, kind: str) -> tuple[Path, str]:
    """Path and checksum of a file of the folder; a name that leads elsewhere is refused."""
    name, digest = manifest.files.get(kind, ("", ""))
    if not name or Path(name).name != name:
        raise PrismError(f"{folder / MANIFEST} names no file for {kind!r} in its folder; save the index again.")
    return folder / name, digest


def _read_parquet(path: Path, digest: str) -> pl.DataFrame:
    if not path.is_file() or io.sha256(path) != digest:
        raise PrismError(
            f"{path} is missing or does not match its checksum: it was cut short or changed after it was written. "
            "Restore it from a copy, or save the index again."
        )
    return pl.read_parquet(path)
