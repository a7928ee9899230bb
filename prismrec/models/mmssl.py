"""MMSSL: Multi-Modal Self-Supervised Learning for Recommendation.

W. Wei, C. Huang, L. Xia, C. Zhang, WWW 2023, arXiv:2302.10632.

Each modality has a user–item graph of its own: who is drawn to what by it. IDs that travel over these graphs, brought together
by attention, start a propagation over the behaviour's graph; what a modality says is added to its end. A critic tells a
modality's scores from those of behaviour; the modalities' features learn to pass for it. A contrast ties what a modality's
graph says of a user to the user's final vector.

Departures from the paper: 1. A modality's graph is made at the start of every epoch: of each user's ``neighbours`` best unseen
items by that modality. The published code keeps int(I · 1e-4) items of the batch's users and forgets them in the next step, so
that its graphs are empty, the attention idle and the contrast a constant. 2. Attention among the
modalities weighs them, as the paper has it; in that code the weights cancel. 3. The critic reads the scores of ``users`` users
of the batch on ``items`` items drawn in each step, in place of all items, and its layers have a fixed width. 4. It has neither
batch normalisation nor a sigmoid, under which its penalty means nothing. 5. It learns in the same pass as the features, by
reversed gradients, with the same optimizer. 6. Rows of a batch are training rows; there, one item of each of so many users.
7. Any number of modalities; a single one needs no attention weights. ``faithful=True`` has empty graphs,
attention whose weights cancel, and a critic of linear layers, batch normalisation and a hundredfold sigmoid.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from prismrec import graphs, losses
from prismrec.errors import PrismError
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.nn import Projector, xavier_table
from prismrec.space import Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms, take

_SHARE = 1e-4  # of all items: what the published code keeps of a user's best


class MMSSL(Model):
    """user, item = mean_l(h_l) + ω Σ_m unit(X_m), h_0 = E + η unit(attention of Z_m): Z_m IDs over graph m, X_m features."""

    name = "mmssl"
    paper = Paper(
        "Multi-Modal Self-Supervised Learning for Recommendation",
        "W. Wei, C. Huang, L. Xia, C. Zhang",
        "WWW",
        2023,
        "arXiv:2302.10632",
    )
    needs = 1
    compared = "its authors' code"
    whole_table = True

    class Config(Strict):
        """``reg`` weighs half the mean squares of the rows scored, ``feature_reg`` those of X_m, over the number of items."""

        dim: int = Field(64, ge=1, description="width d of the embeddings, a multiple of heads")
        layers: int = Field(
            2, ge=1, description="propagation steps over the user–item graph; the last ends in a softmax"
        )
        heads: int = Field(4, ge=1, description="of the attention among modalities")
        drop: float = Field(0.2, ge=0, lt=1, description="dropout of the projected features")
        neighbours: int = Field(10, ge=1, description="items a user keeps in a modality's graph")
        ids: float = Field(0.36, ge=0, description="weight η of the modalities' IDs at the start of the propagation")
        features: float = Field(0.55, ge=0, description="weight ω of the features at its end")
        contrast: float = Field(0.03, ge=0, description="weight of the contrast")
        temperature: float = Field(0.5, gt=0, description="τ of the contrast")
        reg: float = Field(1e-5, ge=0)
        feature_reg: float = Field(1e-5, ge=0)
        adversary: float = Field(
            1e-4, ge=0, description="weight of the critic's verdict for the features; 0: no critic"
        )
        users: int = Field(256, ge=1, description="users of a batch whose scores the critic reads, at most")
        items: int = Field(1024, ge=1, description="items of a step on which it reads them, at most")
        hidden: int = Field(128, ge=2, description="width of its first layer; the second has half")
        penalty: float = Field(0.3, ge=0, description="weight of its gradient penalty")
        behaviour: float = Field(100.0, ge=0, description="weight of final scores in what passes for behaviour")
        sharpness: float = Field(0.005, gt=0, description="temperature of what was taken in it")
        faithful: bool = Field(
            False, description="empty graphs, idle attention and the critic as in the published code"
        )

    parts = ("contrast", "adversary", "ids", "features")
    spaces = named(
        default={
            "ids": Range(0.1, 1.0),
            "features": Range(0.1, 1.0),
            "contrast": Range(1e-3, 0.3, log=True),
            "adversary": Range(1e-6, 1e-2, log=True),
            "reg": Range(1e-7, 1e-3, log=True),
            "train.lr": Range(1e-4, 1e-2, log=True),
        }
    )

    cfg: Config

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        if cfg.dim % cfg.heads:
            raise PrismError(
                f"mmssl.heads is {cfg.heads}, which does not divide dim = {cfg.dim} into equal parts. Choose a divisor."
            )
        self.user, self.item = xavier_table(ctx.n_users, cfg.dim), xavier_table(ctx.n_items, cfg.dim)
        self.edges = graphs.Edges(ctx.user, ctx.item, ctx.n_users, ctx.n_items)
        self.to_user, self.to_item = self.edges.roots()
        for m, raw in ctx.raw.items():
            linear = nn.Linear(raw.width, cfg.dim)
            nn.init.xavier_uniform_(linear.weight)
            self.phi[m] = Projector(raw, linear)
        self.attention = Heads(cfg.dim, cfg.heads, len(ctx.raw), cfg.faithful)
        self.critic = Critic(ctx.n_items, cfg.hidden, cfg.faithful) if cfg.adversary > 0 else None
        k = min(int(ctx.n_items * _SHARE) if cfg.faithful else cfg.neighbours, ctx.n_items)
        self.best = nn.Module()  # modality → a user's best unseen items (U, k), -1 for none
        for m in ctx.raw:
            self.best.register_buffer(m, torch.full((ctx.n_users, k), -1))
        self.due = False
        self.held: dict[str, tuple[tuple[int, torch.device], tuple[graphs.Frozen, graphs.Frozen]]] = {}

    def without_new(self) -> str:
        return "it knows an item by its ID and by those who took it, whose features it averages"

    def start_epoch(self, rng: torch.Generator) -> None:
        self.due = True  # the first step of the epoch makes the graphs: it has the features

    def forward(self, feats: Feats) -> Reps:
        cfg = self.cfg
        width = cfg.dim
        x = torch.cat([rows.values for rows in feats.values()], dim=1)
        if self.due and self.training:
            self._renew(list(feats), x.detach())
        x = graphs.dropout(x, cfg.drop, self.training)
        of_user = self.to_user(x)  # all modalities side by side
        of_item = self.to_item(of_user)
        users, items = (list(side.split(width, dim=1)) for side in (of_user, of_item))
        own = {m: self._graphs(m) for m in feats}
        z_user = {m: to_user(self.item) for m, (to_user, _) in own.items()}
        z_item = {m: to_item(self.user) for m, (_, to_item) in own.items()}
        start = [
            table + cfg.ids * losses.unit(self.attention(list(z.values())))
            for table, z in ((self.user, z_user), (self.item, z_item))
        ]
        ids = self._propagate(*start)
        user, item = (
            h + cfg.features * losses.total(losses.unit(part) for part in parts)
            for h, parts in zip(ids, (users, items), strict=True)
        )
        modal = {m: (u, Rows(i)) for m, u, i in zip(feats, users, items, strict=True)}
        views = {f"user.{m}": z for m, z in z_user.items()} | {"user.ids": ids[0], "item.ids": ids[1]}
        return Reps(user, Rows(item), modal=modal, views=views)

    def _propagate(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """The mean over the layers; items hear the users of the same layer, and the last one is a softmax over d."""
        users, items = [user], [item]
        for layer in range(self.cfg.layers):
            last = layer == self.cfg.layers - 1
            user = self.to_user(items[-1])
            users.append(user.softmax(1) if last else user)
            item = self.to_item(users[-1])
            items.append(item.softmax(1) if last else item)
        return losses.total(users) / len(users), losses.total(items) / len(items)

    @torch.no_grad()
    def _renew(self, modalities: list[str], x: Tensor) -> None:
        """The best unseen items of every user by the features (I, M·d) of each modality as they are now."""
        of_user = self.to_user(x)
        for m, user, item in zip(
            modalities, of_user.split(self.cfg.dim, 1), self.to_item(of_user).split(self.cfg.dim, 1), strict=True
        ):
            best = self.best.get_buffer(m)
            best.copy_(graphs.drawn_to(self.edges, user, item, best.shape[1]))
        self.due = False

    def _graphs(self, m: str) -> tuple[graphs.Frozen, graphs.Frozen]:
        """The two halves of a modality's graph, made when its lists have changed."""
        best = self.best.get_buffer(m)
        version = best._version, best.device
        if m not in self.held or self.held[m][0] != version:
            user, slot = (best >= 0).nonzero(as_tuple=True)
            self.held[m] = version, graphs.Edges(user, best[user, slot], self.n_users, self.n_items).roots()
        return self.held[m][1]

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        cfg = self.cfg
        terms = losses.ranking(reps, batch, cfg.reg, "l2_sq")
        if cfg.feature_reg > 0:
            sizes = (side.square().sum() for user, item in reps.modal.values() for side in (user, item.values))
            terms["mmssl.features"] = cfg.feature_reg * losses.total(sizes) / (2 * self.n_items)
        if cfg.contrast > 0:
            ids = batch.users_once
            key = take(reps.user, ids)
            apart = (losses.info_nce_both(take(reps.views[f"user.{m}"], ids), key, cfg.temperature) for m in feats)
            terms["mmssl.contrast"] = cfg.contrast * losses.total(apart)
        if self.critic is not None:
            terms |= self._game(self.critic, reps, batch)
        return terms

    def _game(self, critic: Critic, reps: Reps, batch: Batch) -> Terms:
        """The critic lowers its own loss; on the way back to the features its verdict on them is turned round and weighed."""
        cfg = self.cfg
        user = batch.users_once
        user = user[torch.randperm(len(user), device=user.device)[: cfg.users]]
        item = torch.randperm(self.n_items, device=user.device)[: cfg.items]
        taken = self._taken(user, item)
        with torch.autocast(user.device.type, enabled=False):
            fake = torch.cat([relation(take(u, user), i.at(item), taken) for u, i in reps.modal.values()])
            with torch.no_grad():
                real = self._behaviour(relation(take(reps.user, user), reps.item.at(item), taken), taken)
            real = real.repeat(len(reps.modal), 1)
            verdict = critic(losses.reverse(fake, cfg.adversary), item).mean()
            loss = verdict - critic(real, item).mean()
            if cfg.penalty > 0:
                loss = loss + cfg.penalty * gradient_penalty(lambda x: critic(x, item), real, fake)
        return {"mmssl.adversary": -cfg.adversary * verdict.detach(), "mmssl.critic": loss}

    def _behaviour(self, scores: Tensor, taken: Tensor) -> Tensor:
        """What passes for behaviour (n, k): what was taken, softened by Gumbel noise, and final scores; in unit rows."""
        noise = -torch.log(-torch.log(torch.rand_like(scores)) + 1e-8)
        soft = ((taken.float() + 1e-5 * noise) / self.cfg.sharpness).softmax(1)
        return losses.unit(soft + self.cfg.behaviour * scores)

    def _taken(self, user: Tensor, item: Tensor) -> Tensor:
        """Which of ``item`` (k,) each of ``user`` (n,) took → (n, k) bool."""
        row, column = _places(user, self.n_users), _places(item, self.n_items)
        out = torch.zeros(len(user) + 1, len(item) + 1, dtype=torch.bool, device=user.device)
        # edges of nobody who is asked for go to the last row and column
        out[row[self.edges.user], column[self.edges.item]] = True
        return out[:-1, :-1]


def _places(ids: Tensor, n: int) -> Tensor:
    """Where each of 0..n-1 stands among ``ids`` (k,), k for those that do not → (n,)."""
    return torch.full((n,), len(ids), device=ids.device).index_copy(0, ids, torch.arange(len(ids), device=ids.device))


class Critic(nn.Module):
    """Tells rows of scores (n, k) on ``item`` (k,) of behaviour from those of features: the higher, the more like behaviour.

    The first layer has a row of weights for each item of the catalogue, of which a step reads ``item``.
    """

    def __init__(self, n_items: int, hidden: int, faithful: bool) -> None:
        super().__init__()
        self.faithful = faithful
        self.first = nn.Parameter(torch.randn(n_items, hidden) / hidden**0.5)
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.second = nn.Linear(hidden, hidden // 2)
        self.last = nn.Linear(hidden // 2, 1, bias=False)  # a constant cancels

    def forward(self, x: Tensor, item: Tensor) -> Tensor:
        """Rows (n, k) → (n,)."""
        x = graphs.dropout(self._activate(x @ take(self.first, item) + self.bias), 0.31, self.training)
        x = graphs.dropout(self._activate(self.second(x)), 0.5, self.training)
        out: Tensor = self.last(x).squeeze(1)
        return 100 * out.sigmoid() if self.faithful else out

    def _activate(self, x: Tensor) -> Tensor:
        if not self.faithful:
            return F.leaky_relu(x, 0.2)
        return F.batch_norm(x, None, None, training=True) if len(x) > 1 else x


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Mean of (‖∇ critic‖ − 1)² at random points between rows of ``real`` and ``fake`` (n, k), which learn nothing from it.

    Gulrajani et al., NeurIPS 2017, arXiv:1704.00028.
    """
    with torch.enable_grad():
        between = torch.lerp(real.detach(), fake.detach(), torch.rand_like(real[:, :1])).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        penalty: Tensor = (slope.norm(dim=1) - 1).square().mean()
    return penalty


def relation(user: Tensor, item: Tensor, taken: Tensor) -> Tensor:
    """Scores of users (n, d) on items (k, d), 0 where ``taken`` (n, k), in unit rows."""
    return losses.unit((user.float() @ item.float().T).masked_fill(taken, 0.0))


class Heads(nn.Module):
    """Attention of several views of the same nodes to each other: heads side by side, through W, the mean of the views.

    ``idle``: the weights cancel, as in the published code: the mean of the views times the sum of W's blocks.
    """

    def __init__(self, width: int, heads: int, views: int, idle: bool) -> None:
        super().__init__()
        self.heads = heads
        self.weighs = views > 1 and not idle
        if self.weighs:
            self.query, self.key = xavier_table(width, width), xavier_table(width, width)
        self.join = xavier_table(heads * width, width)

    def forward(self, views: list[Tensor]) -> Tensor:
        """M views (n, d) → (n, d)."""
        blocks = self.join.chunk(self.heads)
        if not self.weighs:
            return losses.total(views) / len(views) @ losses.total(blocks)
        weights = self.weights(views)
        # what a head gives is linear in the views: they are mixed first and multiplied once
        mixed = (losses.total(w * view for w, view in zip(head, views, strict=True)) for head in weights)
        return losses.total(x @ block for x, block in zip(mixed, blocks, strict=True))

    def weights(self, views: list[Tensor]) -> list[list[Tensor]]:
        """Of each head and view: the mean weight (n, 1) that the views give it; those of a head add up to 1."""
        query, key = ([(view @ w).unflatten(1, (self.heads, -1)) for view in views] for w in (self.query, self.key))
        scale = query[0].shape[2] ** -0.5
        logits = torch.stack([torch.stack([(q * k).sum(2) for k in key]) for q in query]) * scale  # (M, M, n, heads)
        mean = logits.softmax(1).mean(0)  # (M, n, heads)
        return [[w.unsqueeze(1) for w in head] for head in mean.unbind(2)]
