"""Catalogues of a few users and items, and a few steps of training on them: what many tests of models start from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from prismrec.assembly import Assembly, build
from prismrec.models import Context, Model
from prismrec.models.base import Strict
from prismrec.nn import Raw
from prismrec.plugins import Plugin
from prismrec.sampling import Sampler, generator
from prismrec.types import Batch, Reps, Terms

WIDTHS = {"image": 9, "text": 7, "audio": 6}
USERS, ITEMS = 11, 17
DIM = 8


def context(
    modalities: int | Sequence[str] = 2, *, seed: int = 0, weights: bool = False, missing: bool = False
) -> Context:
    """Eleven users, of whom the last took nothing, and seventeen items, of which the last two were taken by nobody.

    ``modalities``: how many of image, text and audio, or their names. ``missing``: items 0, 3 and 15 lack the first
    modality, item 4 lacks all.
    """
    rng = torch.Generator().manual_seed(seed)
    pairs = torch.rand(USERS - 1, ITEMS - 2, generator=rng) < 0.35
    pairs[torch.arange(USERS - 1), torch.arange(USERS - 1)] = True
    user, item = pairs.nonzero(as_tuple=True)
    shuffled = torch.randperm(len(user), generator=rng)
    names = list(WIDTHS)[:modalities] if isinstance(modalities, int) else list(modalities)
    raw = {}
    for position, m in enumerate(names):
        values = torch.randn(ITEMS, WIDTHS[m], generator=rng).half().float()  # exact in half precision too
        present = torch.ones(ITEMS, dtype=torch.bool)
        if missing:
            present[[0, 3, 4, 15] if position == 0 else [4]] = False
            values[~present] = 0
        raw[m] = Raw(values, present)
    weight = torch.rand(len(user), generator=rng) + 0.5 if weights else None
    return Context(USERS, ITEMS, user[shuffled], item[shuffled], weight, raw)


def with_raw(ctx: Context, raw: Mapping[str, Raw]) -> Context:
    return replace(ctx, raw=dict(raw))


def adjacency(ctx: Context) -> Tensor:
    """Â (U + I, U + I) in double precision, users first."""
    n = ctx.n_users + ctx.n_items
    a = torch.zeros(n, n, dtype=torch.float64)
    a[ctx.user, ctx.n_users + ctx.item] = 1
    a += a.T.clone()
    root = a.sum(1).clamp(min=1).rsqrt()
    return root[:, None] * a * root


def friends(ctx: Context, k: int) -> Tensor:
    """The weights (U, U) of each user's k nearest by common items, in double precision, one user after the other."""
    r = torch.zeros(ctx.n_users, ctx.n_items, dtype=torch.float64)
    r[ctx.user, ctx.item] = 1
    c = (r @ r.T).fill_diagonal_(0)
    out = torch.zeros_like(c)
    for u, row in enumerate(c.tolist()):
        near = sorted((v for v in range(ctx.n_users) if row[v]), key=lambda v: (-row[v], v))[:k]
        if near:
            out[u, near] = c[u, near].softmax(0)
    return out


def config(kind: type[Model] | type[Plugin], **settings: Any) -> Strict:
    """The settings of a class, narrow where it has a width."""
    narrow = {"dim": DIM} if "dim" in kind.Config.model_fields else {}
    return kind.Config(**{**narrow, **settings})


def made(
    model: type[Model],
    ctx: Context,
    plugins: Sequence[type[Plugin] | tuple[type[Plugin], Strict]] = (),
    seed: int = 0,
    **cfg: Any,
) -> Assembly:
    """The model with its plug-ins; ``cfg`` are settings of the model."""
    chain = [plugin if isinstance(plugin, tuple) else (plugin, config(plugin)) for plugin in plugins]
    return build(model, config(model, **cfg), chain, ctx, seed)


def batches(ctx: Context, n_neg: int = 1, size: int = 16, seed: int = 0) -> Iterator[Batch]:
    """Batches of one epoch after another, without end."""
    sampler = Sampler(ctx.user, ctx.item, ctx.weight, ctx.n_users, ctx.n_items, batch_size=size, n_neg=n_neg, seed=seed)
    epoch = 0
    while True:
        yield from sampler.epoch(epoch)
        epoch += 1


def batch(ctx: Context, n_neg: int = 1, size: int = 16, seed: int = 0) -> Batch:
    return next(batches(ctx, n_neg, size, seed))


def loss(assembly: Assembly, rows: Batch, noise: int = 0) -> Terms:
    """The loss terms of a batch; what a model or plug-in draws meanwhile comes from the seed ``noise``."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(noise)
        return assembly.loss(rows)


def total(terms: Terms) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def train(assembly: Assembly, ctx: Context, epochs: int = 2, steps: int = 2, seed: int = 0) -> Assembly:
    """A few steps of Adam in each of a few epochs; nothing where there is nothing to train."""
    if assembly.trainable:
        optimizer = torch.optim.Adam(assembly.parameters(), lr=0.05)
        source = batches(ctx, assembly.n_neg, seed=seed)
        for epoch in range(epochs):
            assembly.start_epoch(epoch, generator(seed, epoch, 7))
            for step in range(steps):
                optimizer.zero_grad()
                total(loss(assembly, next(source), epoch * steps + step)).backward()
                optimizer.step()
    return assembly


def tables(reps: Reps) -> dict[str, Tensor]:
    """All that representations hold, dense, by name."""
    out = {"user": reps.user, "item": reps.item.values}
    for m, (user, item) in reps.modal.items():
        out |= {f"{m}.user": user, f"{m}.item": item.values}
    out |= reps.views
    return {
        name: (value.to_dense() if value.layout == torch.sparse_csr else value).detach().clone()
        for name, value in out.items()
    }


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Whether two records of tensors hold the same bits."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
