"""Diagnostics: what the modalities share, what a trained model makes of them, and where it goes wrong.

A diagnosis is a function ``Subject → Finding``, listed in ``DIAGNOSTICS``; its name is the finding's. One that does not
apply raises a ``PrismError`` that says why, and is listed as skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prismrec.diagnostics.confusions import confusions
from prismrec.diagnostics.finding import Finding
from prismrec.diagnostics.information import code_information, training_information
from prismrec.diagnostics.maps import modality_map
from prismrec.diagnostics.neighbours import neighbours, similarities
from prismrec.diagnostics.shared_space import shared_subspace
from prismrec.diagnostics.spectrum import redundant_rank, singular_values
from prismrec.diagnostics.subject import Subject, View
from prismrec.diagnostics.subsets import subsets
from prismrec.errors import PrismError, nearest

Measure = Callable[[Subject], Finding]

DIAGNOSTICS: tuple[Measure, ...] = (
    neighbours,
    similarities,
    singular_values,
    redundant_rank,
    modality_map,
    shared_subspace,
    code_information,
    training_information,
    subsets,
    confusions,
)
"""In the order in which a page shows them."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found of a subject, and what was not looked at: ``skipped`` holds names and reasons."""

    subject: Subject
    findings: tuple[Finding, ...]
    skipped: tuple[tuple[str, str], ...]


def diagnose(subject: Subject | str | Path, only: Sequence[str] = ()) -> Diagnosis:
    """All measurements of a subject (or of the finished run in a folder), or those named in ``only``.

    Raises ``PrismError`` for a name that is unknown; a measurement that does not apply is skipped with its reason.
    """
    check_names(only)
    if not isinstance(subject, Subject):
        subject = Subject.of_run(subject)
    findings: list[Finding] = []
    skipped: list[tuple[str, str]] = []
    for measure in DIAGNOSTICS:
        if only and measure.__name__ not in only:
            continue
        try:
            findings.append(measure(subject))
        except PrismError as reason:
            skipped.append((measure.__name__, str(reason)))
    return Diagnosis(subject, tuple(findings), tuple(skipped))


def check_names(only: Sequence[str]) -> None:
    """Refuse a name that no measurement has, with the nearest one."""
    known = [measure.__name__ for measure in DIAGNOSTICS]
    for name in only:
        if name not in known:
            raise PrismError(f"There is no diagnosis {name!r}. {nearest(name, known)}")


__all__ = ["DIAGNOSTICS", "Diagnosis", "Finding", "Measure", "Subject", "View", "check_names", "diagnose"]
