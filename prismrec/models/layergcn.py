"""LayerGCN: Layer-refined Graph Convolutional Networks for Recommendation.

X. Zhou, D. Lin, Y. Liu, C. Miao, ICDE 2023, arXiv:2207.11088.

LightGCN whose layers are scaled, node by node, by their cosine with the node's own embedding before they go on; the
user–item graph is thinned afresh every epoch.

Departures from the published code: 1. Edges are always drawn by degree, as the paper has it; there every other epoch draws
them uniformly (``draw="alternate"``). 2. Loss and penalty are divided by the rows of the batch; there they are sums, so that
their ratio is the same.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from prismrec import graphs
from prismrec.losses import Penalty, ranking, unit
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import xavier_table
from prismrec.types import Batch, Feats, Reps, Rows, Terms


class LayerGCN(Model):
    """X^{l+1} = cos(ÂX^l, E) ⊙ ÂX^l, X⁰ = E; E* = Σ_{l=1..L} X^l; s(u, i) = ⟨e*_u, e*_i⟩."""

    name = "layergcn"
    paper = Paper(
        "Layer-refined Graph Convolutional Networks for Recommendation",
        "X. Zhou, D. Lin, Y. Liu, C. Miao",
        "ICDE",
        2023,
        "arXiv:2207.11088",
    )
    compared = "MMRec"

    class Config(Strict):
        """``reg`` weighs ``reg_kind`` of the batch's rows of E."""

        dim: int = Field(64, ge=1, description="width d of the embeddings")
        layers: int = Field(4, ge=1, description="propagation steps L")
        prune: float = Field(0.1, ge=0, lt=1, description="share of edges left out of an epoch")
        draw: Literal["degree", "uniform", "alternate"] = Field(
            "degree",
            description="which stay: likelier those between rare nodes, or any; alternate: one after the other by epoch",
        )
        reg: float = Field(1e-3, ge=0)
        reg_kind: Penalty = "l2_sq"

    cfg: Config
    drawn: Tensor

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        self.user, self.item = xavier_table(ctx.n_users, cfg.dim), xavier_table(ctx.n_items, cfg.dim)
        self.edges = graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items)
        self.full = self.edges.graph()
        self.pruned = self.full
        self.register_buffer("drawn", torch.zeros((), dtype=torch.int64))  # epochs so far; saved, so that a run resumes

    def start_epoch(self, rng: torch.Generator) -> None:
        if self.cfg.prune > 0:
            uniform = self.cfg.draw == "uniform" or (self.cfg.draw == "alternate" and int(self.drawn) % 2 == 1)
            self.pruned = self.edges.graph(self.edges.sample(1 - self.cfg.prune, rng, uniform))
            self.drawn += 1

    def forward(self, feats: Feats) -> Reps:
        graph = self.pruned if self.training else self.full
        ego = unit(self.user), unit(self.item)
        user: Tensor = self.user
        item: Tensor = self.item
        layers = []
        for _ in range(self.cfg.layers):
            to_user = graphs.product(graph.to_user, graph.to_item, item)
            to_item = graphs.product(graph.to_item, graph.to_user, user)
            user, item = refine(to_user, ego[0]), refine(to_item, ego[1])
            layers.append((user, item))
        users, items = (functools.reduce(torch.add, side) for side in zip(*layers, strict=True))
        return Reps(users, Rows(items))

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        return ranking(reps, batch, self.cfg.reg, self.cfg.reg_kind, on=Reps(self.user, Rows(self.item)))


def refine(x: Tensor, ego: Tensor) -> Tensor:
    """Rows of ``x`` (n, d) times their cosine with those of ``ego`` (n, d), which have unit length; 0 where a row is 0."""
    out: Tensor = _Refined.apply(x, ego)  # type: ignore[no-untyped-call]
    return out


class _Refined(torch.autograd.Function):
    """With x̂ = x/‖x‖, c = ⟨x̂, e⟩ and s = ⟨g, x̂⟩ the gradients are c g + s (e − c x̂) and s x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ego: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        scale = norm.masked_fill_(norm == 0, 1.0).reciprocal_()
        cosine = (x * ego).sum(1, keepdim=True).mul_(scale)
        ctx.save_for_backward(x, ego, scale, cosine)
        return x * cosine

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x, ego, scale, cosine = ctx.saved_tensors
        along = (grads[0] * x).sum(1, keepdim=True).mul_(scale)  # s
        of_ego = x * along
        of_x = grads[0] * cosine
        of_x.addcmul_(ego, along).addcmul_(of_ego, cosine * scale, value=-1)
        return of_x, of_ego
