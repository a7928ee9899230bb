"""The page of a diagnosis, and what of it goes onto the page of its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prismrec import panels
from prismrec.diagnostics import Diagnosis, Subject
from prismrec.figures import embedded, standalone
from prismrec.io import atomic, read_json, write_json, write_text
from prismrec.report.page import write_page

_ROWS = 60  # of a table that a page shows; its file holds all
_SAID = "findings.json"


def write_diagnosis(out_dir: str | Path, diagnosis: Diagnosis) -> Path:
    """Write ``index.html`` into ``out_dir``, and beside it each table (CSV, Parquet) and each figure (SVG) by name.

    What the findings say is in ``findings.json``, for the page of the run.
    """
    folder, subject = Path(out_dir), diagnosis.subject
    for finding in diagnosis.findings:
        with atomic(folder / f"{finding.name}.csv") as part:
            finding.table.write_csv(part)
        with atomic(folder / f"{finding.name}.parquet") as part:
            finding.table.write_parquet(part)
        for number, svg in enumerate(finding.figures, 1):
            write_text(folder / f"{finding.name}-{number}.svg", standalone(svg))
    said = [{"name": f.name, "title": f.title, "says": f.says, "figures": len(f.figures)} for f in diagnosis.findings]
    write_json(folder / _SAID, said)
    return write_page(
        folder / "index.html",
        "diagnosis.html",
        title=f"{subject.label} on {subject.dataset.name}: diagnosis",
        label=subject.label,
        data=subject.dataset.name,
        what=_how(subject),
        findings=[
            {
                "name": finding.name,
                "title": finding.title,
                "says": finding.says,
                "figures": [{"svg": svg, "title": "", "caption": ""} for svg in finding.figures],
                "table": panels.rows_of(finding.table, _ROWS),
            }
            for finding in diagnosis.findings
        ],
        skipped=[list(pair) for pair in diagnosis.skipped],
        settings=[] if subject.config is None else panels.flat(subject.config.tree()),
    )


def saved_findings(folder: Path) -> list[dict[str, Any]]:
    """What ``write_diagnosis`` left in a folder, with its figures; nothing where there is none."""
    if not (folder / _SAID).is_file():
        return []
    found = []
    for finding in read_json(folder / _SAID):
        files = [folder / f"{finding['name']}-{number}.svg" for number in range(1, finding["figures"] + 1)]
        figures = [embedded(path.read_text(encoding="utf-8")) for path in files if path.is_file()]
        drawn = [{"svg": svg, "title": "", "caption": ""} for svg in figures]
        found.append({**finding, "figures": drawn})
    return found


def _how(subject: Subject) -> str:
    """What a diagnosis looks at, in a paragraph."""
    view = subject.view
    if subject.reps is None:
        return f"Data alone: nothing was trained. Data fingerprint {subject.dataset.fingerprint}."
    left_out = " and ".join({"train": "training", "valid": "validation"}[p] for p in subject.rules.masks[view.part])
    part = {"valid": "the validation part; the test part was not opened", "test": "the TEST part, as was asked for"}
    return (
        f"The epoch that validation chose. Hits are those of {part[view.part]}. Lists hold {view.k} items; "
        f"{f'a user’s {left_out} items are left out' if view.masked else 'nothing is left out of them'}."
    )
