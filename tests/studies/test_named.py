"""Named studies: every file loads and resolves, and says what the papers' tables say."""

from __future__ import annotations

from pathlib import Path

import pytest
from program import planted

from prismrec.config import resolve
from prismrec.data.sources import read
from prismrec.errors import PrismError
from prismrec.studies.named import ArmPlan, Named, Part, arms, check, grid, named, names, stated
from prismrec.studies.named_data import located, missing, sources
from prismrec.studies.named_questions import asked

WANTED = {
    *(f"clear-table-{n}" for n in (1, 2, 3, 4)),
    *(f"clear-figure-{n}" for n in (1, 3, 4, 5, 6)),
    *(f"mrdib-table-{n}" for n in (1, 2, 3)),
    "mrdib-figure-4-sensitivity",
    "mrdib-figure-4-tsne",
    *(f"br-mrs-table-{n}" for n in (1, 2)),
    "br-mrs-figure-1",
    "br-mrs-section-5.4-sensitivity",
    "br-mrs-section-5.4-cutoffs",
    "br-mrs-section-5.5-negatives",
    "br-mrs-section-5.6-synergy",
}


def tiny(**changed: object) -> Named:
    base = {
        "title": "t", "paper": "CLEAR", "what": "w", "shows": "s", "kind": "compare", "data": ("baby",), "hours": 0,
        "parts": {"main": {"arms": {"bpr": {}, "vbpr+clear": {}, "vbpr": {}}}},
    }  # fmt: skip
    return Named.model_validate({**base, **changed})


def test_every_table_and_figure_is_a_study() -> None:
    assert set(names()) == WANTED


@pytest.mark.parametrize("name", sorted(WANTED))
def test_every_study_loads_and_resolves_in_full_and_quick(name: str) -> None:
    study = named(name)  # arms, hosts, settings, spaces and metrics are checked
    assert study.title and study.shows and study.what and name.startswith(study.paper.lower())
    for part in study.parts.values():
        full, quick = arms(study, part, quick=False), arms(study, part, quick=True)
        assert full and quick and all(len(arm.seeds) <= study.quick.seeds for arm in quick.values())
        for arm in quick.values():
            assert resolve(arm.config).train.epochs <= study.quick.epochs and arm.config["run"]["protocol"] == "mmrec"
        if not part.over:
            assert set(quick) <= set(full)
    for values in study.published.values():
        assert all(value > 0 for of_arm in values.values() for value in of_arm.values())


def test_figures_are_those_of_the_papers() -> None:
    baby = named("clear-table-3").published["baby"]
    assert baby["vbpr+clear"]["recall@20"] == 0.0776 and baby["freedom"]["recall@20"] == 0.0984
    gain = baby["vbpr+clear"]["recall@20"] / baby["vbpr"]["recall@20"] - 1
    assert gain == pytest.approx(0.1704, abs=1e-4)
    assert len(named("clear-table-2").published["sports"]) == 15
    assert named("mrdib-table-1").published["baby"]["vbpr+mrdib"]["recall@5"] == 0.0299
    assert named("br-mrs-table-2").published["baby"]["br-mrs"]["recall@10"] == 0.0819


def test_misprints_are_left_out() -> None:
    only_codes = "without redundant and unique"
    clothing = named("mrdib-table-2").published["clothing"]
    assert (
        "precision@5" not in clothing[f"vbpr+mrdib {only_codes}"]
        and "ndcg@5" not in clothing[f"soil+mrdib {only_codes}"]
    )


def test_fixed_settings_are_not_searched_and_an_ablated_weight_stays_0() -> None:
    study = named("mrdib-table-2")
    whole = arms(study, study.parts["freedom"], quick=False)
    arm = whole["freedom+mrdib without redundant and unique"]
    assert not {"mrdib.redundant", "mrdib.unique"} & set(arm.space) and "mrdib.compress" in arm.space
    assert arm.config["plugins"]["mrdib"]["redundant"] == 0 == arm.config["plugins"]["mrdib"]["unique"]
    assert arm.host == "freedom+mrdib" and {"mrdib.redundant", "mrdib.unique"} <= set(whole["freedom+mrdib"].space)


def test_the_metric_of_the_paper_chooses_the_epoch() -> None:
    study = named("mrdib-table-1")
    arm = arms(study, study.parts["main"], quick=False)["vbpr"]
    assert arm.config["train"]["metric"] == "recall@5" and arm.config["run"]["metrics"] == list(study.metrics)


def test_a_quick_grid_keeps_the_ends_of_each_axis() -> None:
    cfg = resolve({"model": {"name": "vbpr"}, "plugins": {"clear": {}}})
    part = Part(arms={"vbpr+clear": ArmPlan()}, over={"clear.rank": (2, 4, 8, 16, 20), "clear.strength": (0.3, 0.9)})
    assert len(grid(cfg, part)) == 10
    ranks = [found.tree()["plugins"]["clear"]["rank"] for found in grid(cfg, part, points=3).values()]
    assert sorted(set(ranks)) == [2, 8, 20]


def test_faults_of_a_file_are_sentences() -> None:
    with pytest.raises(PrismError, match="'vbpr\\+cleer', which is no arm"):
        check(tiny(published={"baby": {"vbpr+cleer": {"recall@20": 0.1}}}), "x")
    with pytest.raises(PrismError, match="compared with 'freedom', which is no arm"):
        check(tiny(parts={"main": {"arms": {"bpr": {"host": "freedom"}}}}), "x")
    with pytest.raises(PrismError, match="rankk"):
        check(tiny(parts={"main": {"arms": {"a": {"of": "vbpr+clear", "settings": {"clear.rankk": 3}}}}}), "x")
    with pytest.raises(PrismError, match="recal"):
        check(tiny(metric="recal@20"), "x")
    with pytest.raises(PrismError, match="needs some of users"):
        check(tiny(kind="inspect"), "x")
    with pytest.raises(PrismError, match="Did you mean 'clear-table-3'"):
        stated("clear-tabel-3")


def test_data_are_found_by_name_or_in_a_folder(tmp_path: Path) -> None:
    study = stated("clear-table-2")
    for name in ("baby", "shop"):
        (tmp_path / name).mkdir()
    assert located(study, [], tmp_path) == {"baby": tmp_path / "baby"}
    assert located(study, [f"sports={tmp_path / 'shop'}"], tmp_path).keys() == {"baby", "sports"}
    assert "sports and clothing" in missing(study, {"baby": tmp_path})
    assert located(stated("clear-table-3"), [str(tmp_path)], None) == {"baby": tmp_path}
    for given, folder, sentence in (
        ([], None, "Give --data baby=PATH"),
        ([], tmp_path / "shop", "has none of these"),
        (["shop=x"], None, "names 'shop'"),
        (["baby=nowhere"], None, "There is no nowhere"),
        ([str(tmp_path)], None, "does not say which data"),
    ):
        with pytest.raises(PrismError, match=sentence):
            located(study, given, folder)


def test_both_splits_are_asked_apart_and_kept(tmp_path: Path) -> None:
    study, path = stated("br-mrs-table-2"), planted(tmp_path / "baby")
    given, alone = sources(study, {"baby": path}, tmp_path / "data")
    assert (given.label, alone.label) == ("baby", "baby-leave-one-out")
    test = read(alone.where.path).interactions.part("test")
    assert alone.dataset.fingerprint != given.dataset.fingerprint and max(map(len, _by_user(test.user))) == 1
    assert sources(study, {"baby": path}, tmp_path / "data")[1].where == alone.where  # made once
    questions = asked(study, [given, alone], tmp_path, quick=False)
    assert [one.folder.relative_to(tmp_path).as_posix() for one in questions] == [
        "baby/main",
        "baby-leave-one-out/main",
    ]
    assert all(one.question.kind == "ablate" and one.data == "baby" for one in questions)


def _by_user(users: object) -> list[list[int]]:
    found: dict[int, list[int]] = {}
    for user in list(users):  # type: ignore[call-overload]
        found.setdefault(int(user), []).append(1)
    return list(found.values())


def test_a_sweep_says_its_axes_and_a_part_its_data(tmp_path: Path) -> None:
    study, path = stated("clear-figure-4"), planted(tmp_path / "sports")
    (one,) = asked(study, sources(study, {"sports": path}, tmp_path / "data"), tmp_path, quick=False)
    assert one.question.kind == "sweep" and one.question.axes == ("clear.strength", "clear.rank")
    assert len(one.question.arms) == 20 and one.question.part == "valid" and one.question.trials == 0
    narrow = study.model_copy(update={"parts": {"main": study.parts["main"].model_copy(update={"data": ("baby",)})}})
    assert asked(narrow, sources(study, {"sports": path}, tmp_path / "data"), tmp_path, quick=False) == []
