"""Do the modalities name the same neighbours? Raw features only: nothing is trained.

H. Zhan et al., *CLEAR*, 2026, arXiv:2603.01536, figure 1, which argues that visual and textual features repeat each other by
the similarities of the items that each retrieves, and by how many of them both retrieve.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import polars as pl
import torch
from torch import Tensor

from prismrec import cache
from prismrec.diagnostics.finding import Finding
from prismrec.diagnostics.subject import Subject
from prismrec.errors import PrismError
from prismrec.figures import curves, densities
from prismrec.nn import Raw

LENGTHS = (5, 10, 20, 50, 100)
_ANCHORS = 4096  # items whose similarities are drawn from
_QUANTILES = (0.05, 0.5, 0.95)
_BLOCK = 1 << 22  # numbers of features gathered at a time
Lists = dict[str, Tensor]
"""modality → (I, K) neighbours, best first, −1 for none; an item is not its own."""


def neighbour_lists(raw: Mapping[str, Raw], k: int) -> Lists:
    """The ``k`` nearest others of each item by cosine, in each modality."""
    return {m: cache.knn(features.values, features.present, k + 1)[0][:, 1:] for m, features in raw.items()}


def shared_places(a: Tensor, b: Tensor) -> Tensor:
    """How many items the first K places of two lists share, for K = 1 … k: ``a``, ``b`` (n, k) → (n, k) int64.

    Items of a list differ from each other. Negative entries are nobody's.
    """
    n, k = a.shape
    parts = []
    for x, y in zip(a.split(8192), b.split(8192), strict=True):
        ids, order = torch.cat([x, y], 1).sort(dim=1, stable=True)  # stable: of two equal ones the first is of x
        twice = (ids[:, 1:] == ids[:, :-1]) & (ids[:, 1:] >= 0)
        row, at = (twice & (order[:, :-1] < k) & (order[:, 1:] >= k)).nonzero(as_tuple=True)
        both_by = torch.maximum(order[row, at], order[row, at + 1] - k)  # the place by which both lists have it
        found = torch.bincount(row * k + both_by, minlength=len(x) * k)
        parts.append(found.view(len(x), k).cumsum(1))
    return torch.cat(parts) if parts else torch.zeros(n, k, dtype=torch.int64)


def overlap_table(raw: Mapping[str, Raw], lists: Lists, lengths: tuple[int, ...] = LENGTHS) -> pl.DataFrame:
    """Of each pair of modalities and each K: the mean share of K neighbours that are the same, and what chance gives.

    Over the items that have both modalities, n of them. Two independent draws of K among the others share K·(n−1)/(a·b)
    of their places, where a and b others have the one and the other modality: K/(I−1) where no item lacks any.
    """
    rows = []
    for a, b in combinations(lists, 2):
        usable = (lists[a][:, 0] >= 0) & (lists[b][:, 0] >= 0)
        others = [int((lists[m][:, 0] >= 0).sum()) - 1 for m in (a, b)]
        n = int(usable.sum())
        shared = shared_places(lists[a][usable], lists[b][usable])
        for k in [k for k in lengths if k <= min(*others, shared.shape[1]) and n > 1]:
            share = shared[:, k - 1].double() / k
            chance = k * (n - 1) / (others[0] * others[1])
            mean = float(share.mean())
            error = float(share.std() / n**0.5)
            rows.append({"modalities": f"{a}, {b}", "k": k, "overlap": mean, "standard_error": error, "chance": chance,
                         "times_chance": mean / chance, "items": n})  # fmt: skip
    return pl.DataFrame(rows)


def neighbours(subject: Subject) -> Finding:
    """Overlap of the neighbours that each pair of modalities names, against chance, for several lengths of list."""
    lists = _lists(subject)
    k = _length(subject)
    lengths = tuple(sorted({*LENGTHS, k}))
    table = overlap_table(subject.raw, lists, lengths)
    if not len(table):
        raise PrismError("No two modalities are known of enough items to compare their neighbours.")
    at = table.filter(pl.col("k") == pl.col("k").filter(pl.col("k") <= k).max())
    told = [
        f"{row['modalities'].replace(', ', ' and ')} share {row['overlap']:.1%} of {row['k']} neighbours, "
        f"{row['times_chance']:.1f} times what chance gives ({row['chance']:.2%})"
        for row in at.iter_rows(named=True)
    ]
    says = f"Of an item's nearest by raw features, {'; '.join(told)}. The rest, {1 - at['overlap'].mean():.0%}, "  # type: ignore[operator]
    says += "is what only one of them calls near."
    lines = {}
    for (pair,), rows in table.group_by(["modalities"], maintain_order=True):
        lines[str(pair)] = (rows["k"].to_list(), rows["overlap"].to_list())
    first = table.filter(pl.col("modalities") == table["modalities"][0])
    lines["chance"] = (first["k"].to_list(), first["chance"].to_list())
    figure = curves(lines, "shared neighbours", x="length of the lists", multiples=True)
    return Finding("neighbours", "Do the modalities name the same neighbours?", says, table, (figure,))


def similarities(subject: Subject) -> Finding:
    """How similar the retrieved items are, in the modality that retrieved them and in the others, beside random items."""
    lists, raw = _lists(subject), subject.raw
    k = _length(subject)
    samples = similarity_samples(raw, lists, k, subject.view.seed)
    table = pl.DataFrame(
        [
            {"by": by, "in": m, "pairs": len(values), "mean": float(values.mean()), "sd": float(values.std()),
             **{f"q{round(100 * q):02}": float(np.quantile(values, q)) for q in _QUANTILES}}
            for (by, m), values in samples.items()
        ]
    )  # fmt: skip
    mean = {key: round(float(values.mean()), 2) + 0.0 for key, values in samples.items()}  # never -0.00
    told = []
    for m in raw:
        across = ", ".join(f"{mean[by, m]:.2f} where {by} retrieves" for by in raw if by != m)
        told.append(f"In {m}: {mean[m, m]:.2f} where it retrieves itself, {across}, {mean['random', m]:.2f} at random")
    areas = [f"{a} and {b} {common_area(samples[a, a], samples[b, b]):.0%}" for a, b in combinations(raw, 2)]
    says = (
        f"Mean cosine of an item and its {k} nearest. {'. '.join(told)}. The distributions of what each retrieves in itself "
        f"have in common: {', '.join(areas)}; that alone says nothing of shared knowledge."
    )
    order = [*raw, "random"]
    own = densities({m: samples[m, m].tolist() for m in raw}, "cosine, each modality in itself", order)
    figures = tuple(
        densities({by: samples[by, m].tolist() for by in order}, f"cosine in {m}, of items retrieved by …", order)
        for m in raw
    )
    return Finding("similarities", "How similar is what each modality retrieves?", says, table, (own, *figures))


def similarity_samples(
    raw: Mapping[str, Raw], lists: Lists, k: int, seed: int = 0, anchors: int = _ANCHORS
) -> dict[tuple[str, str], np.ndarray]:
    """(retrieved by, measured in) → cosines of anchor items and their ``k`` nearest; "random" retrieves random items.

    Pairs of which an item lacks the modality measured in are left out. At most ``anchors`` items are drawn.
    """
    n = len(next(iter(lists.values())))
    rng = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(n, generator=rng)[:anchors].sort().values
    away = torch.randint(1, n, (len(chosen), k), generator=rng)
    device = next(iter(lists.values())).device
    chosen, away = chosen.to(device), away.to(device)
    found = {m: ids[chosen, :k] for m, ids in lists.items()} | {"random": (chosen[:, None] + away) % n}
    samples = {}
    for m, features in raw.items():
        for by, ids in found.items():
            row, at = (ids >= 0).nonzero(as_tuple=True)
            a, b = chosen[row], ids[row, at]
            known = features.present[a] & features.present[b]
            samples[by, m] = cosines(features.values, a[known], b[known]).cpu().numpy()
    return {key: values for key, values in samples.items() if len(values)}


def common_area(a: np.ndarray, b: np.ndarray, bins: int = 60) -> float:
    """∫ min(p, q) of the densities of two samples, by histogram, in [0, 1]: 1 where they are distributed alike."""
    edges = np.histogram_bin_edges(np.concatenate([a, b]), bins)
    p, q = (np.histogram(values, edges)[0] / len(values) for values in (a, b))
    return float(np.minimum(p, q).sum())


def cosines(values: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Cosine of rows ``a`` and ``b`` (n,) of a table (I, r) → (n,) float32; 0 where a row is zero."""
    rows = max(1, _BLOCK // values.shape[1])
    out = torch.zeros(len(a), device=values.device)
    for start in range(0, len(a), rows):
        cut = slice(start, start + rows)
        out[cut] = torch.cosine_similarity(values[a[cut]].float(), values[b[cut]].float(), dim=1)
    return out


def _length(subject: Subject) -> int:
    """K: what is asked for, as far as the catalogue goes."""
    return min(subject.view.k, subject.dataset.n_items - 1)


def _lists(subject: Subject) -> Lists:
    """One search for both findings: as many neighbours as any of them reads."""
    subject.require_modalities()
    most = max(*LENGTHS, subject.view.k)
    return neighbour_lists(subject.raw, min(most, subject.dataset.n_items - 1))
