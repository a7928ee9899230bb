"""The arms of the first round of evidence: which host, which method, which settings are tried.

An arm and the arm that it is compared with (``against``) try the same number of settings, on validation, with one seed.
Where a card states values they are among them; ``auto`` and the like are settings of a method as any other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Settings = dict[str, Any]
TRIALS = 4  # settings tried by every arm


@dataclass(frozen=True)
class Arm:
    """A host or recipe with plug-ins. ``metric`` chooses the epoch and the settings; its cutoff is that of the tables."""

    name: str
    model: str
    tried: tuple[Settings, ...]
    plugins: tuple[str, ...] = ()
    metric: str = "recall@20"
    against: str = ""
    published: dict[str, float] = field(default_factory=dict)

    @property
    def cutoff(self) -> int:
        """K."""
        return int(self.metric.partition("@")[2])


def vary(common: Settings, *each: Settings) -> tuple[Settings, ...]:
    """The settings tried: each on top of what is common."""
    return tuple({**common, **one} for one in each)


def clear(*pairs: tuple[int, float]) -> list[Settings]:
    """Ranks and strengths of CLEAR."""
    return [{"clear.rank": rank, "clear.strength": strength} for rank, strength in pairs]


def mrdib(*weights: tuple[float, float, float]) -> list[Settings]:
    """α₁, α₂, α₃ of MRdIB."""
    return [dict(zip(("mrdib.compress", "mrdib.redundant", "mrdib.unique"), w, strict=True)) for w in weights]


# FREEDOM's weight of its modalities' own terms stays above 0: at 0 its features take no part, and no method can act.
FREEDOM: Settings = {"model.prune": 0.8, "model.reg": 0.1}
VBPR: Settings = {"model.reg": 0.5}
REGS = {"vbpr": (1.0, 0.5, 0.1, 0.01), "freedom": (0.3, 0.1, 0.01, 0.001)}
RANKS = ((8, 0.9), (4, 0.9), (8, 0.5), (16, 0.9))

ARMS: tuple[Arm, ...] = (
    Arm("vbpr", "vbpr", vary({}, *({"model.reg": r} for r in REGS["vbpr"])), published={"recall@20": 0.0663}),
    Arm("vbpr+clear", "vbpr", vary(VBPR, *clear(*RANKS)), ("clear",), against="vbpr", published={"recall@20": 0.0776}),
    Arm(
        "vbpr@5",
        "vbpr",
        vary({}, *({"model.reg": r} for r in REGS["vbpr"])),
        metric="recall@5",
        published={"recall@5": 0.0243},
    ),
    Arm(
        "freedom",
        "freedom",
        vary(FREEDOM, *({"model.reg": r} for r in REGS["freedom"])),
        published={"recall@20": 0.0984},
    ),
    Arm(
        "freedom+clear",
        "freedom",
        vary(FREEDOM, *clear(*RANKS)),
        ("clear",),
        against="freedom",
        published={"recall@20": 0.0992},
    ),
    Arm(
        "freedom@5",
        "freedom",
        vary(FREEDOM, *({"model.reg": r} for r in REGS["freedom"])),
        metric="recall@5",
        published={"recall@5": 0.0390},
    ),
)

NOTES = ""
