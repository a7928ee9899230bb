"""A named study with its data → the questions that are asked, each in a folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prismrec.studies.named import Named, Part, arms
from prismrec.studies.named_data import PLANTED, Source
from prismrec.studies.question import Question

MAIN = "main"
"""The name of a part that needs none, for it is the only one."""


@dataclass(frozen=True)
class Asked:
    """One question of a study: the ``part`` called ``name`` asked of a data set, in ``folder``."""

    name: str
    part: Part
    source: Source
    question: Question
    folder: Path

    @property
    def label(self) -> str:
        """What it is called on pages: the part and the data, as far as there are several."""
        title = self.part.title or ("" if self.name == MAIN else self.name)
        return f"{title}, {self.source.label}" if title else self.source.label

    @property
    def data(self) -> str:
        """The name under which a study states what was published; none is stated of planted data."""
        return self.source.name


def asked(
    study: Named, sources: Sequence[Source], folder: Path, quick: bool, device: str | None = None, threads: int = 1
) -> list[Asked]:
    """All questions of a study, data set by data set. A sweep's part is one of a sweep whatever the study's kind."""
    found = []
    for source in sources:
        for name, part in study.parts_of(source.name, quick or source.name == PLANTED).items():
            kind: Literal["compare", "ablate", "sweep"]
            kind = "sweep" if part.over else "ablate" if study.kind == "ablate" else "compare"
            question = Question(
                kind=kind,
                title=f"{study.title}: {part.title or name}" if len(study.parts) > 1 else study.title,
                data=source.where,
                arms=arms(study, part, quick, device, threads),
                part=study.judged,
                trials=study.quick.trials if quick else study.trials,
                axes=tuple(part.over),
            )
            found.append(Asked(name, part, source, question, folder / source.label / name))
    return found
