"""Somebody else's embeddings or top-k lists, evaluated under our masks and metrics.

Embeddings: a ``.safetensors`` or ``.npz`` file with the arrays ``user`` (U, d) and ``item`` (I, d), or a folder with
``user.npy`` and ``item.npy``. Rows are in the order of the data set's ids, unless arrays ``user_ids`` and ``item_ids``
say whose they are. Lists: a Parquet or delimited file with the columns ``user`` and ``item`` (external ids) and ``rank``
(1 is best) or ``score`` (largest is best); without either the order of rows counts.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from prismrec import io
from prismrec.data import columns
from prismrec.data.dataset import Dataset
from prismrec.data.ids import IdMap
from prismrec.data.modalities import load_array
from prismrec.errors import PrismError, nearest
from prismrec.evaluate import METRICS, PROTOCOLS, Evaluation, Evaluator, Protocol
from prismrec.ranking import Csr, Ranked
from prismrec.types import Reps, Rows

_ARRAYS = (".safetensors", ".npz")
_EXPECTED = (
    "expected .safetensors or .npz with arrays 'user' and 'item', a folder with user.npy and item.npy, "
    "or lists as .parquet, .csv or .tsv with the columns user, item and rank or score"
)


@dataclass(frozen=True)
class External:
    """An evaluation of something made elsewhere, and sentences on what had to be left out or is missing from it."""

    evaluation: Evaluation
    notes: tuple[str, ...]


def evaluate_external(
    path: str | Path,
    dataset: Dataset,
    part: str = "test",
    rules: Protocol = PROTOCOLS["default"],
    metrics: Sequence[str] = METRICS,
) -> External:
    """Rank the embeddings, or take the lists, of ``path`` and evaluate them on ``part`` ("valid" or "test").

    Lists lose the items that the protocol masks and close up; a user without a list has no hits. Raises ``PrismError``
    for an unknown id, an item twice in a list, NaN, a missing row or column, and for a pickle.
    """
    path = Path(path)
    evaluator = Evaluator.of(dataset, part, rules, metrics)
    if path.is_dir() or columns.suffix(path) in _ARRAYS:
        reps, notes = read_embeddings(path, dataset)
        return External(evaluator.evaluate(reps), notes)
    if columns.suffix(path) not in columns.PARQUET | columns.DELIMITED:
        raise PrismError(f"{path} has an unknown suffix; {_EXPECTED}. Pickles are never opened.")
    lists, notes = read_lists(path, dataset, evaluator)
    return External(evaluator.evaluate_lists(lists), notes)


def read_embeddings(path: Path, dataset: Dataset) -> tuple[Reps, tuple[str, ...]]:
    """Representations in the order of the data set's ids, and notes on rows that it has no use for."""
    arrays = _arrays(path)
    notes: list[str] = []
    sides = []
    for ids in (dataset.users, dataset.items):
        values = _matrix(arrays, ids.what, path)
        names = arrays.get(f"{ids.what}_ids")
        if names is None:
            if len(values) != len(ids):
                raise PrismError(
                    f"{ids.what!r} in {path} has {len(values):,} rows, but the data has {len(ids):,} {ids.what}s; "
                    f"give one row per {ids.what} in the data's order, or say whose they are in '{ids.what}_ids'."
                )
        else:
            values, note = _in_order(values, names, ids, path)
            notes += note
        sides.append(torch.from_numpy(values))
    user, item = sides
    if user.shape[1] != item.shape[1]:
        raise PrismError(
            f"In {path} users have {user.shape[1]} numbers and items {item.shape[1]}; a score is their inner product, "
            "so both need the same width."
        )
    return Reps(user, Rows(item)), tuple(notes)


def read_lists(path: Path, dataset: Dataset, evaluator: Evaluator) -> tuple[Ranked, tuple[str, ...]]:
    """Lists (n, K) of the evaluator's users, without masked items, and notes on what they lack."""
    listed = _listed(path, dataset)
    notes: list[str] = []
    row = np.full(dataset.n_users, -1)
    row[evaluator.users.numpy()] = np.arange(len(evaluator.users))
    listed = listed.with_columns(row=pl.Series(row[listed["user"].to_numpy()])).filter(pl.col("row") >= 0)
    seen = _pairs(evaluator.seen)
    kept = listed.join(seen, on=["row", "item"], how="anti", maintain_order="left")
    if masked := len(listed) - len(kept):
        notes.append(f"{masked:,} listed items are masked by the protocol and were taken out; lists closed up.")
    kept = kept.with_columns(place=pl.int_range(pl.len()).over("row")).filter(pl.col("place") < evaluator.k)
    items = torch.full((len(evaluator.users), evaluator.k), -1, dtype=torch.int64)
    at = torch.from_numpy(np.array(kept["row"])), torch.from_numpy(np.array(kept["place"]))
    items[at] = torch.from_numpy(np.array(kept["item"]))
    length = (items >= 0).sum(1)
    if absent := int((length == 0).sum()):
        notes.append(f"{absent:,} of {len(length):,} users have no list and count as without hits.")
    if short := int(((length > 0) & (length < evaluator.k)).sum()):
        notes.append(
            f"{short:,} lists have fewer than {evaluator.k} items; metrics at larger K than a list's length are lower bounds."
        )
    scores = torch.where(items >= 0, -torch.arange(evaluator.k, dtype=torch.float32), -torch.inf)
    return Ranked(items, scores), tuple(notes)


def _pairs(rows: Csr) -> pl.DataFrame:
    return pl.DataFrame({"row": rows.row.cpu().numpy(), "item": rows.indices.cpu().numpy()})


def _listed(path: Path, dataset: Dataset) -> pl.DataFrame:
    """Columns user, item (internal ids), best first within a user."""
    table = columns.scan(path)
    names = columns.names(table, path)
    for needed in ("user", "item"):
        if needed not in names:
            raise PrismError(f"{path} has no column {needed!r}. {nearest(needed, names)} E{_EXPECTED[1:]}.")
    order = next((name for name in ("rank", "score") if name in names), None)
    frame = columns.collect(table.select("user", "item", *([order] if order else [])), path)
    for name in frame.columns:
        if empty := frame[name].null_count():
            raise PrismError(f"Column {name!r} of {path} has {empty:,} empty cells; fill them or drop these rows.")
    listed = pl.DataFrame({"user": dataset.users.encode(frame["user"]), "item": dataset.items.encode(frame["item"])})
    if order:
        value = frame[order].cast(pl.Float64, strict=False)
        wrong = value.is_null() | value.is_nan()
        if wrong.any():
            raise PrismError(f"Column {order!r} of {path} holds {frame[order].filter(wrong)[0]!r}; expected numbers.")
        listed = listed.with_columns(order=value if order == "rank" else -value).sort("user", "order", "item")
    twice = listed.filter(listed.select("user", "item").is_duplicated())
    if len(twice):
        user = dataset.users.decode(np.array(twice["user"][:1]))[0]
        item = dataset.items.decode(np.array(twice["item"][:1]))[0]
        raise PrismError(f"{path} lists item {item!r} more than once for user {user!r}; a list holds an item once.")
    return listed.select("user", "item")


def _arrays(path: Path) -> Mapping[str, np.ndarray]:
    """The arrays of a safetensors file, an .npz archive, or a folder of .npy files."""
    if path.is_dir():
        return {name: load_array(path / f"{name}.npy") for name in _present(path)}
    if columns.suffix(path) == ".safetensors":
        return {name: _numpy(tensor) for name, tensor in io.load_tensors(path).items()}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise PrismError(f"There is no file {path}.") from None
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise PrismError(
            f"{path} is not a whole .npz archive of numbers ({str(error).splitlines()[0]}); pickles are never opened. "
            "Write it again with numpy.savez."
        ) from None


def _present(folder: Path) -> list[str]:
    names = [name for name in ("user", "item", "user_ids", "item_ids") if (folder / f"{name}.npy").exists()]
    if not {"user", "item"} <= set(names):
        raise PrismError(f"{folder} lacks user.npy or item.npy; {_EXPECTED}.")
    return names


def _numpy(tensor: Tensor) -> np.ndarray:
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _matrix(arrays: Mapping[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    """A finite float matrix of this name."""
    if name not in arrays:
        raise PrismError(f"{path} has no array {name!r}. {nearest(name, arrays)} E{_EXPECTED[1:]}.")
    values = arrays[name]
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise PrismError(
            f"{name!r} in {path} has shape {values.shape} and type {values.dtype}; expected a matrix of numbers, "
            f"one row per {name}."
        )
    values = np.array(values, dtype=np.float64 if values.dtype == np.float64 else np.float32)
    wrong = ~np.isfinite(values).all(1)
    if wrong.any():
        raise PrismError(
            f"{name!r} in {path} holds NaN or infinite numbers in {wrong.sum():,} rows, the first is row "
            f"{int(wrong.argmax())}; nothing can be ranked by them."
        )
    return values


def _in_order(values: np.ndarray, names: np.ndarray, ids: IdMap, path: Path) -> tuple[np.ndarray, list[str]]:
    """Rows brought into the data's order by their external ids."""
    if names.shape != (len(values),):
        raise PrismError(
            f"'{ids.what}_ids' in {path} has shape {names.shape}; expected one id for each of {len(values):,} rows."
        )
    internal = ids.find(names)
    known = internal >= 0
    missing = np.setdiff1d(np.arange(len(ids)), internal[known])
    if len(missing):
        raise PrismError(
            f"{path} has no row for {len(missing):,} of {len(ids):,} {ids.what}s, the first is "
            f"{ids.decode(missing[:1])[0]!r}; every {ids.what} needs one."
        )
    if known.sum() > len(ids):
        raise PrismError(f"'{ids.what}_ids' in {path} names {known.sum() - len(ids):,} {ids.what}s more than once.")
    ordered = np.empty((len(ids), values.shape[1]), values.dtype)
    ordered[internal[known]] = values[known]
    extra = int((~known).sum())
    note = f"{extra:,} {ids.what}s of the file are not in the data and were left out."
    return ordered, [note] if extra else []
