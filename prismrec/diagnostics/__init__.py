"""Diagnostics: what the modalities share, what a trained model makes of them, and where it goes wrong.

A diagnosis is a function ``Subject → Finding``, listed in ``DIAGNOSTICS``; its name is the finding's. One that does not
apply raises a ``PrismError`` that says why, and is listed as skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prismrec.diagnostics.finding import Finding
from prismrec.diagnostics.subject import Subject, View
from prismrec.errors import PrismError, nearest

Measure = Callable[[Subject], Finding]

DIAGNOSTICS: tuple[Measure, ...] = ()
"""In the order in which a page shows them."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found of a subject, and what was not looked at: ``skipped`` holds names and reasons."""

    subject: Subject
    findings: tuple[Finding, ...]
    skipped: tuple[tuple[str, str], ...]


def diagnose(subject: Subject, only: Sequence[str] = ()) -> Diagnosis:
    """All measurements of a subject, or those named in ``only``.

    Raises ``PrismError`` for a name that is unknown; a measurement that does not apply is skipped with its reason.
    """
    known = {measure.__name__: measure for measure in DIAGNOSTICS}
    for name in only:
        if name not in known:
            raise PrismError(f"There is no diagnosis {name!r}. {nearest(name, known)}")
    findings: list[Finding] = []
    skipped: list[tuple[str, str]] = []
    for name, measure in known.items():
        if only and name not in only:
            continue
        try:
            findings.append(measure(subject))
        except PrismError as reason:
            skipped.append((name, str(reason)))
    return Diagnosis(subject, tuple(findings), tuple(skipped))


__all__ = ["DIAGNOSTICS", "Diagnosis", "Finding", "Measure", "Subject", "View", "diagnose"]
