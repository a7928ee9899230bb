"""SSR: Structured Spectral Reasoning for Frequency-Adaptive Multimodal Recommendation.

W. Yang, R. Zhong, Y. Chen, C. Lu, P. Jiang, NeurIPS 2025, arXiv:2512.01372.

IDs and modalities, propagated side by side over the user–item graph as in DRAGON, are taken apart into frequency bands of that
graph. A small matrix mixes the bands, and every node weighs them by a gate. What comes out must stay the same when whole
bands of a node are left out, and what two modalities say of a node in a band must be told from what they say of others.

Departures from the available code: 1. Bands are those of the fixed Chebyshev filters which that code takes for graphs of
more than 5000 nodes; on smaller ones it takes eigenvectors of the dense Laplacian. 2. Raw features are frozen by default;
there they are trained (``train_features=True``). 3. In the contrast a row is not its own negative; there it is
(``faithful=True``). 4. Contrasted are ``contrast_rows`` rows of a batch; there, all (0). 5. Bands are left out of the
batch's rows in training; there, of everybody's, also at inference, where nothing comes of it. 6. Of three kinds of output,
the sum of the bands alone; and no graph of users, whose file is not published. 7. Any number of modalities, contrasted in
pairs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from prismrec import graphs, losses
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import (
    Preferences,
    Projector,
    modality_weights,
    normal_table,
    perceptron,
    side_by_side,
    xavier_table,
)
from prismrec.space import Choice, Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms, take


class SSR(Model):
    """q = [H_id | H_m …], z = q + [P_u or (S q)_i], z_b = Σ_p c_bp Â^p z; user, item = the gated sum of mixed bands z_b."""

    name = "ssr"
    paper = Paper(
        "Structured Spectral Reasoning for Frequency-Adaptive Multimodal Recommendation",
        "W. Yang, R. Zhong, Y. Chen, C. Lu, P. Jiang",
        "NeurIPS",
        2025,
        "arXiv:2512.01372",
    )
    needs = 1
    whole_table = True
    compared = "a copy of its authors' code"
    new_items = "its projected features, and the IDs of its neighbours in the item graph"

    class Config(Strict):
        """``reg`` weighs twice the mean squares of the mixing matrices and column scales, once for each pass, as published."""

        dim: int = Field(64, ge=1, description="width d of the IDs and of a modality")
        hidden: int = Field(256, ge=1, description="width of the hidden layer of the feature projections")
        layers: int = Field(2, ge=0, description="propagation steps over the user–item graph")
        item_layers: int = Field(1, ge=1, description="propagation steps over the item graph")
        neighbours: int = Field(10, ge=1, description="k of the item graph, the item itself included")
        weights: dict[str, float] = Field(default_factory=dict, description="modality: weight of its item graph")
        bands: int = Field(3, ge=2, le=6, description="frequency bands")
        rank: int = Field(4, ge=1, description="of the mixing matrices and the column scales")
        mask: float = Field(1e-3, ge=0, description="weight of the term that leaves bands out")
        mask_rate: float = Field(0.1, ge=0, lt=1, description="share of a node's bands that it leaves out")
        contrast: float = Field(1e-4, ge=0, description="weight of the contrast of modalities in each band")
        contrast_rows: int = Field(256, ge=0, description="rows of a batch that are contrasted; 0: all")
        temperature: float = Field(0.2, gt=0, description="τ of the contrast")
        reg: float = Field(0.1, ge=0)
        train_features: bool = Field(False, description="train the raw feature tables too")
        faithful: bool = Field(False, description="a row is its own negative in the contrast, as published")

    spaces = named(
        default={
            "layers": Range(1, 3, whole=True),
            "bands": Range(2, 5, whole=True),
            "mask": Range(1e-4, 1e-1, log=True),
            "contrast": Range(1e-5, 1e-2, log=True),
            "reg": Range(1e-4, 1.0, log=True),
            "train.lr": Range(3e-5, 3e-3, log=True),
        },
        paper={
            "layers": Choice((1, 2, 3)),
            "mask_rate": Choice((0.1, 0.2, 0.3, 0.4)),
            "contrast": Choice((1e-4, 1e-3, 1e-2)),
            "mask": Choice((1e-3, 1e-2, 1e-1)),
            "reg": Choice((0.1, 0.01, 0.001)),
            "train.lr": Choice((1e-4,)),
        },
    )

    cfg: Config
    filters: Tensor

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        self.graph = graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items).graph()
        self.similar = ctx.item_graph(cfg.neighbours, cfg.weights)
        for m, raw in ctx.raw.items():
            self.phi[m] = Projector(raw, perceptron(raw.width, cfg.hidden, cfg.dim), cfg.train_features)
        self.taste = Preferences(ctx.n_users, cfg.dim, ctx.raw)
        self.user, self.item = normal_table(ctx.n_users, cfg.dim), xavier_table(ctx.n_items, cfg.dim)
        views = 1 + len(ctx.raw)
        self.weight = modality_weights(ctx.n_users, views)
        self.register_buffer("filters", filters(cfg.bands), persistent=False)
        self.of_users, self.of_items = (Operator(views * cfg.dim, cfg.bands, cfg.rank) for _ in range(2))

    def forward(self, feats: Feats) -> Reps:
        layers = self.cfg.layers
        ids = graphs.propagate_sum(self.graph, layers, losses.unit(self.user), losses.unit(self.item))
        modal = self.taste.travel(self.graph, layers, feats).values()
        user = side_by_side([ids[0], *(user for user, _ in modal)], self.weight)
        item = side_by_side([ids[1], *(rows.values for _, rows in modal)])
        second = side_by_side([self.user, *(self.taste[m] for m in feats)]), self.similar(item, self.cfg.item_layers)
        users, items = graphs.propagate_each(self.graph, self.filters.shape[1] - 1, user + second[0], item + second[1])
        out = self.of_users(user, users, self.filters), self.of_items(item, items, self.filters)
        parts = zip(feats, *(side.split(self.cfg.dim, dim=1)[1:] for side in out), strict=True)
        sides = {m: (u, Rows(i)) for m, u, i in parts}
        views = _numbered("user", [user, *users]) | _numbered("item", [item, *items]) if self.training else {}
        return Reps(out[0], Rows(out[1]), sides, views)

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        cfg = self.cfg
        terms = {"rank": losses.pointwise(reps, batch)}
        if cfg.reg > 0:
            terms["reg"] = 2 * cfg.reg * (self.of_users.size() + self.of_items.size())
        mask, contrast = cfg.mask > 0 and cfg.mask_rate > 0, cfg.contrast > 0 and len(feats) > 1
        if not (mask or contrast):
            return terms
        user, *users = _rows(reps, "user", batch.user)
        item, *items = _rows(reps, "item", torch.cat([batch.pos.unsqueeze(0), batch.neg.T]))
        if mask:
            less = self._left(self.of_users, user, users), self._left(self.of_items, item, items)
            whole = reps.users(batch.user).detach(), reps.items(batch).detach()
            pairs = [(less[0], whole[0]), (less[1][:1], whole[1][:1]), (less[1][1:], whole[1][1:])]
            terms["ssr.mask"] = cfg.mask * losses.total(F.mse_loss(a, b) for a, b in pairs) / len(pairs)
        if contrast:
            terms["ssr.contrast"] = cfg.contrast * losses.total(
                self._contrast(rows) for rows in (users, [p[0] for p in items])
            )
        return terms

    def _left(self, operator: Operator, context: Tensor, powers: Sequence[Tensor]) -> Tensor:
        """The output for rows (…, W), without some of their bands."""
        keep = kept(context.shape[:-1].numel(), self.cfg.bands, self.cfg.mask_rate, context.device)
        width = context.shape[-1]
        out: Tensor = operator(context.reshape(-1, width), [p.reshape(-1, width) for p in powers], self.filters, keep)
        return out.view(context.shape)

    def _contrast(self, powers: Sequence[Tensor]) -> Tensor:
        """What two modalities say in each band of the first rows of ``powers`` (B, W), mean over pairs of modalities."""
        rows = torch.stack([p[: self.cfg.contrast_rows or None, self.cfg.dim :] for p in powers])
        bands = torch.tensordot(self.filters, rows, dims=1)  # (bands, n, M·d)
        parts = [part.flatten(0, 1) for part in bands.split(self.cfg.dim, dim=2)]
        pairs = list(itertools.combinations(parts, 2))
        apart = (
            losses.info_nce_both(a, b, self.cfg.temperature, self.cfg.faithful)
            for pair in pairs
            for a, b in (pair, pair[::-1])
        )
        return losses.total(apart) / (2 * len(pairs))


class Operator(nn.Module):
    """Mixes the bands of users or of items and weighs them: (n, W) → (n, W).

    f_b = scale(c) ∘ Σ_a K_ba z_a with columns of K of sum 1; gates 1 + η tanh(g_b([c | mean_b f_b])); the sum of the gated
    f_b at the length that it has without gates.
    """

    def __init__(self, width: int, bands: int, rank: int) -> None:
        super().__init__()
        inner = max(1, width // 4)
        self.query, self.key = normal_table(bands, rank), normal_table(bands, rank)
        self.factors, self.shares = nn.Parameter(torch.randn(rank, width)), nn.Parameter(torch.zeros(rank))
        self.scale = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width), nn.Sigmoid())
        self.gate_in, self.gate_out = nn.Linear(2 * width, inner), nn.Linear(inner, bands)
        nn.init.normal_(self.gate_out.weight, std=1e-3)
        nn.init.zeros_(self.gate_out.bias)
        self.strength = nn.Parameter(torch.tensor(0.1))

    def raw_kernel(self) -> Tensor:
        """(bands, bands), before the softmax."""
        return self.query @ self.key.T / math.sqrt(self.key.shape[1])

    def kernel(self) -> Tensor:
        """K (bands out, bands in), whose columns sum to 1."""
        return self.raw_kernel().softmax(0)

    def columns(self) -> Tensor:
        """Σ_r π_r e^{0.1 tanh g_r} (W,), between e^-0.1 and e^0.1."""
        return self.shares.softmax(0) @ (0.1 * self.factors.tanh()).exp()

    def size(self) -> Tensor:
        """What the penalty weighs."""
        return self.raw_kernel().square().mean() + self.factors.square().mean()

    def forward(self, context: Tensor, powers: Sequence[Tensor], filters: Tensor, keep: Tensor | None = None) -> Tensor:
        """``context`` and each of ``powers`` (n, W), ``filters`` (bands, powers), ``keep`` (n, bands) or None → (n, W).

        ``keep`` multiplies the bands that go in, those of a node by its own numbers.

        Bands are polynomials in Â, so that mixed and gated ones are weighed sums of powers: no band is made for itself. All
        bands together, mixed or not, are what they were made of: the first power.
        """
        scale = self.scale(context) * self.columns()
        before = scale * (powers[0] if keep is None else _blend(keep @ filters, powers))
        gates = 1 + self.strength * self._gates(context, before / len(filters)).tanh()
        weights = gates @ self.kernel()  # of the bands that go in
        after = scale * _blend((weights if keep is None else weights * keep) @ filters, powers)
        out: Tensor = after * ((_length(before) + 1e-6) / (_length(after) + 1e-6))
        return out

    def _gates(self, context: Tensor, mean: Tensor) -> Tensor:
        # two products in place of one with the concatenation, which would be copied
        left, right = self.gate_in.weight.split(context.shape[1], dim=1)
        hidden = F.linear(context, left, self.gate_in.bias) + F.linear(mean, right)
        gates: Tensor = self.gate_out(hidden.relu())
        return gates


def filters(bands: int) -> Tensor:
    """Coefficients of Â^0, Â^1, … in each band → (bands, powers): Chebyshev polynomials of L̃ = −Â, whose sum is 1.

    Low: 1 − L̃/2. High: what the others leave. Between them, T_2 … T_5 dealt out in turn, 0.8 of the first that a band gets and
    0.3 of the second.
    """
    table = np.zeros((bands, 6))
    table[0, :2] = 1, 0.5
    middle = bands - 2
    for k in range(2, 6):
        turn, band = divmod(k - 2, middle) if middle else (2, 0)
        if turn < 2:
            table[1 + band, : k + 1] += (0.8, 0.3)[turn] * np.polynomial.chebyshev.cheb2poly([0] * k + [1])
    table[1:] *= np.where(np.arange(6) % 2, -1.0, 1.0)  # of −Â
    table[-1] = np.eye(6)[0] - table[:-1].sum(0)
    used = np.flatnonzero(np.abs(table).max(0))[-1] + 1
    return torch.from_numpy(table[:, :used]).float()


def kept(n: int, bands: int, rate: float, device: torch.device) -> Tensor:
    """Which bands of n nodes stay, each with probability 1 − ``rate`` and then 1/(1 − rate) → (n, bands); one at least."""
    keep = torch.rand(n, bands, device=device) >= rate
    keep[:, 0] |= ~keep.any(1)
    return keep.float() / (1 - rate)


def _blend(weights: Tensor, powers: Sequence[Tensor]) -> Tensor:
    """Σ_p w_p ∘ x_p of ``weights`` (n, P) and P ``powers`` (n, W)."""
    columns = weights.split(1, dim=1)
    total: Tensor = powers[0] * columns[0]
    for power, column in zip(powers[1:], columns[1:], strict=True):
        total = torch.addcmul(total, power, column)
    return total


def _length(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return length


def _numbered(node: str, views: Iterable[Tensor]) -> dict[str, Tensor]:
    return {f"{node}.{k}": view for k, view in enumerate(views)}


def _rows(reps: Reps, node: str, ids: Tensor) -> list[Tensor]:
    return [take(view, ids) for name, view in reps.views.items() if name.startswith(f"{node}.")]
