"""Tables spread over two processes: every model comes to what one process comes to, and either goes on for the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from program import call, planted
from test_parallel import alone
from tiny import context, made
from torch import Tensor

from prismrec import shards
from prismrec.checkpoint import Checkpoints
from prismrec.errors import PrismError
from prismrec.index import Index
from prismrec.models import MODELS, model_named
from prismrec.models.base import Context
from prismrec.parallel import Crew
from prismrec.sampling import Sampler
from prismrec.train import TrainConfig, fit
from prismrec.types import Batch, Reps

QUICK = ["vbpr", "mgcn"]  # tables of which rows are taken; a graph, and a contrast within the batch
TRAINED = [model.name for model in MODELS if made(model, context(2)).trainable]


def trained(name: str, epochs: int, folder: Path, crew: Crew, **settings: Any) -> tuple[list[float], dict[str, Tensor]]:
    """Losses of all epochs, and the weights in the end."""
    ctx = context(2)
    assembly = made(model_named(name), ctx)
    sampler = Sampler(ctx.user, ctx.item, None, ctx.n_users, ctx.n_items, batch_size=16, n_neg=assembly.n_neg,
                      n_fresh=assembly.n_fresh, seed=1)  # fmt: skip

    def validate(reps: Reps) -> dict[str, float]:
        return {"recall@20": float(reps.user.detach().abs().sum())}

    cfg = TrainConfig(epochs=epochs, lr=0.01, checkpoint_seconds=0.0, **settings)
    progress = fit(assembly, sampler, validate, cfg, Checkpoints(folder / name), None, crew)
    return [record["loss"] for record in progress.history], assembly.state_dict()


def process(rank: int, names: Sequence[str], folder: str, settings: dict[str, Any]) -> None:
    """What each of two processes does: two epochs, then a third as one that was started again."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    crew = Crew(rank, 2, shard=True)
    for name in names:
        trained(name, 2, Path(folder), crew, **settings)
        torch.distributed.barrier()  # who begins again finds what the first has written
        losses, weights = trained(name, 3, Path(folder), crew, **settings)
        if crew.first:
            kept = {key: value for key, value in weights.items() if value.layout == torch.strided}
            torch.save({"losses": torch.tensor(losses, dtype=torch.float64), **kept}, f"{folder}/{name}.pt")
    torch.distributed.destroy_process_group()


def check(names: Sequence[str], folder: Path, **settings: Any) -> None:
    (folder / "two").mkdir()
    torch.multiprocessing.spawn(process, (list(names), str(folder / "two"), settings), nprocs=2)
    for name in names:
        losses, weights = trained(name, 3, folder / "one", Crew(), **settings)
        found = torch.load(folder / "two" / f"{name}.pt", weights_only=True)
        assert found.pop("losses").tolist() == pytest.approx(losses, rel=1e-5), name
        for key, value in found.items():
            torch.testing.assert_close(value, weights[key], rtol=1e-3, atol=1e-4, msg=f"{name}: {key}")


def test_two_processes_with_spread_tables_come_to_what_one_comes_to_and_one_goes_on_for_them(tmp_path: Path) -> None:
    check(QUICK, tmp_path)
    for name in QUICK:  # the checkpoint of two is that of one
        theirs, _ = trained(name, 4, tmp_path / "two", Crew())
        ours, _ = trained(name, 4, tmp_path / "one", Crew())
        assert theirs == pytest.approx(ours, rel=1e-5), name


@pytest.mark.slow
def test_so_do_all_models(tmp_path: Path) -> None:
    assert len(TRAINED) > 20
    check(TRAINED, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "adagrad"])
def test_so_do_other_optimizers_and_clipping(optimizer: str, tmp_path: Path) -> None:
    check(["bpr", "vbpr", "ssr"], tmp_path, optimizer=optimizer, clip=0.1, weight_decay=1e-3)


@pytest.mark.parametrize("name", [model.name for model in MODELS if model.row_tables])
def test_tables_said_to_be_taken_by_rows_are_asked_for_nothing_else(name: str) -> None:
    """A model that did more with them would fail in the middle of a step, or gather them."""
    ctx: Context = context(2)
    assembly = made(model_named(name), ctx)
    sampler = Sampler(ctx.user, ctx.item, None, ctx.n_users, ctx.n_items, batch_size=4, n_neg=assembly.n_neg)
    batch: Batch = next(sampler.epoch(0))
    sum(assembly.loss(batch).values()).backward()  # type: ignore[union-attr]
    for key in assembly.model.row_tables:
        grad = getattr(assembly.model, key).grad
        ids = batch.user if len(grad) == ctx.n_users else batch.items
        others = torch.ones(len(grad), dtype=torch.bool).index_fill_(0, ids, False)
        assert others.any() and not grad[others].any()


def test_alone_nothing_is_spread_and_a_crew_needs_company() -> None:
    assembly = made(model_named("bpr"), context(0))
    assert shards.spread(assembly, Crew(shard=True)) is assembly
    said = call("train", "data", "--model", "bpr", "--shard")
    assert said.status == 2 and "say how many with --workers" in said.sentence
    with pytest.raises(PrismError, match=r"neither train\.compile nor"):
        trained("bpr", 1, Path("x"), Crew(0, 2, shard=True), precision="fp16")


@pytest.mark.slow
def test_the_command_line_spreads_them_too(tmp_path: Path) -> None:
    from test_parallel import start

    data = planted(tmp_path / "data")
    process_ = start(data, tmp_path / "run", 2, "--shard")
    _, err = process_.communicate(timeout=120)
    assert process_.returncode == 0, err
    index, _ = alone(data, 2)
    for mine, other in zip(index.sides["fused"], Index.load(tmp_path / "run" / "index").sides["fused"], strict=True):
        torch.testing.assert_close(other, mine, rtol=1e-3, atol=1e-4)
