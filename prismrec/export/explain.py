"""Why an item is listed: what each side of the score says of it, and which items of the history are near it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

FUSED = "fused"


@dataclass(frozen=True)
class Said:
    """What one side says of an item for a user.

    ``score``: its inner product. ``deviations``: how many standard deviations that lies above the mean of the user's scores
    over the catalogue. ``rank``: 1 + the unseen items that score higher.
    """

    score: float
    deviations: float
    rank: int


@dataclass(frozen=True)
class Why:
    """Why ``item`` stands (or does not) among the ``k`` first of ``user``.

    ``said``: ``"fused"`` and each modality with a score of its own → what it says. ``shares``: modality → its part of what
    modalities say in favour, by deviations above the mean; they sum to 1, or are all 0 where none is in favour.
    ``near``: modality, or ``"fused"`` → the nearest items of the history and their cosine, or, where users are rows of the
    training matrix, what each adds to the score. ``evidence``: who would list the item: ``unique M`` where one modality
    alone would, ``redundant`` where several would, ``synergy`` where none would, ``not listed`` where the fused score does
    not (the subsets of docs/diagnostics.md, for one item); ``none by modality`` where the model has no scores by modality.
    """

    user: Any
    item: Any
    k: int
    said: Mapping[str, Said]
    shares: Mapping[str, float]
    near: Mapping[str, list[tuple[Any, float]]]
    evidence: str

    def record(self) -> dict[str, Any]:
        """As plain dictionaries and lists."""
        return asdict(self)


def shares_of(said: Mapping[str, Said]) -> dict[str, float]:
    """The part of each modality in what modalities say in favour."""
    for_it = {m: max(s.deviations, 0.0) for m, s in said.items() if m != FUSED}
    total = sum(for_it.values())
    return {m: value / total if total else 0.0 for m, value in for_it.items()}


def evidence_of(said: Mapping[str, Said], k: int) -> str:
    """Unique, redundant or synergistic: which modalities would list the item among their ``k`` first."""
    modalities = [m for m in said if m != FUSED]
    if not modalities:
        return "none by modality"
    if said[FUSED].rank > k:
        return "not listed"
    hits = [m for m in modalities if said[m].rank <= k]
    return "synergy" if not hits else f"unique {hits[0]}" if len(hits) == 1 else "redundant"
