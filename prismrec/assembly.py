"""The seam: a model and its plug-ins as one module. The plug-ins wrap the data, not the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from prismrec.models.base import Context, Model, Strict
from prismrec.nn import Raw
from prismrec.plugins.base import Offer, Plugin
from prismrec.types import Batch, Feats, ItemIds, Reps, Terms


class Assembly(nn.Module):
    """``loss`` of a batch while training, ``represent`` for everything else.

    Raw features are held beside the module, not in it: they are data, not state, and a checkpoint does not repeat them.
    They stay on the device that they were given on, which must be the module's.
    """

    def __init__(self, model: Model, plugins: Sequence[Plugin], raw: Mapping[str, Raw]) -> None:
        super().__init__()
        self.model = model
        self.plugins = nn.ModuleList(plugins)
        self.raw = dict(raw)
        self._all: Feats | None = None
        self.register_load_state_dict_post_hook(lambda *_: self._forget())  # type: ignore[no-untyped-call]

    @property
    def chain(self) -> list[Plugin]:
        """The plug-ins, in the order in which they act."""
        return [plugin for plugin in self.plugins if isinstance(plugin, Plugin)]

    @property
    def n_neg(self) -> int:
        """Negatives a row that the sampler must draw: the most that anybody asks for."""
        return max([self._read, *(plugin.n_candidates for plugin in self.chain)])

    @property
    def n_fresh(self) -> int:
        """How many of them must be drawn for the row itself."""
        return max([self.model.n_neg, *(plugin.n_fresh for plugin in self.chain)])

    @property
    def _read(self) -> int:
        """Negatives a row that some loss reads, so that their features are needed."""
        return max([self.model.n_neg, *(plugin.n_neg for plugin in self.chain)])

    @property
    def trainable(self) -> bool:
        """Whether there is anything to train; the floors have nothing."""
        return any(p.requires_grad for p in self.parameters())

    def start_epoch(self, epoch: int, rng: torch.Generator) -> None:
        """Let the model and the plug-ins redraw what changes between epochs."""
        self.model.start_epoch(rng)
        waiting = [i for i, plugin in enumerate(self.chain) if plugin.needs_features(epoch)]
        self.eval()  # noise off
        with torch.no_grad():
            feats: Feats = {}
            if waiting:  # evaluation has just ended an epoch with these very parameters: its projection serves again
                feats = self._all if self._all is not None else self.model.project(self.raw, None)
            self._forget()
            for i, plugin in enumerate(self.chain):
                plugin.start_epoch(epoch, feats, rng)
                if waiting and i < waiting[-1]:
                    feats, _ = plugin.encode(feats, None)
        self.train()

    def loss(self, batch: Batch) -> Terms:
        """The weighted loss terms of a batch; the objective is their sum."""
        batch = self._pick(batch)
        self._forget()  # the parameters are about to change
        index = None
        if len(self.model.phi) and not self.model.whole_table:
            index = ItemIds.of(batch.items, self.model.n_items, batch.n_items)
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

    def _pick(self, batch: Batch) -> Batch:
        """The batch with the negatives that losses read, and those that plug-ins pick among their candidates."""
        picks = {plugin.name: plugin.pick(batch, self.represent) for plugin in self.chain if plugin.n_candidates}
        return replace(batch.negatives(self._read), picks=picks)

    @torch.no_grad()
    def represent(self) -> Reps:
        """Representations of all users and items, noise off. Two calls give the same bits."""
        was_training = self.training
        self.eval()
        feats = self._all = self.model.project(self.raw, None)
        for plugin in self.chain:
            feats, _ = plugin.encode(feats, None)
        reps: Reps = self.model(feats)
        self.train(was_training)
        return reps

    def report(self) -> dict[str, dict[str, dict[str, float]]]:
        """What plug-ins have to say of an epoch: ``plugins`` → name → its numbers; nothing where none has any."""
        said = {plugin.name: plugin.report() for plugin in self.chain}
        told = {name: numbers for name, numbers in said.items() if numbers}
        return {"plugins": told} if told else {}

    def _forget(self) -> None:
        self._all = None


def build(
    model: type[Model],
    model_cfg: Strict,
    plugins: Sequence[tuple[type[Plugin], Strict]],
    ctx: Context,
    seed: int,
) -> Assembly:
    """A model and its plug-ins on the device of ``ctx``, initialised from ``seed``; the caller's random state stays as it was.

    Numbers are drawn on the CPU and moved: every device starts from the same ones.
    """
    model.check(ctx)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        made = model(model_cfg, ctx).to(ctx.user.device).eval()
        offer = offered(made, ctx)
        chain = []
        for plugin, cfg in plugins:
            chain.append(plugin(cfg))
            chain[-1].setup(offer)
    return Assembly(made, chain, ctx.raw).to(ctx.user.device).train()


def offered(model: Model, ctx: Context) -> Offer:
    """What a model, in eval mode, offers its plug-ins on the data that it was made for."""
    with torch.no_grad():
        one = torch.zeros(1, dtype=torch.int64, device=ctx.user.device)
        feats = model.project(ctx.raw, None if model.whole_table else ItemIds.of(one, ctx.n_items))
    sides = model.sides(feats)
    return Offer(
        model=model.name,
        n_users=ctx.n_users,
        n_items=ctx.n_items,
        widths={m: rows.width for m, rows in feats.items()},
        present={m: ctx.raw[m].present for m in feats},
        sides={m: widths for m, widths in sides.items() if m is not None},
        fused=sides[None],
    )
