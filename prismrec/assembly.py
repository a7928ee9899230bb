"""The seam: a model and its plug-ins as one module. The plug-ins wrap the data, not the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from prismrec.models.base import Context, Model, Strict
from prismrec.nn import Raw
from prismrec.plugins.base import Offer, Plugin
from prismrec.types import Batch, Feats, ItemIds, Reps, Terms


class Assembly(nn.Module):
    """``loss`` of a batch while training, ``represent`` for everything else.

    Raw features are held beside the module, not in it: they are data, not state, and a checkpoint does not repeat them.
    """

    def __init__(self, model: Model, plugins: Sequence[Plugin], raw: Mapping[str, Raw]) -> None:
        super().__init__()
        self.model = model
        self.plugins = nn.ModuleList(plugins)
        self.raw = dict(raw)
        self._all: Feats | None = None

    @property
    def chain(self) -> list[Plugin]:
        """The plug-ins, in the order in which they act."""
        return [plugin for plugin in self.plugins if isinstance(plugin, Plugin)]

    @property
    def n_neg(self) -> int:
        """Negatives a row that the sampler must draw: the most that anybody asks for."""
        return max([self.model.n_neg, *(plugin.n_neg for plugin in self.chain)])

    @property
    def trainable(self) -> bool:
        """Whether there is anything to train; the floors have nothing."""
        return any(p.requires_grad for p in self.parameters())

    def start_epoch(self, epoch: int, rng: torch.Generator) -> None:
        """Let the model and the plug-ins redraw what changes between epochs."""
        self.model.start_epoch(rng)
        waiting = [i for i, plugin in enumerate(self.chain) if plugin.needs_features]
        self.eval()  # noise off
        with torch.no_grad():
            feats = self._everything() if waiting else {}
            for i, plugin in enumerate(self.chain):
                plugin.start_epoch(epoch, feats, rng)
                if waiting and i < waiting[-1]:
                    feats, _ = plugin.encode(feats, None)
        self.train()

    def loss(self, batch: Batch) -> Terms:
        """The weighted loss terms of a batch; the objective is their sum."""
        self._all = None  # the parameters are about to change
        index = None
        if self.raw and not self.model.whole_table:
            index = ItemIds.of(torch.cat([batch.pos, batch.neg.reshape(-1)]), self.model.n_items)
        feats = self.model.project(self.raw, index)
        costs: Terms = {}
        for plugin in self.chain:
            feats, cost = plugin.encode(feats, batch)
            costs |= cost
        reps = self.model(feats)
        terms = self.model.loss(reps, feats, batch.negatives(self.model.n_neg)) | costs
        for plugin in self.chain:
            terms = plugin.loss(terms, reps, feats, batch)
        return terms

    @torch.no_grad()
    def represent(self) -> Reps:
        """Representations of all users and items, noise off. Two calls give the same bits."""
        was_training = self.training
        self.eval()
        feats = self._everything()
        for plugin in self.chain:
            feats, _ = plugin.encode(feats, None)
        reps: Reps = self.model(feats)
        self.train(was_training)
        return reps

    def _everything(self) -> Feats:
        # evaluation ends an epoch and the next one starts with the same parameters: project all items once for both
        if self._all is None:
            self._all = self.model.project(self.raw, None)
        return self._all


def build(
    model: type[Model],
    model_cfg: Strict,
    plugins: Sequence[tuple[type[Plugin], Strict]],
    ctx: Context,
    seed: int,
) -> Assembly:
    """A model and its plug-ins, initialised from ``seed``; the caller's random state is left as it was."""
    model.check(ctx)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = model(model_cfg, ctx)
        with torch.no_grad():
            made.eval()
            one = None if model.whole_table else ItemIds.of(torch.zeros(1, dtype=torch.int64), ctx.n_items)
            feats = made.project(ctx.raw, one)
        offer = Offer(
            model=model.name,
            n_users=ctx.n_users,
            n_items=ctx.n_items,
            widths={m: rows.width for m, rows in feats.items()},
            present={m: ctx.raw[m].present for m in feats},
            sides=made.sides(feats),
        )
        chain = []
        for plugin, cfg in plugins:
            chain.append(plugin(cfg))
            chain[-1].setup(offer)
    return Assembly(made, chain, ctx.raw)
