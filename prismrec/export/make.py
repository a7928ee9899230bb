"""A finished run → an export: what was trained, what items look like, and what storing it in fewer bits costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from prismrec import run_folder
from prismrec.data import raw_pictures
from prismrec.data.dataset import Dataset
from prismrec.data.sources import read
from prismrec.errors import PrismError, nearest
from prismrec.evaluate import Evaluator, protocol
from prismrec.export import ann
from prismrec.export.content import content_of
from prismrec.export.explain import FUSED
from prismrec.export.of_index import shelf_of
from prismrec.export.shelf import Shelf
from prismrec.export.tables import DTYPES, Dense, Dtype, Table
from prismrec.index import Index
from prismrec.ranking import Csr
from prismrec.runs import data_of
from prismrec.types import Reps, Rows

METRICS = ("recall@20", "ndcg@20")
_K = 20
_SAMPLE = 2000  # users by whose lists an approximate index and stored numbers are measured
Say = Callable[[str], None]


def check(run: Path, dtype: str, kind: str | None, pictures: Path | None) -> None:
    """Refuse at once what would fail after minutes."""
    run_folder.saved_result(run)
    if dtype not in DTYPES:
        raise PrismError(f"Numbers cannot be stored as {dtype!r}. {nearest(dtype, DTYPES)}")
    if kind is not None and kind not in ann.KINDS:
        raise PrismError(f"There is no approximate index {kind!r}. {nearest(kind, ann.KINDS)}")
    if pictures is not None and not pictures.is_dir():
        raise PrismError(f"{pictures} is no folder; name the folder that holds the pictures with --pictures.")


def export(
    run: str | Path,
    *,
    data: str | Path | None = None,
    dtype: Dtype = "float32",
    approximate: str | None = None,
    pictures: str | Path | None = None,
    threads: int = 0,
    say: Say = lambda text: None,
) -> Shelf:
    """The recommendations of a finished run, to be saved or used.

    ``data``: where its data set lies, if not where it was; without it nothing is known of features, and no recall is measured.
    ``dtype``: float32, float16 or int8. ``approximate``: hnsw, ivf or usearch. ``pictures``: a folder with items' pictures.
    Nothing of the test split is read. Raises ``PrismError`` for a run that is not finished, and other data.
    """
    run, folder = Path(run), None if pictures is None else Path(pictures)
    check(run, dtype, approximate, folder)
    result = run_folder.saved_result(run)
    plain = replace(shelf_of(Index.load(run / "index")), threads=threads)
    facts = {key: result[key] for key in ("label", "model", "plugins", "seed", "protocol", "best_epoch")}
    plain = replace(plain, info={**plain.info, **facts})
    dataset = _data(run, data, say)
    measured: dict[str, Any] = {"dtype": dtype}
    if dataset is not None:
        plain, measured["contents"] = _with_contents(plain, dataset, say)
    stored = plain if dtype == "float32" else plain.stored_as(dtype)
    users = np.random.default_rng(0).permutation(len(plain.users))[:_SAMPLE]
    if dtype != "float32":
        say(f"measuring what {dtype} costs …")
        measured |= _cost(plain, stored, users)
    if dataset is not None:
        measured |= _recall(plain, stored, dataset, str(result["protocol"]))
    if approximate is not None:
        stored = _with_near(stored, users, approximate, threads, say)
    if folder is not None:
        stored = _with_pictures(stored, folder, say)
    return replace(stored, measured=measured)


def _data(run: Path, data: str | Path | None, say: Say) -> Dataset | None:
    """The data set of a run; None where it is not there and nobody named it."""
    _, known = run_folder.saved_config(run)
    try:
        where = data_of(run, known, data, f"prismrec export {run} --data DATA -o FOLDER")
    except PrismError as error:
        say(f"Without the data set nothing is known of features, and no recall is measured. {error}")
        return None
    dataset = read(where)
    run_folder.check_same_data(run, known, dataset)
    return dataset.development()


def _with_contents(shelf: Shelf, dataset: Dataset, say: Say) -> tuple[Shelf, dict[str, Any]]:
    contents, axes, said = {}, {}, {}
    for m, modality in dataset.modalities.items():
        say(f"main axes of {m} ({modality.width} numbers an item) …")
        contents[m], axes[m], kept = content_of(modality)
        said[m] = {"features": modality.width, "width": contents[m].width, "kept": kept}
    return replace(shelf, contents=contents, axes=axes), said


def _cost(plain: Shelf, stored: Shelf, users: np.ndarray) -> dict[str, float]:
    """The share of the first places that lists from stored numbers have in common with exact ones."""
    ids, k = plain.users.decode(users), min(_K, len(plain.items))
    pairs = zip(plain.lists(ids, k).items, stored.lists(ids, k).items, strict=True)
    shares = [len(np.intersect1d(a[a >= 0], b[b >= 0])) / max(int((a >= 0).sum()), 1) for a, b in pairs]
    return {f"overlap@{_K}": float(np.mean(shares))}


def _recall(plain: Shelf, stored: Shelf, dataset: Dataset, rules: str) -> dict[str, Any]:
    """Metrics on the validation part, of exact representations and of those stored."""
    evaluator = Evaluator.of(dataset, "valid", protocol(rules), METRICS)
    exact = evaluator(_reps(plain))
    after = exact if stored is plain else evaluator(_reps(stored))
    return {"part": "valid", "users": len(evaluator.users), "exact": exact, "stored": after}


def _reps(shelf: Shelf) -> Reps:
    side = shelf.sides[FUSED]
    return Reps(_tensor(side.user), Rows(_tensor(side.item)))


def _tensor(table: Table) -> torch.Tensor:
    if isinstance(table, Dense):
        return torch.from_numpy(table.take(np.arange(len(table))))
    parts = (np.array(part) for part in (table.indptr, table.indices.astype(np.int64), table.values))
    return Csr(*(torch.from_numpy(part) for part in parts)).tensor(table.width)


def _with_near(shelf: Shelf, users: np.ndarray, kind: str, threads: int, say: Say) -> Shelf:
    side = shelf.sides[FUSED]
    if not isinstance(side.item, Dense) or not isinstance(side.user, Dense):
        raise PrismError(
            "This model states sparse representations, for which there is no approximate index; export without --ann."
        )
    say(f"building the approximate index ({kind}) …")
    near = ann.build(side.item, side.user.take(users), kind, _K, threads=threads)
    if near.info["recall"] < near.info["wanted"]:
        say(f"its recall@{near.info['k']} stays at {near.info['recall']:.3f}, below {near.info['wanted']}.")
    return replace(shelf, near=near)


def _with_pictures(shelf: Shelf, folder: Path, say: Say) -> Shelf:
    names = raw_pictures.found(shelf.item_table, folder)
    say(f"{sum(name is not None for name in names):,} of {len(names):,} items have a picture in {folder}")
    table = shelf.item_table.with_columns(pl.Series("picture", names, pl.String))
    return replace(shelf, item_table=table, pictures=str(folder.resolve()))


def described(measured: Mapping[str, Any] | None) -> list[str]:
    """What was measured, in sentences."""
    if not measured:
        return []
    lines = []
    if "exact" in measured:
        pairs = [
            f"{name} {measured['exact'][name]:.4f} → {value:.4f}"
            if measured["dtype"] != "float32"
            else f"{name} {value:.4f}"
            for name, value in measured["stored"].items()
        ]
        lines.append(f"validation ({measured['users']:,} users): {', '.join(pairs)}")
    if f"overlap@{_K}" in measured:
        lines.append(f"{measured[f'overlap@{_K}']:.2%} of the first {_K} places are those of float32")
    for m, said in measured.get("contents", {}).items():
        if said["width"] < said["features"]:
            lines.append(f"{m}: {said['features']} features on {said['width']} axes, which hold {said['kept']:.1%}")
    return lines
