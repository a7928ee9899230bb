"""MMGCN: Multi-modal Graph Convolution Network for Personalized Recommendation of Micro-video.

Y. Wei, X. Wang, L. Nie, X. He, R. Hong, T.-S. Chua, ACM Multimedia 2019, doi 10.1145/3343031.3351034.

One graph convolution network a modality, over the user–item graph, that starts from the items' features and a preference
vector of each user; ID embeddings that all networks share enter at every layer; the outputs are added up.

Departures from the paper and its published code: 1. That code never trains the preferences and the ID embeddings:
``train_embeddings=False`` does the same. 2. It averages the modalities (``fuse="mean"``) where the paper adds them.
3. Features wider than 512 are first mapped to 256, whatever they show; there, the picture's are. 4. The penalty falls on
the preferences of every modality; there, on those for pictures. 5. Any number of modalities.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from prismrec import graphs, losses
from prismrec.errors import PrismError, nearest
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import Projector
from prismrec.space import Choice, Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms, take

Combine = Literal["concat", "add"]


class MMGCN(Model):
    """x⁰_m = [P_m ; F_m] in unit rows; x_m ← φ(G [φ(D⁻¹A x_m C) ; φ(L x_m) + E]); Z = Σ_m x_m; s(u, i) = ⟨Z_u, Z_i⟩."""

    name = "mmgcn"
    paper = Paper(
        "MMGCN: Multi-modal Graph Convolution Network for Personalized Recommendation of Micro-video",
        "Y. Wei, X. Wang, L. Nie, X. He, R. Hong, T.-S. Chua",
        "ACM MM",
        2019,
        "10.1145/3343031.3351034",
    )
    needs = 1
    whole_table = True
    compared = "MMRec"
    new_items = "its own features through the layers, with no neighbours"

    class Config(Strict):
        """``reg`` weighs the mean squares of the batch's rows of E and of all preferences P_m."""

        dim: int = Field(64, ge=1, description="width d of the layers and of the ID embeddings E")
        layers: int = Field(3, ge=1, description="graph convolutions")
        latent: dict[str, int] = Field(
            default_factory=dict,
            description="modality: width its features are mapped to before the graph, 0: as they are. "
            "Those not named: 256 where wider than 512, else as they are",
        )
        combine: Combine = Field("concat", description="neighbours' message with the node's own part; add: G h + own")
        fuse: Literal["sum", "mean"] = Field("sum", description="how the modalities' outputs come together")
        train_embeddings: bool = Field(True, description="train P_m and E; the published code does not")
        reg: float = Field(1e-3, ge=0)

    spaces = named(
        default={
            "layers": Range(1, 3, whole=True),
            "combine": Choice(("concat", "add")),
            "reg": Range(1e-6, 1e-1, log=True),
            "train.lr": Range(1e-4, 1e-2, log=True),
        },
        paper={"reg": Choice((0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)), "train.lr": Choice((1e-4, 5e-4, 1e-3, 5e-3, 1e-2))},
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        for m in cfg.latent:
            if m not in ctx.raw:
                raise PrismError(f"model.latent names the modality {m!r}, which the data lacks. {nearest(m, ctx.raw)}")
        self.over_items, self.over_users = graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items).means()
        ids = nn.init.xavier_normal_(torch.empty(ctx.n_users + ctx.n_items, cfg.dim))
        self.user, self.item = (nn.Parameter(part.clone()) for part in ids.split([ctx.n_users, ctx.n_items]))
        self.taste, self.convolutions = nn.ParameterDict(), nn.ModuleDict()
        for m, raw in ctx.raw.items():
            width = cfg.latent.get(m, 256 if raw.width > 512 else 0)
            self.phi[m] = Projector(raw, nn.Linear(raw.width, width) if width else nn.Identity())
            width = width or raw.width
            self.taste[m] = nn.Parameter(nn.init.xavier_normal_(torch.empty(ctx.n_users, width)))
            widths = [width] + [cfg.dim] * (cfg.layers - 1)
            self.convolutions[m] = nn.ModuleList(
                _Convolution(w, cfg.dim, cfg.combine, i == 0) for i, w in enumerate(widths)
            )
        for table in (self.user, self.item, *self.taste.values()):
            table.requires_grad_(cfg.train_embeddings)

    def forward(self, feats: Feats) -> Reps:
        modal = {}
        for m, rows in feats.items():
            user, item = losses.unit(self.taste[m]), losses.unit(rows.values)
            for layer in self.convolutions[m].children():
                # users hear their items, items their users
                user, item = (
                    layer(user, item, self.over_items, self.user),
                    layer(item, user, self.over_users, self.item),
                )
            modal[m] = user, Rows(item)
        share = len(modal) if self.cfg.fuse == "mean" else 1
        user = functools.reduce(torch.add, (user for user, _ in modal.values()))
        item = functools.reduce(torch.add, (rows.values for _, rows in modal.values()))
        return Reps(user / share, Rows(item / share), modal=modal)

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        terms = losses.ranking(reps, batch, 0, "l2_sq")
        if self.cfg.reg > 0:
            items = (take(self.item, batch.pos).square().mean() + take(self.item, batch.neg).square().mean()) / 2
            sizes = [take(self.user, batch.user).square().mean(), items]
            sizes += [table.square().mean() for table in self.taste.values()]
            terms["reg"] = self.cfg.reg * functools.reduce(torch.add, sizes)
        return terms


class _Convolution(nn.Module):
    """One layer for users or items: own rows x (n, w), the other side's (n', w) and who hears whom → (n, d).

    φ(G [h ; x̂]) or φ(G h + x̂), with h = φ(C mean), the mean over a node's neighbours, and x̂ = φ(L x) + e.
    """

    def __init__(self, width: int, dim: int, combine: Combine, first: bool) -> None:
        super().__init__()
        self.message = nn.Linear(width, width, bias=False)
        self.own = nn.Linear(width, dim)
        self.join = nn.Linear(width + dim if combine == "concat" else width, dim)
        self.concat = combine == "concat"
        for linear in (self.message, self.own, *([self.join] if first else [])):
            nn.init.xavier_normal_(linear.weight)

    def forward(self, x: Tensor, others: Tensor, mean: Callable[[Tensor], Tensor], ids: Tensor) -> Tensor:
        # C and the mean commute: it costs less where there are fewer rows
        heard = mean(self.message(others)) if len(others) < len(x) else self.message(mean(others))
        h, own = F.leaky_relu(heard), F.leaky_relu(self.own(x)) + ids
        if not self.concat:
            return F.leaky_relu(self.join(h) + own)
        # two products in place of one with the concatenation, which would be copied
        left, right = self.join.weight.split([h.shape[1], own.shape[1]], dim=1)
        return F.leaky_relu(F.linear(h, left, self.join.bias) + F.linear(own, right))
