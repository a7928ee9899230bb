"""Tables of which each process holds some rows: parameters and what the optimizer keeps of them, on ``DTensor`` and FSDP2.

Every process takes the whole batch. Rows that it touches are looked up where they lie and added up over the processes (all
but one add zeros), so that each computes the loss of the batch as one process would: nothing hangs on how many they are, a
norm of the batch or a contrast among its rows included. Each then trains the rows that it holds.

Tables that a model only takes rows from (``Model.row_tables``) are never whole where training goes on. All other parameters
are gathered for a step and their gradients scattered after it, as ``fully_shard`` does.

A checkpoint is that of a single process, gathered tensor by tensor in the memory of the first: any number may go on with it.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from prismrec.assembly import Assembly
from prismrec.checkpoint import load_module, strip
from prismrec.checkpoint import unpack as unpack_
from prismrec.nn import Raw
from prismrec.parallel import Crew


def spread(assembly: Assembly, crew: Crew) -> Assembly:
    """A copy on the crew's device whose parameters are spread over the processes by rows; ``assembly`` must be the same in all.

    One process alone, or a crew that takes parts of batches, keeps ``assembly`` itself.
    """
    if not crew.spreads:
        return assembly
    # these must be loaded late: they take longer than the rest of a start
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(crew.device.type, (crew.size,))
    tables = [getattr(assembly.model, name) for name in assembly.model.row_tables]
    tables = [
        table for table in tables if _start(len(table), crew.size - 1, crew.size) < len(table)
    ]  # some rows for each
    parts = {id(table): nn.Parameter(_part(table.detach(), mesh, crew)) for table in tables}
    out = copy.deepcopy(assembly, dict(parts)).to(crew.device)  # deepcopy takes what it is given for what it would copy
    out.raw = {
        m: Raw(raw.values.to(crew.device), raw.present.to(crew.device), raw.learned) for m, raw in out.raw.items()
    }
    single = {p for p in out.parameters() if p.dim() == 0}  # every process has those, and trains them alike
    fully_shard(out, mesh=mesh, ignored_params={*parts.values(), *single})
    for method in ("start_epoch", "loss", "represent"):
        register_fsdp_forward_method(out, method)
    return out


def whole(tensors: dict[str, Tensor], crew: Crew) -> dict[str, Tensor]:
    """The same with what is spread gathered, one after the other, on the CPU of the first; the others get none of it."""
    made = {name: _gathered(value, crew) if is_spread(value) else value for name, value in tensors.items()}
    return {name: value for name, value in made.items() if value is not None}


def settle(assembly: Assembly, home: Assembly, crew: Crew) -> None:
    """Give ``home`` of the first process the numbers of ``assembly``, which ``spread`` made of it."""
    if assembly is not home:
        state = whole(assembly.state_dict(), crew)
        if crew.first:
            load_module(home, state)


def unpack(
    tensors: dict[str, Tensor],
    assembly: Assembly,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    crew: Crew,
) -> None:
    """``checkpoint.unpack`` of whole tensors into an ``assembly`` and its optimizer, which may be spread."""
    targets: dict[str, Any] = {f"module.{name}": value for name, value in assembly.state_dict().items()}
    for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        targets |= {f"optimizer.{i}.{name}": p for name in strip(tensors, f"optimizer.{i}.")}
    parts = {}
    for name, value in tensors.items():
        target = targets.get(name, value)
        here = is_spread(target) and target.shape == value.shape
        parts[name] = _part(value, target.device_mesh, crew) if here else value
    unpack_(parts, assembly, optimizer, scaler)


def is_spread(value: Any) -> bool:
    """Whether its rows lie with several processes."""
    return hasattr(value, "full_tensor")


def _start(rows: int, rank: int, size: int) -> int:
    """The first of so many rows that a process holds; all hold as many, but for the last, as FSDP and ``chunk`` have it."""
    return min(rank * -(-rows // size), rows)


def _part(table: Tensor, mesh: Any, crew: Crew) -> Tensor:
    """``table`` spread over the crew, of which only the rows of this process are copied."""
    from torch.distributed.tensor import DTensor, Shard

    first, last = (_start(len(table), rank, crew.size) for rank in (crew.rank, crew.rank + 1))
    own = table[first:last].to(crew.device, copy=True)
    return DTensor.from_local(own, mesh, [Shard(0)], run_check=False, shape=table.shape, stride=table.stride())


def _gathered(value: Any, crew: Crew) -> Tensor | None:
    """All rows on the CPU of the first. One process's at a time, so that no device holds them all."""
    own, parts = value.to_local().contiguous(), []
    for rank in range(crew.size):
        rows = _start(len(value), rank + 1, crew.size) - _start(len(value), rank, crew.size)
        part = own if rank == crew.rank else own.new_empty(rows, *own.shape[1:])
        if rows:
            torch.distributed.broadcast(part, rank)
        if crew.first:
            parts.append(part.cpu())
    return torch.cat(parts) if crew.first else None
