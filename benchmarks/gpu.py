"""Every model on a GPU: milliseconds an epoch and an evaluation, memory, the floor; FREEDOM's time to its best score.

    python -m benchmarks.gpu [--device cuda] [--models bpr freedom …] [--epochs 7] [--small] [--write]

Data of Baby's size (``benchmarks.setting``), batch 2048, d = 64, each model's own defaults, each in a process of its own.
Epochs are those of ``fit``, a validation after each (all users, top 50, six metrics at four cut-offs); the first two are left
out. ``waits`` counts where a step made the host wait for the device, as PyTorch itself reports it
(``torch.cuda.set_sync_debug_mode``), in all steps of an epoch but the first; it should be 0.

The floor is strict: what ``benchmarks.floor`` reads off one step of the model on the CPU (the same equations, on any device),
every byte over the bandwidth of the faster of a copy and a triad, every multiply-add over the peak of a large product in the
precision that is trained in. Operands of dense products count as read once, their results as written once. What launches
kernels, draws negatives or makes temporaries is free in this account. Leave the device alone meanwhile.

``--device cpu --small`` runs all of it on a few users, to see that it runs: those times say nothing.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks import floor
from benchmarks.setting import BABY, RESULTS, Size, child, data, describe, heading, parser, table
from benchmarks.speed import Stopwatch, assembled
from prismrec.data.dataset import Dataset
from prismrec.errors import PrismError
from prismrec.evaluate import METRICS, Evaluator
from prismrec.experiment import assemble, configure
from prismrec.io import atomic, write_json
from prismrec.machine import memory_kept, peak_memory_mb, pick_device
from prismrec.models import MODELS
from prismrec.sampling import Sampler, generator
from prismrec.train import TrainConfig, fit

SMALL = Size(users=200, items=120, parts=(1600, 200, 200), image=64, text=16)
GOALS = {"epoch": 60, "evaluation": 30, "best": 8}  # of FREEDOM on an H100-class card: ms, ms, s
PEAKS = {"fp32": ("highest", torch.float32), "tf32": ("high", torch.float32), "bf16": ("highest", torch.bfloat16)}


def rates(device: torch.device) -> dict[str, float]:
    """Bytes a second of the faster of copy and triad; multiply-adds a second of a large product in each precision."""
    on_cuda = device.type == "cuda"
    size, n = (1 << 28, 8192) if on_cuda else (1 << 20, 256)  # numbers of a stream; rows of a product
    x, y, z = (torch.ones(size, device=device) for _ in range(3))
    copied = 2 * x.nbytes / _best(lambda: x.copy_(y), device)
    added = 3 * x.nbytes / _best(lambda: torch.add(x, y, alpha=2.0, out=z), device)
    found = {"bandwidth": max(copied, added)}
    kept = torch.get_float32_matmul_precision()
    try:
        for name, (precision, dtype) in PEAKS.items():
            torch.set_float32_matmul_precision(precision)
            a = torch.rand(n, n, device=device, dtype=dtype)
            b, out = torch.rand_like(a), torch.empty_like(a)
            found[name] = n**3 / _best(_product(a, b, out), device)
    finally:
        torch.set_float32_matmul_precision(kept)
    return found


def _product(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> Callable[[], object]:
    return lambda: torch.mm(a, b, out=out)


def _best(run: Callable[[], object], device: torch.device, times: int = 10) -> float:
    """Seconds of the fastest of ``times`` runs, after three to warm up."""
    seconds = []
    for i in range(times + 3):
        _finished(device)
        start = time.perf_counter()
        run()
        _finished(device)
        seconds += [time.perf_counter() - start] if i >= 3 else []
    return min(seconds)


def _finished(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def least(dataset: Dataset, name: str, speeds: Mapping[str, float], precision: str = "fp32") -> dict[str, float]:
    """The floor of an epoch in seconds: what its bytes and its multiply-adds take at the device's measured speeds."""
    assembly, sampler = assembled(dataset, name)
    assembly.start_epoch(0, generator(0))
    step, counts = floor.listen(assembly, sampler), floor.Counts.of(sampler)
    terms = floor.terms(assembly, step)
    moved = sum(term.amount for term in terms if not term.rate.startswith("product"))
    moved += sum(times * 4 * (m * k + k * n + m * n) for (m, k, n), times in floor.large(step).items())
    work = sum(term.amount for term in terms if term.rate.startswith("product"))
    return {"bytes": counts.steps * moved / speeds["bandwidth"], "products": counts.steps * work / speeds[precision]}


def measure(
    name: str, dataset: Dataset, device: torch.device, epochs: int, speeds: Mapping[str, float]
) -> dict[str, Any]:
    """Everything about one model; call it in a process of its own, or the peak is that of others too."""
    validate = Evaluator.of(dataset.development(), "valid", metrics=METRICS, device=device)
    start = time.perf_counter()
    assembly, sampler = assembled(dataset, name, device=device)
    _finished(device)
    found: dict[str, Any] = {"built": time.perf_counter() - start}
    if not assembly.trainable:
        evaluations = []
        for _ in range(epochs + 2):
            start = time.perf_counter()
            validate(assembly.represent())
            evaluations.append(time.perf_counter() - start)
        return found | {"epochs": [], "evaluations": evaluations[2:], "peak_mb": peak_memory_mb(device), "floor": {}}
    watch = Stopwatch()
    fit(assembly, sampler, validate, TrainConfig(epochs=epochs + 2, patience=epochs + 2), None, watch)
    peak = peak_memory_mb(device)
    return found | {
        "epochs": watch.epochs[2:],
        "evaluations": watch.evaluations[2:],
        "peak_mb": peak,
        "waits": waits(assembly, sampler) if device.type == "cuda" else None,
        "floor": least(dataset, name, speeds),
    }


def waits(assembly: Any, sampler: Sampler, steps: int = 10) -> int:
    """How often steps of an epoch, after its first, made the host wait for CUDA."""
    optimizer = torch.optim.Adam(assembly.parameters(), fused=True)
    device = sampler.user.device
    assembly.start_epoch(0, generator(0, device=device))
    found = 0
    for number, batch in zip(range(steps), sampler.epoch(0), strict=False):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn" if number else "default")
            optimizer.zero_grad()
            torch.stack(list(assembly.loss(batch).values())).sum().backward()
            optimizer.step()
            torch.cuda.set_sync_debug_mode("default")
        found += sum("synchroniz" in str(warning.message) for warning in told)
    return found


def to_best(dataset: Dataset, device: torch.device, epochs: int | None = None) -> dict[str, Any]:
    """FREEDOM with the settings that a run has: seconds of training and validation until the epoch whose score none beat."""
    limit = {} if epochs is None else {"train.epochs": epochs}
    cfg, _ = configure(dataset, "freedom", settings=limit, device=str(device))
    validate = Evaluator.of(dataset.development(), "valid", metrics=[cfg.train.metric], device=device)
    start = time.perf_counter()
    assembly, sampler = assemble(cfg, dataset.development(), device)
    _finished(device)
    built = time.perf_counter() - start
    watch = Stopwatch()
    with memory_kept():
        progress = fit(assembly, sampler, validate, cfg.train, None, watch)
    until = slice(0, progress.best_epoch)
    return {
        "metric": cfg.train.metric,
        "value": progress.best,
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "built": built,
        "seconds": sum(watch.epochs[until]) + sum(watch.evaluations[until]),
        "stopped": progress.why,
    }


def text(about: Mapping[str, Any], device: str, origin: str, found: Mapping[str, Any]) -> str:
    """The page of results."""
    speeds, best = found["rates"], found["best"]
    rows = []
    for name, r in found["models"].items():
        epoch = statistics.median(r["epochs"]) if r["epochs"] else None
        floor_ = sum(r["floor"].values())
        rows.append(
            [
                name,
                f"{r['built']:.2f}",
                f"{1e3 * epoch:.1f}" if epoch else "–",
                f"{1e3 * floor_:.2f}" if epoch else "–",
                f"{epoch / floor_:.1f}" if epoch and floor_ else "–",
                f"{1e3 * statistics.median(r['evaluations']):.1f}",
                f"{r['peak_mb'] or 0:,.0f}",
                "–" if r.get("waits") is None else str(r["waits"]),
            ]
        )
    header = ["model", "build s", "epoch ms", "floor ms", "ratio", "evaluation ms", "peak MB", "waits"]
    return "\n\n".join(
        [
            "# On a GPU",
            f"Device: {device}.",
            heading(about),
            f"Data: {origin}; batch 2048, d = 64. Medians. `benchmarks/gpu.py` says what is measured and what counts. "
            f"Measured speeds: {speeds['bandwidth'] / 1e9:,.0f} GB/s; multiply-adds a second in T: "
            + ", ".join(f"{name} {speeds[name] / 1e12:.2f}" for name in PEAKS)
            + ".",
            table(header, rows),
            f"FREEDOM, with the settings of a run on this data, had its best {best['metric']}, {best['value']:.4f}, after "
            f"epoch {best['best_epoch']} of {best['epochs']}: {best['seconds']:.2f} s of training and validation, and "
            f"{best['built']:.2f} s to build it ({best['stopped']}).",
            f"Goals on an H100-class card, of FREEDOM: {GOALS['epoch']} ms an epoch, {GOALS['evaluation']} ms an evaluation, "
            f"{GOALS['best']} s to the best score; of every model: 3 times its floor.",
        ]
    )


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--device", default="cuda")
    arguments.add_argument("--models", nargs="+", default=[model.name for model in MODELS])
    arguments.add_argument("--epochs", type=int, default=7, help="epochs timed; the two before are not")
    arguments.add_argument("--small", action="store_true", help="a few users, to see that it runs")
    arguments.add_argument("--child", help="measure one model (or BEST) and print JSON")
    arguments.add_argument("--rates", default="{}", help="measured speeds, as JSON")
    args = arguments.parse_args()
    try:
        device = pick_device(args.device)
    except PrismError as error:
        print(f"Nothing is measured: {error} A machine with a GPU runs this by `make bench-gpu`.", file=sys.stderr)
        raise SystemExit(2) from None
    torch.set_num_threads(args.threads)
    dataset = data(SMALL if args.small else BABY)
    if args.child:
        limit = 3 if args.small else None
        found = (
            to_best(dataset, device, limit)
            if args.child == "BEST"
            else measure(args.child, dataset, device, args.epochs, json.loads(args.rates))
        )
        print(json.dumps(found))
        return
    about, speeds = describe(args.threads), rates(device)
    common = ["--device", args.device, "--threads", str(args.threads), "--epochs", str(args.epochs)]
    common += ["--rates", json.dumps(speeds), *(["--small"] if args.small else [])]
    results = {}
    for name in args.models:
        print(f"{name} …", flush=True)
        results[name] = child("benchmarks.gpu", "--child", name, *common)
    print("FREEDOM to its best score …", flush=True)
    found = {"rates": speeds, "models": results, "best": child("benchmarks.gpu", "--child", "BEST", *common)}
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{about['processor']} (no GPU)"
    shown = text(about, device_name, dataset.name, found)
    print("\n" + shown)
    if args.write:
        with atomic(RESULTS / "gpu.md") as path:
            path.write_text(shown + "\n", encoding="utf-8")
        write_json(RESULTS / "gpu.json", {"about": about, "device": device_name, **found})
        print(f"\nwritten to {RESULTS / 'gpu.md'}")


if __name__ == "__main__":
    main()
