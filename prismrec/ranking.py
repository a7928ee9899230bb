"""Exact top-k of inner products, block by block.

A block of scores is one matrix product into a reused buffer that stays in cache; masked items are set to −∞; then
``prismrec.topk`` picks the best of each row.

On a CPU each thread works on blocks of its own with one-thread kernels. So the bits of a score do not depend on
how many threads there are, and no thread waits for another within a block.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from prismrec import topk
from prismrec.errors import PrismError

_CPU_BLOCK = 1 << 20  # scores of a block: 4 MiB, which stays in cache
_CUDA_BLOCK = 1 << 27
_MIN_ROWS, _MAX_ROWS = 32, 8192


def distinct(keys: np.ndarray) -> np.ndarray:
    """``np.unique``, at once where ``keys`` (n,) ascend already, as those of prepared rows do: sorting takes most of a minute
    for a hundred million.
    """
    return keys if bool((keys[1:] > keys[:-1]).all()) else np.unique(keys)


@dataclass(frozen=True)
class Csr:
    """A list of item ids per row: ``indptr`` (n+1,) int64, ``indices`` (nnz,) int64, ascending in a row.

    ``values`` (nnz,) float, or None where only membership counts (the items that a user has seen).
    """

    indptr: Tensor
    indices: Tensor
    values: Tensor | None = None

    @staticmethod
    def of(user: np.ndarray, item: np.ndarray, n_users: int) -> Csr:
        """The distinct items of each user, from pairs of internal ids in any order."""
        width = int(item.max()) + 1 if len(item) else 1
        pairs = distinct(user.astype(np.int64) * width + item)
        counts = np.bincount(pairs // width, minlength=n_users)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        return Csr(torch.from_numpy(indptr), torch.from_numpy(pairs % width))

    @staticmethod
    def empty(n_rows: int) -> Csr:
        """No items for anybody."""
        return Csr(torch.zeros(n_rows + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))

    @staticmethod
    def from_tensor(matrix: Tensor) -> Csr:
        """The rows of a torch sparse CSR matrix."""
        return Csr(matrix.crow_indices().long(), matrix.col_indices().long(), matrix.values())

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def counts(self) -> Tensor:
        """Items per row (n,)."""
        return self.indptr.diff()

    @property
    def row(self) -> Tensor:
        """The row of each entry (nnz,)."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.indptr.device), self.counts)

    def take(self, rows: Tensor) -> Csr:
        """The given rows (any int64 ids, in that order)."""
        counts = self.counts[rows]
        indptr = F.pad(counts.cumsum(0), (1, 0))
        shift = torch.repeat_interleave(self.indptr[rows] - indptr[:-1], counts)
        at = torch.arange(len(shift), device=shift.device) + shift
        return Csr(indptr, self.indices[at], None if self.values is None else self.values[at])

    def to(self, device: torch.device | str) -> Csr:
        """The same rows on ``device``."""
        moved = None if self.values is None else self.values.to(device)
        return Csr(self.indptr.to(device), self.indices.to(device), moved)

    def tensor(self, n_columns: int) -> Tensor:
        """A torch sparse CSR matrix (n, n_columns) of these values, or of ones; places are checked."""
        shape = (len(self), n_columns)
        values = torch.ones(len(self.indices)) if self.values is None else self.values
        with warnings.catch_warnings():  # torch calls the layout "beta", once a process
            warnings.simplefilter("ignore", UserWarning)
            return torch.sparse_csr_tensor(self.indptr, self.indices, values, shape, check_invariants=True)

    def scipy(self, n_columns: int) -> Any:
        """A SciPy CSR array (n, n_columns) that shares the memory."""
        values = torch.ones(len(self.indices)) if self.values is None else self.values
        parts = (values.numpy(), self.indices.numpy(), self.indptr.numpy())
        return sparse.csr_array(parts, shape=(len(self), n_columns))


@dataclass(frozen=True)
class Ranked:
    """Lists, best first: ``items`` (n, k) int64, −1 where candidates ran out; ``scores`` (n, k), −∞ there."""

    items: Tensor
    scores: Tensor

    def first(self, k: int) -> Ranked:
        """The first ``k`` places."""
        return Ranked(self.items[:, :k], self.scores[:, :k])


def rows_of(side: Tensor, rows: Tensor) -> Tensor:
    """Rows (n, d) of a dense or sparse CSR matrix, of the same kind."""
    if side.layout != torch.sparse_csr:
        return side[rows]
    return Csr.from_tensor(side).take(rows).tensor(side.shape[1])


Block = Callable[[int, int, Tensor], None]
"""(start, stop, out): writes the scores of rows start..stop-1 to ``out`` (stop-start, I)."""


def top_k(user: Tensor, item: Tensor, k: int, masked: Csr | None = None, users: Tensor | None = None) -> Ranked:
    """The ``k`` best items of each row, score descending, then lower item id first; exact, ties included.

    ``user`` (U, d) and ``item`` (I, d), dense or torch sparse CSR, on one device; ``masked`` holds the items never
    to be listed of each of the U rows; ``users`` (n,) picks rows, by default all. Lists have ``k`` places; where
    fewer candidates exist the rest is −1. Memory: one block of scores a thread beyond the result.
    Raises ``PrismError`` when ``k`` < 1 or a representation is not finite.
    """
    if k < 1:
        raise PrismError(f"k is {k}; a list needs at least one place: ask for k ≥ 1.")
    masked = None if masked is None else masked.to(user.device)
    if users is not None:
        users = users.to(user.device)
        user = rows_of(user, users)
        masked = None if masked is None else masked.take(users)
    user, item = user.detach(), item.detach()
    n, n_items = user.shape[0], item.shape[0]
    levels, width = topk.layout(n_items, k)
    score, dtype = _scorer(user, item, width)
    items = torch.full((n, k), -1, dtype=torch.int64, device=user.device)
    scores = torch.full((n, k), -math.inf, dtype=dtype, device=user.device)
    take = min(k, n_items)
    mask = None if masked is None else (masked.indptr.tolist(), masked.row, masked.indices)

    def work(start: int, stop: int, buffer: Tensor) -> None:
        block = buffer[: stop - start]
        score(start, stop, block)
        block[:, n_items:] = -math.inf
        if mask is not None:
            indptr, row, column = mask
            cut = slice(indptr[start], indptr[stop])
            block.view(-1).index_fill_(0, (row[cut] - start) * width + column[cut], -math.inf)
        found, at = topk.best(block, n_items, take, levels)
        scores[start:stop, :take] = found
        items[start:stop, :take] = at.masked_fill_(found == -math.inf, -1)

    _run(work, n, width, user.device, dtype)
    return Ranked(items, scores)


def _scorer(user: Tensor, item: Tensor, width: int) -> tuple[Block, torch.dtype]:
    """How a block of scores is made of these two sides, and the type of a score."""
    is_sparse = [side.layout == torch.sparse_csr for side in (user, item)]
    for what, side, packed in zip(("user", "item"), (user, item), is_sparse, strict=True):
        if not torch.isfinite((side.values() if packed else side).sum()):
            raise PrismError(
                f"The {what} representations hold NaN or infinite numbers, so nothing can be ranked; "
                "training has diverged: lower the learning rate or look for NaN among the features."
            )
    n_items = item.shape[0]
    if not any(is_sparse):
        dtype = torch.promote_types(torch.float32, torch.promote_types(user.dtype, item.dtype))
        left = user.to(dtype)
        right = F.pad(item.to(dtype), (0, 0, 0, width - n_items)).t()

        def dense(start: int, stop: int, out: Tensor) -> None:
            torch.mm(left[start:stop], right, out=out)

        return dense, dtype
    if is_sparse[0] and not is_sparse[1]:
        bags = Csr.from_tensor(user)
        table = item.t().contiguous()
        assert bags.values is not None
        weights = bags.values.to(table.dtype)
        ends = bags.indptr.tolist()

        def bag(start: int, stop: int, out: Tensor) -> None:
            cut = slice(ends[start], ends[stop])
            offsets = bags.indptr[start:stop] - ends[start]
            out[:, :n_items] = F.embedding_bag(
                bags.indices[cut], table, offsets, mode="sum", per_sample_weights=weights[cut]
            )

        return bag, item.dtype
    right_side = Csr.from_tensor(item.cpu()).scipy(item.shape[1]).T.tocsr()
    left_side = Csr.from_tensor(user.cpu()).scipy(user.shape[1]) if is_sparse[0] else user.cpu().numpy()

    def product(start: int, stop: int, out: Tensor) -> None:
        scores: Any = left_side[start:stop] @ right_side
        dense_scores = scores if isinstance(scores, np.ndarray) else scores.toarray()
        out[:, :n_items] = torch.from_numpy(dense_scores)

    return product, torch.promote_types(user.dtype, item.dtype)


def _run(
    work: Callable[[int, int, Tensor], None], n: int, width: int, device: torch.device, dtype: torch.dtype
) -> None:
    """``work`` on all blocks of n rows: one by one on a GPU, on a CPU by as many threads as torch may use."""
    on_cpu = device.type == "cpu"
    rows = max(_MIN_ROWS, min(_MAX_ROWS, (_CPU_BLOCK if on_cpu else _CUDA_BLOCK) // width))
    threads = torch.get_num_threads()
    workers = min(threads, -(-n // rows)) if on_cpu else 1

    def worker(number: int) -> None:
        with torch.inference_mode():
            buffer = torch.empty(min(rows, n), width, device=device, dtype=dtype)
            for start in range(number * rows, n, workers * rows):
                work(start, min(start + rows, n), buffer)

    def single_threaded(number: int) -> None:
        torch.set_num_threads(1)  # of this thread: kernels of one block are too short to share
        try:
            worker(number)
        finally:
            torch.set_num_threads(threads)  # what threads that start later inherit

    if not on_cpu:
        worker(0)
    elif n:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(single_threaded, range(workers)))
