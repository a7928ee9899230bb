"""Pages of real, small runs: whole, self-contained, and saying what the run folders say."""

import base64
import hashlib
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from prismrec.data.dataset import Dataset
from prismrec.data.synthetic import Planted, draw
from prismrec.errors import PrismError
from prismrec.evaluate import Evaluator
from prismrec.experiment import configure, run
from prismrec.panels import lists_of_users
from prismrec.report import leaderboard_rows, write_leaderboard, write_run_report
from prismrec.runs import Run, Scores

HOSTILE = '<script>alert("x")</script> & <b>'
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Tags that are open, and the text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(self.source)
        assert not self.open, f"never closed: {self.open}"
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def planted() -> Planted:
    drawn = draw(120, 60, interactions=12, seed=1)
    titles = drawn.dataset.item_table.with_columns(pl.format("{} {}", pl.lit(HOSTILE), pl.col("title")).alias("title"))
    return replace(drawn, dataset=replace(drawn.dataset, item_table=titles))


@pytest.fixture(scope="module")
def dataset(planted: Planted) -> Dataset:
    return planted.dataset


@pytest.fixture(scope="module")
def folders(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    out = tmp_path_factory.mktemp("runs")
    settings = {"train.epochs": 4, "train.every": 2, "train.lr": 0.02}
    for model, plugins in (("mostpop", []), ("bpr", []), ("vbpr", ["clear"])):
        cfg, _ = configure(dataset, model, plugins, settings=settings, seed=3, device="cpu", threads=1)
        run(cfg, dataset, out / "-".join([model, *plugins]))
    return [out / "mostpop", out / "bpr", out / "vbpr-clear"]


@pytest.fixture(scope="module")
def pages(folders: list[Path], dataset: Dataset) -> list[Page]:
    return [Page(write_run_report(folder, dataset)) for folder in folders]


@pytest.fixture(scope="module")
def board(folders: list[Path], pages: list[Page], planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Page:
    metrics = list(Run.read(folders[0]).test.mean)
    oracle = Evaluator.of(planted.dataset, "test", metrics=metrics).evaluate(planted.oracle())
    out = tmp_path_factory.mktemp("board")
    return Page(write_leaderboard(out, folders, planted.dataset, oracle=oracle, truth=planted.oracle()))


def test_pages_load_nothing_and_run_one_script_known_by_its_hash(pages: list[Page], board: Page) -> None:
    for page in (*pages, board):
        assert not page.seen & {"link", "img", "iframe", "object"}
        assert "url(http" not in page.source
        assert "@import" not in page.source
        assert not re.search(r"\son\w+=", page.source)
        assert all(re.match(r"(#\w|[\w./-]+report\.html$)", link) for link in page.links)


def test_pages_read_in_the_dark_and_on_a_telephone(board: Page) -> None:
    assert "prefers-color-scheme: dark" in board.source
    assert 'name="viewport" content="width=device-width' in board.source
    defined = set(re.findall(r"(--[a-z0-9]+):", board.source))
    assert set(re.findall(r"var\((--[a-z0-9]+)\)", board.source)) <= defined


def test_titles_are_text_whatever_they_hold(pages: list[Page], board: Page) -> None:
    for page in (*pages, board):
        assert HOSTILE in page.text
        assert page.source.count("<script>") == 1
        script = page.source.partition("<script>")[2].partition("</script>")[0]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in page.source


def test_a_run_page_says_what_its_folder_says(pages: list[Page], folders: list[Path]) -> None:
    for page, folder in zip(pages, folders, strict=True):
        result = json.loads((folder / "result.json").read_text())
        for value in result["test"].values():
            assert (f"{value:.4f}" if value < 10 else f"{value:.1f}") in page.text
        assert result["data_fingerprint"] in page.text
        assert "train.batch_size" in page.text
        assert "torch" in page.text
        assert f"{result['parameters']:,} parameters" in page.text


def test_only_a_trained_model_has_curves(pages: list[Page]) -> None:
    assert "Nothing to train" in pages[0].text
    assert pages[0].source.count("<figure") == 3
    assert "Nothing to train" not in pages[1].text
    assert pages[1].source.count("<figure") == 5
    assert "rank" in pages[2].text


def test_the_leaderboard_is_sorted_and_ends_with_the_oracle(board: Page, folders: list[Path]) -> None:
    table = board.source[board.source.index("<table") : board.source.index("</table>")]
    names = re.findall(r'<tr[^>]*><th scope="row">(?:<a [^>]*>)?([^<]+)', table)
    score = {run.label: run.test.mean["recall@20"] for run in map(Run.read, folders)}
    assert names == [*sorted(score, key=lambda name: -score[name]), "oracle"]
    assert table.count('class="best"') == 4
    assert all((Path(folder) / "report.html").is_file() for folder in folders)
    assert len([link for link in board.links if link.endswith("report.html")]) == 3


def test_lists_leave_out_what_is_known_and_mark_what_was_held_out(dataset: Dataset, folders: list[Path]) -> None:
    run = Run.read(folders[1])
    users = lists_of_users(dataset, {"list": run.reps}, "default", 120)
    assert [user["id"] for user in users] == run.test.per_user["user"].to_list()
    found = [sum(row["hit"] for row in user["lists"][0]["rows"]) for user in users]
    recall = np.array(found) / run.test.per_user["n_relevant"].to_numpy()
    assert np.allclose(recall, run.test.values("recall@10"))
    missed = [len(user["lists"][0]["missed"]) for user in users]
    assert (np.array(missed) + found == run.test.per_user["n_relevant"].to_numpy()).all()


def test_rows_tell_best_from_tied(folders: list[Path], dataset: Dataset, tmp_path: Path) -> None:
    one = Run.read(folders[1])
    twin = Run(one.folder, one.result, one.epochs, one.environment, Scores(one.test.mean, one.test.per_user))
    worse = Scores(
        {"recall@20": one.test.mean["recall@20"] - 0.2}, one.test.per_user.with_columns(pl.col("recall@20") - 0.2)
    )
    rows = leaderboard_rows([one, twin, replace(one, test=worse)], ["a", "b", "c"], ["recall@20"])
    assert [row["cells"][0]["best"] for row in rows] == [True, False, False]
    assert [row["cells"][0]["tied"] for row in rows] == [False, True, False]
    low, high = map(float, rows[0]["cells"][0]["interval"].split("–"))
    assert low < one.test.mean["recall@20"] < high


def test_runs_of_one_name_are_told_apart(folders: list[Path], dataset: Dataset, tmp_path: Path) -> None:
    twin = tmp_path / "again"
    shutil.copytree(folders[0], twin)
    text = Page(write_leaderboard(tmp_path / "board", [folders[0], twin], dataset)).text
    assert "mostpop (mostpop)" in text
    assert "mostpop (again)" in text
    assert "best possible" not in text


def test_a_data_set_without_titles_or_features_is_shown_by_ids(folders: list[Path], tmp_path: Path) -> None:
    plain = draw(60, 30, modalities={}, interactions=6, seed=2).dataset
    plain = replace(plain, item_table=plain.item_table.select("item"))
    cfg, _ = configure(plain, "mostpop", seed=1, device="cpu", threads=1)
    run(cfg, plain, tmp_path / "run")
    text = Page(write_run_report(tmp_path / "run", plain)).text
    assert len(set(re.findall(r"i000\d\d", text))) > 15
    assert "features: none" in Page(write_leaderboard(tmp_path, [tmp_path / "run"], plain)).text


def test_what_cannot_be_compared_is_refused(folders: list[Path], dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(PrismError, match="at least one finished run"):
        write_leaderboard(tmp_path, [], dataset)
    with pytest.raises(PrismError, match="fingerprint"):
        write_run_report(folders[0], draw(60, 30, interactions=6).dataset)
    with pytest.raises(PrismError, match=r"'recall@02'.*Did you mean"):
        write_leaderboard(tmp_path, folders, dataset, metric="recall@02")
    other = tmp_path / "other"
    shutil.copytree(folders[0], other)
    result = json.loads((other / "result.json").read_text())
    (other / "result.json").write_text(json.dumps({**result, "protocol": "mmrec"}))
    with pytest.raises(PrismError, match="default, mmrec"):
        write_leaderboard(tmp_path, [folders[0], other], dataset)
    assert not (tmp_path / "index.html").exists()


def test_an_unfinished_run_has_no_page(folders: list[Path], dataset: Dataset, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folders[0], broken)
    (broken / "result.json").unlink()
    with pytest.raises(PrismError, match="result"):
        write_run_report(broken, dataset)
