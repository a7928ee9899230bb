"""Which plug-ins act on which models. Nobody keeps a list: the plug-ins are asked, on a catalogue of a few items."""

from __future__ import annotations

import functools

import torch

from prismrec.assembly import offered
from prismrec.errors import PrismError
from prismrec.models.base import Context, Model
from prismrec.plugins import PLUGINS
from prismrec.plugins.base import Offer, Plugin


def plugins_on(model: type[Model]) -> list[str]:
    """Names of the plug-ins that a model with its defaults qualifies for, on data with an image and a text of each item."""
    ctx = _catalogue()
    with torch.random.fork_rng(devices=[]):
        offer = offered(model(model.Config(), ctx).eval(), ctx)
        return [plugin.name for plugin in PLUGINS if _accepts(plugin, offer)]


def _accepts(plugin: type[Plugin], offer: Offer) -> bool:
    try:
        plugin(plugin.Config()).setup(offer)
    except PrismError:
        return False
    return True


@functools.cache
def _catalogue() -> Context:
    from prismrec.data.synthetic import draw
    from prismrec.experiment import context

    return context(draw(n_users=24, n_items=24, interactions=6, seed=0).dataset, torch.device("cpu"))
