"""Inside and outside the shared subspace: where classes are told apart, and where the energy of the fused items lies.

H. Zhan et al., *CLEAR*, 2026, arXiv:2603.01536, eq. 18–22. V∥ = V̄ U_k U_kᵀ is the part of a modality's features in the
directions that co-vary most with the other modalities, V⊥ = V̄ − V∥ the rest.

The paper assumes that the shared parts of two modalities point the same way (its ρ ≈ 1), so that their sum doubles them.
U_k and W_k are bases of their own, though, so that this is measured here, not assumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from prismrec.data.dataset import Dataset
from prismrec.diagnostics.finding import Finding
from prismrec.diagnostics.spectrum import rank_in_use
from prismrec.diagnostics.stages import BEFORE, complete, presence, stages
from prismrec.diagnostics.subject import Subject
from prismrec.errors import PrismError
from prismrec.figures import grouped
from prismrec.plugins.clear import spectra

LEAST = 5
"""Items that a class needs to be looked at."""
COLUMNS = ("category", "categories", "genre", "genres", "class")
"""Columns of an item table that are taken for classes, the first that is there."""


@dataclass(frozen=True)
class Classes:
    """``label`` (I,) is the class of each item, −1 for none; ``names`` of the classes; ``source``: where they come from."""

    label: NDArray[np.int64]
    names: Sequence[str]
    source: str


def classes_of(dataset: Dataset) -> Classes | None:
    """Classes from the item table: its first column of ``COLUMNS``; of several values (a list, or text with ``|``) the first.

    Classes of fewer than five items are left out. None where there is no such column, or fewer than two classes.
    """
    table = dataset.item_table
    column = next((name for name in COLUMNS if name in table.columns), None)
    if column is None:
        return None
    values = table[column]
    if isinstance(values.dtype, pl.List):
        values, several = values.list.first(), True
    else:
        several = bool(values.cast(pl.String).str.contains("|", literal=True).any())
    text = values.cast(pl.String).str.split("|").list.first().fill_null("").str.strip_chars()
    counts = text.filter(text != "").value_counts().filter(pl.col("count") >= LEAST)
    names = sorted(counts[text.name].to_list())
    if len(names) < 2:
        return None
    code = {name: position for position, name in enumerate(names)}
    label = np.array([code.get(name, -1) for name in text.to_list()], dtype=np.int64)
    return Classes(label, names, f"{'the first of ' if several else ''}{column}")


@dataclass(frozen=True)
class Separation:
    """``fisher``: mean over pairs of classes of eq. 18; ``within`` and ``between``: eq. 19 and 20, variances over items."""

    fisher: float
    within: float
    between: float


def separation(values: Tensor, label: Tensor) -> Separation:
    """How well classes are told apart in ``values`` (n, d); ``label`` (n,) from 0, every class at least two items.

    FDR(a, b) = ‖μ_a − μ_b‖² / (Var_a + Var_b), Var the sum of a class's variances over coordinates. What sampling alone adds
    to ‖μ_a − μ_b‖², Var_a/n_a + Var_b/n_b, is taken off, so that classes that mean nothing come to 0 on average in any
    number of dimensions; a value may therefore be negative. Zeros where nothing varies.
    """
    n_classes = int(label.max()) + 1
    count = torch.bincount(label, minlength=n_classes).to(values)
    mean = values.new_zeros(n_classes, values.shape[1]).index_add_(0, label, values) / count[:, None]
    variance = values.new_zeros(n_classes).index_add_(0, label, (values - mean[label]).square().sum(1)) / (count - 1)
    noise = variance / count
    a, b = torch.triu_indices(n_classes, n_classes, 1)
    distance = (mean[a] - mean[b]).square().sum(1) - noise[a] - noise[b]
    spread = variance[a] + variance[b]
    fisher = torch.where(spread > 0, distance / spread.clamp_min(1e-300), torch.zeros_like(distance))
    between = (mean - mean.mean(0)).square().sum(1).sum() / (n_classes - 1) - noise.mean()
    return Separation(float(fisher.mean()), float(variance.mean()), float(between))


@dataclass(frozen=True)
class Fusion:
    """Energies E‖·‖² per item of h = Σ_m V_m / M (eq. 21): of its shared part, of the rest, and of both together.

    ``cosine``: E⟨V∥, T∥⟩ / √(E‖V∥‖² E‖T∥‖²), the paper's ρ, mean over pairs of modalities; ``ratio``: shared over rest
    (eq. 22); ``apart``: the same ratio for each modality by itself, energies summed: what the fusion started from.
    """

    shared: float
    rest: float
    total: float
    cosine: float
    ratio: float
    apart: float


def fusion(shared: Mapping[str, Tensor], rest: Mapping[str, Tensor]) -> Fusion | None:
    """Of the parts (n, d) of each modality, centred; None where widths differ, so that there is no sum."""
    if len({part.shape[1] for part in shared.values()}) > 1:
        return None

    def energy(parts: Sequence[Tensor]) -> float:
        return float(torch.stack(list(parts)).mean(0).square().sum(1).mean())

    inside, outside = list(shared.values()), list(rest.values())
    norms = [float(part.square().sum(1).mean()) for part in inside]
    cosines = [
        float((inside[i] * inside[j]).sum(1).mean()) / max((norms[i] * norms[j]) ** 0.5, 1e-300)
        for i in range(len(inside))
        for j in range(i + 1, len(inside))
    ]
    e_in, e_out = energy(inside), energy(outside)
    apart = sum(norms) / max(sum(float(part.square().sum(1).mean()) for part in outside), 1e-300)
    total = energy([a + b for a, b in zip(inside, outside, strict=True)])
    return Fusion(e_in, e_out, total, float(np.mean(cosines)), e_in / max(e_out, 1e-300), apart)


def explained(target: Tensor, by: Tensor) -> float:
    """Share in [0, 1] of the variance of ``target`` (n, D) that ``by`` (n, k) explains linearly."""
    y, x = target - target.mean(0), by - by.mean(0)
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    kept = u[:, s > 1e-9 * s[0].clamp_min(1e-300)]
    return float((kept.T @ y).square().sum() / y.square().sum().clamp_min(1e-300))


def split(values: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Centred ``values`` (n, d) as V∥ + V⊥ along an orthonormal ``basis`` (d, k)."""
    centred = values - values.mean(0)
    inside = centred @ basis @ basis.T
    return inside, centred - inside


def shared_subspace(subject: Subject, rank: int | None = None, classes: Classes | None = None) -> Finding:
    """Fisher ratio of classes, and energy, inside and outside the subspace that the modalities share.

    ``rank``: its dimensions k; default: CLEAR's in the run, else the spectrum rule's. ``classes``: default: those of the data
    (``classes_of``). The subspace is that of the features before the plug-ins, at every stage. Items that lack a modality
    stay out.
    """
    by_stage = stages(subject)
    first = next(iter(by_stage.values()))
    classes = classes or classes_of(subject.dataset)
    some = complete(subject, first)
    found = spectra(first, presence(subject, first))
    k = {m: rank or rank_in_use(subject, s) for m, (_, s) in found.items()}
    for m, (u, _) in found.items():
        if not 1 <= k[m] <= u.shape[1]:
            raise PrismError(
                f"The rank is {k[m]}; the shared subspace of {m} has between 1 and {u.shape[1]} dimensions."
            )
    label = None if classes is None else _renumbered(torch.from_numpy(classes.label)[some])
    rows: list[dict[str, Any]] = []
    fused = {}
    for stage, tables in by_stage.items():
        parts = {m: split(values[some].double(), found[m][0][:, : k[m]].double()) for m, values in tables.items()}
        for m, (inside, outside) in parts.items():
            whole = inside + outside
            for space, part in (("shared", inside), ("rest", outside), ("all", whole)):
                row = {"stage": stage, "of": m, "space": space, "energy": _energy(part), "share": _share(part, whole)}
                rows.append(row | _separated(part, label))
        together = fusion({m: p[0] for m, p in parts.items()}, {m: p[1] for m, p in parts.items()})
        if together is not None:
            fused[stage] = together
            for space, energy in (("shared", together.shared), ("rest", together.rest), ("all", together.total)):
                row = {"stage": stage, "of": "their mean", "space": space, "energy": energy}
                rows.append(row | {"share": energy / max(together.total, 1e-300)} | _separated(None, None))
    items = _item_vectors(subject, some)
    if items is not None:
        inside = torch.cat([first[m][some].double() @ u[:, : k[m]].double() for m, (u, _) in found.items()], dim=1)
        known, energy = explained(items, inside), _energy(items - items.mean(0))
        for space, share in (("shared", known), ("rest", 1 - known), ("all", 1.0)):
            row = {"stage": "final", "of": "item vectors", "space": space, "energy": share * energy, "share": share}
            rows.append(row | _separated(None, None))
    table = pl.DataFrame(rows, schema_overrides=dict.fromkeys(("fisher", "within", "between"), pl.Float64))
    title = "Inside and outside what the modalities share: classes and energy"
    says = _says(subject, table, fused, k, classes, label)
    return Finding("shared_subspace", title, says, table, _figures(table, label is not None))


def _renumbered(label: Tensor) -> Tensor | None:
    """Labels without gaps over the items that are looked at, −1 for those of none; None where fewer than two classes stay."""
    values, place, count = label.unique(return_inverse=True, return_counts=True)
    kept = (values >= 0) & (count >= 2)
    if int(kept.sum()) < 2:
        return None
    return torch.where(kept, kept.cumsum(0) - 1, -1)[place]


def _separated(part: Tensor | None, label: Tensor | None) -> dict[str, float | None]:
    if part is None or label is None:
        return {"fisher": None, "within": None, "between": None}
    known = label >= 0
    found = separation(part[known], label[known])
    return {"fisher": found.fisher, "within": found.within, "between": found.between}


def _energy(part: Tensor) -> float:
    return float(part.square().sum(1).mean())


def _share(part: Tensor, whole: Tensor) -> float:
    return _energy(part) / max(_energy(whole), 1e-300)


def _item_vectors(subject: Subject, some: Tensor) -> Tensor | None:
    """The final item vectors of a run, dense ones."""
    if subject.reps is None or subject.reps.item.values.layout != torch.strided:
        return None
    return subject.reps.item.values.detach().cpu().double()[some]


def _says(
    subject: Subject,
    table: pl.DataFrame,
    fused: Mapping[str, Fusion],
    k: Mapping[str, int],
    classes: Classes | None,
    label: Tensor | None,
) -> str:
    def cell(stage: str, of: str, space: str, column: str) -> float:
        found = table.filter((pl.col("stage") == stage) & (pl.col("of") == of) & (pl.col("space") == space))
        return float(found[column][0])

    stage = str(table["stage"][0])
    shares = " and ".join(f"{cell(stage, m, 'shared', 'share'):.0%} of {m} (k = {k[m]})" for m in k)
    sentences = [f"The shared subspace holds {shares} in energy{' before the plug-ins' if stage == BEFORE else ''}."]
    if label is None or classes is None:
        sentences.append("The data has no classes of items, so nothing is said of Fisher ratios.")
    else:
        ratios = "; ".join(
            f"{m} {cell(stage, m, 'shared', 'fisher'):.3g} inside and {cell(stage, m, 'rest', 'fisher'):.3g} outside"
            for m in k
        )
        sentences.append(f"Fisher ratio of {int(label.max()) + 1} classes ({classes.source}): {ratios}.")
    if fused:
        energy = " → ".join(f"{f.shared / f.total:.0%}" for f in fused.values())
        cosine = next(iter(fused.values())).cosine
        sentences.append(
            f"Of the mean of the modalities it holds {energy}; their shared parts have a cosine of {cosine:.2f}."
        )
    if "final" in table["stage"]:
        share = cell("final", "item vectors", "shared", "share")
        sentences.append(f"It explains {share:.0%} of the final item vectors' variance linearly.")
    return " ".join(sentences)


def _figures(table: pl.DataFrame, has_classes: bool) -> tuple[str, ...]:
    """Bars of energy shares, and of Fisher ratios where there are classes: inside and outside."""
    figures = []
    for column, x in (("share", "share of energy"), *((("fisher", "Fisher ratio"),) if has_classes else ())):
        rows = table.filter(pl.col("space").is_in(["shared", "rest"]) & pl.col(column).is_not_null())
        names = rows.filter(pl.col("space") == "shared").select("of", "stage").rows()
        stages_of = table["stage"].unique()
        labels = [of if stage == "final" or len(stages_of) <= 2 else f"{of}, {stage}" for of, stage in names]
        series = {
            title: rows.filter(pl.col("space") == space)[column].to_list()
            for space, title in (("shared", "inside the shared subspace"), ("rest", "outside"))
        }
        figures.append(grouped(labels, series, x))
    return tuple(figures)
