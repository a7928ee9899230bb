"""The arms of the studies: what is tried on which data set.

A host chooses among a few settings on validation; a method's settings come on top of those, so that both have the same host.
ML-100k is small: its trainings stop after ten epochs without a gain, at rates that suit it. Elsewhere hosts and their earlier
records are those of the round ``methods``.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.methods_plan import CONTRASTS, IDS, MGCN, MRDIB, QUIET, regs
from benchmarks.rounds import Arm, Round, Settings, vary

SEEDS = (999, 1, 2, 3, 4)
DATA = ("ml100k", "ml100k-loo", "tiktok", "tiktok-loo", "baby")
STRENGTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
RANKS = (1, 2, 4, 8, 16, 32)
ALPHAS = (1e-4, 1e-3, 5e-3, 1e-2, 5e-2)
TERMS = ("compress", "redundant", "unique")
SMALL: Settings = {"train.patience": 10}

ON_ML100K: Mapping[str, tuple[Settings, ...]] = {
    "vbpr": vary(
        {**SMALL, "train.lr": 2e-3}, {"model.reg": 0.5}, {"model.reg": 0.2}, {"model.reg": 0.5, "train.lr": 3e-3}
    ),
    "freedom": vary(
        {**SMALL, "model.prune": 0.8, "train.lr": 5e-3}, {"model.reg": 0.3}, {"model.reg": 0.1}, {"model.reg": 0.01}
    ),
    "mgcn": vary(
        {**SMALL, **MGCN},
        {"train.lr": 3e-3},
        {"train.lr": 3e-3, "model.contrast": 0.1},
        {"train.lr": 3e-3, "model.contrast": 0.001},
    ),
    "mmgcn": vary(SMALL, {"train.lr": 5e-3}, {"train.lr": 1e-3}, {"train.lr": 5e-3, "model.reg": 1e-2}),
    "dualgnn": vary({**SMALL, "train.lr": 3e-3}, {"model.reg": 0.1}, {"model.reg": 1e-2}, {"model.reg": 1e-3}),
    "soil": vary(
        {**SMALL, "train.schedule": "exponential", "train.lr": 3e-3},
        {},
        {"model.views": 0.1},
        {"model.views": 0.001},
    ),
    "br-mrs-backbone": vary({**SMALL, **IDS, "train.lr": 5e-3}, {}, {"model.fusion": "attention"}, {"model.reg": 1e-3}),
}
"""Host → the settings that it chooses among on ML-100k."""

ELSEWHERE: Mapping[str, tuple[Settings, ...]] = {
    "vbpr": regs("vbpr"),
    "freedom": regs("freedom"),
    "mgcn": vary(MGCN, *CONTRASTS),
    "mmgcn": vary({}, {"train.lr": 1e-3}, {"train.lr": 5e-4}, {"train.lr": 5e-3}),
    "dualgnn": tuple({"model.reg": reg} for reg in (0.1, 1e-2, 1e-3)),
    "soil": vary(
        {"train.schedule": "exponential", "train.patience": 10}, {}, {"model.views": 0.1}, {"model.views": 0.001}
    ),
    "br-mrs-backbone": vary(IDS, {}, {"model.fusion": "attention"}, {"model.reg": 1e-3}),
}


def draws(count: int, seed: int = 0) -> tuple[Settings, ...]:
    """Distinct points of the paper's grid of three weights, seeded."""
    drawn = random.Random(seed)
    points = [(a, b, c) for a in ALPHAS for b in ALPHAS for c in ALPHAS]
    return tuple({**QUIET, **weights(point)} for point in drawn.sample(points, count))


def weights(point: Sequence[float]) -> Settings:
    """α₁, α₂, α₃ as settings."""
    return {f"mrdib.{term}": value for term, value in zip(TERMS, point, strict=True)}


def host(model: str, name: str = "", **more: Any) -> Arm:
    """A host that chooses its own settings."""
    name = name or model
    on_small = dict.fromkeys(("ml100k", "ml100k-loo"), ON_ML100K[model])
    return Arm(name, model, ELSEWHERE[model], tried_on=on_small, **{"known": f"methods/{name}", **more})


def clear(model: str, where: Mapping[str, int]) -> tuple[Arm, ...]:
    """CLEAR on a host: strength by rank, and ranks that a rule picks anew every epoch."""
    on: dict[str, Any] = {"base": model, "against": model, "where": where, "test": "gain"}
    cells = [(s, k) for s in STRENGTHS for k in RANKS]
    cells.sort(key=lambda cell: STRENGTHS.index(cell[0]) % 2 + RANKS.index(cell[1]) % 2)  # a coarse map comes first
    grid = tuple({"clear.strength": s, "clear.rank": k} for s, k in cells)
    rules: list[Settings] = [{"clear.rank": "energy", "clear.share": share} for share in (0.5, 0.9, 0.99)]
    rules.append({"clear.rank": "spectrum"})
    ruled = tuple({**rule, "clear.strength": s} for rule in rules for s in (0.3, 0.9))
    return (
        Arm(f"{model}+clear", model, grid, ("clear",), **on),
        Arm(f"{model}+clear by rule", model, ruled, ("clear",), **on),
    )


def mrdib(model: str, where: Mapping[str, int], ablated: Mapping[str, int]) -> tuple[Arm, ...]:
    """MRdIB on a host: draws of the paper's grid, weights that set themselves, each term left out, each weight varied."""
    name, whole = f"{model}@5", f"{model}+mrdib@5"
    on: dict[str, Any] = {"model": model, "plugins": ("mrdib",), "metric": "recall@5"}
    without = {**{term: (term,) for term in TERMS}, "redundant and unique": ("redundant", "unique")}
    varied: dict[str, Any] = {**on, "base": whole, "where": ablated, "test": "never"}
    return (
        host(model, name, metric="recall@5", where=where),
        Arm(f"{whole} auto", tried=({**QUIET, "mrdib.balance": "auto"},), base=name, against=whole, where=where, **on),
        Arm(whole, tried=draws(20), base=name, against=name, where=where, **on),
        *(
            Arm(
                f"{whole} without {said}",
                tried=(dict.fromkeys((f"mrdib.{t}" for t in terms), 0.0),),
                base=whole,
                against=whole,
                where=ablated,
                **on,
            )
            for said, terms in without.items()
        ),
        *(Arm(f"{whole} by {t}", tried=tuple({f"mrdib.{t}": a} for a in ALPHAS), **varied) for t in TERMS),
    )


def mrdib_in_short(model: str, where: Mapping[str, int]) -> tuple[Arm, ...]:
    """MRdIB on a slow host: the settings of the first round."""
    name = f"{model}@5"
    return (
        host(model, name, metric="recall@5", where=where),
        Arm(f"{model}+mrdib@5", model, tuple(MRDIB), ("mrdib",), "recall@5", name, base=name, where=where),
    )


BACKBONE = "br-mrs-backbone"
LAMBDAS: list[Settings] = [{"chns.weight": w} for w in (0.3, 0.1, 1.0)]
MARGINS: list[Settings] = [{"synergy.margin": m} for m in (0.1, 0.0, 0.5)]
BOTH: list[Settings] = [{**LAMBDAS[i], **MARGINS[j]} for i, j in ((0, 0), (2, 0), (0, 2))]
SWEPT: Mapping[str, tuple[float, ...]] = {
    "chns.weight": (0.03, 0.1, 0.3, 1.0, 3.0),
    "synergy.weight": (0.1, 0.5, 1.0, 2.0, 5.0),
    "synergy.margin": (0.0, 0.1, 0.2, 0.5, 1.0),
    "chns.candidates": (4, 8, 16, 32, 64),
}
PULLED: Mapping[str, tuple[float, ...]] = {"infonce": (0.001, 0.01, 0.1, 1.0), "orthogonal": (0.01, 0.1, 1.0, 10.0)}


def br_mrs(name: str, tried: Sequence[Settings], plugins: tuple[str, ...], **more: Any) -> Arm:
    """BR-MRS's backbone with some of its components."""
    common: dict[str, Any] = {"base": BACKBONE, "against": BACKBONE, "cutoffs": (5, 50), "looks": True}
    return Arm(name, BACKBONE, tuple(tried), plugins, **{**common, **more})


def components(where: Mapping[str, int]) -> tuple[Arm, ...]:
    """Hard negatives, synergy, both, none."""
    return (
        host(BACKBONE, known="", where=where, cutoffs=(5, 50), looks=True),
        br_mrs("br-mrs", BOTH, ("chns", "synergy"), where=where),
        br_mrs("br-mrs-chns", LAMBDAS, ("chns",), where=where),
        br_mrs("br-mrs-synergy", MARGINS, ("synergy",), where=where),
    )


def wider(where: Mapping[str, int]) -> Arm:
    """The backbone with more settings: the host's own choice lies at the edge of what it tried."""
    common: Settings = {**SMALL, **IDS, "train.lr": 5e-3, "model.reg": 1e-3}
    more: list[Settings] = [{"model.reg": 1e-4}, {"train.lr": 2e-3}, {"model.fusion": "attention"}]
    return br_mrs(f"{BACKBONE} wider", vary(common, *more), (), base="", where=where)


def strategies(where: Mapping[str, int]) -> tuple[Arm, ...]:
    """Whose hard negatives; those of the other modality are ``br-mrs-chns``."""
    return tuple(
        br_mrs(f"br-mrs-chns {s}", vary({"chns.strategy": s}, *LAMBDAS), ("chns",), against="br-mrs-chns", where=where)
        for s in ("own", "fused", "uniform")
    )


def sweeps(where: Mapping[str, int]) -> tuple[Arm, ...]:
    """BR-MRS by each of its settings, the others as chosen."""
    both = ("chns", "synergy")
    return tuple(
        br_mrs(f"br-mrs by {key}", [{key: v} for v in values], both, base="br-mrs", where=where, test="never")
        for key, values in SWEPT.items()
    )


def pulls(where: Mapping[str, int]) -> tuple[Arm, ...]:
    """The backbone by the strength of alignment and of decorrelation."""
    return tuple(
        br_mrs(f"{BACKBONE} by {name}", [{f"{name}.weight": w} for w in values], (name,), where=where, test="never")
        for name, values in PULLED.items()
    )


FAST, BOTH_SPLITS = {"ml100k": 1, "tiktok": 1}, {"ml100k": 1, "ml100k-loo": 1, "tiktok": 1, "tiktok-loo": 1}
ALL = {**FAST, "baby": 1}
SMALL_ONLY = {"ml100k": 1}

FLOORS = ("mostpop", "itemknn", "ease")
ARMS: tuple[Arm, ...] = (
    *(Arm(name, name, ({},), where=BOTH_SPLITS) for name in FLOORS),
    host("vbpr", where=ALL, test="gain"),
    *clear("vbpr", ALL),
    *components(BOTH_SPLITS),
    wider({"ml100k": 1}),
    *mrdib("vbpr", FAST, SMALL_ONLY),
    *pulls({"ml100k": 1, "ml100k-loo": 1}),
    *sweeps(FAST),
    host("freedom", where=ALL, test="gain"),
    *clear("freedom", ALL),
    *strategies({"ml100k": 1, "ml100k-loo": 1}),
    *mrdib("freedom", FAST, SMALL_ONLY),
    *(arm for model in ("dualgnn", "mmgcn", "soil", "mgcn") for arm in mrdib_in_short(model, SMALL_ONLY)),
)
ROUND = Round("studies", ARMS, DATA, SEEDS)
