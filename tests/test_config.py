"""Settings are strict: what is misspelt or ill-typed is named, with what was expected; what is right comes back whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from prismrec import config
from prismrec.config import assign, merge, override, parse_yaml, published, read_yaml, resolve, value_at
from prismrec.data.synthetic import draw
from prismrec.errors import PrismError
from prismrec.experiment import configure
from prismrec.models import MODELS
from prismrec.plugins import PLUGINS
from prismrec.recipes import label


@pytest.mark.parametrize("model", [model.name for model in MODELS])
def test_a_record_comes_back_from_its_tree_and_from_its_yaml(model: str) -> None:
    tree = {"model": {"name": model}, "plugins": {plugin.name: {} for plugin in PLUGINS}, "run": {"seed": 4}}
    cfg = resolve(tree)
    assert resolve(cfg.tree()) == cfg
    assert resolve(parse_yaml(yaml.safe_dump(cfg.tree(), sort_keys=False), "x")) == cfg  # plug-ins act in their order
    assert cfg.label == label(model, [plugin.name for plugin in PLUGINS])


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({}, "No model is named"),
        ({"model": {}}, "No model is named"),
        ({"model": "bpr"}, r"model is 'bpr'; expected settings by name, such as model: \{name: bpr\}"),
        ({"model": {"name": "brp"}}, "There is no model 'brp'. Did you mean 'bpr'"),
        ({"modle": {}}, "Unknown setting 'modle'. Did you mean 'model'"),
        ({1: 2}, "Unknown setting 1"),
        ({"model": {"name": "bpr", "dims": 3}}, "Unknown setting model.dims. Did you mean 'dim'"),
        ({"model": {"name": "bpr", "dim": "two"}}, "model.dim is 'two'; expected an integer"),
        ({"model": {"name": "bpr", "dim": 2.5}}, "model.dim is 2.5; expected an integer"),
        ({"model": {"name": "bpr", "dim": True}}, "model.dim is True; expected an integer"),
        ({"model": {"name": "bpr", "dim": 0}}, "model.dim is 0; expected a number greater than or equal to 1"),
        (
            {"model": {"name": "freedom", "weights": {"image": "much"}}},
            "model.weights.image is 'much'; expected a number",
        ),
        ({"model": {"name": "freedom", "prune": 1.0}}, "model.prune is 1.0; expected a number less than 1"),
        (
            {"model": {"name": "vbpr"}, "plugins": ["clear"]},
            r"plugins is \['clear'\]; .*plugins: \{clear: \{rank: 4\}\}",
        ),
        ({"model": {"name": "vbpr"}, "plugins": {"cleer": {}}}, "There is no plug-in 'cleer'. Did you mean 'clear'"),
        ({"model": {"name": "vbpr"}, "plugins": {"clear": 4}}, "plugins.clear is 4; expected settings by name"),
        (
            {"model": {"name": "vbpr"}, "plugins": {"clear": {"rank": "most"}}},
            "plugins.clear.rank is 'most'; expected an integer or 'energy' or 'spectrum'",
        ),
        ({"model": {"name": "bpr"}, "train": {"epoch": 3}}, "Unknown setting train.epoch. Did you mean 'epochs'"),
        ({"model": {"name": "bpr"}, "train": {"lr": "fast"}}, "train.lr is 'fast'; expected a number"),
        ({"model": {"name": "bpr"}, "train": {"lr": float("nan")}}, "train.lr is nan; expected"),
        ({"model": {"name": "bpr"}, "train": {"lr": float("inf")}}, "train.lr is inf; expected a finite number"),
        (
            {"model": {"name": "bpr"}, "train": {"optimizer": "adm"}},
            "train.optimizer is 'adm'; expected 'adam', 'adamw'",
        ),
        ({"model": {"name": "bpr"}, "train": {"metric": "recal@20"}}, "'recal@20' is unknown. Did you mean 'recall'"),
        ({"model": {"name": "bpr"}, "train": {"metric": "recall"}}, "'recall' is not of the form name@K"),
        (
            {"model": {"name": "bpr"}, "run": {"device": "gpu"}},
            "run.device is 'gpu'; expected auto, cpu, cuda or cuda:N",
        ),
        (
            {"model": {"name": "bpr"}, "run": {"seed": -1}},
            "run.seed is -1; expected a number greater than or equal to 0",
        ),
        (
            {"model": {"name": "bpr"}, "run": {"protocol": "mmrc"}},
            "run.protocol is 'mmrc'; expected 'default' or 'mmrec'",
        ),
        ({"model": {"name": "bpr"}, "run": {"metrics": []}}, r"run.metrics is \[\]; expected at least one entry"),
        ({"model": {"name": "bpr"}, "run": {"metrics": "recall@5"}}, "run.metrics is 'recall@5'; expected a list"),
        ({"model": {"name": "bpr"}, "run": {"metrics": ["recall@0"]}}, "'recall@0' is not of the form name@K"),
        ({"model": {"name": "bpr"}, "run": 3}, "run is 3; expected settings by name"),
    ],
)
def test_what_is_wrong_is_named_with_what_was_expected(tree: dict[Any, Any], said: str) -> None:
    with pytest.raises(PrismError, match=said) as caught:
        resolve(tree)
    assert "\n" not in str(caught.value) and "Input should" not in str(caught.value)


def test_names_of_metrics_are_written_one_way() -> None:
    cfg = resolve(
        {"model": {"name": "bpr"}, "train": {"metric": "NDCG@7"}, "run": {"metrics": [" Recall@5", "recall@5"]}}
    )
    assert cfg.train.metric == "ndcg@7" and cfg.run.metrics == ["recall@5"]


def test_empty_sections_are_defaults() -> None:
    assert resolve({"model": {"name": "bpr"}, "plugins": None, "train": None, "run": {}}) == resolve(
        {"model": {"name": "bpr"}}
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("train.lr=1e-3", 0.001),
        ("train.lr=5e-4", 0.0005),
        ("train.lr=.5", 0.5),
        ("train.epochs=12", 12),
        ("train.metric=recall@10", "recall@10"),
        ("train.x=true", True),
        ("train.x=", None),
        ("train.x=a=b", "a=b"),
        ("train.x={image: 0.1, text: 0.9}", {"image": 0.1, "text": 0.9}),
        ("train.x=[recall@5, ndcg@5]", ["recall@5", "ndcg@5"]),
        (" train.x =1", 1),
    ],
)
def test_values_are_read_as_people_write_them(text: str, value: object) -> None:
    (got,) = override({}, [text])["train"].values()
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train.lr", "'train.lr' is no assignment; expected section.key=value"),
        ("lr=3", "'lr' names no setting"),
        ("train.=3", "'train.' names no setting"),
        ("trian.lr=3", "no section 'trian'. Did you mean 'train'"),
        ("clear.rank=3", "sets the plug-in 'clear', which this run does not use; add --plugin clear"),
        ("train.lr=[1", "not valid YAML"),
        ("model.name.x=3", "name holds 'bpr' and has no settings below it"),
    ],
)
def test_assignments_that_assign_nothing_are_refused(text: str, said: str) -> None:
    with pytest.raises(PrismError, match=said):
        override({"model": {"name": "bpr"}}, [text])


def test_a_plugin_in_use_has_a_short_name() -> None:
    tree = override({"model": {"name": "vbpr"}, "plugins": {"clear": {}}}, ["clear.rank=3", "plugins.clear.interval=2"])
    ((_, settings),) = resolve(tree).plugins
    assert settings.model_dump()["rank"] == 3 and settings.model_dump()["interval"] == 2


def test_the_last_assignment_counts() -> None:
    assert override({}, ["train.lr=1", "train.lr=2"]) == {"train": {"lr": 2}}


trees = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda values: st.dictionaries(st.sampled_from("abc"), values, max_size=3),
    max_leaves=8,
)
branches = st.dictionaries(st.sampled_from("abc"), trees, max_size=3)


@given(branches, branches)
def test_merging_changes_neither_side_and_the_top_wins(base: dict[str, Any], top: dict[str, Any]) -> None:
    before = repr((base, top))
    out = merge(base, top)
    assert repr((base, top)) == before
    assert set(out) == set(base) | set(top)
    assert merge(out, top) == out
    assert merge(base, {}) == base and merge({}, top) == top
    for key, value in top.items():
        if not isinstance(value, dict):
            assert out[key] == value


def test_assigning_changes_nothing_that_was_given() -> None:
    tree = {"train": {"lr": 1}}
    assert assign(tree, "train.lr", 2) == {"train": {"lr": 2}} and tree == {"train": {"lr": 1}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"model: {name: [", "not valid YAML"),
        (b"- 1\n", "holds list; expected settings"),
        (b"", "holds NoneType; expected settings"),
        (b"\xff\xfe\x00", "not UTF-8|not valid YAML"),
        (b"!!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_files_that_hold_no_settings_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(PrismError, match=said) as caught:
        read_yaml(tmp_path / "x.yaml")
    assert "x.yaml" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(PrismError, match="does not exist"):
        read_yaml(tmp_path / "y.yaml")


def test_published_settings_are_for_one_data_set_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, other = (draw(n_users=60, n_items=40, interactions=8, seed=seed).dataset for seed in (1, 2))
    redrawn = replace(shop, modalities=other.modalities)  # the same interactions, other features
    meant = {
        "bpr": {"interactions": shop.interactions_fingerprint},
        "vbpr": {"interactions": shop.interactions_fingerprint, "fingerprint": shop.fingerprint},
    }
    for model, data in meant.items():
        (tmp_path / "configs" / model).mkdir(parents=True)
        tree = {"data": data, "model": {"name": model, "dim": 9}, "measured": {"recall@20": 0.5}}
        (tmp_path / "configs" / model / "shop.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setattr(config.resources, "files", lambda package: tmp_path)
    assert published("bpr", (), shop) == ("bpr/shop.yaml", {"model": {"name": "bpr", "dim": 9}})
    assert published("bpr", (), redrawn) == published("bpr", (), shop)
    assert published("bpr", (), other) is None and published("freedom", (), shop) is None
    assert published("vbpr", (), shop) == ("vbpr/shop.yaml", {"model": {"name": "vbpr", "dim": 9}})
    assert published("vbpr", (), redrawn) is None
    (tmp_path / "configs" / "vbpr" / "any.yaml").write_text(
        yaml.safe_dump(
            {"data": "any", "model": {"name": "vbpr"}, "train": {"lr": 0.5}, "with": {"clear": {"train": {"lr": 0.1}}}}
        )
    )
    assert published("vbpr", (), shop) == (
        "vbpr/shop.yaml",
        {"model": {"name": "vbpr", "dim": 9}},
    )  # its own come first
    assert published("vbpr", (), redrawn) == ("vbpr/any.yaml", {"model": {"name": "vbpr"}, "train": {"lr": 0.5}})
    assert published("vbpr", ("clear",), other) == ("vbpr/any.yaml", {"model": {"name": "vbpr"}, "train": {"lr": 0.1}})


def test_published_settings_say_what_suits_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = draw(n_users=60, n_items=40, interactions=8, seed=1).dataset
    (tmp_path / "configs" / "vbpr").mkdir(parents=True)
    with_clear = {"clear": {"model": {"reg": 0.5}, "plugins": {"clear": {"rank": 4}}}}
    tree = {"data": {"interactions": shop.interactions_fingerprint}, "model": {"name": "vbpr"}, "with": with_clear}
    (tmp_path / "configs" / "vbpr" / "shop.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setattr(config.resources, "files", lambda package: tmp_path)
    assert published("vbpr", (), shop) == ("vbpr/shop.yaml", {"model": {"name": "vbpr"}})
    found = {"model": {"name": "vbpr", "reg": 0.5}, "plugins": {"clear": {"rank": 4}}}
    assert published("vbpr", ["clear"], shop) == ("vbpr/shop.yaml", found)
    cfg, source = configure(shop, "vbpr", ["clear"], assignments=["clear.strength=0.5"])
    assert source == "vbpr/shop.yaml" and cfg.model_cfg.model_dump()["reg"] == 0.5
    assert [(p.name, c.model_dump()["rank"], c.model_dump()["strength"]) for p, c in cfg.plugins] == [("clear", 4, 0.5)]


def test_settings_are_found_by_their_paths() -> None:
    tree = {"model": {"reg": 0.1}, "plugins": {"clear": {"rank": 4}}, "train": {"lr": 0.01}}
    paths = ["model.reg", "clear.rank", "plugins.clear.rank", "train.lr", "chns.weight"]
    assert [value_at(tree, path) for path in paths] == [0.1, 4, 4, 0.01, None]
