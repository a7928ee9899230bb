"""Training goes on from an earlier run, on data with other users and items."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from program import call, dataset
from tiny import context

from prismrec import warm
from prismrec.assembly import build
from prismrec.checkpoint import Checkpoints
from prismrec.config import resolve
from prismrec.data import store
from prismrec.data.dataset import Dataset, Interactions
from prismrec.data.ids import IdMap
from prismrec.errors import PrismError
from prismrec.models import MODELS, Model
from prismrec.recommender import Recommender
from prismrec.runs import restore

SETTINGS = {"train.epochs": 2, "run.threads": 1, "model.dim": 8}


def shuffled(data: Dataset, users: int, items: int) -> Dataset:
    """The same shop later: internal order reversed, the last users and items gone, and as many new ones."""
    rng = np.random.default_rng(0)

    def ids(known: IdMap, new: int) -> tuple[IdMap, np.ndarray]:
        kept = known.external[: len(known) - new].reverse()
        place = np.full(len(known), -1)
        place[: len(known) - new] = np.arange(len(known) - new)[::-1]
        return IdMap(pl.concat([kept, pl.Series(kept.name, [f"new{i}" for i in range(new)])]), known.what), place

    (user_ids, user_place), (item_ids, item_place) = ids(data.users, users), ids(data.items, items)
    rows = data.interactions
    assert rows.split is not None
    user, item = user_place[rows.user], item_place[rows.item]
    fits = (user >= 0) & (item >= 0)
    more = np.repeat(np.arange(data.n_users - users, data.n_users), 6)
    of_new = Interactions(
        np.concatenate([user[fits], more]).astype(np.int32),
        np.concatenate([item[fits], rng.integers(0, data.n_items, len(more))]).astype(np.int32),
        np.concatenate([rows.split[fits], np.tile([0, 0, 0, 0, 1, 2], users)]).astype(np.int8),
    )
    back = np.argsort(np.concatenate([item_place[item_place >= 0], np.arange(data.n_items - items, data.n_items)]))
    modalities = {
        m: replace(modality, values=np.ascontiguousarray(modality.values[back]), present=modality.present[back])
        for m, modality in data.modalities.items()
    }
    return replace(
        data, users=user_ids, items=item_ids, interactions=of_new, modalities=modalities,
        item_table=pl.DataFrame({"item": item_ids.external}),
    )  # fmt: skip


@pytest.fixture(scope="module")
def shop() -> Dataset:
    return dataset(n_users=60, n_items=50)


@pytest.fixture(scope="module")
def earlier(shop: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("warm")
    store.save(shop, folder / "data")
    store.save(shuffled(shop, 4, 3), folder / "later")
    Recommender("vbpr", plugins=["clear"], settings=SETTINGS).fit(str(folder / "data"), out=folder / "run")
    return folder / "run"


def test_known_rows_are_copied_and_new_ones_start_as_ever(earlier: Path, shop: Dataset, tmp_path: Path) -> None:
    later = store.load(earlier.parent / "later")
    said = call("train", earlier.parent / "later", "--warm-start", earlier, "--out", tmp_path / "next", "--set",
                "train.epochs=1")  # fmt: skip
    assert said.status == 0, said.sentence
    assert "users: 56 known, 4 new, 4 gone" in said.err and "items: 47 known, 3 new, 3 gone" in said.err
    record = json.loads((tmp_path / "next" / "warm.json").read_text())
    assert record["users"] == {"known": 56, "new": 4, "gone": 4} and record["exact"] is True
    cfg = resolve({"model": {"name": "vbpr", "dim": 8}, "plugins": {"clear": {}},
                   "train": {"epochs": 5}, "run": {"threads": 1}})  # fmt: skip
    warm.start(earlier, cfg, later, tmp_path / "direct")
    _, last, best = Checkpoints(tmp_path / "direct" / "checkpoint").load()
    before = restore(earlier, shop).state_dict()
    cold = build(cfg.model, cfg.model_cfg, cfg.plugins, _ctx(later), cfg.run.seed).state_dict()
    place = later.users.find(shop.users.external)
    known = np.flatnonzero(place >= 0)
    name = next(n for n, owner in warm.owners_of(cfg, {"image": 64, "text": 48}).items() if owner[0] == "users")
    assert torch.equal(best[name][place[known]], before[name][known])
    new = np.setdiff1d(np.arange(later.n_users), place[known])
    assert torch.equal(best[name][new], cold[name][new]) and len(new) == 4
    for other, owner in warm.owners_of(cfg, {"image": 64, "text": 48}).items():
        if set(owner) <= {"nobody"}:
            assert torch.equal(best[other], before[other]), other
    assert all(torch.equal(last[f"module.{n}"], best[n]) for n in best)


def _ctx(data: Dataset):  # type: ignore[no-untyped-def]
    from prismrec.experiment import context as of

    return of(data.development(), torch.device("cpu"))


def test_the_same_seed_gives_the_same_bits_and_a_better_start(earlier: Path, tmp_path: Path) -> None:
    where = earlier.parent / "later"
    for name in ("a", "b"):
        said = call("train", where, "--warm-start", earlier, "--out", tmp_path / name, "--set", "train.epochs=2", "-q")
        assert said.status == 0, said.sentence
    a, b = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("a", "b"))
    assert a["test"] == b["test"] and a["valid"] == b["valid"] and a["epochs"] == 2
    first = json.loads((tmp_path / "a" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["epoch"] == 1
    cold = call("train", where, "--config", earlier / "config.yaml", "--out", tmp_path / "cold", "--set",
                "train.epochs=2", "-q")  # fmt: skip
    assert cold.status == 0
    start = json.loads((tmp_path / "cold" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["terms"]["rank"] < start["terms"]["rank"]


def test_rows_that_were_trained_on_and_are_held_out_now_are_told(earlier: Path, shop: Dataset, tmp_path: Path) -> None:
    split = shop.interactions.split
    assert split is not None
    turned = replace(shop, interactions=replace(shop.interactions, split=np.roll(split, 1)))
    cfg = resolve({"model": {"name": "vbpr", "dim": 8}, "plugins": {"clear": {}}, "run": {"threads": 1}})
    held_out = turned.interactions.part("valid", "test")
    train = shop.interactions.part("train")
    pairs = set(zip(train.user.tolist(), train.item.tolist(), strict=True))
    expected = sum(pair in pairs for pair in zip(held_out.user.tolist(), held_out.item.tolist(), strict=True))
    known = warm.start(earlier, cfg, turned, tmp_path / "x")
    assert known.trained_on == expected > 0 and known.exact
    assert f"{expected:,} of {len(held_out):,} held-out rows" in known.sentences()[-1]
    assert not warm.start(earlier, cfg, shop, tmp_path / "y").trained_on


def test_what_is_refused(earlier: Path, shop: Dataset, tmp_path: Path) -> None:
    later = earlier.parent / "later"
    refusals = (
        ((later, "--warm-start", earlier, "--model", "bpr"), "leave out --model"),
        ((later, "--warm-start", tmp_path), "is no run folder"),
        ((later, "--warm-start", earlier, "--set", "model.dim=16"), "a width or a feature differs"),
        (("--resume", earlier, "--warm-start", earlier), "leave out --warm-start"),
    )
    for words, says in refusals:
        said = call("train", *words, *(() if "--resume" in words else ("--out", tmp_path / "new")))
        assert said.status == 2 and says in said.sentence, said.sentence
        assert not (tmp_path / "new" / "config.yaml").exists()
    strangers = replace(
        shop, users=IdMap(shop.users.external + "x", "user"), items=IdMap(shop.items.external + "x", "item")
    )
    cfg = resolve({"model": {"name": "vbpr", "dim": 8}, "plugins": {"clear": {}}, "run": {"threads": 1}})
    with pytest.raises(PrismError, match="knows none of the users and items"):
        warm.start(earlier, cfg, strangers, tmp_path / "none")
    plain = resolve({"model": {"name": "vbpr", "dim": 8}, "run": {"threads": 1}})
    with pytest.raises(PrismError, match=r"a run of vbpr\+clear, and this would be one of vbpr"):
        warm.start(earlier, plain, shop, tmp_path / "none")
    Recommender("mostpop", settings={"run.threads": 1}).fit(shop, out=tmp_path / "floor")
    with pytest.raises(PrismError, match="nothing that was learnt"):
        warm.start(tmp_path / "floor", resolve({"model": {"name": "mostpop"}}), shop, tmp_path / "none")


TRAINED = [kind for kind in MODELS if kind.random]


@pytest.mark.parametrize("kind", TRAINED, ids=lambda kind: kind.name)
def test_every_model_starts_from_its_own_weights(kind: type[Model]) -> None:
    """Moved to the same catalogue in another order, each number of users and items follows its owner."""
    cfg = resolve({"model": {"name": kind.name}})
    ctx = context(2, seed=1)
    owners = warm.owners_of(cfg, {m: raw.width for m, raw in ctx.raw.items()})
    old = build(cfg.model, cfg.model_cfg, (), ctx, seed=1)
    new = build(cfg.model, cfg.model_cfg, (), ctx, seed=2)
    rng = torch.Generator().manual_seed(3)

    def order(n: int) -> warm.Moved:
        return warm.Moved(torch.arange(n), torch.randperm(n, generator=rng), n, n)

    users, items = order(ctx.n_users), order(ctx.n_items)
    learnt = old.state_dict()
    moved = {"users": users, "items": items, "both": users.then(items)}
    warm.fill(new, learnt, owners, moved)
    found = new.state_dict()
    assert any("users" in owner or "both" in owner for owner in owners.values())
    for name, value in learnt.items():
        if value.is_floating_point():
            for d, owner in enumerate(owners[name]):
                value = value if owner == "nobody" else value.index_select(d, moved[owner].new.argsort())
            assert torch.equal(found[name], value), name
