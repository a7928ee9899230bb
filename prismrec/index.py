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
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from prismrec import io
from prismrec.data.dataset import Dataset
from prismrec.data.ids import IdMap
from prismrec.errors import PrismError, nearest
from prismrec.ranking import Csr, Ranked, top_k
from prismrec.types import Reps

FORMAT = 1
MANIFEST = "manifest.json"
FUSED = "fused"
_SCORE_BLOCK = 4096

Ids = Sequence[Any] | pl.Series | np.ndarray
Side = tuple[Tensor, Tensor]


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
                kept[id(side)] = _own(side)
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
            ones = Csr(itself.indptr, rows, torch.ones(len(rows)))
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
        sides = self._side(modality)
        score = torch.empty(len(user))
        for start in range(0, len(user), _SCORE_BLOCK):
            cut = slice(start, start + _SCORE_BLOCK)
            score[cut] = paired(*sides, user[cut], item[cut])
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
                    tensors |= _packed(names[id(side)], side)
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
        known = {name: _unpacked(name, tensors) for pair in manifest.sides.values() for name in pair}
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
            self._units[side] = _unit(self.sides[side][1])
        return self._units[side]

    def _recommend(self, rows: Tensor, k: int, exclude_seen: bool, modality: str | None) -> pl.DataFrame:
        if not 1 <= k <= len(self.items):
            raise PrismError(
                f"k is {k}, but the catalogue has {len(self.items):,} items; ask for k from 1 to that number."
            )
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


def _own(side: Tensor) -> Tensor:
    """A copy on the CPU in float32 that holds on to nothing else."""
    side = side.detach().to("cpu")
    if side.layout == torch.sparse_csr:
        rows = Csr.from_tensor(side)
        assert rows.values is not None
        return Csr(rows.indptr.clone(), rows.indices.clone(), rows.values.float().clone()).tensor(side.shape[1])
    return side.to(torch.float32, copy=True).contiguous()


def _unit(item: Tensor) -> Tensor:
    if item.layout != torch.sparse_csr:
        return F.normalize(item, dim=1)
    rows = Csr.from_tensor(item)
    assert rows.values is not None
    length = torch.zeros(len(rows)).index_add_(0, rows.row, rows.values**2).sqrt().clamp_min(1e-12)
    return Csr(rows.indptr, rows.indices, rows.values / length[rows.row]).tensor(item.shape[1])


def paired(user: Tensor, item: Tensor, u: Tensor, i: Tensor) -> Tensor:
    """⟨user[u], item[i]⟩ of two sides, dense or sparse CSR, for ids u, i (n,) → (n,)."""
    if user.layout != torch.sparse_csr and item.layout != torch.sparse_csr:
        return (user[u] * item[i]).sum(1)
    left, right = _sparse_rows(user, u), _sparse_rows(item, i)
    return torch.from_numpy(np.asarray(left.multiply(right).sum(axis=1), np.float32).reshape(-1))


def _sparse_rows(side: Tensor, rows: Tensor) -> Any:
    """Rows of a side as a SciPy CSR array."""
    if side.layout != torch.sparse_csr:
        return sparse.csr_array(side[rows].numpy())
    return Csr.from_tensor(side).take(rows).scipy(side.shape[1])


def _packed(name: str, side: Tensor) -> dict[str, Tensor]:
    """The tensors by which a side is stored."""
    if side.layout != torch.sparse_csr:
        return {name: side}
    rows = Csr.from_tensor(side)
    assert rows.values is not None
    width = torch.tensor(side.shape[1])
    return {
        f"{name}.indptr": rows.indptr,
        f"{name}.indices": rows.indices.int(),
        f"{name}.values": rows.values,
        f"{name}.width": width,
    }


def _unpacked(name: str, tensors: Mapping[str, Tensor]) -> Tensor:
    if name in tensors:
        return tensors[name]
    if f"{name}.indptr" not in tensors:
        raise PrismError(f"The index names the tensor {name!r}, which its file does not hold; save the index again.")
    rows = Csr(tensors[f"{name}.indptr"], tensors[f"{name}.indices"].long(), tensors[f"{name}.values"])
    return rows.tensor(int(tensors[f"{name}.width"]))


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
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise PrismError(f"{folder / MANIFEST} is not the manifest of an index: {where}: {first['msg']}.") from None


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
