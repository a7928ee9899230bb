"""MIG-GT: Modality-Independent Graph Neural Networks with Global Transformers for Multimodal Recommendation.

J. Hu, B. Hooi, B. He, Y. Wei, AAAI 2025, arXiv:2412.13994.

IDs and each modality's encoded features diffuse over the user–item graph by themselves, each as many hops as suits it, and are
added up. Then every user and item attends to a few items drawn at random from the catalogue, and takes in a little of them. A
user must prefer what an item says of itself to what the items say that it attends to.

Departures from the published code: 1. At inference attention is the mean over ``draws`` draws from a seed that is always the
same; there, one draw, new at every call. 2. The loss is divided by the rows of the batch, the penalty with it: the same
minimum, and it adds up with plug-ins' terms. 3. Biases that take part in nothing are left out: those before a batch
normalisation, and the keys'. 4. Negatives are those of the sampler; there, any item, also a positive one. 5. That code masks
test items when it validates and validation items when it tests; here, training items alone. 6. Any number of modalities:
those wider than ``sketch`` are sketched (there, the picture's, to the text's width); two hops where none are stated.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from prismrec import graphs, losses
from prismrec.errors import PrismError, nearest
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import Dropout, PReLU, Projector, Raw
from prismrec.space import Range, named
from prismrec.types import Batch, Feats, ItemIds, Reps, Rows, Terms, take

_DRAWS = 2025  # seed of what is attended to at inference
_HOPS = {"image": 1}
_BLOCK = 65536  # rows sketched at a time: bounds the copy of half-precision features


class MIGGT(Model):
    """Z = (1 − ε) H + ε Attention(H; H of drawn items), H = D^{K_e} [E_U ; 0] + Σ_m D^{K_m} [0 ; φ_m(x_m)]; s = ⟨Z_u, Z_i⟩."""

    name = "mig-gt"
    paper = Paper(
        "Modality-Independent Graph Neural Networks with Global Transformers for Multimodal Recommendation",
        "J. Hu, B. Hooi, B. He, Y. Wei",
        "AAAI",
        2025,
        "arXiv:2412.13994",
    )
    needs = 1
    compared = "its authors' code"
    whole_table = True
    new_items = "its projected features, and the items that it attends to"

    class Config(Strict):
        """``reg`` weighs half the squares of all Z, ``unsmooth`` the users' preference for an item's own token."""

        dim: int = Field(64, ge=1, description="width d of the embeddings")
        hidden: int = Field(512, ge=1, description="width of the hidden layer of the feature projections")
        sketch: int = Field(
            384, ge=0, description="width to which wider features are projected at random, once; 0: none"
        )
        layers: int = Field(4, ge=0, description="hops K_e of the users' embeddings")
        modal_layers: dict[str, int] = Field(
            default_factory=dict, description="modality: hops K_m of its features. Those not named: image 1, others 2"
        )
        alpha: float = Field(0.1, ge=0, description="what a hop adds of the start")
        beta: float = Field(0.9, ge=0, description="what a hop takes of the neighbours")
        samples: int = Field(10, ge=1, description="items C that a node attends to")
        draws: int = Field(10, ge=1, description="draws of them that inference averages")
        attention: float = Field(0.1, ge=0, lt=1, description="weight ε of what attention gives")
        keys: int = Field(4, ge=1, description="width of queries and keys")
        feature_drop: float = Field(0.3, ge=0, lt=1, description="dropout of the features")
        hidden_drop: float = Field(0.3, ge=0, lt=1, description="dropout of the hidden layer")
        user_drop: float = Field(0.3, ge=0, lt=1, description="dropout of the users' embeddings")
        item_drop: float = Field(0.3, ge=0, lt=1, description="dropout of the encoded items")
        edge_drop: float = Field(
            0.2, ge=0, lt=1, description="share of edges left out of a step, for each network apart"
        )
        drop: float = Field(0.2, ge=0, lt=1, description="dropout of H")
        reg: float = Field(1e-5, ge=0)
        unsmooth: float = Field(1.0, ge=0)

    parts = ("attention",)
    spaces = named(
        default={
            "layers": Range(1, 5, whole=True),
            "samples": Range(5, 20, whole=True),
            "feature_drop": Range(0.0, 0.6),
            "edge_drop": Range(0.0, 0.6),
            "reg": Range(1e-7, 1e-3, log=True),
            "train.lr": Range(1e-4, 1e-2, log=True),
        }
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        for m in cfg.modal_layers:
            if m not in ctx.raw:
                raise PrismError(
                    f"model.modal_layers names the modality {m!r}, which the data lacks. {nearest(m, ctx.raw)}"
                )
        self.hops = {m: cfg.modal_layers.get(m, _HOPS.get(m, 2)) for m in ctx.raw}
        self.known = ctx.n_known
        self.user = nn.Parameter(torch.randn(ctx.n_users, cfg.dim) / cfg.dim**0.5)
        self.graph = graphs.whole(graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items), loops=True)
        self.sketch = nn.ModuleDict(
            {m: _Sketch(raw.width, cfg.sketch) for m, raw in ctx.raw.items() if raw.width > cfg.sketch > 0}
        )
        for m, raw in self._sketched(ctx.raw).items():
            self.phi[m] = Projector(raw, _encoder(raw.width, cfg))
        self.query, self.key = nn.Linear(cfg.dim, cfg.keys), nn.Linear(cfg.dim, cfg.keys, bias=False)
        for linear in (self.query, self.key):
            nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(self.query.bias)

    def project(self, raw: Mapping[str, Raw], index: ItemIds | None) -> Feats:
        return super().project(self._sketched(raw), index)

    def _sketched(self, raw: Mapping[str, Raw]) -> dict[str, Raw]:
        return {m: self.sketch[m](of) if m in self.sketch else of for m, of in raw.items()}

    def forward(self, feats: Feats) -> Reps:
        cfg, drop = self.cfg, functools.partial(graphs.dropout, training=self.training)
        ids = F.pad(drop(self.user, cfg.user_drop), (0, 0, 0, self.n_items))
        h = self._diffuse(cfg.layers, ids)
        modal = {}
        for m, rows in feats.items():
            x = F.pad(drop(rows.values, cfg.item_drop), (0, 0, self.n_users, 0))
            of_m = self._diffuse(self.hops[m], x)
            modal[m] = of_m[: self.n_users], Rows(of_m[self.n_users :])
            h = h + of_m
        h = drop(h, cfg.drop)
        seed = None if self.training else torch.Generator(h.device).manual_seed(_DRAWS)
        drawn = self.draw(len(h), seed, h.device)
        z = functools.reduce(torch.add, (self.attend(h, ids) for ids in drawn)) / len(drawn)
        views = {"item.own": h[self.n_users :], "item.drawn": drawn[0, self.n_users :]}
        return Reps(z[: self.n_users], Rows(z[self.n_users :]), modal=modal, views=views)

    def draw(self, nodes: int, rng: torch.Generator | None, device: torch.device) -> Tensor:
        """Known items that each node attends to, (draws, nodes, C); all new items to the same."""
        draws, new = 1 if self.training else self.cfg.draws, self.n_items - self.known
        shapes = (draws, nodes - new, self.cfg.samples), (draws, min(new, 1), self.cfg.samples)
        own, shared = (torch.randint(self.known, shape, generator=rng, device=device) for shape in shapes)
        return torch.cat([own, shared.expand(draws, new, -1)], dim=1) if new else own

    def _diffuse(self, hops: int, x: Tensor) -> Tensor:
        if hops == 0:
            return x
        hop = self.graph.hop(self.cfg.edge_drop if self.training else 0.0)
        return graphs.diffuse(hop, hops, self.cfg.alpha, self.cfg.beta, x)

    def attend(self, h: Tensor, drawn: Tensor) -> Tensor:
        """H of all nodes (U + I, d), and the items ``drawn`` (U + I, C) for each → Z (U + I, d): what becomes of its own token.

        Values are H itself, so that the sum over the drawn items is one sparse product. Tokens come first: a softmax over
        short rows takes ten times as long on a CPU as one over short columns.
        """
        item, eps = h[self.n_users :], self.cfg.attention
        query, key = self.query(h), self.key(h)
        own, others = key.unsqueeze(0), take(key[self.n_users :], drawn.T.contiguous())
        logits = torch.cat([(query * keys).sum(2) for keys in (own, others)])
        weights = (logits / self.cfg.keys**0.5).softmax(0).to(h.dtype)  # (1 + C, U + I)
        heard = graphs.Places.lists(drawn, self.n_items).times(weights[1:].T.reshape(-1), item)
        z: Tensor = h * (1 - eps + eps * weights[0].unsqueeze(1)) + eps * heard
        return z

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        cfg = self.cfg
        terms = losses.ranking(reps, batch, 0.0, "l2_sq")
        if cfg.reg > 0:
            size = losses.squares(reps.user) + losses.squares(reps.item.values)
            terms["reg"] = cfg.reg * size / (2 * len(batch.user))
        if cfg.unsmooth > 0:
            terms["mig-gt.unsmooth"] = cfg.unsmooth * self._unsmooth(reps, batch)
        return terms

    def _unsmooth(self, reps: Reps, batch: Batch) -> Tensor:
        """mean_b −log softmax_c ⟨Z_u, Y_i[c]⟩ at c = 0, with Y_i the tokens of the positive item after attention."""
        own, user = reps.views["item.own"], reps.users(batch.user)
        ids = torch.cat([batch.pos.unsqueeze(1), reps.views["item.drawn"][batch.pos]], dim=1)  # (B, 1 + C)
        # attention mixes tokens; their products with the user mix alike, and tokens are never there
        before = graphs.Places.lists(ids, len(own)).dots(user, own).view(ids.shape).T  # tokens first, as in ``attend``
        places = ids.T.contiguous()
        query, key = (take(net(own), places).permute(2, 0, 1).contiguous() for net in (self.query, self.key))
        logits = (query.unsqueeze(1) * key.unsqueeze(2)).sum(0) / self.cfg.keys**0.5  # of key, of query, (B)
        mixed = (logits.softmax(0) * before.unsqueeze(1)).sum(0)
        after = torch.lerp(before, mixed, self.cfg.attention)
        return (after.logsumexp(0) - after[0]).mean()


class _Sketch(nn.Module):
    """Raw features (n, r) → unit rows of x G (n, w), G ~ N(0, 1): a frozen random projection, made once for a table."""

    matrix: Tensor

    def __init__(self, width: int, to: int) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.randn(width, to))
        self.held: tuple[Raw, int, Raw] | None = None  # the table that was sketched, with which G, and what came of it

    @torch.no_grad()
    def forward(self, raw: Raw) -> Raw:
        version = self.matrix._version
        if self.held is not None and self.held[0] is raw and self.held[1] == version:
            return self.held[2]
        rows = [losses.unit(part.float() @ self.matrix) for part in raw.values.split(_BLOCK)]
        made = replace(raw, values=torch.cat(rows))
        self.held = raw, version, made
        return made


def _encoder(width: int, cfg: MIGGT.Config) -> nn.Sequential:
    first, second = (
        nn.Linear(a, b, bias=False) for a, b in ((width, cfg.hidden), (cfg.hidden, cfg.dim))
    )  # a bias would be taken off again
    for linear in (first, second):
        nn.init.xavier_uniform_(linear.weight)
    return nn.Sequential(
        Dropout(cfg.feature_drop),
        first,
        nn.BatchNorm1d(cfg.hidden),
        PReLU(),
        Dropout(cfg.hidden_drop),
        second,
        nn.BatchNorm1d(cfg.dim),
        PReLU(),
    )
