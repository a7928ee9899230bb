"""A small catalogue with final representations, as an index and as an export."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch
from program import dataset

from prismrec.data.dataset import Dataset
from prismrec.export import Shelf
from prismrec.export.of_index import shelf_of
from prismrec.index import Index
from prismrec.types import Reps, Rows


@pytest.fixture(scope="session")
def shop() -> Dataset:
    return dataset(n_users=90, n_items=120)


@pytest.fixture(scope="session")
def index(shop: Dataset) -> Index:
    rng = torch.Generator().manual_seed(0)

    def table(n: int, d: int) -> torch.Tensor:
        return torch.randn(n, d, generator=rng)

    user, item = table(shop.n_users, 8), table(shop.n_items, 8)
    item[7] = item[3]  # a tie, which goes to the earlier one
    modal = {
        "image": (user, Rows(table(shop.n_items, 8))),
        "text": (table(shop.n_users, 5), Rows(table(shop.n_items, 5))),
    }
    made = Index.of(Reps(user, Rows(item), modal=modal), shop, info={"model": "toy"})
    price = pl.Series("price", [float(i % 10) if i % 7 else None for i in range(shop.n_items)])
    tags = pl.Series("tags", [["new", "red"] if i % 2 else ["old"] for i in range(shop.n_items)])
    return Index(made.sides, made.users, made.items, made.seen, made.item_table.with_columns(price, tags), made.info)


@pytest.fixture(scope="session")
def folder(index: Index, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export, which no test changes."""
    path = tmp_path_factory.mktemp("export") / "model"
    shelf_of(index).save(path)
    return path


@pytest.fixture(scope="session")
def shelf(folder: Path) -> Shelf:
    return Shelf.load(folder)
