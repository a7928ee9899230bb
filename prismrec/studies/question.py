"""What a study was asked, and the folder where that stands."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from prismrec.config import read_yaml, resolve, section
from prismrec.data.dataset import Dataset
from prismrec.errors import PrismError
from prismrec.io import vacant, write_text
from prismrec.models import Strict
from prismrec.studies.search import DataOf
from prismrec.studies.search_sampling import PrunerName, SamplerName
from prismrec.studies.search_space import check_space, parse_space

STUDY = "study.yaml"


class ArmOf(Strict):
    """One arm as asked: the settings it starts from, its ``space`` (setting → values or range; none: nothing is searched).

    ``host``: the arm that it is compared with. ``seeds``: those of its runs.
    """

    config: dict[str, Any]
    space: dict[str, Any] = Field(default_factory=dict)
    host: str = ""
    seeds: tuple[int, ...]


class Question(Strict):
    """All that a study was asked; the same question in the same folder goes on with it.

    ``kind``: the command that asks. ``part``: what its runs are judged by; with "valid" no test part is ever opened.
    ``trials``: of each arm's search. ``axes``: the settings that a sweep varies.
    """

    kind: Literal["compare", "ablate", "sweep"]
    title: str = ""
    data: DataOf
    arms: dict[str, ArmOf]
    part: Literal["valid", "test"] = "test"
    trials: int = Field(0, ge=0)
    sampler: SamplerName = "tpe"
    pruner: PrunerName = "median"
    axes: tuple[str, ...] = ()
    home: str = Field(default_factory=lambda: uuid.uuid4().hex)


def read_question(folder: str | Path, dataset: Dataset | None = None) -> Question:
    """The question of a study's folder; ``dataset``: what it is asked of now, refused if it is another one."""
    path = Path(folder) / STUDY
    if not path.is_file():
        raise PrismError(
            f"{folder} is no study: it has no {STUDY}. Name the folder of a comparison, ablation or sweep."
        )
    question = section(Question, _tuples(read_yaml(path)), str(path))
    if dataset is not None and question.data.fingerprint != dataset.fingerprint:
        raise PrismError(
            f"{folder} asks about data with fingerprint {question.data.fingerprint}; {dataset.name} has "
            f"{dataset.fingerprint}. Name another folder with --out, or give the data that it began with."
        )
    return question


def begin(question: Question, folder: Path) -> Question:
    """Write a new question into a folder that is free, or take up the same question that stands there."""
    if (folder / STUDY).is_file():
        known = read_question(folder)
        if known.model_copy(update={"home": question.home}) != question:
            raise PrismError(
                f"{folder} holds a study that asks something else ({_differences(known, question)}). Name another folder "
                "with --out, or ask the same again to go on with it."
            )
        return known
    if not vacant(folder):
        raise PrismError(f"{folder} exists and holds no study; a study needs a folder of its own: name another one.")
    tree = question.model_dump(mode="json")
    write_text(folder / STUDY, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
    return question


def check(question: Question) -> None:
    """Refuse arms whose settings or spaces do not hold, before anything is trained."""
    for name, arm in question.arms.items():
        cfg = resolve(arm.config)
        check_space(parse_space(arm.space, cfg, name), cfg, name)


def _tuples(tree: Mapping[str, Any]) -> dict[str, Any]:
    """YAML's lists as the record has them."""
    arms = {
        name: {**arm, "seeds": tuple(arm["seeds"])} if isinstance(arm, Mapping) and "seeds" in arm else arm
        for name, arm in (tree.get("arms") or {}).items()
    }
    return {**tree, "arms": arms, "axes": tuple(tree.get("axes") or ())}


def _differences(known: Question, asked: Question) -> str:
    """Which parts of two questions differ, for a sentence."""
    old, new = known.model_dump(), asked.model_dump()
    parts = [key for key in old if key not in ("home", "arms") and old[key] != new[key]]
    if old["arms"].keys() != new["arms"].keys():
        parts.append(f"its arms are {', '.join(old['arms'])}")
    elif old["arms"] != new["arms"]:
        parts += [f"arm {name}" for name in old["arms"] if old["arms"][name] != new["arms"][name]]
    return "; ".join(parts)
