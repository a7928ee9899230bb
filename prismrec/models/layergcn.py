"""LayerGCN: Layer-refined Graph Convolutional Networks for Recommendation.

X. Zhou, D. Lin, Y. Liu, C. Miao, ICDE 2023, arXiv:2207.11088.

LightGCN whose layers are scaled, node by node, by their cosine with the node's own embedding before they go on; the
user–item graph is thinned afresh every epoch.

Departures from the published code: 1. Edges are always drawn by degree, as the paper has it; there every other epoch draws
them uniformly (``draw="alternate"``). 2. Loss and penalty are divided by the rows of the batch; there they are sums, so that
their ratio is the same.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from prismrec import graphs
from prismrec.losses import Penalty, ranking, unit
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import xavier_table
from prismrec.space import Choice, Range, named
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

    spaces = named(
        default={
            "layers": Range(2, 6, whole=True),
            "prune": Range(0.0, 0.5),
            "reg": Range(1e-5, 1e-1, log=True),
            "train.lr": Range(1e-4, 1e-2, log=True),
        },
        paper={"prune": Choice((0.0, 0.1, 0.2)), "reg": Choice((1e-2, 1e-3, 1e-4, 1e-5))},
    )

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
        user, item = refined_sum(graph, self.cfg.layers, self.user, self.item)
        return Reps(user, Rows(item))

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        return ranking(reps, batch, self.cfg.reg, self.cfg.reg_kind, on=Reps(self.user, Rows(self.item)))


def refined_sum(graph: graphs.Bipartite, layers: int, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_{l=1..L} X^l of X^{l+1} = cos(ÂX^l, X⁰) ⊙ ÂX^l with X⁰ = [``user``; ``item``] → (U, d), (I, d)."""
    out: tuple[Tensor, Tensor] = _Refined.apply(graph, layers, user, item, unit(user), unit(item))  # type: ignore[no-untyped-call]
    return out


class _Refined(torch.autograd.Function):
    """All layers in few passes.

    Of a row of y = ÂX^l, with e that of X⁰ at unit length, c = ⟨ŷ, e⟩, G the gradient of c y and s = ⟨G, ŷ⟩, the gradients
    are c G + s (e − c ŷ) of y and s y of e.
    """

    @staticmethod
    def forward(ctx: Any, graph: graphs.Bipartite, layers: int, *tables: Tensor) -> tuple[Tensor, ...]:
        x, ego = tables[:2], tables[2:]
        total: tuple[Tensor, ...] = ()
        saved: list[Tensor] = []
        for _ in range(layers):
            y = graph.to_user.times(x[1]), graph.to_item.times(x[0])
            scales = [_cosines(*pair) for pair in zip(y, ego, strict=True)]
            x = y[0] * scales[0][1], y[1] * scales[1][1]
            total = tuple(a.add_(b) for a, b in zip(total, x, strict=True)) if total else (x[0].clone(), x[1].clone())
            saved += [*y, *scales[0], *scales[1]]
        ctx.graph = graph
        ctx.save_for_backward(*ego, *saved)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        graph, (user, item, *saved) = ctx.graph, ctx.saved_tensors
        ego, of_ego = (user, item), (torch.zeros_like(user), torch.zeros_like(item))
        onward = grads
        for start in range(len(saved) - 6, -1, -6):
            y, scales = saved[start : start + 2], (saved[start + 2 : start + 4], saved[start + 4 : start + 6])
            of_y = []
            for side, (scale, cosine) in enumerate(scales):
                along = (onward[side] * y[side]).sum(1, keepdim=True).mul_(scale)
                of_ego[side].addcmul_(y[side], along)
                part = onward[side] * cosine
                of_y.append(part.addcmul_(ego[side], along).addcmul_(y[side], along * cosine * scale, value=-1))
            onward = graph.to_user.times(of_y[1]), graph.to_item.times(of_y[0])
            if start > 0:
                onward = onward[0].add_(grads[0]), onward[1].add_(grads[1])
        return None, None, *onward, *of_ego


def _cosines(y: Tensor, ego: Tensor) -> tuple[Tensor, Tensor]:
    """Of rows (n, d), those of ``ego`` at unit length: 1/‖y‖, or 1 where it is 0, and the cosines, (n, 1) each."""
    norm = torch.linalg.vector_norm(y, dim=1, keepdim=True)
    scale = norm.masked_fill_(norm == 0, 1.0).reciprocal_()
    return scale, (y * ego).sum(1, keepdim=True).mul_(scale)
