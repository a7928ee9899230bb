"""Optuna's parts as a search uses them: storage, distributions, samplers whose draws hang on the number of the trial, pruners.

A sampler is seeded anew for every trial, by the search's seed and the trial's number: a search that was stopped goes on as
if it never had been, and machines that share a study do not draw the same. Trial 0 is the settings as they stand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, create_trial
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from prismrec.errors import PrismError
from prismrec.space import Choice, Dimension, Space, point, points

SamplerName = Literal["tpe", "grid", "random"]
PrunerName = Literal["median", "hyperband", "none"]
Settings = Mapping[str, Any]

_RANDOM_FIRST = 8  # trials before TPE trusts what it has seen
_FULL_FIRST = 5  # trials trained to their end before any is cut short
_WARM_UP = 10  # validations that every trial gets


def distribution(dimension: Dimension) -> BaseDistribution:
    """A dimension in Optuna's terms."""
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.options)
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def sampler(name: SamplerName, space: Space, seed: int, start: Settings | None) -> BaseSampler:
    """A sampler by name. ``start``: trial 0; None: sampled like the others. A grid takes its points in a seeded order."""
    if name == "grid":
        return _Numbered(_Grid(space, seed), lambda number: RandomSampler(seed=_seed(seed, number)))

    def first(study: Study, number: int) -> Settings | None:
        return start if number == 0 else None

    if name == "random":
        return _Numbered(first, lambda number: RandomSampler(seed=_seed(seed, number)))
    return _Numbered(
        first,
        lambda number: TPESampler(
            n_startup_trials=_RANDOM_FIRST, multivariate=True, constant_liar=True, seed=_seed(seed, number)
        ),
    )


def pruner(name: PrunerName) -> BasePruner:
    """A pruner by name; steps are validations. Hyperband learns from the first trial that ends how long trials are."""
    if name == "median":  # few trials are long: whoever outlives most is not to be measured by the best alone
        return MedianPruner(n_startup_trials=_FULL_FIRST, n_warmup_steps=_WARM_UP, n_min_trials=_FULL_FIRST)
    if name == "hyperband":
        return HyperbandPruner(min_resource=_WARM_UP // 2, max_resource="auto")
    return NopPruner()


def grid_size(space: Space) -> int:
    """How many points a grid over the space has; one with a range of reals has none, and is refused."""
    size = points(space)
    if size is None:
        open_ended = ", ".join(key for key, dimension in space.items() if dimension.values() is None)
        raise PrismError(
            f"A grid needs values to try, and the space has ranges of real numbers: {open_ended}. Take --sampler tpe or "
            "random, or a space of lists: --space paper where there is one, or a file of your own."
        )
    return size


class _Grid:
    """Trial number → point of the grid: each once, in a seeded order; then those that a trial lost before it began."""

    def __init__(self, space: Space, seed: int) -> None:
        self.space, self.size = space, grid_size(space)
        self.order = np.random.default_rng(seed).permutation(self.size)

    def __call__(self, study: Study, number: int) -> Settings:
        if number < self.size:
            return point(self.space, int(self.order[number]))
        tried = {_key(trial.params) for trial in study.get_trials(deepcopy=False) if trial.number != number}
        every = (point(self.space, int(index)) for index in self.order)
        return next((found for found in every if _key(found) not in tried), point(self.space, int(self.order[0])))


def _key(settings: Settings) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, repr(value)) for name, value in settings.items()))


class _Numbered(BaseSampler):
    """Draws by a sampler made for the trial's number, but for trials whose settings are given."""

    def __init__(self, given: Callable[[Study, int], Settings | None], make: Callable[[int], BaseSampler]) -> None:
        self.given, self.make = given, make
        self.settings: Settings | None = None
        self.inner = make(0)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.settings, self.inner = self.given(study, trial.number), self.make(trial.number)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {} if self.settings is not None else self.inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.inner.sample_relative(study, trial, search_space) if search_space else {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if self.settings is not None:
            return self.settings[param_name]
        return self.inner.sample_independent(study, trial, param_name, param_distribution)


def _seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


@cache
def storage(url: str) -> RDBStorage:
    """The database at a SQLAlchemy URL, opened once in a process; one that cannot be opened is a ``PrismError``."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    waiting = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    for last in (False, False, True):
        try:
            return RDBStorage(url, engine_kwargs=waiting)
        except Exception as error:  # drivers raise what they like
            if last or not isinstance(error, SQLAlchemyError) or isinstance(error, ArgumentError):
                said = " ".join(str(error).replace(url, masked(url)).split())[:300]
                raise PrismError(
                    f"The storage {masked(url)} cannot be opened: {said}. Expected a database as SQLAlchemy names it, such as "
                    "sqlite:///search.db or postgresql+psycopg://user@host/name, and its driver installed."
                ) from None
        time.sleep(1)  # machines that start together make its tables together, and all but one of them fail
    raise AssertionError("the last attempt returns or raises")


def masked(url: str) -> str:
    """A database URL without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url


def private(folder: Path) -> str:
    """The URL of the database of a study that is one folder's alone."""
    return f"sqlite:///{(folder / 'search.db').resolve()}"


def importance(space: Space, tried: Sequence[tuple[Settings, float]]) -> dict[str, float]:
    """Setting → share of what matters for being among the best (PED-ANOVA, Watanabe et al. 2023, arXiv:2304.10255).

    ``tried``: settings and what they reached, those of trials cut short too, which are among the worse. Empty where they
    are too few to say, or where there is but one setting.
    """
    if len(tried) < _TELLING or len(space) < 2 or len({value for _, value in tried}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    known = {key: distribution(dimension) for key, dimension in space.items()}
    study.add_trials([create_trial(params=dict(params), distributions=known, value=value) for params, value in tried])
    best = min(max(0.1, 5 / len(tried)), 0.5)  # at least five trials are the good ones
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=best)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {key: float(found[key]) for key in sorted(found, key=lambda key: -found[key])}


_TELLING = 10
