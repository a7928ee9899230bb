"""The folder of one search: study.yaml says what was asked, so that the same command, or the folder alone, goes on with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from prismrec.config import read_yaml, section
from prismrec.data.sources import read
from prismrec.errors import PrismError
from prismrec.io import vacant, write_text
from prismrec.studies.search import Asked
from prismrec.studies.search_sampling import masked

_STUDY = "study.yaml"
_PARTS = {
    "data": "its data", "config": "its settings", "space": "its space", "sampler": "its sampler", "pruner": "its pruner",
}  # fmt: skip


def settle(folder: Path, asked: Asked) -> Asked:
    """What is asked, as the folder knows it: of a new one, as given; of one that holds this search, with the new budget.

    A folder that holds something else is refused. Written to ``study.yaml``, without the password of its storage.
    """
    if (folder / _STUDY).is_file():
        before = _read(folder)
        for part, name in _PARTS.items():
            if before.question[part] != asked.question[part]:
                raise PrismError(
                    f"{folder} holds another search: {name} {_difference(before, asked, part)}. Go on with it "
                    f"(prismrec tune --resume {folder}), or name another folder with --out."
                )
        if _shown(asked.storage) != _shown(before.storage):
            raise PrismError(
                f"{folder} keeps its trials in {_shown(before.storage) or 'a file of its own'}, not in "
                f"{_shown(asked.storage) or 'a file of its own'}. Give the same --storage, or name another folder with --out."
            )
        asked = asked.model_copy(update={"home": before.home})
    elif not vacant(folder):
        raise PrismError(f"{folder} exists and holds no search; name another folder with --out.")
    folder.mkdir(parents=True, exist_ok=True)
    kept = asked.model_copy(update={"storage": _shown(asked.storage)})
    text = yaml.safe_dump({"tune": kept.model_dump()}, sort_keys=False, allow_unicode=True)
    write_text(folder / _STUDY, text)
    return asked


def recall(folder: Path, storage: str = "") -> Asked:
    """What a folder's search was asked; ``storage``: the URL with the password that the folder does not keep."""
    asked = _read(folder)
    if storage:
        return asked.model_copy(update={"storage": storage})
    if "***" in asked.storage:
        raise PrismError(
            f"{folder} keeps its trials in {asked.storage}, whose password is not kept: give --storage URL."
        )
    return asked


def _read(folder: Path) -> Asked:
    tree = read_yaml(folder / _STUDY) if (folder / _STUDY).is_file() else {}
    if "tune" not in tree:
        raise PrismError(
            f"{folder} holds no search. Name the folder that `prismrec tune` wrote, or begin: prismrec tune DATA --model NAME"
        )
    return section(Asked, tree["tune"], f"{folder / _STUDY}: tune")


def locate(asked: Asked, data: str | None) -> Asked:
    """A search with its data where it lies now: ``data``, or where it was; data that is not the same is refused."""
    where = data or asked.data.path
    if not Path(where).exists():
        raise PrismError(
            f"The data of the search is not in {where}; say where it is now: prismrec tune DATA --resume …"
        )
    found = read(where).fingerprint
    if found != asked.data.fingerprint:
        raise PrismError(
            f"The search is on data with fingerprint {asked.data.fingerprint}, but {where} has {found}. "
            "Give it the data it began with, or begin another search."
        )
    return asked.model_copy(update={"data": asked.data.model_copy(update={"path": str(Path(where).resolve())})})


def _difference(before: Asked, asked: Asked, part: str) -> str:
    """The first setting that differs, and how."""
    was, now = before.question[part], asked.question[part]
    path = []
    while isinstance(was, dict) and isinstance(now, dict):
        key = next(key for key in [*was, *now] if was.get(key) != now.get(key))
        path.append(str(key))
        was, now = was.get(key), now.get(key)
    where = f"({'.'.join(path)}) " if path else ""
    return f"{where}was {_short(was)}, now {_short(now)}"


def _short(value: Any) -> str:
    text = "not there" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _shown(storage: str) -> str:
    return masked(storage) if storage else ""
