"""SOIL: Contrastive Second-Order Interest Learning for Multimodal Recommendation.

H. Su, J. Li, F. Li, K. Lu, L. Zhu, ACM Multimedia 2024.

The user–item graph gets second-order edges, from users to items that are much like something they took; the item graphs are
biased towards what takers of an item are drawn to. IDs, gated by what each modality says, travel over the item graphs and on
to the users; what attention finds the modalities to have in common is taken off, and the rest is added to the behaviour's
view. Contrasts tie both views of a node, and users to the items that they took.

Departures from the paper: 1. As in the published code, second-order edges weigh one half (``second``; the paper has 1), the
modalities' part is divided by 3, likeness of all modalities is the product of cosines, users gather over the normalised graph,
and negatives of the contrasts are the other rows of the batch. 2. That code normalises the users' block of the second-order
edges by degrees of the wrong nodes; here by the right ones, unless ``faithful``. 3. Cosines that are not positive count as
none; that code keeps such edges with a weight of 1e-7, and lets two negative ones make a likeness. 4. M modalities: products
of M cosines, items close in any of them, and M + 1 for the 3. 5. An item that lacks a modality is its own only neighbour in
that graph and has no second-order edges; its gate sees the mean features.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from prismrec import graphs, losses
from prismrec.errors import PrismError
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import Attention, Projector, xavier_table
from prismrec.space import Choice, Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms, take


class SOIL(Model):
    """user, item = C + Z: C the layer mean over B = Â + ½ N(R_a), Z = Σ_m (1 − a_m) M_m / (M + 1)."""

    name = "soil"
    paper = Paper(
        "SOIL: Contrastive Second-Order Interest Learning for Multimodal Recommendation",
        "H. Su, J. Li, F. Li, K. Lu, L. Zhu",
        "ACM MM",
        2024,
    )
    needs = 2
    whole_table = True
    new_items = "the gated IDs of its neighbours in the item graphs"

    class Config(Strict):
        """``views`` weighs InfoNCE between both views of a node, ``pairs`` that between users and items that they took."""

        dim: int = Field(64, ge=1, description="width d of the embeddings")
        layers: int = Field(2, ge=0, description="propagation steps over the user–item graph")
        item_layers: int = Field(1, ge=0, description="propagation steps over the item graphs")
        neighbours: int = Field(10, ge=1, description="k of the similarity graphs, the item itself included")
        drawn: int = Field(10, ge=1, description="items by modality that a user is drawn to, for the interest graphs")
        extra: int = Field(2, ge=0, description="second-order edges of a user")
        second: float = Field(0.5, ge=0, description="weight of the graph with second-order edges")
        views: float = Field(0.01, ge=0)
        pairs: float = Field(0.01, ge=0)
        temperature: float = Field(0.2, gt=0, description="τ of the contrasts")
        faithful: bool = Field(False, description="the users' block as the published code normalises it")

    spaces = named(
        default={
            "neighbours": Range(5, 20, whole=True),
            "drawn": Range(5, 20, whole=True),
            "extra": Range(0, 10, whole=True),
            "views": Range(1e-4, 0.3, log=True),
            "pairs": Range(1e-4, 0.3, log=True),
            "train.lr": Range(1e-4, 1e-2, log=True),
        },
        paper={"views": Choice((0.001, 0.01, 0.1)), "pairs": Choice((0.001, 0.01))},
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        self.user, self.item = xavier_table(ctx.n_users, cfg.dim), xavier_table(ctx.n_items, cfg.dim)
        edges = graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items)
        old = graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_known)  # nobody is drawn to what is new
        tables = [graphs.Cosines(raw.values[: ctx.n_known], raw.present[: ctx.n_known]) for raw in ctx.raw.values()]
        wider = graphs.second_order(old, tables, cfg.extra)
        self.graph = _augmented(edges, graphs.weighted_bipartite(wider).to_user, cfg.second)
        self.gather = _augmented(edges, _published_block(wider), cfg.second) if cfg.faithful else self.graph
        self.similar, self.purify = nn.ModuleDict(), nn.ModuleDict()
        for (m, raw), interest in zip(ctx.raw.items(), graphs.interest_weights(old, tables, cfg.drawn), strict=True):
            alike = graphs.similarity_matrix(*ctx.near(m, cfg.neighbours))
            drawn = graphs.normalised(interest).padded(ctx.n_items, ctx.n_items)
            self.similar[m] = graphs.ItemGraph(graphs.combined([(1.0, drawn), (1.0, alike)]))
            self.phi[m] = Projector(raw, nn.Linear(raw.width, cfg.dim))
            self.purify[m] = nn.Linear(cfg.dim, cfg.dim)
        self.common = Attention(cfg.dim, len(ctx.raw))

    def without_new(self) -> str:
        return "" if self.cfg.item_layers > 0 else "with item_layers = 0 it knows an item by its ID alone"

    def forward(self, feats: Feats) -> Reps:
        behaviour = graphs.propagate_mean(self.graph, self.cfg.layers, self.user, self.item)
        items = {}
        for m, rows in feats.items():
            pure = self.item * torch.sigmoid(self.purify[m](rows.values))
            items[m] = self.similar[m](pure, self.cfg.item_layers)
        users = {m: graphs.gather_users(self.gather, item) for m, item in items.items()}
        side = self.fuse(list(users.values())), self.fuse(list(items.values()))
        return Reps(
            behaviour[0] + side[0],
            Rows(behaviour[1] + side[1]),
            modal={m: (users[m], Rows(items[m])) for m in feats},
            views={
                "user.behaviour": behaviour[0],
                "item.behaviour": behaviour[1],
                "user.side": side[0],
                "item.side": side[1],
            },
        )

    def fuse(self, views: Sequence[Tensor]) -> Tensor:
        """Z of users or of items: their views M_m, each (n, d) → (n, d)."""
        common: Tensor = self.common(views)
        return (functools.reduce(torch.add, views) - common) / (len(views) + 1)

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        terms = losses.ranking(reps, batch, 0.0, "l2_sq")
        side, behaviour = (take(reps.views[f"item.{view}"], batch.pos) for view in ("side", "behaviour"))
        if self.cfg.views > 0:
            user = (take(reps.views[f"user.{view}"], batch.user) for view in ("side", "behaviour"))
            apart = self._contrast(side, behaviour) + self._contrast(*user)
            terms["soil.views"] = self.cfg.views * apart
        if self.cfg.pairs > 0:
            fused = reps.users(batch.user)
            apart = self._contrast(fused, behaviour) + self._contrast(fused, side)
            terms["soil.pairs"] = self.cfg.pairs * apart
        return terms

    def _contrast(self, query: Tensor, key: Tensor) -> Tensor:
        return losses.info_nce(query, key, self.cfg.temperature)


def _augmented(edges: graphs.Edges, second: graphs.Csr, weight: float) -> graphs.Bipartite:
    """R̂ + ``weight`` · ``second`` (U, I), and its transpose."""
    behaviour = edges.graph().to_user
    to_user = graphs.combined([(1.0, behaviour), (weight, second.padded(behaviour.rows, behaviour.columns))])
    return graphs.Bipartite(to_user, to_user.transpose())


def _published_block(wider: graphs.Csr) -> graphs.Csr:
    """N'(R_a): the degree of item j is read where that of user j stands. It goes through where there are fewer items."""
    if wider.columns > wider.rows:
        raise PrismError(
            f"soil.faithful reads an item's degree at the user of its number; there are {wider.columns:,} items and "
            f"{wider.rows:,} users here. Leave it off where items outnumber users."
        )
    row, column = wider.row(), wider.indices.long()
    total = torch.zeros(wider.rows, device=row.device).index_add_(0, row, wider.values)
    scale = torch.where(total > 0, total.rsqrt(), 0.0)
    return graphs.Csr(wider.indptr, column, wider.values * scale[row] * scale[column], wider.columns)
