"""fit(): the one training loop, for every model. It knows a function that validates, and no test split."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from prismrec import shards
from prismrec.assembly import Assembly
from prismrec.checkpoint import Checkpoints, Progress, load_module, pack
from prismrec.errors import PrismError, nearest
from prismrec.models.base import Strict
from prismrec.parallel import Crew
from prismrec.sampling import Pool, Sampler, generator
from prismrec.types import Batch, Reps, Terms

Validate = Callable[[Reps], dict[str, float]]
ALONE = Crew()
_RESEED, _REDRAW = 1 << 20, 1 << 21  # random streams beside those of the sampler


class TrainConfig(Strict):
    """How to train. ``patience`` and ``every`` count validations; budgets of 0 mean none."""

    optimizer: Literal["adam", "adamw", "sgd", "adagrad"] = "adam"
    lr: float = Field(1e-3, gt=0, description="learning rate at the start")
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["constant", "exponential", "cosine"] = "constant"
    decay: float = Field(0.96, gt=0, le=1, description="exponential: factor every decay_epochs")
    floor: float = Field(0.01, ge=0, le=1, description="cosine: share of lr that is left after decay_epochs")
    decay_epochs: int = Field(50, ge=1, description="exponential: epochs for one factor; cosine: epochs to the floor")
    warmup: int = Field(0, ge=0, description="epochs of linear warm-up")
    clip: float = Field(0.0, ge=0, description="largest norm of the gradient; 0: no clipping")
    batch_size: int = Field(2048, ge=1)
    negatives: Pool = "seen"
    popularity: float = Field(0.0, description="negatives are drawn with probability ∝ popularity to this power")
    epochs: int = Field(1000, ge=0, description="at most this many")
    seconds: float = Field(0.0, ge=0, description="at most this long; 0: no limit")
    every: int = Field(1, ge=1, description="epochs between validations")
    patience: int = Field(20, ge=1, description="validations without a gain before stopping")
    metric: str = Field("recall@20", description="validation metric that picks the epoch")
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = Field(
        "fp32", description="tf32: products in TF32 on a GPU; bf16, fp16: autocast"
    )
    compile: bool = Field(False, description="compile the step by torch.compile: its first ones then take long")
    checkpoint_seconds: float = Field(20.0, ge=0, description="least time between checkpoints")


class Watcher(Protocol):
    """Whoever wants to see training: progress bars, logs. Called with plain numbers."""

    def step(self, epoch: int, done: int, of: int) -> None:
        """``done`` of ``of`` batches of epoch ``epoch`` (from 1) are trained."""

    def epoch(self, record: dict[str, Any], progress: Progress) -> None:
        """An epoch has ended and been validated."""


def learning_rate(cfg: TrainConfig, epoch: int) -> float:
    """The rate of epoch ``epoch`` (from 0): a function of the epoch alone, so that resuming needs no scheduler state."""
    rate = cfg.lr
    if cfg.schedule == "exponential":
        rate *= cfg.decay ** (epoch / cfg.decay_epochs)
    elif cfg.schedule == "cosine":
        wave = (1 + math.cos(math.pi * min(epoch / cfg.decay_epochs, 1))) / 2
        rate *= cfg.floor + (1 - cfg.floor) * wave
    return rate * min(1.0, (epoch + 1) / (cfg.warmup + 1))


def make_optimizer(assembly: Assembly, cfg: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer by name, fused where it can be: the step is bound by the bytes of tables and moments."""
    groups: list[Any] = [p for p in assembly.parameters() if p.requires_grad]
    fused = True
    if any(map(shards.is_spread, groups)):  # these it steps apart from others, and by some optimizers not in one pass
        groups, fused = [{"params": [p]} for p in groups], False
    if cfg.optimizer == "adam":
        return torch.optim.Adam(groups, lr=cfg.lr, weight_decay=cfg.weight_decay, fused=True)
    if cfg.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=cfg.lr, weight_decay=cfg.weight_decay, fused=True)
    if cfg.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=cfg.lr, weight_decay=cfg.weight_decay, momentum=0.0, fused=fused)
    fused = fused and next(assembly.parameters()).device.type == "cpu"
    return torch.optim.Adagrad(groups, lr=cfg.lr, weight_decay=cfg.weight_decay, fused=fused)


def fit(
    assembly: Assembly,
    sampler: Sampler,
    validate: Validate,
    cfg: TrainConfig,
    checkpoints: Checkpoints | None = None,
    watcher: Watcher | None = None,
    crew: Crew = ALONE,
) -> Progress:
    """Train until the stopping rule is met; on return ``assembly`` holds the weights of the best validation epoch.

    Goes on from ``checkpoints`` where there is one. All randomness of an epoch comes from the sampler's seed and the epoch's
    number, so that an interrupted run ends in the same bits as one that never was. A loss that is not finite is an error.
    ``crew``: the processes that train together; all call this, and the first validates and keeps ``checkpoints``. Where they
    spread tables, only its ``assembly`` has the numbers.
    """
    if not assembly.trainable:
        return Progress(done=True, why="nothing to train")
    if crew.spreads and (cfg.compile or cfg.precision == "fp16"):
        raise PrismError("Spread tables go with neither train.compile nor train.precision=fp16; take bf16 or fp32.")
    home, assembly = assembly, shards.spread(assembly, crew)
    device = next(assembly.parameters()).device
    optimizer = make_optimizer(assembly, cfg)
    scaler = torch.amp.GradScaler(device.type, enabled=cfg.precision == "fp16")
    progress, best = Progress(), clone(home)
    if checkpoints is not None and checkpoints.exists():
        progress, last, best = checkpoints.load()
        shards.unpack(last, assembly, optimizer, scaler, crew)
    loss = compiled(assembly) if cfg.compile else assembly.loss
    crew.same(assembly.state_dict().values())
    progress = _stop(replace(progress, done=False, why=""), cfg)  # the budget may have grown since
    saved = time.perf_counter()
    while not progress.done:
        start = time.perf_counter()
        with _products(cfg.precision, device):
            record = _train_epoch(assembly, sampler, optimizer, scaler, cfg, progress.epoch, watcher, crew, loss)
        trained = time.perf_counter()
        (seconds,) = crew.told([trained - start])
        value, record["valid"] = float("-inf"), None
        end = trained
        final = progress.epoch + 1 == cfg.epochs or 0 < cfg.seconds <= progress.seconds + seconds
        if (
            final or (progress.epoch + 1) % cfg.every == 0
        ):  # an epoch that ends training is validated, or it would be lost
            shards.settle(assembly, home, crew)
            if crew.first:
                record["valid"] = validate(home.represent())
                value = pick(record["valid"], cfg.metric)
            end = time.perf_counter()
        value, validated, late = crew.told([value, end - trained, end - saved >= cfg.checkpoint_seconds])
        record |= {"seconds": seconds, "seconds_evaluation": validated}
        progress = _stop(progress.after(record, value, seconds + validated), cfg)
        if progress.best_epoch == progress.epoch:
            best = clone(home)
        if watcher is not None:
            watcher.epoch(record, progress)
        if checkpoints is not None and (progress.done or late):
            last = shards.whole(pack(assembly, optimizer, scaler), crew)
            if crew.first:
                checkpoints.save(progress, last, best)
            saved = time.perf_counter()
    at = next(home.parameters()).device
    load_module(home, {name: value.to(at) for name, value in best.items()})
    return progress


def compiled(assembly: Assembly) -> Callable[[Batch], Terms]:
    """``assembly.loss`` by torch.compile, its noise as without; what cannot be compiled is an error that says so."""
    step = torch.compile(assembly.loss, options={"fallback_random": True})

    def loss(batch: Batch) -> Terms:
        try:
            return step(batch)
        except PrismError:
            raise
        except Exception as error:
            found = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise PrismError(
                f"torch.compile could not compile {assembly.model.name} on this machine ({found}). "
                "Set train.compile to false; a compiler for C++ is needed in any case."
            ) from error

    return loss


@contextmanager
def _products(precision: str, device: torch.device) -> Iterator[None]:
    """Meanwhile, products of single precision are taken in TF32 on a GPU, where asked for."""
    before = torch.get_float32_matmul_precision()
    if precision == "tf32" and device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def clone(module: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of the module's state."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def pick(metrics: dict[str, float], name: str) -> float:
    """The metric that decides; a name that was not computed is an error with a suggestion."""
    if name not in metrics:
        raise PrismError(f"train.metric is {name!r}, which is not among the metrics computed. {nearest(name, metrics)}")
    return metrics[name]


def _train_epoch(
    assembly: Assembly,
    sampler: Sampler,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    cfg: TrainConfig,
    epoch: int,
    watcher: Watcher | None,
    crew: Crew = ALONE,
    loss: Callable[[Batch], Terms] | None = None,
) -> dict[str, Any]:
    loss = assembly.loss if loss is None else loss
    device = next(assembly.parameters()).device
    rate = learning_rate(cfg, epoch)
    for group in optimizer.param_groups:
        group["lr"] = rate
    dtype = torch.bfloat16 if cfg.precision == "bf16" else torch.float16
    sums: dict[str, Tensor] = {}
    rows = 0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(generator(sampler.seed, epoch, _RESEED).initial_seed())  # dropout and noise of this epoch
        assembly.start_epoch(epoch, generator(sampler.seed, epoch, _REDRAW, device=device))
        crew.same(assembly.buffers())
        for done, batch in enumerate(sampler.epoch(epoch), 1):
            optimizer.zero_grad(set_to_none=True)
            part, terms = crew.share(batch), dict[str, Tensor]()
            if len(part.user):  # the last batch may have fewer rows than there are processes
                with torch.autocast(device.type, dtype, enabled=cfg.precision in ("bf16", "fp16")):
                    terms = loss(part)
                scaler.scale(functools.reduce(torch.add, terms.values())).backward()
            crew.average(assembly, len(part.user) / len(batch.user))
            if cfg.clip > 0:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(assembly.parameters(), cfg.clip)
            scaler.step(optimizer)
            scaler.update()
            for name, term in terms.items():  # summed where they are: nothing waits for the device within an epoch
                term = term.detach().float() * len(part.user)
                sums[name] = sums[name] + term if name in sums else term
            rows += len(batch.user)
            if watcher is not None:
                watcher.step(epoch + 1, done, len(sampler))
    totals = crew.total(torch.stack(list(sums.values()))).tolist()
    means = {name: total / rows for name, total in zip(sums, totals, strict=True)}
    for name, mean in means.items():
        if not math.isfinite(mean):
            raise PrismError(
                f"The loss term {name!r} became {mean} in epoch {epoch + 1}. Lower train.lr, set train.clip, or check the "
                "features for extreme values (prismrec data inspect). The last checkpoint is untouched."
            )
    return {"epoch": epoch + 1, "lr": rate, "loss": sum(means.values()), "terms": means} | assembly.report()


def _stop(progress: Progress, cfg: TrainConfig) -> Progress:
    """The stopping rule, in full precision: ``patience`` validations without a strict gain, or a budget spent."""
    waited = (progress.epoch - progress.best_epoch) // cfg.every
    if waited >= cfg.patience:
        return replace(progress, done=True, why=f"no gain in {cfg.patience} validations")
    if progress.epoch >= cfg.epochs:
        return replace(progress, done=True, why=f"all {cfg.epochs} epochs")
    if cfg.seconds and progress.seconds >= cfg.seconds:
        return replace(progress, done=True, why=f"time limit of {cfg.seconds:g} s")
    return progress
