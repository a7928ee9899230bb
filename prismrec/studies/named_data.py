"""The data of named studies: where those that a study names lie, planted ones for a quick version, other splits of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prismrec.data import splits, store
from prismrec.data.dataset import Dataset
from prismrec.data.sources import read
from prismrec.errors import PrismError
from prismrec.studies.named import Named
from prismrec.studies.search import DataOf

PLANTED = "planted"
_SPLIT_SEED = 0


@dataclass(frozen=True)
class Source:
    """A data set of a study: its ``name`` there, the split that is taken, and where it lies."""

    name: str
    split: str
    dataset: Dataset
    where: DataOf

    @property
    def label(self) -> str:
        """``baby``, ``baby-leave-one-out``."""
        return self.name if self.split == "given" else f"{self.name}-{self.split}"


def located(study: Named, given: Sequence[str], folder: Path | None) -> dict[str, Path]:
    """Name → path of the study's data sets: NAME=PATH texts, or else folders (or files) of those names in ``folder``.

    A path without a name is that of a study with one data set. Raises ``PrismError`` for other names, for what is not there,
    and where none is found.
    """
    found: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals:
            if len(study.data) > 1:
                raise PrismError(f"--data {text} does not say which data it is; expected {study.data[0]}={text}.")
            name, path = study.data[0], text
        if name not in study.data:
            raise PrismError(f"The study is of {', '.join(study.data)}; --data {text} names {name!r}.")
        if not Path(path).exists():
            raise PrismError(f"There is no {path}, which --data {text} names.")
        found[name] = Path(path)
    for name in study.data:
        if name not in found and folder is not None and (folder / name).exists():
            found[name] = folder / name
    if not found:
        one = study.data[0]
        where = f"{folder} has none of these" if folder is not None else "no data is named"
        raise PrismError(
            f"The study needs {_listed(study.data)}, and {where}. Give --data {one}=PATH, or --data-folder FOLDER with a "
            f"folder {one} in it; `prismrec data download {one}` says where it is to be had. Without any data, --quick runs a "
            "small version on planted data."
        )
    return {name: found[name] for name in study.data if name in found}


def missing(study: Named, found: Mapping[str, Path]) -> str:
    """A sentence on the data sets that the study is of and that were not given; empty if there are none."""
    lacking = [name for name in study.data if name not in found]
    return f"Left out, for no data is given: {_listed(lacking)}." if lacking else ""


def sources(study: Named, paths: Mapping[str, Path], folder: Path) -> list[Source]:
    """Each data set with each split of the study; those that the data does not bring are made and kept in ``folder``."""
    made = []
    for name, path in paths.items():
        made += _split(study, name, path, read(path), folder)
    return made


def planted(study: Named, folder: Path) -> list[Source]:
    """The planted catalogue of the quick version, kept in ``folder``, with each split of the study."""
    from prismrec.data.synthetic import draw

    quick, path = study.quick, folder / PLANTED
    dataset = draw(quick.users, quick.items, seed=0).dataset
    dataset = _kept(dataset, path)
    return _split(study, PLANTED, path, dataset, folder)


def _split(study: Named, name: str, path: Path, dataset: Dataset, folder: Path) -> list[Source]:
    made = []
    for split in study.splits:
        this, here = dataset, path
        if split != "given":
            here = folder / f"{name}-{split}"
            this = _kept(splits.leave_one_out(dataset, order="random", seed=_SPLIT_SEED), here)
        this.require("train", "valid", "test")
        where = DataOf.of(this, here)
        made.append(Source(name, split, this, where))
    return made


def _kept(dataset: Dataset, path: Path) -> Dataset:
    """The data set as it stands at ``path``, written there if it does not."""
    if not path.exists():
        store.save(dataset, path)
    known = read(path)
    if known.fingerprint != dataset.fingerprint:
        raise PrismError(f"{path} holds other data than this study makes. Name another folder with --out.")
    return known


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
