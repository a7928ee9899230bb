"""``prismrec diagnose``: what it prints, what it writes, what it refuses."""

import json
import re
from pathlib import Path

import polars as pl
import pytest
from program import call, planted, snapshot

SUBSETS = ("--only", "subsets")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diagnose")
    data = planted(folder / "shop", n_users=60, n_items=50, interactions=9.0)
    said = call("train", data, "-m", "vbpr", "--out", folder / "run", "--threads", 1, "-q", "--set", "train.epochs=2")
    assert said.status == 0, said.err
    return folder / "run"


def test_it_prints_sentences_and_writes_a_page_with_tables_and_figures(trained: Path, tmp_path: Path) -> None:
    said = call("diagnose", trained, *SUBSETS, "--only", "neighbours", "--out", tmp_path / "out", "--k", 10)
    assert said.status == 0, said.err
    text = " ".join(said.out.split())
    assert "neighbours: Do the modalities name the same neighbours?" in text
    assert "at K = 10" in text
    assert f"look at: {tmp_path / 'out' / 'index.html'}" in text.replace("- ", "-")
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"index.html", "findings.json", "neighbours.csv", "neighbours.parquet", "neighbours-1.svg",
                     "subsets.csv", "subsets.parquet", "subsets-1.svg", "subsets-2.svg"}  # fmt: skip
    table = pl.read_parquet(tmp_path / "out" / "subsets.parquet")
    assert table["share"].sum() == pytest.approx(1)
    assert pl.read_csv(tmp_path / "out" / "subsets.csv")["pairs"].to_list() == table["pairs"].to_list()
    heads = [line.split() for line in said.out.splitlines()]
    assert table.columns in heads, "a table is shown whole, however narrow the place that it is printed to"


def test_the_page_stands_alone_and_says_what_was_looked_at(trained: Path, tmp_path: Path) -> None:
    call("diagnose", trained, *SUBSETS, "--out", tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "the test part was not opened" in page
    assert "a user’s training items are left out" in page
    assert page.count("<figure") == 2
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert all(link.startswith("#") for link in links)
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]+"|http-equiv', "", page)
    assert "model.name" in page


def test_the_test_part_is_opened_only_on_request_and_the_page_says_so(trained: Path, tmp_path: Path) -> None:
    said = {
        part: json.loads(call("diagnose", trained, *SUBSETS, "--part", part, "--out", tmp_path / part, "--format", "json").out)
        for part in ("valid", "test")
    }  # fmt: skip
    assert [tree["part"] for tree in said.values()] == ["valid", "test"]
    assert said["valid"]["findings"] != said["test"]["findings"]
    page = (tmp_path / "test" / "index.html").read_text(encoding="utf-8")
    assert "the TEST part, as was asked for" in page
    assert "training and validation items are left out" in page


def test_masks_can_be_lifted(trained: Path, tmp_path: Path) -> None:
    trees = [
        json.loads(call("diagnose", trained, *SUBSETS, "--out", tmp_path, "--format", "json", *extra).out)
        for extra in ([], ["--no-mask"])
    ]
    assert [tree["masked"] for tree in trees] == [True, False]
    assert trees[0]["findings"] != trees[1]["findings"]
    assert "nothing is left out of them" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_everything_by_default_beside_the_run_which_stays_as_it_was(trained: Path) -> None:
    before = snapshot(trained)
    said = call("diagnose", trained)
    assert said.status == 0, said.err
    assert (trained / "diagnosis" / "index.html").is_file()
    after = snapshot(trained)
    assert {name: after[name] for name in before} == before
    assert all(name.startswith("diagnosis/") for name in set(after) - set(before))


def test_what_is_skipped_is_told_on_screen_on_the_page_and_in_json(trained: Path, tmp_path: Path) -> None:
    data = trained.parent / "shop"
    call("train", data, "-m", "mostpop", "--out", tmp_path / "floor", "--threads", 1, "-q")
    said = call("diagnose", tmp_path / "floor", *SUBSETS, "--out", tmp_path / "out")
    assert said.status == 0
    assert "subsets skipped: It needs a model that states a score for each" in " ".join(said.out.split())
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "Not looked at" in page and "this one states none" in page
    tree = json.loads(call("diagnose", tmp_path / "floor", *SUBSETS, "--out", tmp_path / "out", "--format", "json").out)
    assert tree["findings"] == [] and tree["skipped"][0]["name"] == "subsets"


def test_data_that_moved_is_asked_for(trained: Path, tmp_path: Path) -> None:
    data = planted(tmp_path / "here", n_users=60, n_items=50, interactions=9.0)
    run = tmp_path / "run"
    call("train", data, "-m", "mostpop", "--out", run, "--threads", 1, "-q")
    data.rename(tmp_path / "there")
    said = call("diagnose", run, "--only", "neighbours")
    assert said.status == 2 and "say where it is now" in said.sentence
    assert call("diagnose", run, "--only", "neighbours", "--data", tmp_path / "there").status == 0


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (["--only", "subset"], "no diagnosis 'subset'. Did you mean 'subsets'?"),
        (["--k", "0"], "k is 0; a list needs at least one place"),
    ],
)
def test_bad_input_is_one_sentence(trained: Path, tmp_path: Path, extra: list[str], sentence: str) -> None:
    said = call("diagnose", trained, "--out", tmp_path / "out", *extra)
    assert said.status == 2
    assert sentence in said.sentence
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    assert "is no run folder" in call("diagnose", tmp_path).sentence
