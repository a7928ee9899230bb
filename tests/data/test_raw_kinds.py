import json

import numpy as np
import polars as pl
import pytest

from prismrec.data import raw, raw_pictures
from prismrec.data.raw_lines import Reading
from prismrec.errors import PrismError

RNG = np.random.default_rng(3)
ROWS = [(u, i, (u + i) % 5 + 1, 880_000_000 + 37 * u + i) for u in range(1, 13) for i in range(1, 11) if (u + i) % 4]
GENRES = "unknown|0\nAction|1\nAdventure|2\n\n"


@pytest.fixture
def prepare(tmp_path):
    def call(kind, *paths, **options):
        blocks = tmp_path / "blocks"
        blocks.mkdir(exist_ok=True)
        reading = Reading(blocks / str(len(list(blocks.iterdir()))))
        return raw.prepare(kind, [tmp_path / p for p in paths], reading, **options).dataset

    return call


def found(dataset):
    return dataset.provenance["steps"][0]["found"]


def write(path, lines, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join(lines).encode(encoding))


def movielens(tmp_path):
    write(
        tmp_path / "ml-100k/u.data", ["\t".join(map(str, row)) for row in [*ROWS, ROWS[0]]] + ["1\t2\t3", "1\tx\t3\t4"]
    )
    write(
        tmp_path / "ml-100k/u.item",
        [f"{i}|Misérables {i}, Les (199{i % 10})|01-Jan-1995||http://x|0|{i % 2}|1" for i in range(1, 11)],
        "latin-1",
    )
    write(tmp_path / "ml-100k/u.genre", GENRES.split("\n"))
    write(tmp_path / "ml-1m/ratings.dat", ["::".join(map(str, row)) for row in ROWS])
    write(
        tmp_path / "ml-1m/movies.dat",
        [f"{i}::Misérables {i}, Les (199{i % 10})::{'Action|' * (i % 2)}Adventure" for i in range(1, 11)],
        "latin-1",
    )
    write(
        tmp_path / "ml-20m/ratings.csv", ["userId,movieId,rating,timestamp", *(",".join(map(str, row)) for row in ROWS)]
    )
    titles = [f'{i},"Misérables {i}, Les (199{i % 10})",{"Action|" * (i % 2)}Adventure' for i in range(1, 11)]
    write(tmp_path / "ml-20m/movies.csv", ["movieId,title,genres", *titles])


def test_movielens_says_the_same_in_its_three_layouts(tmp_path, prepare):
    movielens(tmp_path)
    small, million, later = (prepare("movielens", name, k_core=(2, 2)) for name in ("ml-100k", "ml-1m", "ml-20m"))
    assert small.fingerprint == million.fingerprint == later.fingerprint
    assert small.item_table.equals(million.item_table) and small.item_table.equals(later.item_table)
    assert small.name == "ml-100k" and small.items.external.to_list() == list(range(1, 11))
    assert small.item_table.row(2, named=True) == {
        "item": 3, "title": "Misérables 3, Les (1993)", "year": 1993, "genres": "Action, Adventure",
    }  # fmt: skip
    assert small.interactions.timestamp.min() == min(row[3] for row in ROWS) * 1_000_000
    assert found(small)["u.data"] == {"not of 4 fields": 1, "rows": len(ROWS) + 2, "without an item": 1}
    assert small.provenance["steps"][1] == {"step": "duplicates", "keep": "last", "dropped": 1}


def test_movielens_by_its_files_and_with_plots_and_posters(tmp_path, prepare):
    movielens(tmp_path)
    write(
        tmp_path / "plots.tsv",
        [
            "movie_id\ttitle\tplot\tposter_file",
            "1\t\tA cowboy doll.\tone.jpg",
            "2\tOther\t\t../secret.jpg",
            "x\tnone\t\t",
        ],
    )
    for name in ("one.jpg", "sub/2.PNG", "3.jpg.txt", "3.webp"):
        write(tmp_path / "posters" / name, ["picture"])
    write(tmp_path / "secret.jpg", ["secret"])
    dataset = prepare(
        "movielens", "ml-100k/u.data", "ml-100k/u.item", items=tmp_path / "plots.tsv", images=tmp_path / "posters",
        k_core=(2, 2),
    )  # fmt: skip
    table = dataset.item_table
    assert table["title"][:2].to_list() == ["Misérables 1, Les (1991)", "Other"]
    assert table["plot"][:2].to_list() == ["A cowboy doll.", None]
    assert table["picture"].to_list() == ["one.jpg", *[None] * 9]  # not 3.webp: files have names of their own
    coverage = dataset.provenance["steps"][0]["items"]
    assert coverage == {"with a title": 10, "without any text": 0, "with a picture": 1, "without a picture": 9}


def test_microlens_by_pairs_with_times_and_by_sequences(tmp_path, prepare):
    folder = tmp_path / "micro"
    pairs = [f"{u},{i},{t}123" for u, i, _, t in ROWS]
    write(folder / "MicroLens-50k_pairs.csv", ["user,item,timestamp", *pairs, "7,broken,1"])
    titles = [f'{i},"A title, with ""quotes"" {i}"' if i % 2 else f"{i},plain, commas {i}" for i in range(1, 10)]
    write(folder / "MicroLens-50k_titles.csv", ["item,title", *titles, "none"])
    write(folder / "MicroLens-50k_likes_and_views.txt", [f"{i}\t{i * 10}\t{i * 100}" for i in range(1, 11)])
    for i in (1, 2):
        write(folder / f"covers/{i}.jpg", ["picture"])
    a = prepare("microlens", "micro", images=folder / "covers", k_core=(2, 2))
    assert a.name == "microlens-50k" and a.interactions.timestamp.max() == (max(r[3] for r in ROWS) * 1000 + 123) * 1000
    assert a.item_table.row(0, named=True) == {
        "item": 1, "title": 'A title, with "quotes" 1', "likes": 10, "views": 100, "picture": "1.jpg",
    }  # fmt: skip
    assert a.item_table["title"][1] == "plain, commas 2" and a.item_table["title"][9] is None
    (folder / "MicroLens-50k_pairs.csv").unlink()
    by_user = {u: [i for v, i, *_ in ROWS if v == u] for u, *_ in ROWS}
    write(folder / "MicroLens-50k_pairs.tsv", [f"{u}\t{' '.join(map(str, items))}" for u, items in by_user.items()])
    b = prepare("microlens", "micro", k_core=(2, 2))
    assert np.array_equal(a.interactions.item, b.interactions.item)
    assert np.array_equal(a.interactions.user, b.interactions.user) and b.interactions.timestamp.min() == 0


def test_microlens_without_a_header(tmp_path, prepare):
    write(tmp_path / "x_pairs.csv", [f"{u},{i},{t}123" for u, i, _, t in ROWS])
    assert len(prepare("microlens", "x_pairs.csv", k_core=(1, 1)).interactions) == len(ROWS)


def test_hm_keeps_leading_zeros_and_finds_pictures_in_their_folders(tmp_path, prepare):
    write(
        tmp_path / "hm/transactions_train.csv",
        ["t_dat,customer_id,article_id,price,sales_channel_id"]
        + [f"2018-09-{10 + i:02},{'ab' * 31}{u:02},{i:010},0.05,2" for u, i, *_ in ROWS]
        + ["someday,ff,0000000001,0.05,2"],
    )
    columns = "article_id,product_code,prod_name,product_type_name,product_group_name,colour_group_name,detail_desc"
    write(
        tmp_path / "hm/articles.csv",
        [columns, *(f'{i:010},7,Strap "{i}" top,Vest top,Garment,Black,"Jersey, narrow."' for i in range(1, 11))],
    )
    write(tmp_path / "hm/images/000/0000000003.jpg", ["picture"])
    dataset = prepare("hm", "hm", images=tmp_path / "hm/images", k_core=(2, 2))
    assert dataset.items.external[0] == "0000000001" and dataset.name == "hm"
    assert dataset.item_table.row(2, named=True) == {
        "item": "0000000003", "title": 'Strap "3" top', "category": "Vest top, Garment, Black",
        "description": "Jersey, narrow.", "picture": "000/0000000003.jpg",
    }  # fmt: skip
    assert found(dataset)["transactions_train.csv"] == {"rows": len(ROWS) + 1, "without a timestamp": 1}
    assert dataset.interactions.timestamp.min() == 1_536_624_000_000_000  # 2018-09-11


def parts():
    rows = {part: {} for part in ("train", "val", "test")}
    for n, (u, i, *_) in enumerate(ROWS):
        rows[("train", "val", "test")[n % 5 // 3 + (n % 5 == 4)]].setdefault(str(u - 1), []).append(i - 1)
    return rows


def test_dumps_bring_their_split_and_their_features(tmp_path, prepare):
    folder = tmp_path / "tiktok"
    features = RNG.normal(size=(14, 6)).astype(np.float16)
    folder.mkdir()
    np.save(folder / "image_feat.npy", features)
    np.save(folder / "acoustic_feat.npy", features[:, :3])
    np.save(folder / "other.npy", features[:3])
    for part, lists in parts().items():
        write(folder / f"{part}.json", [json.dumps(lists)])
    (folder / "train_mat").write_bytes(b"\x80\x04never opened")
    for kind in ("tiktok", "dump"):
        dataset = prepare(kind, "tiktok")
        assert dataset.n_items == 14 and list(dataset.modalities) == ["audio", "image"]
        assert np.array_equal(dataset.modalities["image"].values, features)
        counts = [sum(map(len, lists.values())) for lists in parts().values()]
        assert np.bincount(dataset.interactions.split).tolist() == counts and dataset.name == "tiktok"
    # MMGCN's form: arrays of pairs, items counted on from the users
    mmgcn = tmp_path / "mmgcn"
    mmgcn.mkdir()
    np.save(mmgcn / "v_feat.npy", features)
    for part, lists in parts().items():
        pairs = [(int(u), i + 12) for u, items in lists.items() for i in items]
        np.save(mmgcn / f"{part}.npy", np.array(pairs, np.int32))
    other = prepare("dump", "mmgcn")
    assert other.interactions_fingerprint == dataset.interactions_fingerprint
    assert np.array_equal(other.modalities["image"].values, features)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "holds nothing; expected train.json or train.npy"),
        ({"x.inter": b"userID\titemID\n"}, "A folder with one .inter file is read without a kind"),
        ({"train.json": b"[1, 2]"}, "holds a list; expected an object of users"),
        (
            {"train.json": b'{"0": [99]}', "image_feat.npy": np.zeros((3, 2), np.float32)},
            "an item 99, but features of 3",
        ),
        (
            {"train.json": b'{"0": [1]}', "a_feat.npy": np.zeros((3, 2)), "t_feat.npy": np.zeros((4, 2))},
            "as many in each",
        ),
        ({"train.npy": np.zeros((3, 3), np.int64)}, r"shape \(3, 3\); expected whole numbers"),
        ({"train.npy": np.array([[1], [2, 3]], dtype=object)}, "train.npy"),
    ],
)
def test_dumps_that_are_none_are_refused_and_objects_never_opened(files, said, tmp_path, prepare):
    (tmp_path / "d").mkdir()
    for name, content in files.items():
        if isinstance(content, bytes):
            (tmp_path / "d" / name).write_bytes(content)
        else:
            np.save(tmp_path / "d" / name, content, allow_pickle=True)
    with pytest.raises(PrismError, match=said):
        prepare("dump", "d")


def shop(tmp_path, end=".csv", sep=","):
    rows = [f"c{u}{sep}{i:03}{sep}2024-05-{1 + i:02} 10:{u:02}{sep}{rating}" for u, i, rating, _ in ROWS]
    lines = [
        sep.join(("customer", "sku", "when", "stars")),
        *rows,
        f"c1{sep}{sep}2024-05-01 10:00{sep}3",
        f"c1{sep}001",
        "",
    ]
    lines += [f"c1{sep}002{sep}2024-05-01 10:00{sep}many", f"c1{sep}003{sep}soon{sep}3"]
    write(tmp_path / f"log{end}", lines)
    products = [
        '001,"Tasse ""Zoë"", rot 🙂",9.5,<p>Aus&nbsp;Ton</p>,a.jpg', "001,again,1,,", "002,,10,,missing.jpg", ",no id,1,,",
        "999,nobody took it,5,text,",
    ]  # fmt: skip
    write(tmp_path / "products.csv", ["sku,name,price,description,picture_file", *products])
    for name in ("a.jpg", "003.png"):
        write(tmp_path / "pictures" / name, ["picture"])


COLUMNS = {"user": "customer", "item": "sku", "rating": "stars", "timestamp": "when"}


@pytest.mark.parametrize(("end", "sep"), [(".csv", ","), (".csv", ";"), (".tsv", "\t"), (".txt", "|")])
def test_a_shops_tables_survive_what_shops_hold(end, sep, tmp_path, prepare):
    shop(tmp_path, end, sep)
    dataset = prepare("tables", f"log{end}", "products.csv", images=tmp_path / "pictures", k_core=(2, 2), **COLUMNS)
    assert dataset.items.external.to_list() == [f"{i:03}" for i in range(1, 11)] and dataset.name == "log"
    assert found(dataset)[f"log{end}"] == {
        "not of 4 fields": 1, "rows": len(ROWS) + 3, "without an item": 1, "without a rating": 1, "without a timestamp": 1,
    }  # fmt: skip
    assert found(dataset)["products.csv"] == {
        "rows": 5, "of an item that stands there already (the first counts)": 1, "without an item": 1,
    }  # fmt: skip
    assert dataset.item_table.head(3).to_dicts() == [
        {"item": "001", "name": 'Tasse "Zoë", rot 🙂', "price": 9.5, "description": "Aus Ton", "picture_file": "a.jpg",
         "picture": "a.jpg"},
        {"item": "002", "name": None, "price": 10.0, "description": None, "picture_file": "missing.jpg", "picture": None},
        {"item": "003", "name": None, "price": None, "description": None, "picture_file": None, "picture": None},
    ]  # fmt: skip
    coverage = dataset.provenance["steps"][0]["items"]
    assert coverage == {"without any text": 9, "with a picture": 1, "without a picture": 9}
    assert dataset.provenance["steps"][0]["timestamp_unit"] == "us"


def test_a_shops_tables_in_parquet_and_without_a_k_core(tmp_path, prepare):
    shop(tmp_path)
    csv = prepare("tables", "log.csv", "products.csv", k_core=(0, 0), **COLUMNS)
    frame = pl.DataFrame(ROWS, schema=["customer", "sku", "stars", "when"], orient="row").select(
        pl.format("c{}", "customer").alias("customer"), pl.col("sku").cast(pl.String).str.zfill(3),
        pl.datetime(2024, 5, 1, 10) + pl.duration(days=pl.col("sku"), minutes=pl.col("customer")).alias("x"), "stars",
    )  # fmt: skip
    frame.rename({frame.columns[2]: "when"}).write_parquet(tmp_path / "log.parquet")
    pl.read_csv(tmp_path / "products.csv", infer_schema=False).write_parquet(tmp_path / "products.parquet")
    typed = prepare("tables", "log.parquet", "products.parquet", k_core=(0, 0), **COLUMNS)
    assert csv.n_items == typed.n_items == 11 and csv.fingerprint == typed.fingerprint
    assert csv.item_table["name"].to_list() == typed.item_table["name"].to_list()
    records = [
        {"customer": f"c{u}", "sku": f"{i:03}", "stars": r, "when": f"2024-05-{1 + i:02}T10:{u:02}", "tags": {"a": [1]}}
        for u, i, r, _ in ROWS
    ]
    write(tmp_path / "log.jsonl", [json.dumps(one) for one in records] + ["{cut", '{"sku": "001"}'])
    named = pl.read_parquet(tmp_path / "products.parquet").select("sku", "name").to_dicts()
    products = [one | {"tags": ["a", "b"]} for one in named]
    write(tmp_path / "products.jsonl", map(json.dumps, products))
    lines = prepare("tables", "log.jsonl", "products.jsonl", k_core=(0, 0), **COLUMNS)
    assert lines.fingerprint == csv.fingerprint and lines.item_table["tags"][0] == "a, b"
    assert found(lines)["log.jsonl"] == {"no record of JSON": 1, "records": len(ROWS) + 1, "without a user": 1,
                                         "without a rating": 1, "without a timestamp": 1}  # fmt: skip


def test_tables_whose_columns_nobody_knows_are_refused_in_a_sentence(tmp_path, prepare):
    shop(tmp_path)
    with pytest.raises(PrismError, match=r"no column that is recognised as the user; it has 'customer', 'sku'"):
        prepare("tables", "log.csv", "products.csv")
    with pytest.raises(PrismError, match="3 tables were named"):
        prepare("tables", "log.csv", "log.csv", "log.csv")
    with pytest.raises(PrismError, match=r"There is no file .*none\.csv"):
        prepare("tables", "none.csv")
    for name, text, said in (("x.csv", "", "is empty"), ("x.xlsx", "PK\x03\x04", "Excel workbook; save it as CSV")):
        (tmp_path / name).write_text(text)
        with pytest.raises(PrismError, match=said):
            prepare("tables", name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(PrismError, match="is a folder; name the file"):
        prepare("tables", "folder")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("movielens", r"no ratings in .*; expected a file called u\.data or ratings\.dat"),
        ("microlens", r"no pairs in .*; expected a file called \*pairs\*\.csv"),
        ("hm", r"no transactions in .*; expected a file called transactions\*\.csv"),
    ],
)
def test_folders_without_the_files_are_refused(kind, said, tmp_path, prepare):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PrismError, match=said):
        prepare(kind, "empty")
    with pytest.raises(PrismError, match="There is no "):
        prepare(kind, "nowhere")
    for name in (
        "a/ratings.csv",
        "b/ratings.csv",
        "a/pairs.csv",
        "b/pairs.csv",
        "a/transactions.csv",
        "b/transactions.csv",
    ):
        write(tmp_path / name, ["x"])
    with pytest.raises(PrismError, match="name the one to read"):
        prepare(kind, "a", "b")


def test_pictures_are_called_like_the_items_where_no_column_names_a_file(tmp_path):
    for name in ("sub/2.PNG", "3.jpg.txt", "3.webp", "3.jpg", "b/3.png"):
        write(tmp_path / name, ["picture"])
    items = pl.DataFrame({"item": [1, 2, 3], "image": ["http://host/1.jpg", None, "3.gif"]})
    assert raw_pictures.found(items, tmp_path) == raw_pictures.found(items.select("item"), tmp_path)
    assert raw_pictures.found(items, tmp_path) == [None, "sub/2.PNG", "3.jpg"]


def test_pictures_of_another_shop_are_refused(tmp_path):
    items = pl.DataFrame({"item": ["a", "b"], "image": ["a.jpg", None]})
    write(tmp_path / "pictures/c.jpg", [""])
    with pytest.raises(
        PrismError, match=r"1 pictures, but none of an item.*\(say a\.jpg\).*'image' says \(say 'a\.jpg'\)"
    ):
        raw_pictures.found(items, tmp_path / "pictures")
    with pytest.raises(PrismError, match="is no folder"):
        raw_pictures.found(items, tmp_path / "none")
