"""The least time that an epoch of training could take on this machine: counts of what must move or be multiplied, over speeds
measured here.

A floor is a list of terms, each an amount (bytes or multiply-adds) in one step, and the measured rate that it is divided by.
The amounts are read off one step of the model itself, whatever model it is: a listener writes down every product and every
gather that PyTorch is asked for, forward and backward. Only these count:

- a product of dense matrices: its multiply-adds, by shape;
- a sparse product: its indices and values read, a row fetched for each entry, each row of the result written;
- a dense product taken at the places of a sparse matrix alone: a row fetched for each place;
- rows taken out of a table at ids, and gradients added into one: the bytes of those rows, once (not those of raw features:
  the products' reading of them is part of their measured speed);
- Adam reads parameter, gradient and two moments and writes three of them back: seven streams.

All that works number by number (activations, norms, softmax, losses, sums of layers), every temporary, the zeros of a
gradient, drawing negatives and thinning a graph are free in this account. What a model multiplies without need would be
counted too: for BPR, LightGCN, VBPR and FREEDOM the amounts are checked against the papers' equations (the tests say how).

Speeds are measured between the epochs they are compared with, in the same process and on the same threads, and the best of
several is taken: copies and triads; gathers of rows from tables of the model's size at random places, warm; products of the
step's own shapes, by the fastest of the library's ways that we know.

Streams have two speeds, so there are two floors. From *memory*: copies and triads over more than any cache holds. From *cache*:
over as much as the parameters with their gradients and moments and the graph take, which at Baby's size may fit the last
level. The second is the harder one, and a bound only as long as nothing else that a step touches pushes those tables out.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from prismrec.assembly import Assembly
from prismrec.sampling import Sampler

_LARGE = 400 << 20  # bytes that no cache holds
_FLOAT, _ENTRY = 4, 8  # bytes of a number; of an index and a value of a sparse matrix
_SMALL = 1_000_000  # multiply-adds: products below are taken together, at the speed of the largest of them

Shape = tuple[int, int, int]  # (m, k)·(k, n)


@dataclass(frozen=True)
class Term:
    """``amount`` of one step, in bytes or, where ``rate`` is a product's, in multiply-adds."""

    what: str
    amount: float
    rate: str


@dataclass(frozen=True)
class Counts:
    """Rows of a batch, and how many steps of that size an epoch has."""

    batch: int
    steps: float

    @staticmethod
    def of(sampler: Sampler) -> Counts:
        """The size of a full batch."""
        batch = min(sampler.batch_size, len(sampler.user))
        return Counts(batch, len(sampler.user) / batch)


@dataclass
class Step(TorchDispatchMode):
    """Listens to a step: multiply-adds by shape, sparse products and rows fetched by the size of their table."""

    products: Counter[Shape] = field(default_factory=Counter)
    sparse: Counter[tuple[int, int, int, int]] = field(default_factory=Counter)  # entries, rows, table's rows, width
    rows: Counter[tuple[int, int]] = field(default_factory=Counter)  # table's rows, width → rows read or written
    raw: frozenset[int] = frozenset()  # where raw features lie: a product's reading of them is part of its speed

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in _PRODUCTS:
            shape, times = _shape(*[x for x in args if isinstance(x, Tensor)][-2:])
            self.products[shape] += times
        elif name in ("_embedding_bag", "_embedding_bag_forward_only"):
            table, indices, offsets = args[:3]
            self.sparse[(len(indices), len(offsets) - 1, *table.shape)] += 1
        elif name == "sparse_sampled_addmm":
            places, _, table = args[:3]
            self.rows[(table.shape[1], table.shape[0])] += places.values().numel()
        elif name in _ROWS:
            table, moved = (args[0], out) if name in _READ else (args[0], args[_ROWS[name]])
            if table.dim() == 2 and moved.dim() >= 2 and table.data_ptr() not in self.raw:
                self.rows[(table.shape[0], table.shape[1])] += moved.numel() // max(table.shape[1], 1)
        return out


_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm"}
_READ = {"index_select", "index", "embedding"}
_ROWS = {"index_select": 0, "index": 0, "embedding": 0, "index_add": 3, "index_add_": 3, "scatter_add_": 3}


def _shape(a: Tensor, b: Tensor) -> tuple[Shape, int]:
    """The shape of a product, and how many of them there are; parts that share a side are one product."""
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    if a.dim() == 2:
        return (m, k, n), 1
    if b.stride(0) == 0:
        return (len(a) * m, k, n), 1
    return ((m, k, len(a) * n), 1) if a.stride(0) == 0 else ((m, k, n), len(a))


def listen(assembly: Assembly, sampler: Sampler) -> Step:
    """One full batch, forward and backward."""
    batch = next(sampler.epoch(0))
    assembly.train()
    assembly.loss(batch)  # memory and caches that only a first step makes
    step = Step(raw=frozenset(raw.values.data_ptr() for raw in assembly.raw.values()))
    with step:
        torch.stack(list(assembly.loss(batch).values())).sum().backward()
    for parameter in assembly.parameters():
        parameter.grad = None
    return step


def terms(assembly: Assembly, step: Step) -> list[Term]:
    """What a step like this one must do; empty where nothing is trained."""
    if not assembly.trainable:
        return []
    found: list[Term] = []
    gathered: Counter[str] = Counter()
    for (entries, rows, table, width), times in step.sparse.items():
        gathered[f"gather {table} × {width}"] += times * entries * width * _FLOAT
        found.append(
            Term(
                f"sparse {rows} × {table} ({entries:,} entries) · {width}, {times}×: entries and results",
                times * (entries * _ENTRY + rows * width * _FLOAT),
                "stream",
            )
        )
    for (table, width), moved in step.rows.items():
        gathered[f"gather {table} × {width}"] += moved * width * _FLOAT
    found += [Term(f"rows of {rate.removeprefix('gather ')} fetched", n, rate) for rate, n in gathered.items()]
    for shape, times in large(step).items():
        found.append(Term(f"product {_text(shape)}, {times}×", times * _work(shape), f"product {_text(shape)}"))
    small = sum(times * _work(shape) for shape, times in step.products.items() if _work(shape) < _SMALL)
    if small:
        largest: Shape = max(step.products, key=_work)
        found.append(Term("small products", small, f"product {_text(largest)}"))
    numbers = sum(p.numel() for p in assembly.parameters() if p.requires_grad)
    return [*found, Term("Adam: 4 streams read, 3 written", 7 * _FLOAT * numbers, "stream")]


def large(step: Step) -> dict[Shape, int]:
    """The products that are worth a line of their own."""
    return {shape: times for shape, times in step.products.items() if _work(shape) >= _SMALL}


def _work(shape: Shape) -> int:
    m, k, n = shape
    return m * k * n


def _text(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def rates(assembly: Assembly, step: Step) -> dict[str, float]:
    """Bytes or multiply-adds a second of each rate that ``terms`` names, each the best of several runs."""
    needed = {term.rate for term in terms(assembly, step)}
    speeds: dict[str, float] = {}
    for rate in needed:
        kind, _, size = rate.partition(" ")
        if kind == "stream":
            speeds |= {"stream": stream(_LARGE), "stream, cached": max(stream(_LARGE), stream(footprint(assembly)))}
        elif kind == "gather":
            rows, width = map(int, size.split(" × "))
            speeds[rate] = gather(rows, width)
        else:
            m, k, n = map(int, size.split("×"))
            speeds[rate] = multiply(m, k, n)
    return speeds


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


def gather(rows: int, width: int, count: int = 100_000, bag: int = 64) -> float:
    """Bytes read a second when rows of a table (rows, width) at random places are fetched and added up in bags."""
    values = torch.ones(rows, width)
    at = torch.randint(rows, (count,), dtype=torch.int32)
    starts = torch.arange(0, count, bag, dtype=torch.int32)
    return count * width * _FLOAT / best(lambda: F.embedding_bag(at, values, starts, mode="sum"))


def multiply(m: int, k: int, n: int) -> float:
    """Multiply-adds a second of (m, k)·(k, n), by the fastest way known to us."""
    x, w = torch.rand(m, k), torch.rand(k, n)
    out = torch.empty(m, n)
    ways: list[Callable[[], object]] = [lambda: torch.mm(x, w, out=out), lambda: torch.mm(x, w.T.contiguous().T)]
    if m % 16 == 0:  # by rows, side by side
        parts, same = x.view(16, -1, k), w.expand(16, k, n)
        ways.append(lambda: torch.bmm(parts, same))
    if n % 16 == 0:  # by columns
        columns = w.view(k, 16, -1).transpose(0, 1)
        ways.append(lambda: torch.bmm(x.expand(16, m, k), columns))
    return float(m) * k * n / min(map(best, ways))


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
