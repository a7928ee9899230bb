"""REARM: Refining Contrastive Learning and Homography Relations for Multi-Modal Recommendation.

S. Ma, Y. Zeng, S. Wu, G. Xu, ACM Multimedia 2025, arXiv:2508.13745.

Users and items are first smoothed over graphs of their own kind, made of who took the same and of whose features are alike.
Items attend to their own modality and across modalities, coordinate by coordinate; everything then travels over the user–item
graph. A network that reads a node's modalities makes a low-rank map of its ID part: what the modalities share. A contrast
brings the modalities together, and a penalty keeps apart what each says alone.

Departures from the published code: 1. The layer that reads the modalities is trained; there, its output is cut off from them
and it stays a random map. 2. Lists of neighbours by common items are as long as they are; there, short ones are filled up with
random copies of their members, and empty ones with the most active users or most popular items. ``faithful=True`` does both
as there, but counts activity on training rows alone. 3. That code keeps validation and test items out of the negatives; here,
training items alone are. 4. Raw features are frozen and users' interests are made of them in every step; there, the features
and the interests of users, a table as wide as the features, are parameters (``train_features=True``). 5. Where ``self_drop``
is 1 there is no self-attention; there, an untrained one is switched on for ranking. 6. Biases of the attention but the
query's, which cancel, are left out. 7. Any number of modalities: attention to each other one is averaged, the contrast and
the penalty are added up over pairs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from prismrec import graphs, losses
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import PReLU, Projections, Projector, Raw
from prismrec.space import Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms, take

_BLOCK = 64  # items that attend at a time: their d × d weights stay in the cache


class REARM(Model):
    """user, item = [φ(P_m) + D for each m ; φ(s) + D]: P_m of modality m and D of IDs over the graph, s = D W_1 W_2 of both."""

    name = "rearm"
    paper = Paper(
        "Refining Contrastive Learning and Homography Relations for Multi-Modal Recommendation",
        "S. Ma, Y. Zeng, S. Wu, G. Xu",
        "ACM MM",
        2025,
        "arXiv:2508.13745",
    )
    needs = 1
    compared = "its authors' code"
    whole_table = True
    new_items = "its projected features, and those of its neighbours in the item graph"

    class Config(Strict):
        """``contrast`` weighs InfoNCE between modalities, ``apart`` the overlap of their dimensions on the batch."""

        dim: int = Field(64, ge=1, description="width d of the IDs and of each modality")
        layers: int = Field(4, ge=0, description="propagation steps over the user–item graph")
        user_layers: int = Field(1, ge=0, description="steps over the users' graph")
        item_layers: int = Field(1, ge=0, description="steps over the items' graph")
        user_neighbours: int = Field(
            40, ge=1, description="of a user, by common items and by each modality's interests"
        )
        item_neighbours: int = Field(10, ge=1, description="of an item, by common users and by each modality")
        user_common: float = Field(0.4, ge=0, le=1, description="share of common items in the users' graph")
        item_common: float = Field(0.2, ge=0, le=1, description="share of common users in the items' graph")
        user_weights: dict[str, float] = Field(
            default_factory=dict, description="modality: weight in the rest of the users' graph"
        )
        item_weights: dict[str, float] = Field(
            default_factory=dict, description="modality: weight in the rest of the items' graph"
        )
        self_drop: float = Field(0.4, ge=0, le=1, description="dropout of self-attention; 1: no self-attention")
        cross_drop: float = Field(0.6, ge=0, lt=1, description="dropout of attention across modalities")
        rank: int = Field(3, ge=1, description="k of the low-rank map")
        contrast: float = Field(5e-6, ge=0)
        temperature: float = Field(0.6, gt=0, description="τ of the contrast")
        apart: float = Field(5e-5, ge=0)
        train_features: bool = Field(False, description="train the raw feature tables and the users' interests")
        faithful: bool = Field(False, description="the untrained map and the filled-up lists of the published code")

    parts = ("contrast",)
    spaces = named(
        default={
            "layers": Range(2, 6, whole=True),
            "user_common": Range(0.0, 1.0),
            "contrast": Range(1e-7, 1e-2, log=True),
            "temperature": Range(0.03, 1.5, log=True),
            "apart": Range(1e-6, 1e-2, log=True),
            "train.lr": Range(2e-5, 5e-3, log=True),
        }
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        self.user, self.item = (nn.Parameter(0.1 * torch.randn(n, cfg.dim)) for n in (ctx.n_users, ctx.n_items))
        edges = graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items)
        self.graph = edges.graph()
        self.mean, _ = edges.means()
        interests = {m: _interest(edges, raw) for m, raw in ctx.raw.items()}
        self.users = graphs.ItemGraph(_strengthened(cfg, ctx, interests, users=True))
        self.items = graphs.ItemGraph(_strengthened(cfg, ctx, ctx.raw, users=False))
        self.raw = dict(ctx.raw)  # users' interests are projected by layers of their own, past the plug-ins
        self.taste, self.bias, self.interest = Projections(), nn.ParameterDict(), nn.ParameterDict()
        for m, raw in ctx.raw.items():
            own, of_users = (nn.Linear(raw.width, cfg.dim, bias=bias) for bias in (True, False))
            for linear in (own, of_users):
                nn.init.xavier_normal_(linear.weight)
            self.phi[m] = Projector(raw, own, cfg.train_features)
            self.taste[m] = Projector(raw, of_users)
            self.bias[m] = nn.Parameter(torch.empty(cfg.dim).uniform_(-1, 1) / raw.width**0.5)
            if cfg.train_features:
                self.interest[m] = nn.Parameter(interests[m].values)
        self.norm, self.act = nn.LayerNorm(cfg.dim), PReLU()  # one of each, everywhere
        self.alone = nn.ModuleDict({m: ScalarAttention(cfg.self_drop) for m in ctx.raw if cfg.self_drop < 1})
        pairs = itertools.permutations(ctx.raw, 2)
        self.across = nn.ModuleDict({f"{m}-{other}": ScalarAttention(cfg.cross_drop) for m, other in pairs})
        self.of_users, self.of_items = (
            Shared(cfg.dim, len(ctx.raw), cfg.rank, cfg.faithful, known) for known in (ctx.n_users, ctx.n_known)
        )

    def without_new(self) -> str:
        return (
            "with faithful an item that nobody took has the most popular ones for neighbours"
            if self.cfg.faithful
            else ""
        )

    def forward(self, feats: Feats) -> Reps:
        cfg, width = self.cfg, self.cfg.dim
        tastes = self._tastes(list(feats))
        user = losses.unit(self.users(torch.cat([self.user, tastes], dim=1), cfg.user_layers))
        item = torch.cat([self.item, *(rows.values for rows in feats.values())], dim=1)
        item = losses.unit(self.items(item, cfg.item_layers))
        (user_id, *of_user), (item_id, *of_item) = user.split(width, dim=1), item.split(width, dim=1)
        of_item = self.attend(dict(zip(feats, of_item, strict=True)))
        # modalities and IDs travel side by side
        start = (
            torch.cat([*(self.act(x) for x in of_user), user_id], dim=1),
            torch.cat([*of_item, item_id], dim=1),
        )
        fused: list[Tensor] = []
        views: dict[str, Tensor] = {}
        for side, x, shared in zip(
            ("user", "item"),
            graphs.propagate_mean(self.graph, cfg.layers, *start),
            (self.of_users, self.of_items),
            strict=True,
        ):
            *parts, ids = x.split(width, dim=1)
            knowledge = shared(x[:, :-width], ids)
            fused.append(torch.cat([self.act(part) + ids for part in (*parts, knowledge)], dim=1))
            views |= {f"{side}.{m}": part for m, part in zip(feats, parts, strict=True)}
        user, item = fused
        blocks = {m: slice(i * width, (i + 1) * width) for i, m in enumerate(feats)}
        modal = {m: (user[:, block], Rows(item[:, block])) for m, block in blocks.items()}
        return Reps(user, Rows(item), modal=modal, views=views)

    def _tastes(self, modalities: list[str]) -> Tensor:
        """Projected interests of users, modalities side by side → (U, M·d)."""
        if self.cfg.train_features:
            weights = [self.taste[m].get_parameter("net.weight") for m in modalities]
            x = torch.cat([F.linear(self.interest[m], w) for m, w in zip(modalities, weights, strict=True)], dim=1)
        else:  # the mean of what is projected is the projection of the mean, and narrower
            projected = self.taste.project(self.raw, None)
            x = self.mean(torch.cat([projected[m].values for m in modalities], dim=1))
        return x + torch.cat([self.bias[m] for m in modalities])

    def attend(self, of_item: dict[str, Tensor]) -> list[Tensor]:
        """Items' modalities (I, d) after self-attention, then after attention to the others."""
        first = {m: self.act(self.norm(x + self.alone[m](x, x) if m in self.alone else x)) for m, x in of_item.items()}
        if len(first) == 1:
            return list(first.values())
        out = []
        for m, x in first.items():
            heard = [self.across[f"{m}-{other}"](first[other], x) for other in first if other != m]
            out.append(self.act(self.norm(x + losses.total(heard) / len(heard))))
        return out

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        cfg = self.cfg
        terms = losses.ranking(reps, batch, 0.0, "l2_sq")
        if cfg.contrast > 0 and len(feats) > 1:
            pairs = _pairs(reps, list(feats), batch.users_once, batch.items_once)
            terms["rearm.contrast"] = cfg.contrast * losses.total(
                losses.info_nce(a, b, cfg.temperature) for a, b in pairs
            )
        if cfg.apart > 0 and len(feats) > 1:
            pairs = _pairs(reps, list(feats), batch.user, batch.pos)
            terms["rearm.apart"] = cfg.apart * losses.total(overlap(a, b) for a, b in pairs)
        return terms


def _pairs(reps: Reps, modalities: list[str], user: Tensor, item: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """P of each two modalities at the same rows, of users and of items."""
    for a, b in itertools.combinations(modalities, 2):
        for side, ids in (("user", user), ("item", item)):
            yield take(reps.views[f"{side}.{a}"], ids), take(reps.views[f"{side}.{b}"], ids)


class ScalarAttention(nn.Module):
    """Attention of embedding size 1 among the coordinates of a row: each of a query's d numbers attends to the d of a key.

    o_p = o Σ_q a_pq v x_q, a_p = softmax_q((w y_p + w') k x_q). Other biases would cancel in the softmax or in the
    normalisation that follows.
    """

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.into = nn.Parameter(nn.init.xavier_uniform_(torch.empty(3, 1)))  # of query, key and value
        self.shift = nn.Parameter(torch.zeros(1))  # of the query
        self.out = nn.Parameter(torch.empty(1).uniform_(-1, 1))

    def forward(self, query: Tensor, x: Tensor) -> Tensor:
        """``query`` (n, d), ``x`` (n, d) → (n, d)."""
        slope = (query * self.into[0] + self.shift) * self.into[1]
        drop = self.drop if self.training else 0.0
        heard: Tensor = _Heard.apply(slope, x, drop)  # type: ignore[no-untyped-call]
        return heard * (self.into[2] * self.out)


class _Heard(torch.autograd.Function):
    """o_p = Σ_q A_pq x_q, A the weights P_p = softmax_q(s_p x_q) after dropout, for each row of s and x (n, d).

    By hand and in blocks: n × d × d weights are made again for the gradient, and every gradient is a product of P or A with a
    vector. Dropout takes a byte of a random number for a weight, an eighth of the draws.
    """

    @staticmethod
    def forward(ctx: Any, slope: Tensor, x: Tensor, drop: float) -> Tensor:
        ctx.drop, ctx.seed = drop, int(torch.randint(1 << 62, (1,))) if drop > 0 else 0
        slope, x = (y if y.dtype == torch.float64 else y.float() for y in (slope, x))
        out = torch.empty_like(x)
        with torch.autocast(x.device.type, enabled=False):
            for block, _, kept, share in _weights(slope, x, drop, ctx.seed):
                out[block] = (kept * x[block].unsqueeze(1)).sum(2) * share
            out *= _scale(drop)
        ctx.save_for_backward(slope, x, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        slope, x, out = ctx.saved_tensors
        of_slope, of_x = torch.empty_like(slope), torch.empty_like(x)
        grad = grads[0].to(x.dtype)
        for block, weights, kept, share in _weights(slope, x, ctx.drop, ctx.seed):
            y, s, g, o = x[block], slope[block], grad[block], out[block]
            second = (kept * y.square().unsqueeze(1)).sum(2) * _scale(ctx.drop)
            first = (weights * y.unsqueeze(1)).sum(2)
            g = g * share
            of_slope[block] = g * (second - o * first)
            back = (torch.stack([g, g * s], dim=1) @ kept) * _scale(ctx.drop)  # (n, 2, d)
            all_back = ((g * o * s).unsqueeze(1) @ weights).squeeze(1)
            of_x[block] = back[:, 0] + y * back[:, 1] - all_back
        return of_slope, of_x, None


def _weights(slope: Tensor, x: Tensor, drop: float, seed: int) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Of blocks of rows: which, e^{s_p x_q − max} (n, d, d), what dropout leaves of these, and one over their sums (n, d)."""
    slope = slope * math.log2(math.e)  # powers of two take a third of the time of those of e
    rng, limit = torch.Generator(x.device).manual_seed(seed), _limit(drop)
    for start in range(0, len(x), _BLOCK):
        block = slice(start, start + _BLOCK)
        s, y = slope[block], x[block]
        most = torch.maximum(s * y.amax(1, keepdim=True), s * y.amin(1, keepdim=True))
        weights = (s.unsqueeze(2) * y.unsqueeze(1)).sub_(most.unsqueeze(2)).exp2_()
        kept = weights
        if limit:
            words = torch.empty(-(-weights.numel() // 8), dtype=torch.int64, device=x.device)
            noise = words.random_(-(1 << 63), (1 << 63) - 1, generator=rng).view(torch.uint8)
            noise = noise[: weights.numel()].view(weights.shape)
            # 1 where noise ≥ limit, else 0: a comparison of bytes and a product with booleans take five times as long
            kept = noise.to(weights.dtype).sub_(limit - 1).clamp_(0, 1).mul_(weights)
        yield block, weights, kept, weights.sum(2).reciprocal_()


def _limit(drop: float) -> int:
    """Bytes below this one drop a weight."""
    return min(round(256 * drop), 255)


def _scale(drop: float) -> float:
    return 256 / (256 - _limit(drop))


class Shared(nn.Module):
    """What a node's modalities make of its ID: s = D W_1 W_2, W_1 (d, k) and W_2 (k, d) of a network that reads P.

    Means are over the first ``known`` nodes."""

    def __init__(self, dim: int, modalities: int, rank: int, faithful: bool, known: int | None = None) -> None:
        super().__init__()
        self.rank, self.faithful, self.known = rank, faithful, known
        self.read = nn.Linear(modalities * dim, dim).requires_grad_(not faithful)
        self.first, self.second = (
            nn.Sequential(nn.Linear(dim, dim * rank), PReLU(), nn.Linear(dim * rank, dim * rank)) for _ in range(2)
        )

    def maps(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """P (n, M·d) → W_1 (n, d, k), columns of sum 1, and W_2 (n, k, d), columns of sum 1."""
        z = self.read(p.detach() if self.faithful else p)
        first = losses.unit(self.first(z)).unflatten(1, (-1, self.rank))
        second = losses.unit(self.second(z)).unflatten(1, (self.rank, -1))
        first, second = (w + w[: self.known].mean(0) for w in (first, second))
        return first.softmax(1), second.softmax(1)

    def forward(self, p: Tensor, ids: Tensor) -> Tensor:
        """P (n, M·d) and D (n, d) → s (n, d)."""
        first, second = self.maps(p)
        return ((ids.unsqueeze(1) @ first) @ second).squeeze(1)


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Mean square of the entries of āᵀb̄ (d, d): rows (n, d) less their mean, over their lengths, which learn nothing."""
    a, b = (x - x.mean(0) for x in (a, b))
    a, b = (x / (x.detach().norm(dim=1, keepdim=True) + 1e-6) for x in (a, b))
    return (a.T @ b).square().mean()


def _interest(edges: graphs.Edges, raw: Raw) -> Raw:
    """The mean raw features (U, r) of the items that a user took and that have any."""
    there = raw.present[edges.item]
    mean, _ = graphs.Edges(edges.user[there], edges.item[there], edges.n_users, edges.n_items).means()
    return Raw(mean.matrix.times(raw.values), mean.matrix.indptr.diff() > 0)


def _strengthened(cfg: REARM.Config, ctx: Context, raw: Mapping[str, Raw], users: bool) -> graphs.Csr:
    """c Ĉ + (1 − c) Σ_m w_m S_m of users or of items: by a softmax of common neighbours, and by cosines over k."""
    if users:
        k, share, weights = cfg.user_neighbours, cfg.user_common, ctx.shares(cfg.user_weights)
        rows = (ctx.user, ctx.item, ctx.n_users, ctx.n_items)
    else:
        k, share, weights = cfg.item_neighbours, cfg.item_common, ctx.shares(cfg.item_weights)
        rows = (ctx.item, ctx.user, ctx.n_items, ctx.n_users)
    parts, shares = [], []
    if share > 0:
        parts, shares = [graphs.common(*rows, k, cfg.faithful)], [share]
    for m, of in raw.items():
        if share < 1 and weights[m] > 0:
            near = ctx.knn(of.values, of.present, k) if users else ctx.near(m, k)
            parts.append(graphs.knn_matrix(*near))
            shares.append((1 - share) * weights[m])
    return graphs.weighted_sum(parts, shares)
