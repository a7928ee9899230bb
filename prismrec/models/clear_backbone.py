"""CLEAR: Null-Space Projection for Cross-Modal De-Redundancy in Multimodal Recommendation — its backbone.

H. Zhan, Y. Wang, Y. Yang, D. Yue, Y. Wang, P. Shao, F. Shen, F. Liu, L. Wu, 2026, arXiv:2603.01536.

The paper's recommender without its projection ("w/o null-space"): projected features and user preferences are propagated
over a thinned user–item graph for each modality by itself, users weigh the modalities, items are refined over a frozen item
graph. With the plug-in ``clear`` it is the paper's model.

Departures from the paper, which leaves much of its backbone open: 1. Its algorithm adds an item term of width d and one of
width 2d. Here the modalities stand side by side on both sides (``fusion="concat"``), or are added up on both
(``fusion="sum"``). 2. Any number of modalities; with one there is nothing to weigh and no w. 3. Edges are thinned and the
item graph is made as in FREEDOM, whose two graphs the paper names; ranking uses all edges. 4. Rows that enter the
propagation have unit length (``normalize``), which the paper does not say. 5. The penalty is γ Σ‖·‖² / 2B of a batch of B.
"""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from prismrec import graphs
from prismrec.losses import penalty, ranking, unit
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import Projector, xavier_table
from prismrec.space import Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms, take


class CLEARBackbone(Model):
    """H_m = propagate(A_drop, [E_u^m ; V_m]); user = [softmax(w)_m H_m]_m, item = q + S^n q with q = [H_m]_m.

    A modality's own sides are softmax(w)_m H_m of users and H_m of items, so that ⟨user, q⟩ is the sum of their scores.
    """

    name = "clear-backbone"
    paper = Paper(
        "CLEAR: Null-Space Projection for Cross-Modal De-Redundancy in Multimodal Recommendation",
        "H. Zhan, Y. Wang, Y. Yang, D. Yue, Y. Wang, P. Shao, F. Shen, F. Liu, L. Wu",
        "arXiv",
        2026,
        "arXiv:2603.01536",
    )
    needs = 1
    whole_table = True
    new_items = "its projected features, and what its neighbours in the item graph are"

    class Config(Strict):
        """``drop`` is the share of edges left out of an epoch; ``reg`` is γ, on the users of a batch and their weights w."""

        dim: int = Field(64, ge=1, description="width d of a modality")
        projection: Literal["mlp", "linear"] = Field("mlp", description="φ: raw → 4d → d with LeakyReLU, or raw → d")
        layers: int = Field(2, ge=0, description="propagation steps over the user–item graph")
        item_layers: int = Field(1, ge=0, description="propagation steps over the item graph")
        neighbours: int = Field(10, ge=1, description="k of the item graph, the item itself included")
        weights: dict[str, float] = Field(default_factory=dict, description="modality: weight of its item graph")
        readout: Literal["sum", "mean"] = Field("sum", description="how the layers of a propagation make H")
        normalize: bool = Field(True, description="rows of [E_u^m ; V_m] of unit length")
        fusion: Literal["concat", "sum"] = Field("concat", description="modalities side by side, or added up")
        drop: float = Field(0.8, ge=0, lt=1)
        reg: float = Field(1e-3, ge=0)
        reg_on: Literal["embedding", "propagated"] = Field(
            "embedding", description="what γ weighs beside w: E_u^m, as the paper's text, or H_m[u], as its algorithm"
        )

    spaces = named(
        default={
            "layers": Range(1, 3, whole=True),
            "item_layers": Range(1, 2, whole=True),
            "drop": Range(0.0, 0.9),
            "reg": Range(1e-5, 1e-1, log=True),
            "train.lr": Range(1e-4, 1e-2, log=True),
        }
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        self.names = tuple(ctx.raw)
        # side by side, so that one sparse product serves all modalities; each has the start of a table of its own
        self.user = nn.Parameter(torch.cat([xavier_table(ctx.n_users, cfg.dim) for _ in self.names], dim=1).detach())
        self.weight = xavier_table(ctx.n_users, len(self.names)) if len(self.names) > 1 else None
        self.edges = graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items)
        self.full = self.edges.graph()
        self.thinned = self.full
        self.similar = ctx.item_graph(cfg.neighbours, cfg.weights)
        for m, raw in ctx.raw.items():
            self.phi[m] = Projector(raw, _net(cfg, raw.width))

    def start_epoch(self, rng: torch.Generator) -> None:
        if self.cfg.drop > 0:
            self.thinned = self.edges.graph(self.edges.sample(1 - self.cfg.drop, rng))

    def forward(self, feats: Feats) -> Reps:
        rows = torch.cat([feats[m].values for m in self.names], dim=1)
        user = self._split(self.user)
        item = self._split(rows)
        if self.cfg.normalize:
            user, item = unit(user), unit(item)
        propagate = graphs.propagate_sum if self.cfg.readout == "sum" else graphs.propagate_mean
        graph = self.thinned if self.training else self.full
        h_user, h_item = propagate(graph, self.cfg.layers, user.flatten(1), item.flatten(1))
        weighed, own = self._split(h_user), self._split(h_item)
        refined = self._split(h_item + self.similar(h_item, self.cfg.item_layers))
        if self.weight is not None:
            weighed = weighed * self.weight.softmax(1).unsqueeze(2)
        # before the item graph, which mixes what all modalities say of who resembles whom
        modal = {m: (weighed[:, j], Rows(own[:, j])) for j, m in enumerate(self.names)}
        views = {"propagated": h_user}
        if self.cfg.fusion == "sum":
            return Reps(weighed.sum(1), Rows(refined.sum(1)), modal, views)
        return Reps(weighed.flatten(1), Rows(refined.flatten(1)), modal, views)

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        terms = ranking(reps, batch, 0.0, "l2_sq")
        if self.cfg.reg > 0:
            table = self.user if self.cfg.reg_on == "embedding" else reps.views["propagated"]
            rows = [take(part, batch.user) for part in (table, self.weight) if part is not None]
            terms["reg"] = self.cfg.reg * penalty("l2_sq", *rows)
        return terms

    def _split(self, table: Tensor) -> Tensor:
        """(n, M·d) → (n, M, d)."""
        return table.view(len(table), len(self.names), -1)


def _net(cfg: CLEARBackbone.Config, width: int) -> nn.Module:
    """φ_m of raw features of ``width`` columns, Xavier as the paper starts everything, biases at 0."""
    widths = [width, 4 * cfg.dim, cfg.dim] if cfg.projection == "mlp" else [width, cfg.dim]
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        linear = nn.Linear(a, b)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [nn.LeakyReLU(), linear]
    return layers[1] if len(layers) == 2 else nn.Sequential(*layers[1:])
