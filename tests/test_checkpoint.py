"""What is saved comes back to the bit; what was changed is refused; what is written counts only when all of it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from prismrec.checkpoint import Checkpoints, Progress, load_module, pack, unpack
from prismrec.errors import PrismError

PROGRESS = Progress(
    epoch=3, best=0.1 + 0.2, best_epoch=2, seconds=1.5, done=True, why="all 3 epochs",
    history=({"epoch": 1}, {"epoch": 2}, {"epoch": 3}),
)  # fmt: skip


def tensors(seed: int) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {"module.a": torch.randn(3, 2, generator=rng), "optimizer.0.step": torch.tensor(7.0)}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_progress_and_tensors_come_back(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    assert not kept.exists() and kept.history() == ()
    kept.save(PROGRESS, tensors(1), tensors(2))
    progress, last, best = Checkpoints(tmp_path).load()
    assert progress == PROGRESS and kept.history() == PROGRESS.history
    for got, put in ((last, tensors(1)), (best, tensors(2))):
        assert set(got) == set(put) and all(torch.equal(got[name], put[name]) for name in put)
    assert names(tmp_path) == ["best-2.safetensors", "checkpoint.json", "last-3.safetensors"]


def test_before_anything_was_validated_there_is_no_best_value(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(Progress(epoch=1, history=({"epoch": 1},)), tensors(1), tensors(2))
    assert kept.load()[0].best == float("-inf")
    assert json.loads((tmp_path / "checkpoint.json").read_text())["progress"]["best"] is None


def test_old_files_go_and_an_unchanged_best_is_not_written_again(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(PROGRESS, tensors(1), tensors(2))
    written = (tmp_path / "best-2.safetensors").stat().st_mtime_ns
    kept.save(replace(PROGRESS, epoch=4), tensors(3), tensors(2))
    assert names(tmp_path) == ["best-2.safetensors", "checkpoint.json", "last-4.safetensors"]
    assert (tmp_path / "best-2.safetensors").stat().st_mtime_ns == written
    kept.save(replace(PROGRESS, epoch=5, best_epoch=5), tensors(4), tensors(4))
    assert names(tmp_path) == ["best-5.safetensors", "checkpoint.json", "last-5.safetensors"]


@pytest.mark.parametrize("which", [1, 2])
def test_a_save_that_fails_leaves_the_earlier_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    from safetensors.torch import save_file

    kept = Checkpoints(tmp_path)
    kept.save(PROGRESS, tensors(1), tensors(2))
    calls = 0

    def full(given: dict[str, torch.Tensor], path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == which:
            raise OSError(28, "No space left on device")
        save_file(given, path)

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space"):
        kept.save(replace(PROGRESS, epoch=4, best_epoch=4), tensors(3), tensors(3))
    monkeypatch.undo()
    progress, last, best = kept.load()
    assert progress == PROGRESS and torch.equal(last["module.a"], tensors(1)["module.a"])
    assert torch.equal(best["module.a"], tensors(2)["module.a"])
    kept.save(replace(PROGRESS, epoch=5), tensors(3), tensors(2))
    assert names(tmp_path) == ["best-2.safetensors", "checkpoint.json", "last-5.safetensors"]


@pytest.mark.parametrize("key", ["epoch", "best_epoch", "best", "done", "history"])
def test_a_changed_index_is_refused(tmp_path: Path, key: str) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(PROGRESS, tensors(1), tensors(2))
    content = json.loads(kept.index.read_text())
    content["progress"][key] = 0
    kept.index.write_text(json.dumps(content))
    for use in (kept.load, kept.history, lambda: kept.save(PROGRESS, tensors(1), tensors(2))):
        with pytest.raises(PrismError, match="does not match the checksum"):
            use()


OPTIMIZERS = [
    (torch.optim.Adam, {"fused": True}),
    (torch.optim.AdamW, {"fused": True}),
    (torch.optim.SGD, {"fused": True}),
    (torch.optim.SGD, {"momentum": 0.9}),
    (torch.optim.Adagrad, {"fused": True}),
]


@pytest.mark.parametrize(("kind", "options"), OPTIMIZERS)
def test_optimizers_go_on_in_the_same_bits(kind: type[torch.optim.Optimizer], options: dict[str, object]) -> None:
    def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        return module, kind(module.parameters(), lr=0.1, **options)  # type: ignore[call-arg]

    def step(module: nn.Module, optimizer: torch.optim.Optimizer, i: int) -> None:
        optimizer.zero_grad()
        x = torch.randn(5, 4, generator=torch.Generator().manual_seed(i))
        module(x).square().sum().backward()
        optimizer.step()

    scaler = torch.amp.GradScaler("cpu", enabled=False)
    straight = fresh()
    for i in range(6):
        step(*straight, i)
    first, second = fresh(), fresh()
    for i in range(3):
        step(*first, i)
    unpack(pack(*first, scaler), *second, scaler)
    for i in range(3, 6):
        step(*second, i)
    ours, theirs = pack(*second, scaler), pack(*straight, scaler)
    assert set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_scale_of_half_precision_is_kept() -> None:
    module = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=True)
    scaler.scale(module(torch.ones(1, 2)).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    packed = pack(module, optimizer, scaler)
    other = torch.amp.GradScaler("cpu", enabled=True)
    unpack(packed, nn.Linear(2, 2), optimizer, other)
    assert other.state_dict() == scaler.state_dict() and isinstance(other.state_dict()["growth_interval"], int)
    assert other.get_scale() == 2.0**10


def test_tensors_of_another_module_are_refused() -> None:
    module = nn.Linear(2, 3)
    before = module.weight.detach().clone()
    for state, said in (
        ({"weight": torch.zeros(3, 4), "bias": torch.zeros(3)}, r"weight is \(3, 4\) there and \(3, 2\) here"),
        ({"weight": torch.zeros(3, 2)}, r"bias is absent there and \(3,\) here"),
        ({**module.state_dict(), "more": torch.zeros(1)}, r"more is \(1,\) there and absent here"),
    ):
        with pytest.raises(PrismError, match=said):
            load_module(module, state)
    assert torch.equal(module.weight, before)
