"""Full ranking at the size of Baby: every user × every item, top 50, six metrics; beside it the floor of this machine.

    python benchmarks/evaluation.py [--threads 4] [--repeats 7] [--alternatives] [--users 19445 --items 7050 --width 64]

The floor is the matrix product of the same blocks on the same threads and nothing else. Runs of all lines are interleaved and
the best of each is printed (the least disturbed), with the median beside it. ``--alternatives`` compares ways to select.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks.timing import rounds
from prismrec import ranking
from prismrec.data.dataset import Interactions
from prismrec.evaluate import METRICS, Evaluator
from prismrec.ranking import Csr, top_k
from prismrec.types import Reps, Rows


def interactions(rng: np.random.Generator, n: int, n_users: int, n_items: int) -> Interactions:
    """Rows whose items follow a power law; every user has one."""
    user = np.concatenate([np.arange(n_users), rng.integers(0, n_users, n - n_users)])
    return Interactions(user.astype(np.int32), (n_items * rng.random(n) ** 3).astype(np.int32))


def show(seconds: dict[str, list[float]], floor: str) -> None:
    base = min(seconds[floor])
    print(f"{'':44}{'best s':>9}{'median s':>10}{'× floor':>9}")
    for name, values in seconds.items():
        print(f"{name:44}{min(values):9.3f}{float(np.median(values)):10.3f}{min(values) / base:9.1f}")


def product(user: Tensor, item: Tensor) -> Callable[[], None]:
    """The matrix product alone, in the blocks and threads that ranking uses."""
    right = item.t()

    def work(start: int, stop: int, buffer: Tensor) -> None:
        torch.mm(user[start:stop], right, out=buffer[: stop - start])

    return lambda: ranking._run(work, len(user), len(item), user.device, user.dtype)


def by_topk(block: Tensor, k: int) -> Tensor:
    return block.topk(k).indices


def by_sort(block: Tensor, k: int) -> Tensor:
    return block.sort(dim=1, descending=True, stable=True).indices[:, :k]


def by_partition(block: Tensor, k: int) -> Tensor:
    scores = block.numpy()
    best = np.argpartition(scores, -k, axis=1)[:, -k:]
    order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
    return torch.from_numpy(np.take_along_axis(best, order, 1))


def above(block: Tensor, threshold: Tensor, k: int) -> Tensor:
    """Top k among the columns at or above a threshold that at least k of them reach."""
    row, column = (block >= threshold).nonzero(as_tuple=True)
    counts = torch.bincount(row, minlength=len(block))
    place = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
    wide = int(counts.max())
    values, ids = torch.full((len(block), wide), -torch.inf), torch.zeros(len(block), wide, dtype=torch.int64)
    values[row, place], ids[row, place] = block[row, column], column
    return ids.gather(1, values.topk(k).indices)


def by_kth_value(block: Tensor, k: int) -> Tensor:
    return above(block, block.kthvalue(block.shape[1] - k + 1, dim=1, keepdim=True).values, k)


def by_sample(block: Tensor, k: int) -> Tensor:
    """A bound from an eighth of the columns: their k-th best is at most the k-th best of all."""
    sample = block[:, ::8].topk(k, sorted=True).values[:, -1:]
    return above(block, sample, k)


def by_groups(block: Tensor, k: int) -> Tensor:
    """One level of groups of twelve."""
    n, width = block.shape
    padded = torch.nn.functional.pad(block, (0, -width % 12), value=-torch.inf)
    n_groups = padded.shape[1] // 12
    groups = padded.view(n, 12, n_groups).amax(1).topk(k, sorted=False).indices
    columns = (groups.unsqueeze(1) + torch.arange(0, padded.shape[1], n_groups).view(1, -1, 1)).view(n, -1)
    return columns.gather(1, padded.gather(1, columns).topk(k).indices)


def selecting(user: Tensor, item: Tensor, select: Callable[[Tensor, int], Tensor], k: int) -> Callable[[], None]:
    """The product and a way to select, in the same blocks and threads, without masks and rules for ties."""
    right, out = item.t(), torch.empty(len(user), k, dtype=torch.int64)

    def work(start: int, stop: int, buffer: Tensor) -> None:
        block = buffer[: stop - start]
        torch.mm(user[start:stop], right, out=block)
        out[start:stop] = select(block, k)

    return lambda: ranking._run(work, len(user), len(item), user.device, user.dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=19_445)
    parser.add_argument("--items", type=int, default=7_050)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rows", type=int, default=118_551, help="training rows, which are masked")
    parser.add_argument("--targets", type=int, default=20_559, help="held-out rows")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--alternatives", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    train = interactions(rng, args.rows, args.users, args.items)
    target = interactions(rng, args.targets, args.users, args.items)
    seen = Csr.of(train.user, train.item, args.users)
    user = torch.randn(args.users, args.width, generator=generator)
    item = torch.randn(args.items, args.width, generator=generator)
    k = 50
    evaluator = Evaluator(target, seen, args.items, METRICS)
    lists = evaluator.rank(Reps(user, Rows(item)))
    counts = torch.bincount(torch.from_numpy(train.item).long(), minlength=args.items).float()
    popular = Reps(torch.ones(args.users, 1), Rows(counts.unsqueeze(1)))
    rows = Csr(seen.indptr, seen.indices, torch.ones(len(seen.indices))).tensor(args.items)
    closed = Reps(rows, Rows(torch.randn(args.items, args.items, generator=generator).t()))
    floor = "floor: the matrix product alone"
    lines: dict[str, Callable[[], object]] = {
        floor: product(user, item),
        f"ranking: masked, exact, ties in order, top {k}": lambda: top_k(user, item, k, seen),
        "hits and six metrics at K = 5, 10, 20, 50": lambda: evaluator.evaluate_lists(lists),
        "evaluation: all of it": lambda: evaluator(Reps(user, Rows(item))),
        "evaluation of MostPop (ties everywhere)": lambda: evaluator(popular),
        "evaluation of zeros (all scores equal)": lambda: evaluator(Reps(torch.zeros_like(user), Rows(item))),
        "evaluation of EASE (sparse × dense I × I)": lambda: evaluator(closed),
    }
    print(
        f"{args.users:,} users × {args.items:,} items, d = {args.width}, {args.threads} threads, "
        f"torch {torch.__version__}, {platform.processor() or platform.machine()}"
    )
    show(rounds(lines, args.repeats), floor)
    gemm = 2 * args.users * args.items * args.width / 1e9
    print(f"The product is {gemm:.1f} GFLOP.")
    if args.alternatives:
        print("\nProduct and selection alone, by method (no masks, no rule for ties):")
        levels = ranking._levels(args.items, k)
        wide = -(-args.items // ranking._GROUP**levels) * ranking._GROUP**levels
        padded = torch.nn.functional.pad(item, (0, 0, 0, wide - args.items))
        others: dict[str, Callable[[], object]] = {
            floor: product(user, item),
            f"groups of {ranking._GROUP}, {levels} levels (ours)": selecting(
                user, padded, lambda block, k: ranking._candidates(block, k, levels, True)[1], k
            ),
            "groups of 12, one level": selecting(user, item, by_groups, k),
            "torch.topk": selecting(user, item, by_topk, k),
            "threshold from a sample, then those above": selecting(user, item, by_sample, k),
            "torch.kthvalue, then those above": selecting(user, item, by_kth_value, k),
            "numpy.argpartition": selecting(user, item, by_partition, k),
            "torch.sort, stable": selecting(user, item, by_sort, k),
        }
        show(rounds(others, max(args.repeats // 2, 1)), floor)


if __name__ == "__main__":
    main()
