"""The two sides of a score, dense or sparse CSR: copied, stored, put together, and made of a few items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from prismrec.errors import PrismError
from prismrec.folding import fitted
from prismrec.ranking import Csr

Side = tuple[Tensor, Tensor]


def own(side: Tensor) -> Tensor:
    """A copy on the CPU in float32 that holds on to nothing else."""
    side = side.detach().to("cpu")
    if side.layout == torch.sparse_csr:
        rows = Csr.from_tensor(side)
        assert rows.values is not None
        return Csr(rows.indptr.clone(), rows.indices.clone(), rows.values.float().clone()).tensor(side.shape[1])
    return side.to(torch.float32, copy=True).contiguous()


def unit(item: Tensor) -> Tensor:
    """Rows of unit length; one of zeros stays so."""
    if item.layout != torch.sparse_csr:
        return F.normalize(item, dim=1)
    rows = Csr.from_tensor(item)
    assert rows.values is not None
    length = torch.zeros(len(rows)).index_add_(0, rows.row, rows.values**2).sqrt().clamp_min(1e-12)
    return Csr(rows.indptr, rows.indices, rows.values / length[rows.row]).tensor(item.shape[1])


def paired(user: Tensor, item: Tensor, u: Tensor, i: Tensor) -> Tensor:
    """⟨user[u], item[i]⟩ of two sides, dense or sparse CSR, for ids u, i (n,) → (n,)."""
    if user.layout != torch.sparse_csr and item.layout != torch.sparse_csr:
        return (user[u] * item[i]).sum(1)
    left, right = _sparse_rows(user, u), _sparse_rows(item, i)
    return torch.from_numpy(np.asarray(left.multiply(right).sum(axis=1), np.float32).reshape(-1))


def _sparse_rows(side: Tensor, rows: Tensor) -> Any:
    """Rows of a side as a SciPy CSR array."""
    if side.layout != torch.sparse_csr:
        return sparse.csr_array(side[rows].numpy())
    return Csr.from_tensor(side).take(rows).scipy(side.shape[1])


def packed(name: str, side: Tensor) -> dict[str, Tensor]:
    """The tensors by which a side is stored."""
    if side.layout != torch.sparse_csr:
        return {name: side}
    rows = Csr.from_tensor(side)
    assert rows.values is not None
    width = torch.tensor(side.shape[1])
    return {
        f"{name}.indptr": rows.indptr,
        f"{name}.indices": rows.indices.int(),
        f"{name}.values": rows.values,
        f"{name}.width": width,
    }


def unpacked(name: str, tensors: Mapping[str, Tensor]) -> Tensor:
    """The side that ``packed`` stored under ``name``."""
    if name in tensors:
        return tensors[name]
    if f"{name}.indptr" not in tensors:
        raise PrismError(f"The index names the tensor {name!r}, which its file does not hold; save the index again.")
    rows = Csr(tensors[f"{name}.indptr"], tensors[f"{name}.indices"].long(), tensors[f"{name}.values"])
    return rows.tensor(int(tensors[f"{name}.width"]))


def stacked(side: Tensor, more: Tensor) -> Tensor:
    """``side`` (I, d) with the rows of ``more`` (n, d') below; columns of ``more`` from d on must be empty."""
    if side.layout != torch.sparse_csr:
        return torch.cat([side, more.to(side.dtype)])
    above, below = Csr.from_tensor(side), Csr.from_tensor(more)
    assert above.values is not None and below.values is not None
    indptr = torch.cat([above.indptr, above.indptr[-1] + below.indptr[1:]])
    values = torch.cat([above.values, below.values])
    return Csr(indptr, torch.cat([above.indices, below.indices]), values).tensor(side.shape[1])


def trained(items: Tensor, columns: int) -> Tensor:
    """``items`` as columns of the training matrix; a ``PrismError`` where one was added since."""
    if (items >= columns).any():
        raise PrismError(
            "This model knows a user by the items that he took in training, and one of those named was added since; "
            "leave it out."
        )
    return items


def gram(item: Tensor) -> Tensor:
    """YᵀY of a dense item side Y (I, d) in double precision → (d, d); empty for a sparse one."""
    if item.layout == torch.sparse_csr:
        return torch.zeros(0, 0, dtype=torch.float64)
    total = torch.zeros(item.shape[1], item.shape[1], dtype=torch.float64)
    for part in item.split(65536):
        total += part.double().T @ part.double()
    return total


def folded(user: Tensor, item: Tensor, taken: Tensor, products: Tensor) -> Tensor:
    """The side (1, d) of a user who took the items ``taken`` (n,), all different, and of whom nothing else is known.

    Where a user is his row of the training matrix (ItemKNN, EASE, ContentKNN), it is that row: exact. Else it is fitted to the
    frozen item sides (``prismrec.folding``). ``products`` is ``gram(item)``.
    """
    if user.layout == torch.sparse_csr:
        known = trained(taken, user.shape[1]).sort().values
        return Csr(torch.tensor([0, len(known)]), known, torch.ones(len(known))).tensor(user.shape[1])
    found = fitted(item[taken].double().numpy(), products.numpy(), len(item))
    return torch.from_numpy(found).to(item.dtype).unsqueeze(0)
