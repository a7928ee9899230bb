"""Every model on Baby: what is tried. The settings that its authors state where there are any, else a few of their grid.

Settings that this package ships for Baby (BPR, LightGCN, VBPR, FREEDOM, chosen on validation before) are taken as they are.
"""

from __future__ import annotations

from benchmarks.rounds import Arm, Round, Settings, vary

SLOW: Settings = {"train.lr": 1e-4}
DECAY: Settings = {"train.schedule": "exponential"}  # times 0.96 in 50 epochs
FEATURES: Settings = {"model.reg": 0.1}  # unit rows, some ten times shorter than the published ones
IDS: Settings = {"model.ids": True, "model.reg": 0.01}


def baby(recall: float, ndcg: float) -> dict[str, float]:
    """Published recall@20 and ndcg@20."""
    return {"recall@20": recall, "ndcg@20": ndcg}


def regs(*values: float) -> list[Settings]:
    """Weights of the penalty."""
    return [{"model.reg": value} for value in values]


ARMS: tuple[Arm, ...] = (
    Arm("mostpop", "mostpop", ({},)),
    Arm("itemknn", "itemknn", ({},)),
    Arm("ease", "ease", ({},)),
    Arm("bpr", "bpr", ({},), published=baby(0.0575, 0.0249)),
    Arm("lightgcn", "lightgcn", ({},), published=baby(0.0754, 0.0328)),
    Arm("layergcn", "layergcn", tuple(regs(1e-2, 1e-3, 1e-4)), published=baby(0.0820, 0.0355)),
    Arm("vbpr", "vbpr", ({"model.reg": 0.5},), published=baby(0.0663, 0.0284)),
    Arm("freedom", "freedom", ({"model.prune": 0.8, "model.reg": 0.1},), published=baby(0.0992, 0.0424)),
    Arm("bm3", "bm3", ({},), published=baby(0.0883, 0.0383)),
    Arm("lgmrec", "lgmrec", ({},), published=baby(0.1002, 0.0440)),
    Arm(
        "apegnn",
        "apegnn",
        vary({}, {}, {"model.kernel": "pagerank"}, {"model.reg": 1e-3}),
        published=baby(0.0775, 0.0338),
    ),
)

ROUND = Round("models", ARMS, data=("baby",), seeds=(999, 1))
