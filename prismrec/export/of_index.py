"""An index as a Shelf, as PyTorch tensors are still at hand."""

from __future__ import annotations

import numpy as np
import polars as pl
from torch import Tensor, sparse_csr

from prismrec.export.shelf import Shelf
from prismrec.export.tables import Dense, Seen, Side, Sparse, Table
from prismrec.index import Index
from prismrec.ranking import Csr


def shelf_of(index: Index) -> Shelf:
    """The same representations, ids, seen items and item table. Items are popular by the users who have seen them."""
    kept: dict[int, Table] = {}

    def table(side: Tensor) -> Table:
        if id(side) not in kept:
            kept[id(side)] = _table(side)
        return kept[id(side)]

    sides = {name: Side(table(user), table(item)) for name, (user, item) in index.sides.items()}
    seen = Seen(index.seen.indptr.numpy(), index.seen.indices.numpy().astype(np.int32))
    items = index.item_table if index.item_table.width else pl.DataFrame({"item": index.items.external})
    popularity = np.bincount(seen.indices, minlength=len(index.items))
    return Shelf(index.users, index.items, sides, seen, popularity, items, info=dict(index.info))


def _table(side: Tensor) -> Table:
    if side.layout != sparse_csr:
        return Dense(side.numpy())
    rows = Csr.from_tensor(side)
    assert rows.values is not None
    return Sparse(rows.indptr.numpy(), rows.indices.int().numpy(), rows.values.numpy(), side.shape[1])
