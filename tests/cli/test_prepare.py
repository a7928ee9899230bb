import json
import shlex

import polars as pl
import pytest
from program import call
from raws import amazon, light_encoders

from prismrec.cli.prepare_raw import _Shown
from prismrec.data import store


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with raw files of Amazon's, that is the working folder."""
    amazon(tmp_path)
    light_encoders(monkeypatch, tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMAND = shlex.split(
    "data prepare amazon reviews.json.gz meta.json.gz --images DIR --kcore 5 --split 8:1:1 -o data/baby"
)


def test_one_command_from_raw_files_to_features_and_a_split(here):
    said = call(*COMMAND)
    assert said.status == 0, said.err
    data = store.load("data/baby", verify="full")
    assert list(data.modalities) == ["image", "text"] and data.interactions.split is not None
    assert data.modalities["image"].present.sum() == data.n_items - 3 and data.modalities["text"].present.all()
    assert data.item_table["title"][4] == "A red train & 4" and data.item_table["picture"][4] == "B000000004.jpg"
    for text in (
        "reviews.json.gz: 1 no record of JSON, 270 records (first, line 271: no record of JSON: '{cut')",
        "in the log: 30 users, 24 items, 270 rows",
        "of 24 items kept: 24 with a title, 0 without any text, 22 with a picture, 2 without a picture",
        "21 of 24 items have image",
    ):
        assert text in said.sentence
    assert (here / "data/baby/cards/image/index.html").exists() and (here / "data/baby/cards/text/card.json").exists()
    assert sorted(p.name for p in (here / "data").iterdir()) == ["baby"]
    assert [step["step"] for step in data.provenance["steps"]] == [
        "read",
        "duplicates",
        "k-core",
        "split",
        "encode",
        "encode",
    ]


def test_features_can_be_left_for_later_and_come_out_the_same(here):
    assert call(*COMMAND).status == 0
    assert call(*COMMAND[:-1], "data/bare", "--no-encode").status == 0
    assert not store.load("data/bare").modalities
    assert call("data", "encode", "data/bare", "-m", "image", "--images", "DIR", "-o", "data/image").status == 0
    assert call("data", "encode", "data/image", "-m", "text", "-o", "data/both").status == 0
    assert store.load("data/both").fingerprint == store.load("data/baby").fingerprint


def test_without_pictures_nothing_is_encoded_unless_asked(here):
    bare = [word for word in COMMAND if word not in ("--images", "DIR")]
    assert call(*bare).status == 0 and not store.load("data/baby").modalities
    assert call(*bare, "--encode", "--overwrite").status == 0
    assert list(store.load("data/baby").modalities) == ["text"]
    told = call(*(word for word in bare if word != "meta.json.gz"), "--encode", "--overwrite")
    assert told.status == 0 and "Nothing was encoded" in told.err


def test_an_encoder_that_is_not_there_is_missed_before_anything_is_read(here, monkeypatch):
    from prismrec.encode.base import lacking

    def load(*given):
        raise lacking("skimage")

    monkeypatch.setattr("prismrec.encode.load", load)
    monkeypatch.setattr("prismrec.data.raw.prepare", lambda *given, **more: pytest.fail("it reads"))
    said = call(*COMMAND)
    assert said.status == 2 and "prismrec[encode]" in said.sentence and "--no-encode" in said.sentence


def test_interrupted_or_killed_it_leaves_nothing_that_is_in_the_way(here, monkeypatch):
    from prismrec.data import raw_amazon

    def stopped(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(raw_amazon, "_reviews", stopped)
    said = call(*COMMAND)
    assert said.status == 130 and "Go on with: prismrec data prepare amazon" in said.sentence
    assert not list((here / "data").iterdir())
    monkeypatch.undo()
    light_encoders(monkeypatch, here / "cache")
    monkeypatch.chdir(here)
    (here / "data/.baby.raw/log").mkdir(parents=True)
    (here / "data/.baby.raw/thinned.parquet").write_text("half")
    assert call(*COMMAND, "--no-encode").status == 0
    assert [p.name for p in (here / "data").iterdir()] == ["baby"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("amazon", "prismrec data prepare amazon takes files: REVIEWS [META]"),
        ("amazn reviews.json.gz", "no kind of raw source 'amazn'. Did you mean 'amazon'?"),
        ("amazon reviews.json.gz --images nowhere", "nowhere is no folder"),
        ("amazon reviews.json.gz --user u", "The kind amazon takes no --user"),
        ("amazon reviews.json.gz --split-column u", "The kind amazon takes no --split-column"),
        ("amazon reviews.json.gz --split 8:1:1 --ratio 7:1:2", "Both --split 8:1:1 and --ratio 7:1:2 set a ratio"),
        ("amazon reviews.json.gz --split rato", "--split 'rato' is not understood; expected a ratio such as 8:1:1"),
        ("amazon reviews.json.gz --split 8:1", "'8:1' is not understood; expected three whole numbers"),
        ("amazon reviews.json.gz --cold 0.1,0.1", "--cold say how to split, but no split was asked for"),
        ("amazon reviews.json.gz --picture-urls u", "knows no addresses of pictures"),
        ("amazon meta.json.gz", "holds reviews or ratings of Amazon"),
        ("amazon reviews.json.gz meta.json.gz --kcore 50", "ask for a smaller k-core"),
    ],
)
def test_what_cannot_be_done_is_said(words, said, here):
    got = call("data", "prepare", *words.split(), "--no-encode", "-o", "out")
    assert got.status == 2 and said in got.sentence
    assert not (here / "out").exists() and not (here / ".out.raw").exists()


def test_a_path_called_like_a_kind_is_a_path(here):
    rows = [{"user": u, "item": i} for u in range(8) for i in range(8)]
    (here / "amazon").mkdir()
    pl.DataFrame(rows).write_csv(here / "amazon/interactions.csv")
    assert call("data", "prepare", "amazon", "-o", "out").status == 0
    assert store.load("out").n_users == 8


def test_any_layout_may_have_pictures(here):
    from encoding import picture

    rows = [{"user": u, "item": i} for u in range(8) for i in range(8)]
    pl.DataFrame(rows).write_csv(here / "log.csv")
    for item in range(7):
        picture(item).save(here / "DIR" / f"{item}.png")
    assert call("data", "prepare", "log.csv", "--images", "DIR", "-o", "out").status == 0
    found = store.load("out")
    assert found.item_table["picture"].to_list() == [f"{i}.png" for i in range(7)] + [None]
    assert found.modalities["image"].present.tolist() == [True] * 7 + [False]


def test_addresses_of_pictures_that_are_lacking_are_written_for_curl(here):
    products = [
        {"asin": "B000000001", "imageURLHighRes": ["https://host/a.PNG"]},
        {"asin": "B000000022", "imageURLHighRes": ["https://host/b"]},
        {"asin": "B000000023", "imageURLHighRes": ['https://host/b"\noutput = "/etc/passwd']},
        {"asin": "B000000021", "imageURLHighRes": ["file:///etc/passwd"]},
    ]
    (here / "m.json").write_text("\n".join(map(json.dumps, products)))
    words = shlex.split(
        "data prepare amazon reviews.json.gz m.json --images DIR --no-encode --picture-urls urls.txt -o out"
    )
    said = call(*words)
    assert said.status == 0 and "1 addresses of pictures" in said.sentence
    assert (here / "urls.txt").read_text() == 'url = "https://host/b"\noutput = "B000000022.jpg"\n'
    without = [word for word in words if word not in ("--images", "DIR")]
    assert call(*without, "--overwrite").status == 0
    assert 'url = "https://host/a.PNG"\noutput = "B000000001.png"\n' in (here / "urls.txt").read_text()


def test_long_reading_tells_its_rate_and_the_time_that_is_left(monkeypatch):
    from io import StringIO
    from pathlib import Path

    from rich.console import Console

    clock = iter([0.0, 0.0, 1.0, 10.0, 20.0])
    monkeypatch.setattr("prismrec.cli.prepare_raw.time.monotonic", lambda: next(clock))
    out = StringIO()
    shown = _Shown(Console(file=out))
    for done in (0, 1, 50, 100):
        shown(Path("x/reviews.json.gz"), done * 2**20, 100 * 2**20)
    assert out.getvalue().splitlines() == [
        "reviews.json.gz: 50 of 100 MiB, 5.0 MiB/s, left 0:10",
        "reviews.json.gz: 100 of 100 MiB, 5.0 MiB/s",
    ]
