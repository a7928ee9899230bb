"""The least time that an epoch of training could take on this machine: counts of what must move or be multiplied, over speeds
measured here.

A floor is a list of terms, each an amount (bytes or multiply-adds) in one step, and the measured rate that it is divided by.
Only what no implementation of the same equations can avoid is counted:

- a sparse product reads its indices and values, gathers a row for each entry, writes each row of the result, and reads the row
  that is added to it; both halves of the graph, each layer, forward and for the gradient;
- the batch reads the rows that it scores, once; the gradient of each row that it touches is written once (no zeros elsewhere);
- Adam reads parameter, gradient and two moments and writes three of them back: seven streams;
- a projection multiplies the batch's distinct rows, and once more for the gradient of its weight. Raw features take no
  gradient. No copy of raw rows is counted: the products' reading is part of their measured speed.

Drawing negatives, thinning a graph, the loss itself and every temporary are free in this account.

Speeds are measured between the epochs they are compared with, in the same process and on the same threads, and the best of
several is taken: copies and triads; gathers of rows from tables of the model's size at the graph's own indices, warm;
products of the batch's own shapes, by the fastest of the library's ways that we know.

Streams have two speeds, so there are two floors. From *memory*: copies and triads over more than any cache holds. From *cache*:
over as much as the parameters with their gradients and moments and the graph take, which at Baby's size may fit the last
level. The second is the harder one, and a bound only as long as nothing else that a step touches pushes those tables out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from prismrec.assembly import Assembly
from prismrec.models.bpr import BPR
from prismrec.models.freedom import FREEDOM
from prismrec.models.lightgcn import LightGCN
from prismrec.models.vbpr import VBPR
from prismrec.sampling import Sampler

_LARGE = 400 << 20  # bytes that no cache holds
ACCOUNTED = {
    "bpr": 1,
    "lightgcn": 1,
    "vbpr": 2,
    "freedom": 1,
}  # model → width of a scored row in d; others have no floor yet
_FLOAT, _ENTRY = 4, 8  # bytes of a number; of an index and a value of a sparse matrix


@dataclass(frozen=True)
class Term:
    """``amount`` of one step, in bytes or, where ``rate`` is a product's, in multiply-adds."""

    what: str
    amount: float
    rate: str


@dataclass(frozen=True)
class Counts:
    """Sizes of a step: rows of a batch, and how many distinct users and items a batch touches on average."""

    batch: float
    users: float
    items: float
    steps: int

    @staticmethod
    def of(sampler: Sampler) -> Counts:
        """Counted over the sampler's first epoch."""
        batches = list(sampler.epoch(0))
        users = [len(b.user.unique()) for b in batches]
        items = [len(torch.cat([b.pos, b.neg.reshape(-1)]).unique()) for b in batches]
        n = len(batches)
        return Counts(sum(len(b.user) for b in batches) / n, sum(users) / n, sum(items) / n, n)


def terms(assembly: Assembly, counts: Counts) -> list[Term]:
    """What a step of this model must do; empty where we have no account of it."""
    model = assembly.model
    width = ACCOUNTED.get(model.name)
    if width is None:
        return []
    assert isinstance(model, BPR | LightGCN | VBPR | FREEDOM)
    row = model.cfg.dim * _FLOAT
    found: list[Term] = []
    if isinstance(model, LightGCN):
        found += _propagation(model.graph.to_user.values, model.n_users, model.n_items, row, model.cfg.layers)
    if isinstance(model, FREEDOM):
        kept = model.pruned.to_user.values
        found += _propagation(kept, model.n_users, model.n_items, row, model.cfg.layers)
        matrix = model.similar.matrix
        found += _product(
            "item graph", len(matrix.values), model.n_items, row, "gather items", 2 * model.cfg.item_layers
        )
    found.append(Term("batch rows read: users", counts.batch * row * width, "gather users"))
    found.append(Term("batch rows read: items", 2 * counts.batch * row * width, "gather items"))
    if isinstance(model, LightGCN) and model.cfg.reg > 0:
        found.append(Term("batch rows read: users, for the penalty", counts.batch * row, "gather users"))
        found.append(Term("batch rows read: items, for the penalty", 2 * counts.batch * row, "gather items"))
    if isinstance(model, FREEDOM) and model.cfg.reg > 0:
        found.append(Term("batch rows read: modalities", 2 * counts.batch * row * len(assembly.raw), "gather items"))
    found.append(Term("gradient rows written: users", counts.users * row * width, "gather users"))
    found.append(Term("gradient rows written: items", counts.items * row * width, "gather items"))
    for m in model.phi:
        flops = counts.items * assembly.raw[m].width * model.cfg.dim
        found.append(Term(f"projection of {m}", flops, f"product {m}"))
        found.append(Term(f"gradient of the projection of {m}", flops, f"gradient {m}"))
    numbers = sum(p.numel() for p in assembly.parameters() if p.requires_grad)
    return [*found, Term("Adam: 4 streams read, 3 written", 7 * _FLOAT * numbers, "stream")]


def _propagation(entries: Tensor, n_users: int, n_items: int, row: int, layers: int) -> list[Term]:
    """Both halves of the user–item graph, all layers, forward and back; each layer adds the first one to its result."""
    to_user = _product("users ← items", len(entries), n_users, row, "gather items", 2 * layers, added=True)
    return to_user + _product("items ← users", len(entries), n_items, row, "gather users", 2 * layers, added=True)


def _product(name: str, entries: int, rows: int, row: int, rate: str, times: int, added: bool = False) -> list[Term]:
    return [
        Term(f"{name}: rows gathered, {times}×", times * entries * row, rate),
        Term(f"{name}: entries and results, {times}×", times * (entries * _ENTRY + (1 + added) * rows * row), "stream"),
    ]


def rates(assembly: Assembly, counts: Counts, sampler: Sampler) -> dict[str, float]:
    """Bytes or multiply-adds a second of each rate that ``terms`` names, each the best of several runs."""
    needed = {term.rate for term in terms(assembly, counts)}
    if not needed:
        return {}
    model = assembly.model
    dim = int(getattr(model.cfg, "dim", 64))
    speeds = {"stream": stream(_LARGE), "stream, cached": max(stream(_LARGE), stream(footprint(assembly)))}
    for side, rows, ids in (("users", model.n_users, sampler.user), ("items", model.n_items, sampler.item)):
        speeds[f"gather {side}"] = gather(rows, dim, ids)
    for m in model.phi:
        forward, gradient = products(round(counts.items), assembly.raw[m].width, dim)
        speeds |= {f"product {m}": forward, f"gradient {m}": gradient}
    return {name: speed for name, speed in speeds.items() if name.removesuffix(", cached") in needed}


def footprint(assembly: Assembly) -> int:
    """Bytes that a step touches at least: parameters with gradient and moments, graphs, a batch's raw rows left out."""
    numbers = sum(p.numel() for p in assembly.parameters() if p.requires_grad)
    buffers = sum(b.numel() * b.element_size() for b in assembly.buffers() if b.numel() > 1)
    return 4 * _FLOAT * numbers + buffers


def stream(size: int) -> float:
    """Bytes a second of the faster of a copy and a triad (z = y + 2x), over ``size`` bytes in all."""
    x = torch.ones(max(size // (2 * _FLOAT), 1))
    y = torch.ones_like(x)
    copied = 2 * x.numel() * _FLOAT / best(lambda: x.copy_(y))
    third = 2 * len(x) // 3
    a, b, c = torch.ones(third), torch.ones(third), torch.ones(third)
    added = 3 * third * _FLOAT / best(lambda: torch.add(a, b, alpha=2.0, out=c))
    return max(copied, added)


def gather(rows: int, dim: int, ids: Tensor, bag: int = 64) -> float:
    """Bytes read a second when rows of ``dim`` numbers at ``ids`` are fetched and added up in bags."""
    values = torch.ones(rows, dim)
    at = ids.int()
    starts = torch.arange(0, len(at), bag, dtype=torch.int32)
    return len(at) * dim * _FLOAT / best(lambda: F.embedding_bag(at, values, starts, mode="sum"))


def products(n: int, r: int, d: int) -> tuple[float, float]:
    """Multiply-adds a second of (n, r)·(r, d) and of (d, n)·(n, r), each by the fastest way known to us."""
    n = -(-n // 16) * 16
    x, w, g = torch.rand(n, r), torch.rand(d, r), torch.rand(n, d)
    parts = x.view(16, -1, r)
    wt = w.T.expand(16, r, d)
    forward: list[Callable[[], object]] = [lambda: torch.mm(x, w.T), lambda: torch.bmm(parts, wt)]
    onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if torch.backends.mkldnn.is_available() and onednn is not None:
        forward.append(lambda: onednn(x, w, None, "none", [], ""))
    gradient: list[Callable[[], object]] = [lambda: torch.mm(g.T, x)]
    if r % 16 == 0:
        columns = x.view(n, 16, -1).transpose(0, 1)
        gradient.append(lambda: torch.bmm(g.T.expand(16, d, n), columns))
    work = float(n) * r * d
    return work / min(map(best, forward)), work / min(map(best, gradient))


def best(run: Callable[[], object], seconds: float = 0.2) -> float:
    """Seconds of the fastest of the runs that fit into ``seconds`` (at least five), after one to warm up."""
    run()
    times: list[float] = []
    while len(times) < 5 or sum(times) < seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def seconds(found: list[Term], speeds: Mapping[str, float], counts: Counts, cached: bool = False) -> dict[str, float]:
    """Term → seconds an epoch; ``cached``: with tables that stay in cache."""

    def speed(rate: str) -> float:
        return speeds[f"{rate}, cached"] if cached and f"{rate}, cached" in speeds else speeds[rate]

    return {term.what: counts.steps * term.amount / speed(term.rate) for term in found}
