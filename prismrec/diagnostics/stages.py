"""The modalities' features of all items at each stage of a subject: what the measurements of the shared space start from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from prismrec.diagnostics.subject import Subject
from prismrec.errors import PrismError

RAW, PROJECTED, BEFORE, AFTER = "raw", "projected", "before", "after"

Tables = Mapping[str, Tensor]
"""modality → (I, d_m), on the CPU."""


def stages(subject: Subject) -> dict[str, Tables]:
    """Stage → tables of at least two modalities.

    A run whose plug-ins change the features has ``before`` and ``after``; any other run ``projected``; data alone ``raw``.
    Raises ``PrismError`` where there are fewer than two modalities.
    """
    if subject.assembly is None:
        subject.require_modalities(2)
        return {RAW: {m: raw.values.detach().float().cpu() for m, raw in subject.raw.items()}}
    if len(subject.before) < 2:
        found = ", ".join(subject.before) or "none"
        raise PrismError(f"It needs at least two projected modalities; {subject.label} projects {found}.")
    before, after = (
        {m: rows.values.detach().double().cpu() for m, rows in feats.items()}
        for feats in (subject.before, subject.after)
    )
    if all(torch.equal(before[m], after[m]) for m in before):
        return {PROJECTED: before}
    return {BEFORE: before, AFTER: after}


def presence(subject: Subject, tables: Tables) -> dict[str, Tensor]:
    """modality → (I,) bool on the CPU: which items have it."""
    return {m: subject.raw[m].present.cpu() for m in tables}


def complete(subject: Subject, tables: Tables) -> Tensor:
    """Ids (n,) of the items that have all the modalities of ``tables``; a ``PrismError`` where fewer than three do."""
    found = torch.stack(list(presence(subject, tables).values())).all(0).nonzero().squeeze(1)
    if len(found) < 3:
        raise PrismError(f"Only {len(found)} items have all of {', '.join(tables)}; it needs at least three.")
    return found


def pairs(tables: Tables) -> list[tuple[str, str]]:
    """Unordered pairs of modalities, in their order."""
    names = list(tables)
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
