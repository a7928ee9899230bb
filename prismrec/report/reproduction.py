"""The page of a named study: ours beside what was published, and the way to the pages of its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prismrec.report.page import write_page
from prismrec.studies.named import COSTS, Named
from prismrec.studies.named_beside import Beside, Best
from prismrec.studies.sheets import NONE

Section = dict[str, Any]


def write_reproduction(
    path: Path,
    study: Named,
    says: Sequence[str],
    command: str,
    rows: Sequence[Beside],
    bests: Sequence[Best],
    parts: Sequence[Mapping[str, Any]],
    facts: Sequence[tuple[str, str]],
) -> Path:
    """Write the page. ``parts``: title, ``note``, ``figures`` and the ``page`` of each part, relative to ``path``."""
    stated = any(row.published is not None or row.published_gain is not None for row in rows)
    ours = [_section("beside", "Ours beside published" if stated else "Ours", sheets=[sheet(rows)])] if rows else []
    sections = ours if stated else []
    if bests:
        sections.append(_section("best", "Best settings", sheets=[best_sheet(bests)]))
    for number, part in enumerate((part for part in parts if part["note"] or part["figures"]), 1):
        sections.append(_section(f"part-{number}", part["title"], part["note"], part["figures"]))
    sections += [] if stated else ours  # the figures are what is asked for then
    if study.notes:
        sections.append(_section("mind", "To mind", " ".join(study.notes)))
    links = [(part["title"], str(part["page"])) for part in parts]
    return write_page(
        path,
        "reproduction.html",
        title=f"{study.paper}, {study.what}: {study.title}",
        heading=study.title,
        on=f"{study.paper}, {study.what}",
        says=[study.shows, *says],
        facts=list(facts),
        sections=sections,
        pages=links,
        command=command,
        made=[],
    )


def _section(
    name: str, title: str, note: str = "", figures: Sequence[Any] = (), sheets: Sequence[Section] = ()
) -> Section:
    return {
        "name": name, "title": title, "note": note, "figures": list(figures), "clouds": [], "sheets": list(sheets), "folds": []
    }  # fmt: skip


def sheet(rows: Sequence[Beside]) -> Section:
    """Ours beside published, as a table of text."""
    columns = ["arm", "data", "metric", "ours", "published", "ratio", "over", "gain", "published gain"]
    cells = [
        [
            _cell(row.arm),
            _cell(row.data),
            _cell(row.metric),
            _cell(number(row.ours, row.metric), "" if row.sd is None else f"± {number(row.sd, row.metric)}"),
            _published(row.published, row.of, row.data, row.metric),
            _cell(NONE if row.ratio is None else f"{row.ratio:.3f}"),
            _cell(row.host or NONE),
            _cell(NONE if row.gain is None else signed(row.gain)),
            _cell(NONE if row.published_gain is None else signed(row.published_gain)),
        ]
        for row in rows
    ]
    told = [
        n for n in range(len(columns)) if n < 4 or any(line[n] != _cell(NONE) for line in cells)
    ]  # some papers print none
    columns, cells = [columns[n] for n in told], [[line[n] for n in told] for line in cells]
    note = (
        "Mean ± standard deviation over seeds. Ratio: ours ÷ published, on the same data only. Gains are relative, over the "
        "arm named; published ones are computed from published values, or stated where no values are."
    )
    return {"name": "beside", "title": "Ours beside published", "note": note, "columns": columns, "rows": cells}


def best_sheet(bests: Sequence[Best]) -> Section:
    """Best settings of sweeps, as a table of text."""
    columns = ["setting", "part", "data", "best here", "best published", "tried"]
    cells = [
        [
            _cell(one.setting),
            _cell(one.part),
            _cell(one.data),
            _cell(str(one.ours)),
            _published(one.published, one.of, one.data),
            _cell(", ".join(map(str, one.tried))),
        ]
        for one in bests
    ]
    note = "Best by the mean over seeds on validation; how little or much it matters, the curves show."
    return {"name": "best", "title": "Best settings", "note": note, "columns": columns, "rows": cells}


def number(value: float | None, metric: str) -> str:
    """Four digits of a metric, two of a cost; a whole number as it is."""
    if value is None:
        return NONE
    return f"{value:.2f}" if metric in COSTS else f"{value:,.0f}" if value > 1 else f"{value:.4f}"


def signed(gain: float) -> str:
    """A relative gain in percent, with a true minus."""
    return f"{gain:+.1%}".replace("-", "−")


def _published(value: Any, of: str, data: str, metric: str = "") -> dict[str, Any]:
    """A published figure or setting; where it is of other data, that is said."""
    if value is None:
        return _cell(NONE)
    return _cell(number(value, metric) if metric else str(value), "" if data.startswith(of) else f"on {of}")


def _cell(text: str, aside: str = "") -> dict[str, Any]:
    return {"text": text, "aside": aside, "marks": "", "place": ""}
