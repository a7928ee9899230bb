"""Boards of runs made up from values per user, and of two real ones: every figure against its own formula."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import boards
import numpy as np
import polars as pl
import pytest
from boards import board, dataset, floor, hits, run, seeds, users
from scipy import stats

from prismrec.errors import PrismError
from prismrec.experiment import configure
from prismrec.experiment import run as train
from prismrec.runs import Run, Scores
from prismrec.studies.board import Board


@pytest.fixture(scope="module")
def example() -> Board:
    return board()


def averaged(arm: str) -> np.ndarray:
    return np.mean([r.test.values("recall@20") for r in boards.example()[arm]], axis=0)


def test_arms_stand_in_order_with_means_over_seeds(example: Board) -> None:
    assert [row.arm for row in example.rows] == ["freedom+clear", "freedom", "ease", "mostpop", "freedom+infonce"]
    assert example.best.arm == "freedom+clear" and example.data.tested == len(users())
    for name, runs in boards.example().items():
        found = example.row(name).metrics["recall@20"]
        values = [float(r.test.values("recall@20").mean()) for r in runs]
        assert found.runs == pytest.approx(values) and found.mean == pytest.approx(mean(values))
        assert (found.sd is None) if len(values) == 1 else found.sd == pytest.approx(stdev(values))
        assert found.low is not None and found.high is not None and found.low <= found.mean <= found.high
    listed = example.best.metrics["coverage@20"]  # of all lists together: there is no interval over users
    assert listed.mean == 0.25 and listed.low is None and listed.high is None


def test_an_interval_is_that_of_the_seed_averaged_users(example: Board) -> None:
    found, values = example.row("freedom").metrics["recall@20"], averaged("freedom")
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_everyone_is_asked_for_a_gain_over_its_host_and_over_the_best(example: Board) -> None:
    assert {row.arm: row.host for row in example.rows} == {
        "freedom+clear": "freedom",
        "freedom+infonce": "freedom",
        "freedom": "ease",  # the strongest of those without parameters
        "ease": None,
        "mostpop": None,
    }
    for row in example.rows:
        assert {c.other for c in row.against_host.values()} == ({row.host} if row.host else set())
        assert "coverage@20" not in row.against_host
        rivals = {m: c.other for m, c in row.against_best.items()}
        assert rivals == ({} if row is example.best else dict.fromkeys(["recall@20", "ndcg@20"], "freedom+clear"))


def test_a_comparison_is_the_paired_test_of_seed_averaged_users(example: Board) -> None:
    ours, theirs = averaged("freedom+clear"), averaged("freedom")
    found, gain = example.best.against_host["recall@20"], ours - theirs
    assert found.p == pytest.approx(stats.ttest_rel(ours, theirs).pvalue, rel=1e-9)
    assert found.mean == pytest.approx(gain.mean()) and found.low < gain.mean() < found.high
    assert found.d == pytest.approx(gain.mean() / gain.std(ddof=1))
    wins = sum(a > b + 1e-9 for a, b in zip(ours, theirs, strict=True))
    losses = sum(a < b - 1e-9 for a, b in zip(ours, theirs, strict=True))
    assert (found.won, found.lost) == (pytest.approx(wins / len(ours)), pytest.approx(losses / len(ours)))
    assert found.tied == pytest.approx(1 - (wins + losses) / len(ours)) and found.verdict == 1
    assert (found.seeds_won, found.seeds) == (3, 3)


def test_what_decides_is_corrected_within_a_question_and_a_metric(example: Board) -> None:
    for m in ("recall@20", "ndcg@20"):
        for kind in ("against_best", "against_host"):
            asked = [c for row in example.rows if (c := getattr(row, kind).get(m)) is not None]
            decides = {id(c): c.p if c.p_seeds is None else c.p_seeds for c in asked}
            order = sorted(asked, key=lambda c: decides[id(c)])
            least = 0.0
            for place, c in enumerate(order):  # Holm's steps, by hand
                least = max(least, min(1.0, decides[id(c)] * (len(order) - place)))
                assert c.p_holm == pytest.approx(least, rel=1e-12)
    assert example.row("freedom+infonce").against_host["recall@20"].verdict == -1


def welch(gain: np.ndarray, *runs: tuple[float, ...]) -> float:
    """t of a mean with users and runs as sources of chance, its degrees of freedom by Satterthwaite."""
    parts = [(stats.sem(side) ** 2, len(side) - 1) for side in (gain, *runs)]
    whole = sum(v for v, _ in parts)
    return float(2 * stats.t.sf(abs(gain.mean()) / whole**0.5, whole**2 / sum(v**2 / df for v, df in parts)))


def test_p_over_seeds_counts_the_runs_that_another_seed_would_change(example: Board) -> None:
    clear, freedom = (example.row(a).metrics["recall@20"].runs for a in ("freedom+clear", "freedom"))
    found, gain = example.best.against_host["recall@20"], averaged("freedom+clear") - averaged("freedom")
    assert found.p_seeds == pytest.approx(welch(gain, clear, freedom)) and found.p_seeds > found.p
    gain = averaged("freedom") - averaged("ease")  # one run is all that there is of the floor
    assert example.row("freedom").against_host["recall@20"].p_seeds == pytest.approx(welch(gain, freedom))
    gain = averaged("freedom+clear") - averaged("ease")
    assert example.row("ease").against_best["recall@20"].p_seeds == pytest.approx(welch(gain, clear))
    floors = board({"a": [floor(values=hits(0.4, 3))], "b": [floor("ease", hits(0.6, 4))]}).rows[1]
    assert floors.against_best["recall@20"].p_seeds == pytest.approx(floors.against_best["recall@20"].p)
    once = board({"a": [run("bpr", (), 0, hits(0.4, 0))], "b": seeds("vbpr", (), [hits(0.4, s) for s in (1, 2)])})
    alone = once.rows[1].against_best["recall@20"]
    assert alone.p_seeds is None and alone.p_holm == alone.p


def test_the_luck_of_seeds_is_not_taken_for_a_gain() -> None:
    rng, taste = np.random.default_rng(0), hits(0.4, 5)
    wrong = {"p": 0, "p_holm": 0}
    for _ in range(25):  # two arms of one kind, whose runs differ by their seeds more than by their users
        runs = [taste + rng.normal(0, 0.3, len(taste)) + rng.normal(0, 0.05) for _ in range(6)]
        found = board({"a": seeds("bpr", (), runs[:3]), "b": seeds("vbpr", (), runs[3:])}).rows[1]
        for key in wrong:
            wrong[key] += getattr(found.against_best["recall@20"], key) < 0.05
    assert wrong["p_holm"] <= 3 and wrong["p"] >= 6


def test_groups_partition_the_users_and_their_gains_add_up(example: Board) -> None:
    whole = example.best.against_host["recall@20"]
    for by in ("activity", "popularity", "cold items"):
        places = [i for i, group in enumerate(example.groups) if group.by == by]
        sizes = np.array([example.groups[i].users for i in places])
        parts = [whole.groups[i] for i in places]
        assert sizes.sum() == example.data.tested
        for key in ("mean", "won", "lost"):
            assert (sizes @ [getattr(p, key) for p in parts]) / sizes.sum() == pytest.approx(getattr(whole, key))
        assert all(p.low <= p.mean <= p.high for p in parts)
        for row in example.rows:
            own = sizes @ [row.groups[i] for i in places] / sizes.sum()
            assert own == pytest.approx(row.metrics["recall@20"].mean)
    assert example.best.against_host["ndcg@20"].groups == ()


def test_a_gain_of_one_group_is_seen_there_alone() -> None:
    train_rows = dataset().interactions.part("train")
    taken = np.bincount(train_rows.user, minlength=dataset().n_users)[dataset().users.encode(users())]
    busy = taken >= np.quantile(taken, 0.8)
    base = hits(0.3, 0)
    found = board({"bpr": [run(values=base)], "vbpr": [run("vbpr", values=np.where(busy, 1.0, base))]}).row("bpr")
    activity = [g.mean for g, group in zip(found.against_best["recall@20"].groups, dataset_groups(), strict=False)
                if group == "activity"]  # fmt: skip
    assert activity[0] == activity[1] == 0 and activity[-1] < -0.3


def dataset_groups() -> list[str]:
    return [group.by for group in board({"bpr": [run()]}).groups]


def test_costs_are_means_over_runs(example: Board) -> None:
    found = example.row("freedom").cost
    assert (found.seconds_per_epoch, found.seconds_to_best, found.seconds) == (2.0, 7.5, 10.0)
    assert (found.epochs, found.best_epoch, found.parameters) == (4.0, 3.0, 100)
    assert found.inference_seconds == 0.25 and found.peak_memory_mb == 102.0  # the largest of 100, 101, 102
    still = example.row("mostpop").cost
    assert still.seconds_per_epoch is None and still.seconds_to_best == still.seconds


def test_it_comes_back_from_json_to_the_last_bit(example: Board, tmp_path: Path) -> None:
    example.write(tmp_path / "board.json")
    assert Board.read(tmp_path / "board.json") == example
    json.loads((tmp_path / "board.json").read_text(), parse_constant=pytest.fail)  # no NaN, no Infinity
    example.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "board.json").read_bytes()
    assert board() == example


def test_a_board_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrismError, match=r"does not exist; expected the board.json"):
        Board.read(tmp_path / "board.json")
    (tmp_path / "board.json").write_text('{"version": 1, "metrics": 3}')
    with pytest.raises(PrismError, match="no board of this version: data: Field required"):
        Board.read(tmp_path / "board.json")


def test_equal_arms_are_equal_whatever_the_number_of_their_seeds() -> None:
    same = np.random.default_rng(0).random(len(users()))
    found = board({"a": seeds("bpr", (), [same] * 3), "b": [run("vbpr", values=same)], "m": [floor(values=same)]})
    for row in found.rows[1:]:
        c = row.against_best["recall@20"]
        assert (c.mean, c.low, c.high, c.p, c.p_holm, c.d, c.won, c.lost) == (0, 0, 0, 1, 1, 0, 0, 0), row.arm
        assert c.verdict == 0 and c.seeds_won == 0
    assert found.row("a").metrics["recall@20"].sd == pytest.approx(0, abs=1e-15)


def test_a_gain_that_is_the_same_for_all_users_has_no_spread_to_be_measured_in(tmp_path: Path) -> None:
    found = board({"a": [run(values=0.5)], "m": [floor(values=0.25)]})
    c = found.best.against_host["recall@20"]
    assert (c.mean, c.p, c.d, c.won) == (0.25, 0.0, None, 1.0)
    found.write(tmp_path / "board.json")
    assert Board.read(tmp_path / "board.json") == found


def test_one_arm_is_a_board_without_comparisons() -> None:
    found = board({"bpr": [run()]})
    assert found.best.against_best == found.best.against_host == {} and found.best.host is None


def test_hosts_can_be_named() -> None:
    arms = {"full": [run("freedom", ("clear",), values=0.5)], "rank 1": [run("freedom", ("clear",), values=0.4)]}
    assert board(arms, against={"rank 1": "full"}).row("rank 1").host == "full"
    assert board(arms).row("rank 1").host is None
    with pytest.raises(PrismError, match=r"no arm 'ful' on this leaderboard. Did you mean 'full'"):
        board(arms, against={"rank 1": "ful"})


def test_a_recipe_is_asked_for_a_gain_over_its_backbone() -> None:
    found = board({"clear": [run("clear-backbone", ("clear",))], "clear-backbone": [run("clear-backbone")]})
    assert found.row("clear").host == "clear-backbone"


def test_the_main_metric_need_not_be_named_twice() -> None:
    found = Board.of(boards.example(), dataset(), ["ndcg@20"], "recall@20")
    assert found.metrics == ("recall@20", "ndcg@20")


def other_users(order: bool) -> Run:
    run_ = run("vbpr")
    table = run_.test.per_user[::-1] if order else run_.test.per_user[:-1]
    return replace(run_, test=Scores(run_.test.mean, table))


@pytest.mark.parametrize(
    ("arms", "says"),
    [
        ({}, "needs at least one arm"),
        ({"bpr": []}, "The arm bpr has no finished run"),
        ({"bpr": [run(), run()]}, "two runs with seed 0"),
        ({"bpr": [run(), run(seed=1, config={"model": {"dim": 3}, "plugins": {}, "train": {}})]}, "different settings"),
        ({"bpr": [run(), run(seed=1, protocol="mmrec")]}, r"different protocols \(default, mmrec\)"),
        ({"bpr": [run()], "vbpr": [other_users(False)]}, r"tested on 199 users .* not the same in the same order"),
        ({"bpr": [run()], "vbpr": [other_users(True)]}, r"tested on 200 users .* not the same in the same order"),
        ({"bpr": [run(data_fingerprint="0")]}, "was trained on data with fingerprint 0"),
    ],
)  # fmt: skip
def test_runs_that_do_not_compare_are_refused(arms: dict[str, list[Run]], says: str) -> None:
    with pytest.raises(PrismError, match=says):
        board(arms)


def test_metrics_that_a_run_lacks_are_refused() -> None:
    with pytest.raises(PrismError, match=r"test metric 'recall@21'. Did you mean 'recall@20'"):
        Board.of({"bpr": [run()]}, dataset(), ["recall@21"])
    with pytest.raises(PrismError, match="says what lists are like"):
        Board.of({"bpr": [run()]}, dataset(), ["coverage@20"], "coverage@20")


def test_of_real_runs(tmp_path: Path) -> None:
    arms: dict[str, list[Run]] = {"bpr": [], "mostpop": []}
    for model, seed in (("mostpop", 1), ("bpr", 1), ("bpr", 2)):
        settings = {"train.epochs": 3, "train.lr": 0.02}
        cfg, _ = configure(dataset(), model, settings=settings, seed=seed, device="cpu", threads=1)
        train(cfg, dataset(), tmp_path / model / f"seed-{seed}")
        arms[model].append(Run.read(tmp_path / model / f"seed-{seed}"))
    found = Board.of(arms, dataset(), ["recall@20", "ndcg@20", "coverage@20", "popularity@20"])
    row = found.row("bpr")
    assert row.seeds == (1, 2) and row.metrics["recall@20"].runs == tuple(r.test.mean["recall@20"] for r in arms["bpr"])
    assert row.cost.seconds_to_best <= sum(e["seconds"] + e["seconds_evaluation"] for e in arms["bpr"][0].epochs) * 50
    assert row.cost.seconds_per_epoch is not None and row.cost.parameters == 64 * (200 + 80)
    assert row.host == "mostpop" and "popularity@20" not in row.against_host
    assert row.metrics["popularity@20"].low is not None
    values = pl.read_parquet(tmp_path / "mostpop" / "seed-1" / "per_user" / "test.parquet")["recall@20"].to_numpy()
    mean_of_two = np.mean([r.test.values("recall@20") for r in arms["bpr"]], axis=0)
    assert row.against_host["recall@20"].p == pytest.approx(stats.ttest_rel(mean_of_two, values).pvalue)
