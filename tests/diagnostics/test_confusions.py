"""What is taken for the target: mistakes found by a plain loop, planted confusions recovered."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn import functional as F

from prismrec.data.synthetic import Factor, draw
from prismrec.diagnostics import Finding, Subject
from prismrec.diagnostics.confusions import compare, confusions, false_positives, tell
from prismrec.diagnostics.neighbours import neighbour_lists
from prismrec.diagnostics.subsets import held_out
from prismrec.errors import PrismError
from prismrec.nn import Raw
from prismrec.ranking import Csr
from prismrec.types import Reps, Rows

NOTHING = Factor(0, 0.0)


def subject(**factors: object) -> Subject:
    sizes = {"n_users": 300, "n_items": 400, "interactions": 8.0, "missing": 0.0, "seed": 3, **factors}
    return Subject.of_data(draw(**sizes).dataset)  # type: ignore[arg-type]


def shares(found: Finding, space: str = "raw", column: str = "mistake") -> dict[str, float]:
    rows = found.table.filter(pl.col("space") == space)
    return dict(zip(rows["measure"], rows[column], strict=True))


def fooled_by(look: Subject, *modalities: str) -> Reps:
    """Every user is after the nearest item to his (last) target, in these modalities together: that item is his mistake."""
    item = torch.cat([F.normalize(look.raw[m].values.float(), dim=1) for m in modalities], dim=1)
    near = neighbour_lists({"all": Raw(item, torch.ones(len(item), dtype=torch.bool))}, 1)["all"][:, 0]
    users, targets = held_out(look)
    user = torch.zeros(look.dataset.n_users, item.shape[1])
    user[users] = item[near[targets]]
    return Reps(user, Rows(item))


def test_mistakes_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    user, item = rng.standard_normal((7, 3)).astype(np.float32), rng.standard_normal((15, 3)).astype(np.float32)
    known = [sorted(rng.choice(15, 5, replace=False).tolist()) for _ in range(7)]
    rows = [(u, i) for u in range(7) for i in known[u]]
    csr = Csr.of(np.array([u for u, _ in rows]), np.array([i for _, i in rows]), 7)
    pairs = [(u, known[u][n]) for u in (0, 2, 3, 6) for n in (0, 3)]
    expected = []
    for u, target in pairs:
        scores = {i: float(user[u] @ item[i]) for i in range(15) if i not in known[u]}
        wrong = max(scores, key=lambda i: scores[i])
        if scores[wrong] > float(user[u] @ item[target]):
            expected.append((u, target, wrong))
    reps = Reps(torch.from_numpy(user), Rows(torch.from_numpy(item)))
    found = false_positives(reps, (torch.tensor([u for u, _ in pairs]), torch.tensor([i for _, i in pairs])), csr)
    assert list(zip(*(ids.tolist() for ids in found), strict=True)) == expected
    assert 0 < len(expected) < len(pairs)


def test_a_user_who_took_everything_makes_no_mistake() -> None:
    everything = Csr.of(np.zeros(5, np.int64), np.arange(5), 1)
    reps = Reps(torch.ones(1, 1), Rows(torch.arange(5.0)[:, None]))
    found = false_positives(reps, (torch.tensor([0]), torch.tensor([1])), everything)
    assert [len(ids) for ids in found] == [0, 0, 0]


def test_one_modality_that_fools_the_model_is_found_and_the_other_can_tell() -> None:
    """The paper's observation, planted: the modalities share nothing, and the model looks at the text."""
    look = subject(redundant=NOTHING)
    found = confusions(replace(look, reps=fooled_by(look, "text")))
    share = shares(found)
    assert share["close in text"] > 0.9
    assert share["close in image"] == pytest.approx(0.05, abs=0.03)
    assert share["close in just one"] > 0.85
    assert share["cosine in text"] > share["cosine in image"] + 0.3
    assert shares(found, column="random")["close in text"] == pytest.approx(0.05, abs=0.005)


def test_modalities_that_repeat_each_other_are_fooled_together() -> None:
    look = subject(unique=NOTHING, synergy=NOTHING, nuisance=0)
    share = shares(confusions(replace(look, reps=fooled_by(look, "text"))))
    assert share["close in both"] > 0.8
    assert share["close in just one"] < 0.2


def test_a_model_that_knows_nothing_confuses_at_random() -> None:
    look = subject(redundant=NOTHING)
    rng = torch.Generator().manual_seed(0)
    reps = Reps(torch.randn(300, 32, generator=rng), Rows(torch.randn(400, 32, generator=rng)))
    found = confusions(replace(look, reps=reps))
    for name, share in shares(found).items():
        chance, independent = shares(found, column="random")[name], shares(found, column="independent")[name]
        assert share == pytest.approx(chance, abs=0.05), name
        if independent is not None:
            assert share == pytest.approx(independent, abs=0.03), name


def test_counts_of_close_modalities_sum_to_one_for_three_modalities() -> None:
    widths = {"image": 24, "text": 16, "audio": 12}
    look = subject(modalities=widths, missing=0.2)
    found = confusions(replace(look, reps=fooled_by(look, "image", "audio")))
    counts = ["close in none", "close in just one", "close in just two", "close in all"]
    for column in ("mistake", "random", "independent"):
        assert sum(shares(found, column=column)[name] for name in counts) == pytest.approx(1)
    assert len(found.figures) == 4
    assert "close in just one" in found.says


def test_items_that_lack_a_modality_are_left_out_of_it() -> None:
    rng = torch.Generator().manual_seed(1)
    present = torch.ones(20, dtype=torch.bool)
    present[:5] = False
    values = torch.randn(20, 4, generator=rng) * present[:, None]
    raw = {"image": Raw(values, present), "text": Raw(torch.randn(20, 4, generator=rng), torch.ones_like(present))}
    target, wrong = torch.arange(10), torch.arange(10) + 10
    found = compare(raw, target, wrong)
    assert np.isnan(found.confused[:5, 0]).all()
    assert not np.isnan(found.confused[5:, 0]).any() and not np.isnan(found.confused[:, 1]).any()
    table = tell("raw", found, np.arange(10))
    row = table.row(by_predicate=pl.col("measure") == "cosine in image", named=True)
    expected = torch.cosine_similarity(values[target[5:]], values[wrong[5:]]).mean()
    assert row["mistake"] == pytest.approx(float(expected), abs=1e-6)


def test_projected_features_are_a_space_of_their_own() -> None:
    look = subject(redundant=NOTHING)
    reps = fooled_by(look, "text")
    after = {m: Rows(torch.zeros(400, 2) + torch.tensor([1.0, 0.0])) for m in look.raw}
    found = confusions(replace(look, reps=reps, after=after))
    assert shares(found, "projected")["cosine in image"] == pytest.approx(1)
    assert set(found.table["space"]) == {"raw", "projected"}
    only_text = confusions(replace(look, reps=reps, after={"text": after["text"]}))
    assert set(only_text.table["space"]) == {"raw"}


def test_intervals_hold_the_mean() -> None:
    look = subject(redundant=NOTHING)
    table = confusions(replace(look, reps=fooled_by(look, "text"))).table
    assert (table["low"] <= table["mistake"]).all() and (table["mistake"] <= table["high"]).all()
    assert (table["low"] < table["high"]).sum() >= len(table) - 1


def test_sparse_representations_of_the_floors_can_be_looked_at() -> None:
    look = subject()
    known = look.dataset.interactions
    user = Csr.of(known.user, known.item, 300).tensor(400)
    rng = torch.Generator().manual_seed(0)
    weights = torch.rand(400, 400, generator=rng)
    packed, dense = (Reps(a, Rows(weights)) for a in (user, user.to_dense()))
    assert confusions(replace(look, reps=packed)).table.equals(confusions(replace(look, reps=dense)).table)


def test_nothing_to_compare_is_told() -> None:
    look = subject()
    with pytest.raises(PrismError, match="data alone does not have"):
        confusions(look)
    users, _ = held_out(look)
    perfect = torch.zeros(300, 400)
    known = look.dataset.interactions
    perfect[known.user, known.item] = 1.0
    with pytest.raises(PrismError, match="nothing to compare"):
        confusions(replace(look, reps=Reps(perfect, Rows(torch.eye(400)))))
    assert len(users)
