"""Named studies: the tables and figures of papers, each written down as a question that can be asked again.

A study is one YAML file in ``configs/studies``. It says what is trained, how it is judged and what was published; nothing in it
is a program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources
from itertools import product
from typing import Any, Literal

from pydantic import Field

from prismrec.config import RunConfig, assign, parse_yaml, resolve, section, value_at
from prismrec.errors import PrismError, nearest
from prismrec.metrics import parse
from prismrec.models import Strict
from prismrec.studies.arms import FLOORS, space_of
from prismrec.studies.question import ArmOf
from prismrec.studies.search_space import apply, check_space, parse_space, without, written

COSTS: Mapping[str, str] = {"seconds_per_epoch": "seconds_per_epoch", "memory_gb": "peak_memory_mb"}
"""Published costs → where the cost of a leaderboard's row has them (memory in MB)."""

STATISTICS = ("users", "items", "interactions", "sparsity")
"""What is counted of a data set; the one arm of such a study is ``data``."""

Values = dict[str, dict[str, float]]
"""arm → metric → value"""


class ArmPlan(Strict):
    """An arm as a study's file writes it: ``of`` such as freedom+clear (its own name where empty), with ``settings``.

    ``settings`` (path → value) are fixed: they are not searched. ``host``: the arm that it is compared with. ``quick``: whether
    the quick version has it too.
    """

    of: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    host: str = ""
    quick: bool = True


class Look(Strict):
    """A measurement of ``prismrec diagnose`` to draw: the mean of column ``value``, a line or bar for each value of ``by``.

    ``only``: those values of ``by``, in this order; all where empty.
    """

    finding: str
    value: str
    by: str
    only: tuple[str, ...] = ()
    title: str = ""


class Part(Strict):
    """One comparison, ablation or sweep of a study. ``over`` (setting → values) turns its one arm into a grid.

    ``settings``: of all its arms. ``data``: the data sets that it is asked of; all of the study's where empty. ``best``: data →
    setting → value that the paper found best. ``title``: where its name says too little.
    """

    title: str = ""
    arms: dict[str, ArmPlan] = Field(default_factory=dict)
    over: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    data: tuple[str, ...] = ()
    best: dict[str, dict[str, Any]] = Field(default_factory=dict)
    quick: bool = True


class Quick(Strict):
    """The small version, on a planted catalogue: its size, ``epochs`` of each training, ``seeds``, ``points`` of each axis.

    ``settings`` are laid over those of all arms that have them.
    """

    users: int = Field(300, ge=50)
    items: int = Field(200, ge=50)
    epochs: int = Field(5, ge=1)
    seeds: int = Field(1, ge=1)
    trials: int = Field(0, ge=0)
    points: int = Field(3, ge=2)
    settings: dict[str, Any] = Field(default_factory=dict)


class Named(Strict):
    """A study as its file says it.

    ``kind``: what its parts are; "diagnose": a comparison whose runs are then looked into, or, without any part, data alone;
    "inspect": data counted.
    ``splits``: "given" is the split that the data brings. ``judged``: with "valid" no test part is opened. ``looks``: what is
    measured of the trained runs, and ``view``: at which list length and on which part. ``trials``: of each arm's search in
    its ``space``. ``alone``: one run at a time, so that costs can be read. ``hours``: of one machine with four cores, guessed
    for the data named. ``published``: data → arm → metric → value; ``gains``: the same of relative gains over the host, where
    only those are stated. ``notes``: what to mind.
    """

    title: str
    paper: Literal["CLEAR", "MRdIB", "BR-MRS"]
    what: str
    shows: str
    kind: Literal["compare", "ablate", "sweep", "diagnose", "inspect"]
    data: tuple[str, ...]
    splits: tuple[Literal["given", "leave-one-out"], ...] = ("given",)
    protocol: Literal["default", "mmrec"] = "mmrec"
    metric: str = "recall@20"
    metrics: tuple[str, ...] = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
    judged: Literal["valid", "test"] = "test"
    seeds: int = Field(5, ge=1)
    trials: int = Field(0, ge=0)
    space: Literal["default", "paper"] = "paper"
    floors: bool = False
    alone: bool = False
    hours: float = Field(ge=0)
    settings: dict[str, Any] = Field(default_factory=dict)
    parts: dict[str, Part] = Field(default_factory=dict)
    looks: tuple[str, ...] = ()
    draw: tuple[Look, ...] = ()
    k: int = Field(20, ge=1)
    published: dict[str, Values] = Field(default_factory=dict)
    gains: dict[str, Values] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    quick: Quick = Field(default_factory=Quick)

    def parts_of(self, data: str, quick: bool) -> dict[str, Part]:
        """The parts that are asked of a data set; the quick version asks all that it has of the planted one."""
        return {
            name: part
            for name, part in self.parts.items()
            if (part.quick if quick else data in (part.data or self.data))
        }


def names() -> list[str]:
    """Of all studies, in the order of papers, tables first."""
    order = {paper: place for place, paper in enumerate(("clear", "mrdib", "br-mrs"))}

    def place(name: str) -> tuple[int, bool, str]:
        paper = next(paper for paper in order if name.startswith(paper + "-"))
        return order[paper], "table" not in name, name

    return sorted(
        (entry.name.removesuffix(".yaml") for entry in _folder().iterdir() if _is_study(entry.name)), key=place
    )


def named(name: str) -> Named:
    """The study of a name, its arms and settings checked; an unknown name is an error with a suggestion."""
    return check(stated(name), name)


def stated(name: str) -> Named:
    """The study of a name as its file says it, unchecked."""
    if name not in names():
        raise PrismError(f"There is no study {name!r}. {nearest(name, names())} All: prismrec reproduce")
    text = (_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    return section(Named, _tuples(parse_yaml(text, name)), name)


def check(study: Named, where: str) -> Named:
    """Refuse a study whose metrics, arms or hosts do not hold; ``study``."""
    parse([study.metric, *study.metrics])
    if study.kind == "inspect":
        _check_counts(study, where)
        return study
    known = {arm for part in study.parts.values() for arm in (grid_names(part) if part.over else part.arms)}
    if study.floors:
        known |= set(FLOORS)
    for values in (*study.published.values(), *study.gains.values()):
        for arm, of_arm in values.items():
            if arm not in known:
                raise PrismError(
                    f"{where}: figures are stated of {arm!r}, which is no arm. {nearest(arm, sorted(known))}"
                )
            parse([study.metric, *(metric for metric in of_arm if metric not in COSTS)])
    for quick in (False, True):
        for part in study.parts.values():
            for name, found in arms(study, part, quick).items():
                if found.host and found.host not in part.arms:
                    raise PrismError(f"{where}: {name} is compared with {found.host!r}, which is no arm of its part.")
    return study


def _check_counts(study: Named, where: str) -> None:
    for name in study.data:
        found = study.published.get(name, {}).get("data", {})
        if not found or not set(found) <= set(STATISTICS):
            raise PrismError(f"{where}: {name} needs some of {', '.join(STATISTICS)} under published.{name}.data.")


def arms(study: Named, part: Part, quick: bool, device: str | None = None, threads: int = 1) -> dict[str, ArmOf]:
    """Name → arm of a part, as a question has it. ``quick``: on planted data, with few epochs and seeds."""
    run: dict[str, Any] = {"protocol": study.protocol, "threads": threads, "metrics": _metrics(study)}
    if device is not None:
        run["device"] = device
    plans = {floor: ArmPlan() for floor in FLOORS} if study.floors else {}
    plans |= {name: plan for name, plan in part.arms.items() if plan.quick or not quick}
    found = {}
    for name, plan in plans.items():
        shared = {**study.settings, **part.settings, **(study.quick.settings if quick else {})}
        cfg, fixed = _settled(name, plan, shared, {"metric": study.metric}, run)
        if quick:
            cfg = apply(cfg, {"train.epochs": min(cfg.train.epochs, study.quick.epochs)})
        if part.over:
            for point_name, changed in grid(cfg, part, study.quick.points if quick else 0).items():
                found[point_name] = ArmOf(config=changed.tree(), seeds=_seeds(study, changed, quick))
            continue
        space = written(without(space_of(cfg, study.space), [f"{path}=" for path in fixed])) if study.trials else {}
        check_space(parse_space(space, cfg, name), cfg, name)
        host = plan.host if not quick or not plan.host or part.arms[plan.host].quick else ""
        found[name] = ArmOf(config=cfg.tree(), space=space, host=host, seeds=_seeds(study, cfg, quick))
    return found


def grid(cfg: RunConfig, part: Part, points: int = 0) -> dict[str, RunConfig]:
    """Name → settings of each point of ``over``; with ``points`` only that many of each axis, its ends included."""
    axes = {path: _thinned(values, points) for path, values in part.over.items()}
    values = product(*axes.values())
    return {name: apply(cfg, dict(zip(axes, at, strict=True))) for name, at in zip(_points(axes), values, strict=True)}


def grid_names(part: Part) -> list[str]:
    """The names of the points of ``over``."""
    return list(_points(part.over))


def _points(axes: Mapping[str, tuple[Any, ...]]) -> Iterator[str]:
    for at in product(*axes.values()):
        yield ",".join(f"{path}={value}" for path, value in zip(axes, at, strict=True))


def _thinned(values: tuple[Any, ...], points: int) -> tuple[Any, ...]:
    if not points or len(values) <= points:
        return values
    return tuple(values[round(i * (len(values) - 1) / (points - 1))] for i in range(points))


def _settled(
    name: str, plan: ArmPlan, shared: Mapping[str, Any], train: Mapping[str, Any], run: Mapping[str, Any]
) -> tuple[RunConfig, list[str]]:
    """The settings of an arm, and the paths that they fix. Shared ones count where the arm has them; its own must hold."""
    model, *plugins = (plan.of or name).split("+")
    tree: dict[str, Any] = {
        "model": {"name": model}, "plugins": {p: {} for p in plugins}, "train": dict(train), "run": dict(run)
    }  # fmt: skip
    cfg = resolve(tree)
    tree = cfg.tree()
    fixed = [path for path in shared if value_at(cfg.tree(), path) is not None]
    for path in fixed:
        tree = assign(tree, path, shared[path])
    for path, value in plan.settings.items():
        tree = assign(tree, path, value)
    return resolve(tree), [*fixed, *plan.settings]


def _metrics(study: Named) -> list[str]:
    return list(dict.fromkeys([study.metric, *study.metrics]))


def _seeds(study: Named, cfg: RunConfig, quick: bool) -> tuple[int, ...]:
    count = study.quick.seeds if quick else study.seeds
    return tuple(range(cfg.run.seed, cfg.run.seed + (count if cfg.model.random else 1)))


def _folder() -> Any:
    return resources.files("prismrec") / "configs" / "studies"


def _is_study(name: str) -> bool:
    return name.endswith(".yaml")


def _tuples(value: Any) -> Any:
    """YAML's lists as the records have them."""
    if isinstance(value, Mapping):
        return {key: _tuples(below) for key, below in value.items()}
    return tuple(_tuples(below) for below in value) if isinstance(value, list) else value
