"""Several processes that train one model together: each takes its part of every batch, and gradients are averaged.

Each process holds the whole model and the whole graph, unless tables are spread (``prismrec.shards``). A loss that is a mean
over the rows of a batch gives what one process gives, up to rounding; one that sets the rows of a batch against each other
(in-batch InfoNCE) sees those of its own part, and noise that is drawn for each row differs. ``torch.distributed`` carries the
numbers; ``torchrun``, its elastic launcher or Ray starts the processes, and starts them again when one is lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from prismrec.types import Batch


@dataclass(frozen=True)
class Crew:
    """The process of number ``rank`` of ``size`` that train together; by default there is no other.

    ``device``: where the numbers that are exchanged must lie. ``shard``: each takes the whole batch and holds a part of the
    tables (see ``prismrec.shards``); else a part of the batch, and holds them whole.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    shard: bool = False

    @property
    def first(self) -> bool:
        """Whether this is the one that validates, writes and speaks."""
        return self.rank == 0

    @property
    def spreads(self) -> bool:
        """Whether each holds a part of the tables."""
        return self.shard and self.size > 1

    def home(self, device: torch.device) -> torch.device:
        """Where a model is whole: on ``device``, or in the memory of the machine if it may be too large for that."""
        return torch.device("cpu") if self.spreads else device

    def share(self, batch: Batch) -> Batch:
        """The rows of a batch that this process takes: a stretch of them, of nearly the same length for all, perhaps empty."""
        if self.size == 1:
            return batch
        if self.shard:
            return batch if batch.user.device == self.device else batch.to(self.device)
        n = len(batch.user)
        rows = slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)
        return replace(
            batch,
            user=batch.user[rows],
            pos=batch.pos[rows],
            neg=batch.neg[rows].contiguous(),
            weight=None if batch.weight is None else batch.weight[rows],
            picks={name: picked[rows] for name, picked in batch.picks.items()},
            sizes=None,
        )

    def average(self, module: nn.Module, part: float) -> None:
        """Gradients of all, weighted by the ``part`` of the batch that each took, in place; what is spread needs none."""
        if self.size == 1 or self.shard:
            return
        trained = [p for p in module.parameters() if p.requires_grad]
        for p in trained:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad.mul_(part)
        flat = torch.cat([p.grad.reshape(-1) for p in trained if p.grad is not None])
        torch.distributed.all_reduce(flat)
        for p, summed in zip(trained, flat.split([p.numel() for p in trained]), strict=True):
            assert p.grad is not None
            p.grad.copy_(summed.view_as(p))

    def same(self, tensors: Iterable[Tensor]) -> None:
        """Give everybody the numbers of the first, in place.

        Sparse tensors are left: they were made of the same data. So are those that are spread: of each row there is one.
        """
        if self.size > 1:
            for tensor in tensors:
                if tensor.layout == torch.strided and not hasattr(tensor, "full_tensor"):
                    torch.distributed.broadcast(tensor.detach(), 0)

    def total(self, values: Tensor) -> Tensor:
        """The sum of everybody's ``values``, each of a part of the batch."""
        if self.size > 1 and not self.shard:
            torch.distributed.all_reduce(values)
        return values

    def told(self, values: Sequence[float]) -> list[float]:
        """What the first says; the others' ``values`` only have to be as many."""
        if self.size == 1:
            return list(values)
        said = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(said, 0)
        return [float(value) for value in said.tolist()]


def called() -> bool:
    """Whether this process was started as one of several, by ``torchrun`` or whoever sets what it sets."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def helper() -> bool:
    """Whether it is one of several, but not the first."""
    return called() and os.environ["RANK"] != "0"


@contextmanager
def joined(device: torch.device, shard: bool = False) -> Iterator[Crew]:
    """This process among those that it was started with; alone, if it was started alone. ``shard``: as ``Crew`` says."""
    if not called():
        yield Crew()
        return
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    begun = not torch.distributed.is_initialized()  # Ray has done it already
    if begun:
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        store, rank, size = next(rendezvous("env://"))
        # a launcher that starts all of them again may keep its store: addresses of those that are gone must not be found
        store = PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
        torch.distributed.init_process_group("nccl" if cuda else "gloo", store=store, rank=rank, world_size=size)
    try:
        place = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
        yield Crew(torch.distributed.get_rank(), torch.distributed.get_world_size(), place, shard)
    finally:
        if begun:
            torch.distributed.destroy_process_group()
