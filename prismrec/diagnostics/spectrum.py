"""What the modalities repeat, as a spectrum: singular values of their cross-covariance, and rules for how many are redundant.

H. Zhan et al., *CLEAR*, 2026, arXiv:2603.01536, eq. 4–5, 13 and figure 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import torch
from torch import Tensor

from prismrec.diagnostics.finding import Finding
from prismrec.diagnostics.stages import Tables, presence, stages
from prismrec.diagnostics.subject import Subject
from prismrec.figures import curves
from prismrec.plugins.clear import CLEAR, energy_rank, spectra, spectrum_rank

_NOTHING = 1e-6  # of σ₁: below, a direction holds no covariance but rounding
_SHOWN = 64  # directions of a figure
_PRICES = (0.003, 0.01, 0.03)
_PERMUTATIONS = 10


def names_of_spectra(tables: Tables) -> dict[str, str]:
    """Modality whose spectrum is shown → what to call it. Two modalities share one; of more, each has one against the rest."""
    names = list(tables)
    return {names[0]: f"{names[0]} × {names[1]}"} if len(names) == 2 else {m: f"{m} × the rest" for m in names}


def energy_shares(s: Tensor) -> Tensor:
    """σ_i² / Σσ² of singular values (r,) → (r,); zeros where there is no covariance at all."""
    energy = s.double().square()
    return energy / energy.sum().clamp_min(torch.finfo(energy.dtype).tiny)


def effective_rank(s: Tensor) -> float:
    """How many directions the energy is spread over: exp of the entropy of its shares, between 1 and r."""
    share = energy_shares(s)
    return float(torch.special.entr(share).sum().exp())


def above_chance(tables: Tables, present: Mapping[str, Tensor], seed: int = 0) -> dict[str, int]:
    """Modality → number of σ_i above what unrelated modalities would show (parallel analysis).

    Unrelated: the items of every other modality are shuffled, ten times, and σ_i must exceed the largest σ₁ that this gives.
    """
    found = {m: s for m, (_, s) in spectra(tables, present).items()}
    rng = torch.Generator().manual_seed(seed)
    ceiling = dict.fromkeys(tables, 0.0)
    for _ in range(_PERMUTATIONS):
        mixed = {}
        for m, values in tables.items():
            have = present[m].nonzero().squeeze(1)
            mixed[m] = values.clone()
            mixed[m][have] = values[have[torch.randperm(len(have), generator=rng)]]
        for m, (_, s) in spectra(mixed, present).items():
            ceiling[m] = max(ceiling[m], float(s[0]))
    return {m: int((s > ceiling[m]).sum()) for m, s in found.items()}


def objective(s: Tensor, price: float) -> Tensor:
    """Eq. 13 for k = 0 … r: Σ_{i>k} σ_i² / Σσ² + price · k, (r + 1,)."""
    kept = torch.cat([torch.zeros(1, dtype=torch.float64), energy_shares(s).cumsum(0)])
    return 1 - kept + price * torch.arange(len(kept))


def singular_values(subject: Subject) -> Finding:
    """Singular values of the modalities' cross-covariance, before and after the plug-ins, and how much energy they hold."""
    found = {
        stage: {
            label: spectra(tables, presence(subject, tables))[m][1] for m, label in names_of_spectra(tables).items()
        }
        for stage, tables in stages(subject).items()
    }
    table = pl.concat(
        pl.DataFrame(
            {
                "stage": stage,
                "between": label,
                "direction": range(1, len(s) + 1),
                "sigma": s.double().numpy(),
                "share": energy_shares(s).numpy(),
            }
        )
        for stage, labels in found.items()
        for label, s in labels.items()
    )
    return Finding(
        "singular_values",
        "What the modalities repeat: singular values of their cross-covariance",
        _says(found),
        table,
        (_figure(found), _shares_figure(found)),
    )


def _says(found: Mapping[str, Mapping[str, Tensor]]) -> str:
    sentences = []
    first, *rest = found
    for label, s in found[first].items():
        share = energy_shares(s)
        text = (
            f"Between {label.replace(' × ', ' and ')}, the first direction holds {float(share[0]):.0%} and the first eight "
            f"{float(share[:8].sum()):.0%} of the covariance's energy, spread over {effective_rank(s):.1f} directions in effect"
        )
        for stage in rest:
            after = found[stage][label]
            left = float(after.double().square().sum() / s.double().square().sum().clamp_min(1e-300))
            text += f"; {stage} the plug-ins {left:.2g} of it is left, over {effective_rank(after):.1f} directions"
        sentences.append(text + ".")
    return " ".join(sentences)


def _figure(found: Mapping[str, Mapping[str, Tensor]]) -> str:
    """σ_i by i, each spectrum's own order; below rounding nothing is drawn."""
    top = max(float(s[0]) for labels in found.values() for s in labels.values())
    lines = {}
    for stage, labels in found.items():
        for label, s in labels.items():
            shown = s[:_SHOWN][s[:_SHOWN] > _NOTHING * top].tolist() or [0.0]
            lines[_line(found, stage, label)] = list(range(1, len(shown) + 1)), shown
    return curves(lines, "singular value", x="direction")


def _shares_figure(found: Mapping[str, Mapping[str, Tensor]]) -> str:
    lines = {}
    for stage, labels in found.items():
        for label, s in labels.items():
            shares = energy_shares(s)[:_SHOWN].cumsum(0).tolist()
            lines[_line(found, stage, label)] = list(range(len(shares) + 1)), [0.0, *shares]
    return curves(lines, "share of energy", x="first directions")


def _line(found: Mapping[str, Mapping[str, Tensor]], stage: str, label: str) -> str:
    if len(found) == 1:
        return label
    return stage if len(found[stage]) == 1 else f"{label}, {stage}"


def redundant_rank(subject: Subject, validated: int | None = None) -> Finding:
    """How many directions each rule calls redundant, beside the number that the run used and a ``validated`` one, if given.

    The rules look at the features before the plug-ins.
    """
    tables = next(iter(stages(subject).values()))
    present = presence(subject, tables)
    found = {m: s for m, (_, s) in spectra(tables, present).items() if m in names_of_spectra(tables)}
    chance = above_chance(tables, present, subject.view.seed)
    used = _used(subject)
    prices = sorted({*_PRICES, *([used.penalty] if used is not None and used.rank == "spectrum" else [])})
    rows = []
    for m, label in names_of_spectra(tables).items():
        s = found[m]
        kept = torch.cat([torch.zeros(1, dtype=torch.float64), energy_shares(s).cumsum(0)])
        ranks: list[tuple[str, float | None, int]] = [("spectrum", price, spectrum_rank(s, price)) for price in prices]
        ranks += [("energy", share, energy_rank(s, share)) for share in (0.8, 0.9, 0.95)]
        ranks.append(("above chance", None, chance[m]))
        if used is not None:
            setting = {"energy": used.share, "spectrum": used.penalty}.get(str(used.rank))
            ranks.append(("the run", setting, rank_in_use(subject, s)))
        if validated is not None:
            ranks.append(("validation", None, validated))
        rows += [
            {"between": label, "rule": rule, "setting": setting, "k": k, "share": float(kept[min(k, len(s))])}
            for rule, setting, k in ranks
        ]
    schema = {"between": pl.String, "rule": pl.String, "setting": pl.Float64, "k": pl.Int64, "share": pl.Float64}
    table = pl.DataFrame(rows, schema=schema)
    return Finding(
        "redundant_rank",
        "How many directions are redundant: the rules beside the k in use",
        _rank_says(table),
        table,
        tuple(_rank_figure(found[m], label, prices) for m, label in names_of_spectra(tables).items()),
    )


def _used(subject: Subject) -> CLEAR.Config | None:
    """The settings of CLEAR in the run, if it takes part."""
    chain = [] if subject.assembly is None else subject.assembly.chain
    return next((p.cfg for p in chain if isinstance(p, CLEAR) and p.cfg.strength > 0), None)


def rank_in_use(subject: Subject, s: Tensor) -> int:
    """k of CLEAR in the run, by its own rule if it has one; else the spectrum rule's at the default price; at least 1."""
    used = _used(subject) or CLEAR.Config(rank="spectrum")
    if isinstance(used.rank, int):
        return used.rank
    return max(1, energy_rank(s, used.share) if used.rank == "energy" else spectrum_rank(s, used.penalty))


def _rank_says(table: pl.DataFrame) -> str:
    sentences = []
    for (label,), rows in table.group_by("between", maintain_order=True):
        by = {(rule, setting): k for rule, setting, k in rows.select("rule", "setting", "k").iter_rows()}
        text = (
            f"Between {str(label).replace(' × ', ' and ')}, the spectrum rule (eq. 13) calls {by['spectrum', 0.01]} directions "
            f"redundant at a price of 1 % of the energy each, and {by['above chance', None]} stand above chance"
        )
        for rule, k in rows.filter(pl.col("rule").is_in(["the run", "validation"])).select("rule", "k").iter_rows():
            text += f"; {rule} {'used' if rule == 'the run' else 'chose'} {k}"
        sentences.append(text + ".")
    return " ".join(sentences)


def _rank_figure(s: Tensor, label: str, prices: Sequence[float]) -> str:
    """Eq. 13 by k, with a dot at each minimum."""
    lines, best = {}, {}
    for price in prices:
        values = objective(s, price).numpy()
        name = f"price {price:g}"
        lines[name] = list(range(len(values)))[: _SHOWN + 1], values[: _SHOWN + 1].tolist()
        best[name] = float(np.argmin(values))
    return curves(lines, "energy left + price · k", best, x=f"k, {label}")
