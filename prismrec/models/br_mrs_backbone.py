"""BR-MRS: Synergy-Aware Multimodal Recommendation with Cross-Modal Hard Negatives — its backbone.

Anonymous authors, under review (ICML), 2026.

Three graphs, "as in FREEDOM and LGMRec": projected features and user embeddings are propagated over the user–item graph for
each modality by itself, items are refined over the modality's frozen item graph, users over a frozen graph of those who took
the same items. One user vector meets every modality's item vector and their fusion. With the plug-ins ``chns`` and
``synergy`` it is the paper's model; by itself it is trained by plain BPR.

Departures from the paper, which only sketches its backbone: 1. The user vector is the mean of what propagation gives for the
modalities, since eq. 2 has one for all. 2. Refined is added to what it refines. 3. Three fusions: the sum, attention by a
learned query, a perceptron. 4. Any number of modalities; one needs no fusion. 5. Items have embeddings of their own, added to
φ_m(x^m), as in both models that the paper takes its graphs from (``ids``). 6. ``reg`` weighs what enters the propagation.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from prismrec import graphs
from prismrec.graphs.users import UserWeights
from prismrec.losses import Penalty, ranking
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import Projector, xavier_table
from prismrec.space import Choice, Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms


class BRMRSBackbone(Model):
    """[p^m; q^m] = mean_l Â^l [p; φ_m(x^m)], p_u = (1 + S_U) mean_m p^m, q_i^m = (1 + S_m) q^m, q_i^f = fusion_m q_i^m."""

    name = "br-mrs-backbone"
    paper = Paper(
        "BR-MRS: Synergy-Aware Multimodal Recommendation with Cross-Modal Hard Negatives",
        "Anonymous authors",
        "under review (ICML)",
        2026,
    )
    needs = 1
    whole_table = True
    new_items = "its projected features, and what its neighbours in the item graphs are"

    class Config(Strict):
        """``reg`` weighs ``reg_kind`` of the batch's rows of what enters the propagation."""

        dim: int = Field(64, ge=1, description="width d of every vector")
        layers: int = Field(2, ge=0, description="propagation steps over the user–item graph")
        item_layers: int = Field(1, ge=0, description="propagation steps over the item graphs; 0: none is used")
        user_layers: int = Field(1, ge=0, description="propagation steps over the user graph; 0: it is not used")
        neighbours: int = Field(10, ge=1, description="k of the item graphs, the item itself included")
        user_neighbours: int = Field(10, ge=1, description="k of the user graph: those with most common items")
        user_weights: UserWeights = Field("softmax", description="of its edges, by numbers of common items")
        fusion: Literal["sum", "attention", "mlp"] = Field("sum", description="how q^m of all modalities make q^f")
        ids: bool = Field(True, description="add an embedding of the item's id to its projected features")
        reg: float = Field(1e-2, ge=0)
        reg_kind: Penalty = "l2_sq"

    spaces = named(
        default={
            "layers": Range(1, 3, whole=True),
            "user_layers": Range(0, 2, whole=True),
            "fusion": Choice(("sum", "attention", "mlp")),
            "reg": Range(1e-5, 1e-1, log=True),
            "train.lr": Range(1e-4, 1e-2, log=True),
        }
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        self.names = tuple(ctx.raw)
        self.user = xavier_table(ctx.n_users, cfg.dim)
        self.item = xavier_table(ctx.n_items, cfg.dim) if cfg.ids else None
        self.graph = graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items).graph()
        self.similar = nn.ModuleDict()
        for m, raw in ctx.raw.items():
            self.phi[m] = Projector(raw, nn.Linear(raw.width, cfg.dim))
            if cfg.item_layers > 0:
                near, _ = ctx.near(m, cfg.neighbours)
                self.similar[m] = graphs.ItemGraph(graphs.knn_matrix(near))
        if cfg.user_layers > 0:
            common = graphs.co_interactions(ctx.user, ctx.item, ctx.n_users, ctx.n_items, cfg.user_neighbours)
            self.alike = graphs.Frozen(graphs.user_graph(*common, cfg.user_weights))
        self.fusion = _FUSIONS[cfg.fusion if len(self.names) > 1 else "sum"](len(self.names), cfg.dim)

    def forward(self, feats: Feats) -> Reps:
        rows = torch.stack([feats[m].values for m in self.names], dim=1)  # (I, M, d)
        if self.item is not None:
            rows = rows + self.item.unsqueeze(1)
        # Â is linear: p goes over the graph once for all modalities, and what they give the users is averaged after it
        users, shared = graphs.spread(self.graph, self.cfg.layers, self.user, users=True)
        items, tastes = graphs.spread(self.graph, self.cfg.layers, rows.flatten(1), users=False)
        share = self.cfg.layers + 1
        user = (users + tastes.view(len(users), *rows.shape[1:]).mean(1)) / share
        item = (items.view_as(rows) + shared.unsqueeze(1)) / share
        near = user
        for _ in range(self.cfg.user_layers):
            near = self.alike(near)
        if self.cfg.user_layers > 0:
            user = user + near
        own = [
            q + self.similar[m](q, self.cfg.item_layers) if m in self.similar else q
            for m, q in zip(self.names, item.unbind(1), strict=True)
        ]
        modal = {m: (user, Rows(q)) for m, q in zip(self.names, own, strict=True)}
        return Reps(user, Rows(self.fusion(own)), modal, views={"start": rows.flatten(1)})

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        start = Reps(self.user, Rows(reps.views["start"]))
        return ranking(reps, batch, self.cfg.reg, self.cfg.reg_kind, on=start)


class _Sum(nn.Module):
    """q^f = Σ_m q^m: the fused score is the sum of the modalities' scores."""

    def __init__(self, modalities: int, dim: int) -> None:
        super().__init__()

    def forward(self, parts: list[Tensor]) -> Tensor:
        return torch.stack(parts).sum(0)


class _Attention(nn.Module):
    """q^f = Σ_m a_m q^m with a = softmax_m ⟨query, q^m⟩, for each item."""

    def __init__(self, modalities: int, dim: int) -> None:
        super().__init__()
        self.query = xavier_table(1, dim)

    def forward(self, parts: list[Tensor]) -> Tensor:
        stacked = torch.stack(parts)
        fused: Tensor = ((stacked * self.query).sum(-1, keepdim=True).softmax(0) * stacked).sum(0)
        return fused


class _Perceptron(nn.Module):
    """q^f = W₂ LeakyReLU(W₁ [q^m]_m + b₁) + b₂."""

    def __init__(self, modalities: int, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(modalities * dim, dim), nn.LeakyReLU(), nn.Linear(dim, dim))

    def forward(self, parts: list[Tensor]) -> Tensor:
        fused: Tensor = self.net(torch.cat(parts, dim=1))
        return fused


_FUSIONS: dict[str, type[_Sum] | type[_Attention] | type[_Perceptron]] = {
    "sum": _Sum,
    "attention": _Attention,
    "mlp": _Perceptron,
}
