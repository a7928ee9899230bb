"""Recommender: what a user of the Python interface meets. Fit a data set, then ask for lists on external ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import polars as pl

from prismrec.cold import Features, Trained, raw_features
from prismrec.data.dataset import Dataset
from prismrec.data.sources import read
from prismrec.errors import PrismError
from prismrec.experiment import configure, run
from prismrec.index import Ids, Index
from prismrec.run_folder import saved_result
from prismrec.train import Watcher


class Recommender:
    """A model with its plug-ins, by name.

    Examples:
        >>> import prismrec
        >>> from prismrec.data.synthetic import draw
        >>> shop = draw(n_users=60, n_items=80, seed=1).dataset
        >>> fitted = prismrec.Recommender("mostpop").fit(shop)
        >>> fitted.recommend(shop.users.external[:2], k=3).height
        6

    ``settings``: dotted names → values, such as ``{"model.layers": 3, "train.epochs": 50}``; an unknown name is refused.
    ``fit`` trains on the training split, chooses the epoch on validation and evaluates once on test: ``valid`` and ``test``
    hold the means. With ``out`` the run is kept as a folder that ``load`` and the command line read.
    """

    def __init__(
        self,
        model: str = "freedom",
        plugins: Sequence[str] = (),
        *,
        settings: Mapping[str, Any] | None = None,
        seed: int | None = None,
        device: str | None = None,
        protocol: str | None = None,
    ) -> None:
        self.model, self.plugins, self.settings = model, tuple(plugins), dict(settings or {})
        self._run: dict[str, Any] = {"seed": seed, "device": device, "protocol": protocol}
        self._index: Index | None = None
        self._trained: Callable[[str | Path | None], Trained] | None = None
        self.summary: dict[str, Any] = {}

    def fit(self, dataset: Dataset | str | Path, out: str | Path | None = None, watcher: Watcher | None = None) -> Self:
        """Train on a data set, or on the one at a path.

        ``out``: a new folder for the run; an interrupted run of the same settings and data in it goes on where it was.
        """
        data = dataset if isinstance(dataset, Dataset) else read(dataset)
        cfg, _ = configure(data, self.model, self.plugins, settings=self.settings, **self._run)
        folder = None if out is None else Path(out)
        result = run(cfg, data, folder, watcher, None if isinstance(dataset, Dataset) else str(dataset))
        self._index, self.summary = result.index, result.summary
        self._trained = lambda _: Trained.of(result.assembly, data)
        return self

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """A finished run, ready to recommend; the data set is not needed."""
        summary = saved_result(Path(folder))
        made = cls(summary["model"], summary["plugins"], seed=summary["seed"], protocol=summary["protocol"])
        made._index, made.summary = Index.load(Path(folder) / "index"), summary
        made._trained = lambda data: Trained.of_run(folder, data)
        return made

    @property
    def index(self) -> Index:
        """The final representations with ids and seen items."""
        if self._index is None:
            raise PrismError("This Recommender is not fitted yet; call fit(dataset) first, or prismrec.load(run).")
        return self._index

    @property
    def valid(self) -> dict[str, float]:
        """Metric → mean over users on the validation split, at the chosen epoch."""
        return dict(self.summary.get("valid", {}))

    @property
    def test(self) -> dict[str, float]:
        """Metric → mean over users on the test split, at the chosen epoch."""
        return dict(self.summary.get("test", {}))

    def recommend(
        self, user_ids: Ids, k: int = 10, exclude_seen: bool = True, modality: str | None = None
    ) -> pl.DataFrame:
        """The ``k`` best items of each user: columns user, rank, item, score and, where known, title."""
        return self.index.recommend(user_ids, k, exclude_seen, modality)

    def recommend_for(
        self, item_ids: Ids, k: int = 10, exclude_given: bool = True, modality: str | None = None
    ) -> pl.DataFrame:
        """The ``k`` best items for somebody who took ``item_ids``, a known user or not: columns rank, item, score, title."""
        return self.index.recommend_for(item_ids, k, exclude_given, modality)

    def add_items(
        self, features: Features, ids: Ids, table: pl.DataFrame | None = None, data: str | Path | None = None
    ) -> Self:
        """Items that were not there in training: from now on they are recommended like any others.

        ``features``: modality → (n, r) raw features, a row for each of the ``ids`` by the encoder that made those of the known
        items; a modality that is left out, or a row of NaN alone, is one that the item lacks. ``table``: what is known of
        them, such as their titles. ``data``: the data set of a loaded run, where it has moved. Scores of known items stay.

        Raises ``PrismError`` for ids that are known, features of another shape, and a model that knows items by their takers
        alone.

        Examples:
            >>> import prismrec
            >>> from prismrec.data.synthetic import draw
            >>> shop = draw(n_users=60, n_items=80, seed=1).dataset
            >>> fitted = prismrec.Recommender("contentknn").fit(shop)
            >>> like_the_first = {m: modality.values[:1] for m, modality in shop.modalities.items()}
            >>> fitted.add_items(like_the_first, ["new"]).recommend(shop.users.external[:1], k=81, exclude_seen=False).height
            81
        """
        new = self.index.items.new(ids)
        assert self._trained is not None
        trained = self._trained(data)
        trained.check()
        more = raw_features(features, new.to_list(), trained.widths)
        self._index = self.index.with_items(new, trained.sides(more), table)
        return self

    def similar(self, item_ids: Ids, k: int = 10, modality: str | None = None) -> pl.DataFrame:
        """The ``k`` items most like each item, by the fused representation or by one modality's."""
        return self.index.similar(item_ids, k, modality)

    def scores(self, user_ids: Ids, item_ids: Ids, modality: str | None = None) -> pl.DataFrame:
        """Scores of pairs: the first user with the first item, and so on."""
        return self.index.scores(user_ids, item_ids, modality)
