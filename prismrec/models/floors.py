"""The floors that every table must show: popularity, item neighbours, and a linear autoencoder. None of them is trained.

- MostPop: items by their number of training interactions.
- ItemKNN: G. Linden, B. Smith, J. York, "Amazon.com Recommendations: Item-to-Item Collaborative Filtering", IEEE Internet
  Computing 2003; M. Deshpande, G. Karypis, "Item-Based Top-N Recommendation Algorithms", ACM TOIS 2004.
- EASE: H. Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019, arXiv:1905.03375.

Each states its score as an inner product: a user of ItemKNN and EASE is his sparse row of the training matrix (d = I).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor

from prismrec import graphs
from prismrec.errors import PrismError
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.space import Range, named
from prismrec.types import Batch, Feats, Reps, Rows, Terms

_EASE_LIMIT = 40_000  # items: its inverse is dense by nature, 8·I² bytes, so that this many take 13 GB


class Floor(Model):
    """A model without parameters: built once from the training rows."""

    random = False

    def loss(self, reps: Reps, feats: Feats, batch: Batch) -> Terms:
        return {}


class MostPop(Floor):
    """s(u, i) = number (or total weight) of training interactions of i."""

    name = "mostpop"
    paper = Paper("Most popular items", "folklore", "-", 1992)
    new_items = "the number of its takers, which is 0"

    class Config(Strict):
        """Nothing to set."""

    spaces = named(default={})

    count: Tensor

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        self.register_buffer(
            "count", torch.bincount(ctx.item, ctx.weight, minlength=ctx.n_items).float(), persistent=False
        )

    def forward(self, feats: Feats) -> Reps:
        return Reps(self.count.new_ones(self.n_users, 1), Rows(self.count.unsqueeze(1)))


class ItemKNN(Floor):
    """s(u, i) = Σ_{j in the user's items} sim(i, j), sim a cosine of columns with shrinkage, kept for i's k nearest."""

    name = "itemknn"
    paper = Paper(
        "Item-Based Top-N Recommendation Algorithms",
        "M. Deshpande, G. Karypis",
        "ACM TOIS",
        2004,
        "10.1145/963770.963776",
    )

    class Config(Strict):
        """``shrink`` is added to the denominator: similarities of few common users count for less."""

        neighbours: int = Field(100, ge=1, description="similar items kept for each item")
        shrink: float = Field(10.0, ge=0)

    spaces = named(default={"neighbours": Range(10, 500, log=True, whole=True), "shrink": Range(0.0, 100.0)})

    matrix: Tensor
    similar: Tensor

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        matrix = training_matrix(ctx)
        self.register_buffer("matrix", to_torch(matrix), persistent=False)
        self.register_buffer("similar", to_torch(_neighbours(matrix, cfg.neighbours, cfg.shrink)), persistent=False)

    def forward(self, feats: Feats) -> Reps:
        return Reps(self.matrix, Rows(self.similar))


class EASE(Floor):
    """s(u, ·) = x_u B with B = I − P / diag(P), P = (XᵀX + λI)⁻¹ (Steck 2019, eq. 8): the best linear item model."""

    name = "ease"
    paper = Paper("Embarrassingly Shallow Autoencoders for Sparse Data", "H. Steck", "WWW", 2019, "arXiv:1905.03375")

    class Config(Strict):
        """``reg`` is λ."""

        reg: float = Field(200.0, gt=0)

    spaces = named(default={"reg": Range(10.0, 5000.0, log=True)})

    matrix: Tensor
    item: Tensor

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        if ctx.n_items > _EASE_LIMIT:
            raise PrismError(
                f"ease inverts a dense matrix of items × items; {ctx.n_items:,} items would take "
                f"{8 * ctx.n_items**2 / 2**30:.0f} GB and it stops at {_EASE_LIMIT:,}. Use itemknn as the floor."
            )
        matrix = training_matrix(ctx)
        gram = torch.from_numpy((matrix.T @ matrix).toarray())
        gram.diagonal().add_(cfg.reg)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        weights = inverse.div_(-inverse.diagonal().clone())  # column j over its own diagonal entry
        weights.fill_diagonal_(0)
        self.register_buffer("matrix", to_torch(matrix), persistent=False)
        self.register_buffer("item", weights.T.contiguous(), persistent=False)

    def forward(self, feats: Feats) -> Reps:
        return Reps(self.matrix, Rows(self.item))


def training_matrix(ctx: Context) -> sp.csr_array:
    """X (U, I) float32: 1 for an interaction, or its total weight where the data has weights."""
    values = np.ones(len(ctx.user), np.float32) if ctx.weight is None else ctx.weight.cpu().numpy()
    place = (ctx.user.cpu().numpy(), ctx.item.cpu().numpy())
    matrix = sp.csr_array(sp.coo_array((values, place), shape=(ctx.n_users, ctx.n_items)))
    matrix.sum_duplicates()
    if ctx.weight is None:
        matrix.data.fill(1)  # buying twice is one entry
    return matrix


def _neighbours(matrix: sp.csr_array, k: int, shrink: float) -> sp.csr_array:
    """Rows of shrunk cosines, each item's k largest, itself excluded; sparse throughout, in blocks of rows."""
    columns = sp.csr_array(matrix.T)
    norm = np.sqrt(matrix.power(2).sum(axis=0))
    blocks = []
    for start in range(0, columns.shape[0], 1024):
        block = sp.csr_array(columns[start : start + 1024] @ matrix)
        row = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
        block.data /= norm[row + start] * norm[block.indices] + shrink
        block.data[block.indices == row + start] = 0
        order = np.lexsort((block.indices, -block.data, row))  # ties to the lower id
        rank = np.arange(len(order)) - block.indptr[row[order]]
        kept = order[(rank < k) & (block.data[order] > 0)]
        blocks.append(sp.csr_array((block.data[kept], (row[kept], block.indices[kept])), shape=block.shape))
    return sp.csr_array(sp.vstack(blocks))


def to_torch(matrix: sp.csr_array) -> Tensor:
    """A torch sparse CSR tensor of the same entries, in single precision."""
    indptr, indices = (torch.from_numpy(part.astype(np.int64)) for part in (matrix.indptr, matrix.indices))
    return graphs.csr_tensor(
        indptr, indices, torch.from_numpy(matrix.data.astype(np.float32)), matrix.shape, check=True
    )
