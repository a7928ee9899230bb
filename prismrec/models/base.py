"""What a model is: a Config, a paper, representations from features, and named loss terms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from prismrec import graphs
from prismrec.errors import PrismError, nearest
from prismrec.nn import Projections, Raw
from prismrec.space import Space, named
from prismrec.types import Batch, Feats, ItemIds, Reps, Terms


class Strict(BaseModel):
    """A frozen record of settings that refuses unknown keys and wrong types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Paper:
    """Where a method comes from; ``id`` is an arXiv number or a DOI."""

    title: str
    authors: str
    venue: str
    year: int
    id: str = ""


@dataclass(frozen=True)
class Context:
    """All that a model may know when it is built: counts, training rows, raw features. Never validation or test rows.

    ``user``, ``item`` (N,) int64 training rows; ``weight`` (N,) float32 or None; ``raw``: modality → Raw. ``knn`` finds
    neighbours as ``graphs.knn`` does; whoever builds the context may pass one that remembers. ``n_new``: the last so many
    items were not there in training: nobody took them, and nothing of anybody else may depend on them.
    """

    n_users: int
    n_items: int
    user: Tensor
    item: Tensor
    weight: Tensor | None
    raw: Mapping[str, Raw]
    knn: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]] = graphs.knn
    n_new: int = 0

    @property
    def n_known(self) -> int:
        """Items that were there in training: the first so many."""
        return self.n_items - self.n_new

    def near(self, modality: str, k: int) -> tuple[Tensor, Tensor]:
        """The ``k`` nearest items by raw features of each item, itself the first → ids and cosines (I, k); -1 for none."""
        raw = self.raw[modality]
        return graphs.grown(self.knn, raw.values, raw.present, k, self.n_known)

    def item_graph(self, neighbours: int, weights: Mapping[str, float]) -> graphs.ItemGraph:
        """FREEDOM's frozen graph: Σ_m w_m S_m, with S_m made of the ``neighbours`` nearest items by raw features.

        ``weights`` as given; empty: image 0.1 and text 0.9 where these two are all there is, else equal.
        """
        shares = self.shares(weights)
        parts = [graphs.knn_matrix(self.near(m, neighbours)[0]) for m in self.raw]
        return graphs.ItemGraph(graphs.weighted_sum(parts, [shares[m] for m in self.raw]))

    def shares(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Weight of each modality where graphs of all are added up: as given, or as for ``item_graph``."""
        return _weights(weights, list(self.raw))


def _weights(given: Mapping[str, float], modalities: list[str]) -> dict[str, float]:
    """Graph weight of each modality: as given, else as published for image and text, else equal."""
    for m in given:
        if m not in modalities:
            raise PrismError(f"model.weights names the modality {m!r}, which the data lacks. {nearest(m, modalities)}")
    if given:
        return {m: given.get(m, 0.0) for m in modalities}
    if set(modalities) == {"image", "text"}:
        return {"image": 0.1, "text": 0.9}
    return dict.fromkeys(modalities, 1 / len(modalities))


class Model(nn.Module, ABC):
    """A model turns features into representations and those into loss terms; no I/O, no device calls, no printing.

    ``name``: lower case, as on the command line. ``needs``: the least number of modalities. ``whole_table``: True where raw
    features travel through a graph, so that every step needs all items' features rather than the batch's.
    ``uses_weights``: whether interaction weights change anything. ``random``: whether a seed does. ``compared``: whose
    implementation gave the same scores and losses with the same weights, graphs and batches; empty where none was run
    beside it (docs/models.md has the figures).
    ``new_items``: what the side of an item that was not there in training is made of, in a clause; empty: it has none.
    ``by_features``: which of an item's sides are functions of its features alone, so that two items with the same features
    have the same: ``modal`` those of the modalities, ``all`` the fused one too.
    ``row_tables``: parameters of a row per user or item of which training takes rows and nothing else, so that they need not be
    whole anywhere.
    ``spaces``: what a search may try, by name. ``parts``: settings that leave a part of the model out at 0.
    """

    name: ClassVar[str]
    paper: ClassVar[Paper]
    Config: ClassVar[type[Strict]]
    spaces: ClassVar[Mapping[str, Space]] = named()
    parts: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[int] = 0
    n_neg: ClassVar[int] = 1
    whole_table: ClassVar[bool] = False
    uses_weights: ClassVar[bool] = True
    random: ClassVar[bool] = True
    compared: ClassVar[str] = ""
    new_items: ClassVar[str] = ""
    by_features: ClassVar[Literal["none", "modal", "all"]] = "none"
    row_tables: ClassVar[tuple[str, ...]] = ()

    cfg: Strict

    def __init__(self, cfg: Strict, ctx: Context) -> None:
        super().__init__()
        self.cfg = cfg
        self.n_users, self.n_items = ctx.n_users, ctx.n_items
        self.phi = Projections()

    @classmethod
    def kind(cls) -> str:
        """What it learns from."""
        return "multimodal" if cls.needs else "collaborative"

    @classmethod
    def check(cls, ctx: Context) -> None:
        """Refuse data that this model cannot use, with a sentence."""
        if len(ctx.raw) < cls.needs:
            found = ", ".join(ctx.raw) or "none"
            raise PrismError(
                f"{cls.name} needs at least {cls.needs} modalit{'y' if cls.needs == 1 else 'ies'}; the data offers {found}. "
                "Add features to the data set (prismrec data import --help), or choose a collaborative model."
            )

    def without_new(self) -> str:
        """Why an item that was not there in training has no side here, in a clause; empty where it has one."""
        return "" if self.new_items else "it knows an item by those who took it, and features say nothing of that"

    def project(self, raw: Mapping[str, Raw], index: ItemIds | None) -> Feats:
        """φ_m(x_m) of the items of ``index``, or of all. New items are projected by passing their raw rows."""
        return self.phi.project(raw, index)

    def sides(self, feats: Feats) -> dict[str | None, tuple[int, int]]:
        """Widths of the user and item side that ``forward`` states: None for the fused one, and each of ``Reps.modal``."""
        with torch.no_grad():
            reps = self(feats)
        pairs = {m: reps.sides(m) for m in (None, *reps.modal)}
        return {m: (user.shape[1], rows.width) for m, (user, rows) in pairs.items()}

    def start_epoch(self, rng: torch.Generator) -> None:
        """Redraw whatever changes between epochs, with ``rng``."""

    @abstractmethod
    def forward(self, feats: Feats) -> Reps:
        """The paper's equations: features → representations."""

    @abstractmethod
    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        """Weighted loss terms; the main ranking term is called ``rank``. A closed-form model returns none."""
