"""The plug-ins that are said to act on a model are those that a run with it takes."""

from __future__ import annotations

import pytest
import torch

from prismrec.config import resolve
from prismrec.data.synthetic import draw
from prismrec.errors import PrismError
from prismrec.experiment import assemble
from prismrec.models import MODELS
from prismrec.models.base import Model
from prismrec.pairing import plugins_on
from prismrec.plugins import PLUGINS


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_what_is_said_to_apply_can_be_run_and_nothing_else(model: type[Model]) -> None:
    shop = draw(n_users=24, n_items=24, interactions=6, seed=3).dataset
    before = torch.get_rng_state()
    said = plugins_on(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert bool(said) == (model.kind() == "multimodal" and model.random)  # a floor has nothing to train
    for plugin in PLUGINS:
        cfg = resolve({"model": {"name": model.name}, "plugins": {plugin.name: {}}})
        if plugin.name in said:
            assemble(cfg, shop, torch.device("cpu"))
        else:
            with pytest.raises(PrismError, match=plugin.name):
                assemble(cfg, shop, torch.device("cpu"))
