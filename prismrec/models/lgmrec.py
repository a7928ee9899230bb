"""LGMRec: Local and Global Graph Learning for Multimodal Recommendation.

Z. Guo, J. Li, G. Li, C. Wang, S. Shi, B. Ruan, AAAI 2024, arXiv:2312.16400.

Locally, IDs and each modality's features travel over the user–item graph, apart from each other. Globally, items and users
belong to a few learned hyperedges of each modality, softly; IDs travel from the items to the hyperedges and back to items and
users. A contrast ties together what two modalities' hyperedges say of the same node.

Departures from the published code: 1. Memberships are drawn with Gumbel noise in training; at inference they are without
noise, so that a score is always the same. There, noise stays on and every evaluation gives other scores: ``faithful=True``
draws it at inference too, from a seed that is always the same. 2. Any number of modalities: a contrast for each pair of them;
a single one has no contrast. 3. The last batch's penalty and contrast are those of the rows that it has.
4. A membership below 1e-12 is none; there, what is shorter than that is not brought to unit length.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from prismrec import graphs, losses
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import Projections, Projector, xavier_table
from prismrec.space import Choice, Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms, take

_NOISE = 2024  # seed of the noise at inference


class _Global(NamedTuple):
    """What a modality's hyperedges say of users (U, d) and items (I, d), the edges (A, d), and who belongs to them."""

    user: Tensor
    item: Tensor
    edge: Tensor
    of_user: Tensor
    of_item: Tensor


class LGMRec(Model):
    """user, item = C + Σ_m unit(X_m) + α unit(Σ_m G_m): C of IDs, X_m of features, G_m = H_m (H_m,Iᵀ C_I) of hyperedges."""

    name = "lgmrec"
    paper = Paper(
        "LGMRec: Local and Global Graph Learning for Multimodal Recommendation",
        "Z. Guo, J. Li, G. Li, C. Wang, S. Shi, B. Ruan",
        "AAAI",
        2024,
        "arXiv:2312.16400",
    )
    needs = 1
    compared = "MMRec"
    whole_table = True
    new_items = "the hyperedges that its features belong to"

    class Config(Strict):
        """``contrast`` weighs InfoNCE, summed over the batch, against everybody; ``reg`` plain norms of the rows scored."""

        dim: int = Field(64, ge=1, description="width d of the embeddings")
        layers: int = Field(2, ge=0, description="propagation steps of IDs over the user–item graph, layers averaged")
        modal_layers: int = Field(2, ge=0, description="propagation steps of features, the last layer alone")
        hyper_layers: int = Field(1, ge=1, description="steps from items to hyperedges and back")
        hyperedges: int = Field(4, ge=1, description="number A of hyperedges of each modality")
        keep: float = Field(0.5, gt=0, le=1, description="share of memberships that dropout leaves in training")
        alpha: float = Field(0.3, ge=0, description="weight α of the global part")
        contrast: float = Field(1e-4, ge=0)
        reg: float = Field(1e-6, ge=0)
        temperature: float = Field(0.2, gt=0, description="τ of the memberships and of the contrast")
        faithful: bool = Field(False, description="noise in the memberships at inference too, as in the published code")

    parts = ("alpha", "contrast")
    spaces = named(
        default={
            "hyperedges": Range(2, 256, log=True, whole=True),
            "keep": Range(0.1, 1.0),
            "alpha": Range(0.0, 1.0),
            "contrast": Range(1e-6, 1e-1, log=True),
            "reg": Range(1e-8, 1e-2, log=True),
            "train.lr": Range(1e-4, 1e-2, log=True),
        },
        # ranges rather than a grid: draw from it (--sampler tpe or random)
        paper={
            "layers": Choice((1, 2, 3, 4)),
            "hyperedges": Choice((2, 4, 8, 16, 32, 64, 128, 256)),
            "keep": Choice((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)),
            "alpha": Choice((0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)),
            "contrast": Choice((0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)),
            "reg": Choice((0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)),
        },
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        self.user, self.item = xavier_table(ctx.n_users, cfg.dim), xavier_table(ctx.n_items, cfg.dim)
        edges = graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items)
        self.graph, self.known = edges.graph(), ctx.n_known
        self.mean, _ = edges.means()
        self.register_buffer("taken", edges.degrees()[0].float().unsqueeze(1), persistent=False)
        self.raw = dict(ctx.raw)  # memberships are made of raw features, past what plug-ins make of projected ones
        self.edge = Projections()
        for m, raw in ctx.raw.items():
            self.phi[m] = Projector(raw, _linear(raw.width, cfg.dim))
            self.edge[m] = Projector(raw, _linear(raw.width, cfg.hyperedges))

    def without_new(self) -> str:
        if self.cfg.faithful:
            return "with faithful its memberships hold noise, which one more item would draw anew"
        return "" if self.cfg.alpha > 0 else "with alpha = 0 it knows an item by those who took it"

    def forward(self, feats: Feats) -> Reps:
        ids = graphs.propagate_mean(self.graph, self.cfg.layers, self.user, self.item)
        x = torch.cat([rows.values for rows in feats.values()], dim=1)
        b = torch.cat([rows.values for rows in self.edge.project(self.raw, None).values()], dim=1)
        # one sparse product for the features and memberships of all modalities: a mean of the ones, a sum of the others
        of_x, of_b = self.mean(torch.cat([x, b], dim=1)).split([x.shape[1], b.shape[1]], dim=1)
        local = graphs.propagate_last(self.graph, self.cfg.modal_layers, of_x, x)
        members = self._memberships(of_b * self.get_buffer("taken"), b)
        users, items = (side.chunk(len(feats), dim=1) for side in local)
        global_ = [self._hyper(user, item, ids[1]) for user, item in members]
        user, item = (
            c + losses.total(losses.unit(part) for part in parts) + self.cfg.alpha * losses.unit(losses.total(whole))
            for c, parts, whole in (
                (ids[0], users, (of.user for of in global_)),
                (ids[1], items, (of.item for of in global_)),
            )
        )
        views = {"user.ids": ids[0], "item.ids": ids[1]}
        for m, of in zip(feats, global_, strict=True):
            views |= {f"user.global.{m}": of.user, f"item.global.{m}": of.item, f"edge.{m}": of.edge}
            views |= {f"user.members.{m}": of.of_user, f"item.members.{m}": of.of_item}
        modal = {m: (u, Rows(i)) for m, u, i in zip(feats, users, items, strict=True)}
        return Reps(user, Rows(item), modal=modal, views=views)

    def _memberships(self, user: Tensor, item: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Logits of users (U, M·A) and items (I, M·A) → of each modality H_U (U, A) and H_I (I, A), rows of sum 1."""
        cfg = self.cfg
        noise = None
        if not self.training and cfg.faithful:
            noise = torch.Generator(user.device).manual_seed(_NOISE)
        out = []
        for of_user, of_item in zip(user.split(cfg.hyperedges, 1), item.split(cfg.hyperedges, 1), strict=True):
            sides = []
            for logits in (of_item, of_user):
                if self.training or cfg.faithful:
                    logits = logits - torch.empty_like(logits).exponential_(generator=noise).log()
                # a share of nothing stays nothing: where dropout takes all else, it would become the whole direction
                sides.append(F.threshold((logits / cfg.temperature).softmax(1), 1e-12, 0.0))
            out.append((sides[1], sides[0]))
        return out

    def _hyper(self, user: Tensor, item: Tensor, x: Tensor) -> _Global:
        """H_U and H_I, and what items start from (I, d) → what hyperedges say."""
        item, user = (graphs.dropout(h, 1 - self.cfg.keep, self.training) for h in (item, user))
        for _ in range(self.cfg.hyper_layers):
            edge = item[: self.known].T @ x[: self.known]  # (A, d)
            x = item @ edge
        return _Global(user @ edge, x, edge, user, item)

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        terms = losses.ranking(reps, batch, self.cfg.reg, "fro_norm")
        if self.cfg.contrast > 0 and len(feats) > 1:
            sides = ("user", batch.user), ("item", batch.pos)
            pairs = itertools.combinations(feats, 2)
            apart = [self._contrast(reps, side, ids, a, b) for a, b in pairs for side, ids in sides]
            terms["lgmrec.contrast"] = self.cfg.contrast * len(batch.user) * losses.total(apart)
        return terms

    def _contrast(self, reps: Reps, side: str, ids: Tensor, a: str, b: str) -> Tensor:
        """InfoNCE of G_a at ``ids`` with all of G_b. ⟨H_a Y_a, H_b Y_b⟩ is taken as ⟨H_a (Y_a Y_bᵀ), H_b⟩: A wide, not d."""
        own, other = (
            reps.views[f"{side}.members.{m}"] * _inverse_lengths(reps.views[f"{side}.global.{m}"]) for m in (a, b)
        )
        query = take(own, ids) @ (reps.views[f"edge.{a}"] @ reps.views[f"edge.{b}"].T) / self.cfg.temperature
        return losses.softmax_among(query, other, ids)


def _inverse_lengths(x: Tensor) -> Tensor:
    """1/‖x‖ of rows (n, d) → (n, 1), of no row more than 10¹²: its square, which gradients hold, must be a number.

    A row of which dropout left a hyperedge that hardly anything belongs to is as short as that.
    """
    lengths: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return lengths.clamp_min(1e-12).reciprocal()


def _linear(width: int, to: int) -> nn.Linear:
    linear = nn.Linear(width, to, bias=False)
    nn.init.xavier_uniform_(linear.weight)
    return linear
