"""SLMRec: Self-supervised Learning for Multimedia Recommendation.

Z. Tao, X. Liu, Y. Xia, X. Wang, L. Yang, X. Huang, T.-S. Chua, IEEE Transactions on Multimedia 25, 2022,
pages 5107–5116.

IDs and each modality travel over the user–item graph by themselves, from the same user embeddings; what arrives is joined by
one linear layer for users and one for items. In a batch a user is told his own item among all others; a second task finds the
same item in another view of it.

Departures from the published code: 1. Representations are those of the parameters as they are, not those of the last batch.
2. Any number of modalities: the chain of the second task takes them in the data's order, the last one at half the width; a
third one stands between as sound does there. 3. A masked view hides from all layers of a pass; there the passes share the
others' layers. 4. Interaction weights multiply the rows of the first task. 5. Layers that make partners have no bias, which
would cancel. As there, items are ranked by the inner product, although training compares cosines: a contrast within batches
takes popularity out of the angles, and lengths give it back. By the cosine itself (``score="cosine"``) the same weights
find half as much on Amazon Baby (validation recall@20 0.035, not 0.079).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from prismrec import graphs, losses
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import UnitProjector, xavier_table
from prismrec.space import Choice, Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms, take


class SLMRec(Model):
    """[u_m; y_m] = mean_l Â^l [E_u; X_m] for X_m = E_i and W_m x/‖x‖ + b_m; user = F_u [u_m]_m, item = F_i [y_m]_m."""

    name = "slmrec"
    paper = Paper(
        "Self-supervised Learning for Multimedia Recommendation",
        "Z. Tao, X. Liu, Y. Xia, X. Wang, L. Yang, X. Huang, T.-S. Chua",
        "IEEE TMM",
        2022,
    )
    needs = 1
    n_neg = 0
    whole_table = True
    compared = "MMRec"
    new_items = "its projected features; its ID view is zero"

    class Config(Strict):
        """``task`` is the second task, ``weight`` its weight; ``fac``: fine and coarse alignment of views."""

        dim: int = Field(64, ge=1, description="width d of the embeddings and of each view")
        layers: int = Field(3, ge=0, description="propagation steps over the user–item graph")
        temperature: float = Field(0.2, gt=0, description="τ of the first task")
        task: Literal["fac", "drop", "mask", "none"] = "fac"
        weight: float = Field(0.1, ge=0)
        task_temperature: float = Field(0.2, gt=0, description="τ of the second task")
        drop: float = Field(0.3, ge=0, lt=1, description="share of the entries of every layer that task drop drops")
        score: Literal["cosine", "dot"] = Field("dot", description="by which items are ranked")

    parts = ("weight",)
    spaces = named(
        default={
            "layers": Range(1, 4, whole=True),
            "temperature": Range(0.05, 1.0, log=True),
            "weight": Range(1e-3, 1.0, log=True),
            "task_temperature": Range(0.05, 1.0, log=True),
            "train.lr": Range(1e-4, 1e-2, log=True),
        },
        paper={
            "weight": Choice((0.01, 0.05, 0.1, 0.5, 1.0)),
            "task_temperature": Choice((0.1, 0.2, 0.5, 1.0)),
            "train.lr": Choice((1e-4, 1e-3, 1e-2, 1e-1)),
            "train.weight_decay": Choice((1e-4,)),
        },
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        self.user, self.item = xavier_table(ctx.n_users, cfg.dim), xavier_table(ctx.n_items, cfg.dim)
        self.graph = graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items).graph()
        for m, raw in ctx.raw.items():
            self.phi[m] = UnitProjector(raw, cfg.dim)
        views = 1 + len(ctx.raw)
        self.join = nn.ModuleDict({side: nn.Linear(views * cfg.dim, cfg.dim) for side in ("user", "item")})
        self.chain = _Chain(tuple(ctx.raw), cfg.dim) if cfg.task == "fac" and cfg.weight > 0 else None
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, feats: Feats) -> Reps:
        start = torch.cat([self.item, *(rows.values for rows in feats.values())], dim=1)
        user, item = self.propagate(start)
        names = ("id", *feats)
        users, items = (dict(zip(names, side.split(self.cfg.dim, dim=1), strict=True)) for side in (user, item))
        fused = self.join["user"](user), self.join["item"](item)
        if self.cfg.score == "cosine":
            fused = losses.unit(fused[0]), losses.unit(fused[1])
        modal = {m: (users[m], Rows(items[m])) for m in feats}
        return Reps(fused[0], Rows(fused[1]), modal, views={"start": start, "user": user, "item": item})

    def propagate(self, start: Tensor, drop: float = 0.0) -> tuple[Tensor, Tensor]:
        """Views of items as they start, (I, (1+M)·d) → those of users (U, …) and items (I, …) side by side.

        ``drop``: share of the entries of every layer's output that is dropped.
        """
        layers, views = self.cfg.layers, start.shape[1] // self.cfg.dim
        if drop == 0:  # all views have the same users, and Â is linear: they go over the graph once
            own, given = graphs.spread(self.graph, layers, self.user, users=True)
            items, users = graphs.spread(self.graph, layers, start, users=False)
            return (users + own.repeat(1, views)) / (layers + 1), (items + given.repeat(1, views)) / (layers + 1)
        user, item = self.user.repeat(1, views), start
        sums = user, item
        for _ in range(layers):
            user, item = (
                graphs.dropout(graphs.product(self.graph.to_user, self.graph.to_item, item), drop),
                graphs.dropout(graphs.product(self.graph.to_item, self.graph.to_user, user), drop),
            )
            sums = sums[0] + user, sums[1] + item
        return sums[0] / (layers + 1), sums[1] / (layers + 1)

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        joined = self._joined(reps.views["user"], reps.views["item"], batch)
        terms = {"rank": losses.info_nce(*joined, self.cfg.temperature, batch.weight)}
        if self.chain is not None:
            views = dict(
                zip(("id", *feats), take(reps.views["item"], batch.pos).split(self.cfg.dim, dim=1), strict=True)
            )
            terms["slmrec.fac"] = self.cfg.weight * self.chain(views, self.cfg.task_temperature)
        elif self.cfg.task in ("drop", "mask") and self.cfg.weight > 0:
            one, other = (self._joined(*passed, batch) for passed in self._passes(reps.views["start"]))
            apart = [losses.info_nce(a, b, self.cfg.task_temperature) for a, b in zip(one, other, strict=True)]
            terms[f"slmrec.{self.cfg.task}"] = self.cfg.weight * (apart[0] + apart[1])
        return terms

    def _joined(self, user: Tensor, item: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's rows of views side by side, joined: of the batch alone, whose gradient is not that of all rows."""
        return self.join["user"](take(user, batch.user)), self.join["item"](take(item, batch.pos))

    def _passes(self, start: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Two further passes over the graph: entries dropped in each, or another view of the items zero in each."""
        if self.cfg.task == "drop":
            return [self.propagate(start, self.cfg.drop) for _ in range(2)]
        views = start.shape[1] // self.cfg.dim
        view = torch.arange(start.shape[1], device=start.device) // self.cfg.dim
        hidden = torch.randperm(views, device=start.device)[:2]
        return [self.propagate(torch.where(view == one, 0.0, start)) for one in hidden]


class _Chain(nn.Module):
    """Fine and coarse alignment of the batch's items: ID with the first modality; what ID has become, with each further one.

    ID → a₀ → a₁ → …, one linear layer a step, with a layer to itself where there is no modality between first and last. Each
    a_k is told from those of the batch's other items by the partner of its modality. The last partners have half the width.
    """

    def __init__(self, modalities: tuple[str, ...], dim: int) -> None:
        super().__init__()
        coarse = max(1, dim // 2)
        widths = [dim] * (len(modalities) - 1) + [coarse if len(modalities) > 1 else dim]
        # a bias of the partners would add the same to all that a row is compared with
        self.partner = nn.ModuleDict(
            {m: nn.Linear(dim, width, bias=False) for m, width in zip(modalities, widths, strict=True)}
        )
        self.step = nn.ModuleDict({m: nn.Linear(dim, width) for m, width in zip(modalities, widths, strict=True)})
        if len(modalities) == 2:  # as where sound stands between the two
            self.step[modalities[-1]] = nn.Sequential(nn.Linear(dim, dim), nn.Linear(dim, coarse))

    def forward(self, views: Mapping[str, Tensor], temperature: float) -> Tensor:
        """Views of the batch's items by name, "id" among them, (B, d) each → the sum of the contrasts."""
        x = views["id"]
        total, own = x.new_zeros(()), torch.arange(len(x), device=x.device)
        for m, step in self.step.items():
            x = step(x)
            total = total + losses.softmax_among(x / temperature, self.partner[m](views[m]), own)
        return total
