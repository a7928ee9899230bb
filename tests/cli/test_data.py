import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from prismrec.cli.data import app
from prismrec.data.store import load
from prismrec.errors import PrismError


@pytest.fixture
def run():
    def call(*arguments: object):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if isinstance(result.exception, PrismError):
            raise result.exception
        return result

    return call


@pytest.fixture
def log(tmp_path):
    """40 users with 12 items each of 30, rated 1 to 5, one row twice, with dates."""
    user, place = np.divmod(np.arange(480), 12)
    frame = pl.DataFrame(
        {
            "uid": user,
            "sku": (user + place * 2) % 30,
            "stars": place % 5 + 1,
            "when": 1_700_000_000 + np.arange(480) * 60,
        }
    )
    frame = pl.concat([frame, frame.head(1)])
    path = tmp_path / "log.parquet"
    frame.with_columns(pl.from_epoch("when", time_unit="s")).write_parquet(path)
    return path


COLUMNS = ("--user", "uid", "--item", "sku", "--rating", "stars", "--timestamp", "when")


def test_from_a_raw_log_to_a_split_data_set(run, log, tmp_path):
    result = run("import", log, *COLUMNS, "-o", tmp_path / "raw")
    assert result.exit_code == 0 and "481 interactions" in result.output and "No split yet" in result.output
    run("prepare", tmp_path / "raw", "--k-core", "2,3", "--min-rating", 2, "-o", tmp_path / "core")
    run("split", tmp_path / "core", "--by", "leave-one-out", "--order", "time", "-o", tmp_path / "last")
    dataset = load(tmp_path / "last")
    assert [step["step"] for step in dataset.provenance["steps"]] == [
        "read",
        "duplicates",
        "ratings",
        "k-core",
        "split",
    ]
    assert np.bincount(dataset.interactions.split).tolist() == [len(dataset.interactions) - 80, 40, 40]
    one = run(
        "prepare",
        log,
        *COLUMNS,
        "--k-core",
        0,
        "--split",
        "ratio",
        "--ratio",
        "7:1:2",
        "--seed",
        5,
        "-o",
        tmp_path / "one",
    )
    assert one.exit_code == 0 and "No split" not in one.output
    assert load(tmp_path / "one").provenance["steps"][-1] == {
        "step": "split", "by": "ratio", "ratio": [7, 1, 2], "order": "random", "seed": 5,
    }  # fmt: skip


def test_cuts_can_be_dates(run, log, tmp_path):
    run(
        "prepare",
        log,
        *COLUMNS,
        "--split",
        "cutoff",
        "--at",
        "2023-11-15T02:00,2023-11-15T04:00:00",
        "-o",
        tmp_path / "cut",
    )
    rows = load(tmp_path / "cut").interactions
    assert rows.timestamp[rows.split == 0].max() < 1_700_013_600_000_000 <= rows.timestamp[rows.split == 1].min()
    assert rows.timestamp[rows.split == 1].max() < 1_700_020_800_000_000 <= rows.timestamp[rows.split == 2].min()


def test_features_and_weights(run, tmp_path):
    (tmp_path / "log.csv").write_text("user,item,clicks\n1,a,2\n2,b,3\n")
    (tmp_path / "items.csv").write_text("item,title\nb,B\na,A\n")
    np.save(tmp_path / "image.npy", np.array([[2, 2], [np.nan, 1]], np.float32))
    arguments = (
        "import",
        tmp_path / "log.csv",
        "--weight",
        "clicks",
        "--items",
        tmp_path / "items.csv",
        "--name",
        "shop",
    )
    arguments += ("--feature", f"image={tmp_path / 'image.npy'}", "-o", tmp_path / "out")
    with pytest.raises(PrismError, match="NaN or Inf in 1 of 2 rows"):
        run(*arguments)
    assert not (tmp_path / "out").exists()
    run(*arguments, "--nan", "missing")
    dataset = load(tmp_path / "out")
    assert dataset.name == "shop" and dataset.interactions.weight.tolist() == [2, 3]
    assert dataset.modalities["image"].present.tolist() == [False, True]


def test_inspect_for_people_and_for_programs(run, log):
    text = run("inspect", log, *COLUMNS).output
    for said in ("40 users", "481 interactions", "sparsity", "1 duplicates", "no split yet", "Interactions per"):
        assert said in " ".join(text.split())
    seen = json.loads(run("inspect", log, *COLUMNS, "--format", "json").output)
    assert seen["users"] == 40 and seen["duplicates"] == 1 and seen["user_degree"]["50%"] == 12


def test_inspect_shows_splits_and_modalities(run, shared_data):
    text = " ".join(run("inspect", shared_data / "tiktok").output.split())
    for said in (
        "9,308 users",
        "audio 128 float16 6,710 0 100.0%",
        "train 59,541 9,298",
        "10 users have no training row",
    ):
        assert said in text


def test_nothing_is_replaced_unasked_and_this_is_said_before_any_work(run, log, tmp_path):
    run("import", log, *COLUMNS, "-o", tmp_path / "out")
    with pytest.raises(PrismError, match="exists already"):
        run("import", tmp_path / "no such file", "-o", tmp_path / "out")
    quiet = run("import", log, *COLUMNS, "-o", tmp_path / "out", "--overwrite", "--quiet")
    assert quiet.exit_code == 0 and quiet.output == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["split", "--ratio", "8:1"], r"--ratio '8:1' .* 8:1:1"),
        (["split", "--ratio", "8:1:-1"], "--ratio '8:1:-1'"),
        (["split", "--by", "cutoff", "--ratio", "8:1:1"], "takes --at and --quantiles, not --ratio"),
        (["split", "--by", "leave-one-out", "--at", "1,2"], "takes --order, not --at"),
        (["split", "--by", "cutoff", "--cold", "0.1,0.1"], "takes --at and --quantiles, not --cold"),
        (["split", "--by", "item", "--cold", "some"], "'some'"),
        (["split", "--by", "cutoff", "--at", "1"], "two times"),
        (["split", "--by", "cutoff", "--at", "soon,later"], "'soon'"),
        (["split", "--by", "cutoff", "--quantiles", "most"], "'most'"),
        (["split", "--by", "cutoff", "--at", "1,2", "--quantiles", "0.8,0.9"], "one of them"),
        (["prepare", "--k-core", "five"], "--k-core 'five' .* 5,3"),
        (["prepare", "--order", "time"], "--split ratio"),
        (["import", "--feature", "image.npy"], "MODALITY=FILE"),
        (["import", "--nan", "missing", "--user", "id"], "no column 'id' for the user"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(run, log, tmp_path, arguments, said):
    run("import", log, *COLUMNS, "-o", tmp_path / "raw")
    source = log if arguments[0] == "import" else tmp_path / "raw"
    with pytest.raises(PrismError, match=said):
        run(arguments[0], source, *arguments[1:], "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_dates_need_a_known_unit(run, tmp_path):
    (tmp_path / "log.csv").write_text("user,item,timestamp\n1,1,5\n")
    with pytest.raises(PrismError, match="unknown unit"):
        run("split", tmp_path / "log.csv", "--by", "cutoff", "--at", "2024-01-01,2024-02-01", "-o", tmp_path / "out")


def test_every_command_shows_an_example():
    for command in ("import", "inspect", "prepare", "split"):
        result = CliRunner().invoke(app, [command, "--help"])
        assert result.exit_code == 0 and f"Example: prismrec data {command}" in " ".join(result.output.split())
