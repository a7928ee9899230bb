import gzip
import json

import numpy as np
import polars as pl
import pytest

from prismrec.data import raw
from prismrec.data.prepare import core, drop_duplicates
from prismrec.data.raw_lines import Reading
from prismrec.data.sources_table import read_table
from prismrec.errors import PrismError

ITEMS = [f"B00{n:07d}" for n in range(12)]
USERS = [f"A{n:013d}" for n in range(15)]


def pairs(seed=0, n=150):
    rng = np.random.default_rng(seed)
    return [(USERS[u], ITEMS[i], float(r), int(t)) for u, i, r, t in zip(
        rng.integers(0, 15, n), rng.integers(0, 12, n), rng.integers(1, 6, n), rng.integers(1_300_000_000, 1_400_000_000, n),
        strict=True,
    )]  # fmt: skip


def packed(path, lines):
    path.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n"))
    return path


def review_2014(user, item, rating, time):
    return json.dumps({
        "reviewerID": user, "asin": item, "reviewerName": "Zoë 🙂", "helpful": [2, 3], "reviewText": "fine", "overall": rating,
        "summary": "ok", "unixReviewTime": time, "reviewTime": "07 15, 2013",
    })  # fmt: skip


def product_2014(item):
    """As the published file has them: a Python literal, quotes of both kinds, escapes, entities."""
    return (
        f"{{'asin': '{item}', 'description': \"It's <b>soft</b>\\nand caf\\xe9-brown\", "
        f"'title': 'Bib &amp; \"Tucker\" {item}', 'price': 7.43, "
        "'imUrl': 'http://ecx.images-amazon.com/images/I/51.jpg', 'brand': '', 'salesRank': {'Baby': 5}, "
        "'related': {'also_bought': ['B000000001', 'B000000002'], 'buy_after_viewing': []}, "
        "'categories': [['Baby', 'Feeding'], ['Baby', 'Gifts']]}"
    )


def product_2018(item):
    return json.dumps({
        "category": ["Baby", "Feeding"], "tech1": "", "description": ["Soft.", "Brown."], "fit": "", "title": f"Bib {item}",
        "also_buy": [], "tech2": "", "brand": "Tucker", "feature": ["washable"], "rank": ["5 in Baby"], "also_view": [],
        "main_cat": "Baby", "similar_item": "<table>…</table>", "date": "", "price": "$1,007.43", "asin": item,
        "imageURL": ["https://images-na.ssl-images-amazon.com/images/I/51._US40_.jpg"],
        "imageURLHighRes": ["https://images-na.ssl-images-amazon.com/images/I/51.jpg"],
    })  # fmt: skip


def product_2023(item):
    return json.dumps({
        "main_category": "Baby", "title": f"Bib {item}", "average_rating": 4.5, "features": ["Soft", "Brown"],
        "description": [], "price": None, "store": "Tucker", "categories": ["Baby", "Feeding"], "details": {"Brand": "T"},
        "parent_asin": item, "bought_together": None, "videos": [],
        "images": [
            {"thumb": "https://m.media-amazon.com/t2.jpg", "large": "https://m.media-amazon.com/l2.jpg", "variant": "PT01",
             "hi_res": None},
            {"thumb": "https://m.media-amazon.com/t.jpg", "large": "https://m.media-amazon.com/l.jpg", "variant": "MAIN",
             "hi_res": None},
        ],
    })  # fmt: skip


def prepare(tmp_path, *paths, kind="amazon", **options):
    blocks = tmp_path / "blocks"
    blocks.mkdir(exist_ok=True)
    return raw.prepare(kind, list(paths), Reading(blocks / str(len(list(blocks.iterdir())))), **options)


@pytest.fixture
def blocks(tmp_path, monkeypatch):
    """Blocks of a few rows, so that a log of some lines has many."""
    monkeypatch.setattr("prismrec.data.raw_catalogue.BLOCK", 40)
    return tmp_path


def test_2014_gives_what_a_table_of_the_same_rows_gives(blocks, tmp_path):
    rows = [row for row in pairs(n=250) if row[1] != ITEMS[0] or row[0] < USERS[3]]  # one item is rare
    reviews = packed(tmp_path / "reviews_Baby.json.gz", [review_2014(*row) for row in rows] + ["{cut", ""])
    products = [product_2014(i) for i in [*ITEMS, ITEMS[5], "B009999999"]] + ["{'no asin': 1}"]
    found = prepare(tmp_path, reviews, packed(tmp_path / "meta_Baby.json.gz", products), k_core=(5, 6))
    dataset = found.dataset
    table = pl.DataFrame(rows, schema=["user", "item", "rating", "time"], orient="row")
    table.write_parquet(tmp_path / "log.parquet")
    expected = core(drop_duplicates(read_table([tmp_path / "log.parquet"])), 5, 6)
    assert dataset.items.external.to_list() == expected.items.external.to_list() == ITEMS[1:]
    assert dataset.users.external.to_list() == expected.users.external.to_list() and dataset.name == "baby"
    ours, theirs = dataset.interactions, expected.interactions
    assert np.array_equal(ours.user, theirs.user) and np.array_equal(ours.item, theirs.item)
    assert np.array_equal(ours.timestamp, theirs.timestamp * 1_000_000) and np.array_equal(ours.rating, theirs.rating)
    assert dataset.item_table.row(0, named=True) == {
        "item": ITEMS[1], "title": f'Bib & "Tucker" {ITEMS[1]}', "category": "Baby, Feeding, Gifts",
        "description": "It's soft and café-brown", "price": 7.43,
        "picture_url": "http://ecx.images-amazon.com/images/I/51.jpg",
    }  # fmt: skip
    read = dataset.provenance["steps"][0]
    assert read["before"] == {"users": 15, "items": 12, "rows": len(rows)}
    assert read["found"]["reviews_Baby.json.gz"] == {"no record of JSON": 1, "records": len(rows)}
    assert read["found"]["meta_Baby.json.gz"] == {
        "of other items": 2, "of an item that stands there already (the first counts)": 1, "records": 15,
        "without an item": 1,
    }  # fmt: skip
    assert read["items"] == {"with a title": 11, "without any text": 0}
    assert any(f"line {len(rows) + 1}: no record of JSON: '{{cut'" in line for line in found.said)


def test_2018_and_2023_say_the_same_in_their_own_words(blocks, tmp_path):
    rows = pairs()
    old = packed(tmp_path / "Baby_5.json.gz", [review_2014(*row) for row in rows])
    new = tmp_path / "Baby_Products.jsonl"
    new.write_text(
        "".join(
            json.dumps({"rating": r, "title": "t", "text": "x", "images": [], "asin": "B099999999", "parent_asin": i,
                        "user_id": u, "timestamp": t * 1000, "helpful_vote": 0, "verified_purchase": True}) + "\n"
            for u, i, r, t in rows
        )
    )  # fmt: skip
    meta_2018 = packed(tmp_path / "meta_Baby_18.json.gz", [product_2018(i) for i in ITEMS])
    meta_2023 = packed(tmp_path / "meta_Baby_Products.jsonl.gz", [product_2023(i) for i in ITEMS])
    a = prepare(tmp_path, meta_2018, old, k_core=(2, 2)).dataset
    (tmp_path / "one").mkdir()
    for path in (meta_2018, old):
        (tmp_path / "one" / path.name).write_bytes(path.read_bytes())
    assert prepare(tmp_path, tmp_path / "one", k_core=(2, 2)).dataset.fingerprint == a.fingerprint
    b = prepare(tmp_path, new, meta_2023, k_core=(2, 2)).dataset
    assert a.fingerprint == b.fingerprint and (a.name, b.name) == ("baby", "baby_products")
    assert a.item_table.row(3, named=True) == {
        "item": ITEMS[3], "title": f"Bib {ITEMS[3]}", "brand": "Tucker", "category": "Baby, Feeding",
        "description": "Soft., Brown.", "price": 1007.43,
        "picture_url": "https://images-na.ssl-images-amazon.com/images/I/51.jpg",
    }  # fmt: skip
    assert b.item_table.row(3, named=True) == {
        "item": ITEMS[3], "title": f"Bib {ITEMS[3]}", "brand": "Tucker", "category": "Baby, Feeding",
        "description": "Soft, Brown", "picture_url": "https://m.media-amazon.com/l.jpg",
    }  # fmt: skip


@pytest.mark.parametrize("order", ["2014", "2018", "2023"])
def test_files_of_ratings_alone_whatever_the_order_of_their_columns(order, tmp_path):
    rows = pairs()
    form = {
        "2014": "{0},{1},{2},{3}", "2018": "{1},{0},{2},{3}", "2023": "{0},{1},{2},{3}000",
    }[order]  # fmt: skip
    lines = [form.format(*row) for row in rows] + ["one,field,short"]
    path = tmp_path / "ratings_Baby.csv"
    path.write_text("\n".join(["user_id,parent_asin,rating,timestamp"] * (order == "2023") + lines))
    dataset = prepare(tmp_path, path, k_core=(1, 1)).dataset
    packed(tmp_path / "reviews.json.gz", [review_2014(*row) for row in rows])
    assert dataset.fingerprint == prepare(tmp_path, tmp_path / "reviews.json.gz", k_core=(1, 1)).dataset.fingerprint
    assert dataset.provenance["steps"][0]["found"]["ratings_Baby.csv"] == {"not of 4 fields": 1, "rows": 150}


def test_rows_that_lack_something_are_counted_and_a_log_without_ratings_is_fine(tmp_path):
    rows = [json.loads(review_2014(*row)) for row in pairs(n=60)]
    for row in rows[:3]:
        row["unixReviewTime"] = None
    rows[3]["asin"], rows[4]["reviewerID"], rows[5]["overall"] = "", None, "many"
    path = packed(tmp_path / "r.json.gz", map(json.dumps, rows))
    dataset = prepare(tmp_path, path, k_core=(0, 0)).dataset
    assert dataset.provenance["steps"][0]["found"]["r.json.gz"] == {
        "records": 60, "without a user": 1, "without an item": 1, "without a rating": 1, "without a timestamp": 3,
    }  # fmt: skip
    for row in rows:
        del row["overall"], row["unixReviewTime"]
    bare = prepare(tmp_path, packed(tmp_path / "r.json.gz", map(json.dumps, rows)), k_core=(1, 1)).dataset
    assert bare.interactions.rating is None and bare.interactions.timestamp is None


def test_a_title_that_is_a_script_is_none(tmp_path):
    reviews = packed(tmp_path / "r.json.gz", [review_2014(*row) for row in pairs()])
    scraped = json.loads(product_2018(ITEMS[0])) | {"title": "var aPageStart = (new Date()).getTime();"}
    meta = packed(tmp_path / "m.json.gz", [json.dumps(scraped)])
    table = prepare(tmp_path, reviews, meta, k_core=(1, 1)).dataset.item_table
    assert "title" not in table.columns and table["description"].null_count() == 11


def test_without_a_k_core_items_that_nobody_took_stay(tmp_path):
    reviews = packed(tmp_path / "r.json.gz", [review_2014(*row) for row in pairs()[:30]])
    meta = packed(tmp_path / "m.json.gz", [product_2018(i) for i in [*ITEMS, "B777777777"]])
    dataset = prepare(tmp_path, reviews, meta, k_core=(2, 0)).dataset
    assert dataset.n_items == 13 and dataset.item_table["title"].null_count() == 0


def test_the_early_look_at_counts_drops_nothing_that_the_k_core_keeps(blocks, tmp_path, monkeypatch):
    rows = [row for row in pairs(n=400) if int(row[0][1:]) > 5 or row[1] < ITEMS[2]]  # some users and items are rare
    reviews = packed(tmp_path / "r.json.gz", [review_2014(*row) for row in rows])
    asked = {"k_core": (5, 7), "min_rating": 2}
    thin = prepare(tmp_path, reviews, **asked).dataset
    assert (thin.n_users, thin.n_items) != (15, 12) and thin.interactions.rating.min() >= 2
    monkeypatch.setattr(raw, "thinned", lambda log, core, reading: (log, {"users": 0, "items": 0, "rows": 0}))
    assert prepare(tmp_path, reviews, **asked).dataset.fingerprint == thin.fingerprint


def test_a_k_core_that_leaves_nothing_says_so(tmp_path):
    reviews = packed(tmp_path / "r.json.gz", [review_2014(*row) for row in pairs(n=30)])
    with pytest.raises(PrismError, match=r"Nothing is left of the 30 interactions .* each user must have 99"):
        prepare(tmp_path, reviews, k_core=(99, 99))


def test_what_is_no_amazon_file_is_refused_in_a_sentence(tmp_path):
    meta = packed(tmp_path / "m.json.gz", [product_2018(ITEMS[0])])
    with pytest.raises(PrismError, match=r"holds reviews or ratings of Amazon; expected records with reviewerID"):
        prepare(tmp_path, meta)
    (tmp_path / "x.json").write_text('{"a": 1}\n{"a": 2}\n')
    with pytest.raises(PrismError, match=r"empty or no file of Amazon reviews: it starts with '\{\"a\": 1\}'"):
        prepare(tmp_path, tmp_path / "x.json")
    with pytest.raises(PrismError, match="There is no "):
        prepare(tmp_path, tmp_path / "none.json.gz")
    with pytest.raises(PrismError, match=r"no kind of raw source 'amazn'. Did you mean 'amazon'"):
        prepare(tmp_path, meta, kind="amazn")
    with pytest.raises(PrismError, match=r"The kind amazon takes no --user"):
        prepare(tmp_path, meta, user="u")
    (tmp_path / "short.csv").write_text("a,b\nc,d\n")
    with pytest.raises(PrismError, match=r"starts with 'a,b'; expected columns of user, item, rating and time"):
        prepare(tmp_path, tmp_path / "short.csv")
