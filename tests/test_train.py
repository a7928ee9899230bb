"""The loop: when it stops, what it keeps, what it does to gradients, rates and precision, and what it shows."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from program import dataset
from pydantic import ValidationError
from rich.console import Console

from prismrec import experiment
from prismrec.assembly import Assembly
from prismrec.checkpoint import Checkpoints, Progress
from prismrec.cli.watch import Screen, clock
from prismrec.config import resolve
from prismrec.errors import PrismError
from prismrec.sampling import Sampler
from prismrec.train import TrainConfig, clone, fit, learning_rate, make_optimizer
from prismrec.types import Reps

DATA = dataset().development()


def assembled(model: str = "bpr", seed: int = 1, **train: Any) -> tuple[Assembly, Sampler, TrainConfig]:
    settings = {"batch_size": 128, "epochs": 1000, "lr": 0.01, **train}
    cfg = resolve({"model": {"name": model, "dim": 4}, "train": settings, "run": {"seed": seed}})
    return *experiment.assemble(cfg, DATA, torch.device("cpu")), cfg.train


def scripted(values: list[float]) -> Callable[[Reps], dict[str, float]]:
    """A validation that finds these values, one after the other."""
    left: Iterator[float] = iter(values)
    return lambda reps: {"recall@20": next(left)}


def trained(values: list[float], **train: Any) -> Progress:
    return fit(*assembled(**train)[:2], scripted(values), assembled(**train)[2])


def test_patience_counts_validations_without_a_strict_gain() -> None:
    progress = trained([0.1, 0.3, 0.3, 0.2, 0.3, 9.0], patience=3)
    assert (progress.epoch, progress.best_epoch, progress.best) == (5, 2, 0.3)
    assert progress.done and progress.why == "no gain in 3 validations"


def test_gains_are_compared_in_full_precision() -> None:
    small = [0.5, math.nextafter(0.5, 1), math.nextafter(0.5, 1), 0.5]
    progress = trained(small, patience=2)
    assert (progress.epoch, progress.best_epoch, progress.best) == (4, 2, small[1])


def test_the_first_validation_counts_even_at_zero() -> None:
    assert trained([0.0, 0.0], patience=1).best_epoch == 1


def test_patience_counts_validations_and_not_epochs() -> None:
    progress = trained([0.2, 0.1, 0.1, 9.0], patience=2, every=3)
    assert (progress.epoch, progress.best_epoch) == (9, 3)
    assert [record["valid"] is not None for record in progress.history] == [False, False, True] * 3


def test_the_last_epoch_of_a_budget_is_validated() -> None:
    progress = trained([0.1, 0.2], epochs=5, every=3)
    assert (progress.epoch, progress.best_epoch, progress.why) == (5, 5, "all 5 epochs")


def test_no_epochs_leave_the_initial_weights() -> None:
    assembly, sampler, cfg = assembled(epochs=0)
    before = clone(assembly)
    progress = fit(assembly, sampler, scripted([]), cfg)
    assert (progress.epoch, progress.best_epoch, progress.done) == (0, 0, True)
    assert all(torch.equal(value, before[name]) for name, value in assembly.state_dict().items())


def test_a_budget_of_time_ends_training_with_a_validated_epoch() -> None:
    progress = trained([0.4], seconds=1e-9, every=10)
    assert (progress.epoch, progress.best_epoch) == (1, 1) and progress.why == "time limit of 1e-09 s"


def test_the_weights_of_the_best_epoch_are_left() -> None:
    assembly, sampler, cfg = assembled(epochs=4)
    seen: list[dict[str, torch.Tensor]] = []
    values = iter([0.1, 0.9, 0.3, 0.2])

    def validate(reps: Reps) -> dict[str, float]:
        seen.append(clone(assembly))
        return {"recall@20": next(values)}

    fit(assembly, sampler, validate, cfg)
    assert all(torch.equal(value, seen[1][name]) for name, value in assembly.state_dict().items())
    assert any(not torch.equal(seen[1][name], seen[3][name]) for name in seen[1])


def test_a_metric_that_was_not_computed_is_refused() -> None:
    with pytest.raises(PrismError, match=r"train.metric is 'recall@20'.*Did you mean 'recall@2'"):
        fit(*assembled()[:2], lambda reps: {"recall@2": 1.0}, assembled()[2])


def test_a_model_without_parameters_is_not_trained() -> None:
    cfg = resolve({"model": {"name": "mostpop"}})
    assembly, sampler = experiment.assemble(cfg, DATA, torch.device("cpu"))
    assert fit(assembly, sampler, scripted([]), cfg.train) == Progress(done=True, why="nothing to train")


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "adagrad"])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_every_optimizer_learns_in_every_precision(optimizer: str, precision: str, tmp_path: Any) -> None:
    rate = 20.0 if optimizer == "sgd" else 0.05
    assembly, sampler, cfg = assembled(optimizer=optimizer, precision=precision, epochs=4, lr=rate)
    progress = fit(assembly, sampler, scripted([0.1, 0.2, 0.3, 0.4]), cfg)
    losses = [record["loss"] for record in progress.history]
    assert losses[-1] < losses[0] and all(math.isfinite(loss) for loss in losses)
    assert all(p.dtype == torch.float32 for p in assembly.parameters())


@pytest.mark.parametrize("train", [
    {"optimizer": "adam"}, {"optimizer": "adamw", "weight_decay": 0.1}, {"optimizer": "sgd"}, {"optimizer": "adagrad"},
    {"precision": "fp16"}, {"schedule": "exponential", "decay": 0.5, "decay_epochs": 1}, {"warmup": 3}, {"every": 2},
])  # fmt: skip
def test_two_halves_are_one_whole(train: dict[str, Any], tmp_path: Any) -> None:
    values = [0.1, 0.5, 0.3, 0.2, 0.6, 0.4]

    def validate_from(start: int) -> Callable[[Reps], dict[str, float]]:
        return scripted(values[start // train.get("every", 1) :])

    straight, sampler, cfg = assembled(**train, epochs=6)
    whole = fit(straight, sampler, validate_from(0), cfg)
    kept = Checkpoints(tmp_path)
    first, sampler, _ = assembled(**train)
    half = fit(first, sampler, validate_from(0), cfg.model_copy(update={"epochs": 4, "checkpoint_seconds": 0.0}), kept)
    assert half.epoch == 4
    second, sampler, _ = assembled(**train)
    rest = fit(second, sampler, validate_from(4), cfg, kept)

    def timeless(progress: Progress) -> Progress:
        rows = ({k: v for k, v in r.items() if not k.startswith("seconds")} for r in progress.history)
        return replace(progress, seconds=0.0, history=tuple(rows))

    assert timeless(rest) == timeless(whole)
    assert all(torch.equal(a, b) for a, b in zip(second.parameters(), straight.parameters(), strict=True))


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "adagrad"])
def test_optimizers_are_fused_on_the_cpu(name: str) -> None:
    assembly, _, cfg = assembled(optimizer=name, lr=0.02, weight_decay=0.1)
    (group,) = make_optimizer(assembly, cfg).param_groups
    assert group["fused"] is True and group["lr"] == 0.02 and group["weight_decay"] == 0.1
    with pytest.raises(ValidationError, match="optimizer"):
        TrainConfig(optimizer="rmsprop")  # type: ignore[arg-type]


def test_clipping_bounds_the_step() -> None:
    def moved(clip: float) -> float:
        assembly, sampler, cfg = assembled(optimizer="sgd", lr=1.0, clip=clip, epochs=1, batch_size=10_000)
        before = [p.detach().clone() for p in assembly.parameters()]
        fit(assembly, sampler, scripted([0.1]), cfg)
        total = sum(float((p.detach() - b).square().sum()) for p, b in zip(assembly.parameters(), before, strict=True))
        return math.sqrt(total)

    free = moved(0.0)
    assert free > 0.01
    assert moved(free / 4) == pytest.approx(free / 4, rel=1e-4)
    assert moved(free * 4) == pytest.approx(free, rel=1e-6)


def test_rates_are_a_function_of_the_epoch() -> None:
    def rates(n: int, **train: Any) -> list[float]:
        return [learning_rate(TrainConfig(lr=0.1, **train), epoch) for epoch in range(n)]

    assert rates(3) == [0.1] * 3
    assert rates(3, schedule="exponential", decay=0.5, decay_epochs=1) == pytest.approx([0.1, 0.05, 0.025])
    assert rates(5, schedule="exponential", decay=0.96, decay_epochs=50)[4] == pytest.approx(0.1 * 0.96 ** (4 / 50))
    assert rates(6, schedule="cosine", floor=0.2, decay_epochs=4) == pytest.approx(
        [
            0.1,
            0.1 * (0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2),
            0.06,
            0.1 * (0.2 + 0.8 * (1 - math.sqrt(0.5)) / 2),
            0.02,
            0.02,
        ]
    )
    assert rates(5, warmup=3) == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])


@given(
    st.sampled_from(["constant", "exponential", "cosine"]),
    st.floats(0.1, 1), st.floats(0, 1), st.integers(1, 30), st.integers(0, 10), st.integers(0, 100),
)  # fmt: skip
def test_no_rate_leaves_its_bounds(
    schedule: Any, decay: float, floor: float, span: int, warmup: int, epoch: int
) -> None:
    cfg = TrainConfig(lr=0.1, schedule=schedule, decay=decay, floor=floor, decay_epochs=span, warmup=warmup)
    assert 0 <= learning_rate(cfg, epoch) <= 0.1 * (1 + 1e-12)


def test_the_rate_of_an_epoch_is_the_one_it_was_trained_with() -> None:
    progress = trained([0.1, 0.2, 0.3], epochs=3, schedule="exponential", decay=0.5, decay_epochs=1)
    assert [record["lr"] for record in progress.history] == pytest.approx([0.01, 0.005, 0.0025])


def test_a_loss_that_is_not_finite_names_term_and_epoch_and_keeps_the_checkpoint(tmp_path: Any) -> None:
    assembly, sampler, cfg = assembled(checkpoint_seconds=0.0)
    kept = Checkpoints(tmp_path)

    def validate(reps: Reps) -> dict[str, float]:
        if kept.exists():
            with torch.no_grad():
                next(assembly.parameters())[0, 0] = float("nan")
        return {"recall@20": 0.5}

    with pytest.raises(PrismError, match=r"'rank' became nan in epoch 3.*Lower train.lr, set train.clip"):
        fit(assembly, sampler, validate, cfg, kept)
    progress, _, best = kept.load()
    assert progress.epoch == 2 and all(torch.isfinite(value).all() for value in best.values())


def test_an_epoch_leaves_the_random_state_of_its_caller_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    trained([0.1, 0.2], epochs=2)
    assert torch.equal(torch.random.get_rng_state(), before)


# what a person sees


def screen(terminal: bool = False, quiet: bool = False, **train: Any) -> tuple[Screen, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, quiet=quiet, width=200, color_system=None)
    return Screen(console, TrainConfig(**{"epochs": 100, "patience": 5, **train}), 50_000, "freedom+clear"), text


def told(shown: Screen, epochs: int, value: float = 0.25) -> Progress:
    progress = Progress()
    for epoch in range(1, epochs + 1):
        record = {
            "epoch": epoch, "lr": 0.1, "loss": 0.7, "terms": {"rank": 0.69314, "freedom.image": 0.00071234},
            "valid": {"recall@20": value}, "seconds": 2.0, "seconds_evaluation": 0.5,
        }  # fmt: skip
        progress = progress.after(record, value, 2.5)
        shown.step(epoch, 1, 1)
        shown.epoch(record, progress)
    return progress


def test_a_plain_line_says_metric_terms_speed_and_time_left() -> None:
    shown, text = screen()
    with shown:
        told(shown, 3)
    assert "building freedom+clear" in text.getvalue() and "\x1b" not in text.getvalue()
    line = text.getvalue().splitlines()[-1]
    for part in ("epoch    3", "recall@20 0.2500 (best 0.2500 at 1)", "rank 0.6931", "freedom.image 0.0007123",
                 "2.50 s", "25k rows/s", "left 0:08 to 4:02"):  # fmt: skip
        assert part in line


def test_time_left_is_bounded_by_the_budget_of_seconds() -> None:
    shown, _ = screen(seconds=10.0)
    progress = told(shown, 2)
    assert shown.left(progress) == (5.0, 5.0)


def test_an_epoch_that_was_not_validated_shows_no_metric() -> None:
    shown, _ = screen()
    record = {"epoch": 1, "terms": {"rank": 0.5}, "valid": None, "seconds": 1.0, "seconds_evaluation": 0.0}
    assert "recall" not in shown.line(record, Progress().after(record, float("-inf"), 1.0))


def test_quick_epochs_do_not_flood_a_log() -> None:
    shown, text = screen()
    with shown:
        told(shown, 200)
    assert len(text.getvalue().splitlines()) < 10


def test_a_terminal_shows_a_live_bar_and_keeps_the_last_line() -> None:
    shown, text = screen(terminal=True)
    with shown:
        told(shown, 2)
    assert "━━━━" in text.getvalue() and text.getvalue().rstrip().splitlines()[-1].lstrip("\x1b[0123456789AK").count(
        "rows/s"
    )


@pytest.mark.parametrize("terminal", [False, True])
def test_quiet_is_quiet(terminal: bool) -> None:
    shown, text = screen(terminal=terminal, quiet=True)
    with shown:
        told(shown, 3)
    assert text.getvalue() == ""


def test_clock() -> None:
    assert [clock(s) for s in (0, 59.6, 61, 3723)] == ["0:00", "1:00", "1:01", "1:02:03"]


# ------------------------------------------------------------------------------------------------------------ compiled


def test_compiling_is_asked_for_once_and_changes_no_bit_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def as_it_is(step: Any, **_: Any) -> Any:
        asked.append(step)
        return step

    monkeypatch.setattr(torch, "compile", as_it_is)
    found = []
    for compile_ in (False, True):
        assembly, sampler, cfg = assembled("vbpr", epochs=2, compile=compile_)
        fit(assembly, sampler, scripted([0.1, 0.2]), cfg)
        found.append(assembly.state_dict())
    assert len(asked) == 1
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_what_cannot_be_compiled_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(step: Any, **_: Any) -> Any:
        def call(batch: Any) -> Any:
            raise RuntimeError("no compiler\nand a long story")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(
        PrismError, match=r"could not compile bpr on this machine \(no compiler\)\. Set train\.compile to false"
    ):
        trained([0.1], epochs=1, compile=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler warns of its own doings
@pytest.mark.parametrize("model", ["bpr", "lightgcn", "layergcn", "apegnn", "vbpr", "freedom", "bm3"])
def test_compiled_training_ends_where_the_other_does_and_goes_on(model: str, tmp_path: Any) -> None:
    """SGD: the sign of a rounding error is no step."""
    rate = {"optimizer": "sgd", "lr": 0.1, "checkpoint_seconds": 0.0}
    ends = []
    for compile_, epochs in ((False, (3,)), (True, (3,)), (True, (1, 3))):
        for last in epochs:  # the third is interrupted
            assembly, sampler, cfg = assembled(model, epochs=last, compile=compile_, **rate)
            checkpoints = Checkpoints(tmp_path / f"{compile_}-{len(epochs)}")
            progress = fit(
                assembly,
                sampler,
                lambda reps: {"recall@20": float(reps.user.detach().square().sum())},
                cfg,
                checkpoints,
            )
        assert progress.epoch == 3
        ends.append(assembly.represent())
    for other in ends[1:]:
        assert torch.allclose(other.user, ends[0].user, atol=1e-4)
        assert torch.allclose(other.item.values, ends[0].item.values, atol=1e-4)


@pytest.mark.parametrize("model", ["bpr", "lightgcn"])
def test_autocast_changes_no_bit_of_a_model_without_dense_products(model: str) -> None:
    ends = []
    for precision in ("fp32", "bf16"):
        assembly, sampler, cfg = assembled(model, epochs=2, precision=precision)
        fit(assembly, sampler, scripted([0.1, 0.2]), cfg)
        ends.append(assembly.represent().user)
    assert torch.equal(*ends)
