"""PrismRec and the reference implementation side by side: seconds of training and evaluation, on the same data and
machine.

    python -m benchmarks.against_reference --reference DIR [--models freedom …] [--rounds 4] [--threads 4] [--write]
    python -m benchmarks.against_reference --reference DIR --threads 1 --clock cpu --work work    # where others compute too

DIR is a checkout of https://github.com/enoche/MMRec (GPL-3.0; it needs pandas, matplotlib, PyYAML and Pillow, and for
MMGCN, GRCN, DualGNN and DRAGON torch-geometric). Nothing of it is part of PrismRec: it runs as it is, in a process of its
own, behind small substitutes for what newer libraries removed and for those that it imports and never uses.

Both sides get the same interactions with their split, the same features (``benchmarks.setting``) and the same settings.
A round is one epoch of training as each side does it, on theirs followed by its two evaluations (validation and test,
as its loop does after every epoch), on ours by the one on validation. Rounds alternate between the two processes, and
the one that waits does nothing. The first round of each is left out. Ratios are medians over rounds of (their training
+ their two evaluations) / (our training + our one evaluation). With ``--work`` the rounds of each model are kept there, and
a second call goes on after the last.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.setting import ROOT, data, describe, heading, keep, parser, table
from prismrec.data.dataset import Dataset
from prismrec.io import write_json

LGMREC = {"n_ui_layers": 2, "n_mm_layers": 2, "n_hyper_layer": 1, "hyper_num": 4, "keep_rate": 0.5, "alpha": 0.3}
LGMREC |= {"cl_weight": 1e-4, "reg_weight": 1e-6}
# our name: its name, the least ratio that is wanted, its settings (ours are our defaults, which are the same)
SIDES: dict[str, tuple[str, float, dict[str, Any]]] = {
    "bpr": ("BPR", 8, {"reg_weight": 0.01}),
    "lightgcn": ("LightGCN", 8, {"reg_weight": 1e-4, "n_layers": 3}),
    "vbpr": ("VBPR", 5, {"reg_weight": 0.1}),
    "freedom": ("FREEDOM", 10, {"reg_weight": 1e-3, "dropout": 0.8, "n_ui_layers": 2, "n_mm_layers": 1, "knn_k": 10}),
    "mmgcn": ("MMGCN", 10, {"reg_weight": 1e-3, "learning_rate": 1e-3}),
    "lattice": ("LATTICE", 10, {"reg_weight": 1e-4, "learning_rate": 1e-3}),
    "bm3": ("BM3", 10, {"n_layers": 1, "dropout": 0.5, "reg_weight": 0.1}),
    "layergcn": ("LayerGCN", 1, {"n_layers": 4, "dropout": 0.1, "reg_weight": 1e-3}),
    "grcn": ("GRCN", 1, {"reg_weight": 1e-3, "learning_rate": 1e-3}),
    "mgcn": ("MGCN", 1, {"cl_loss": 0.01}),
    "lgmrec": ("LGMRec", 1, LGMREC),
    "dualgnn": ("DualGNN", 1, {"aggr_mode": "add", "reg_weight": 0.1, "learning_rate": 1e-3}),
    "dragon": ("DRAGON", 1, {"aggr_mode": "add", "reg_weight": 1e-3, "learning_rate": 1e-3}),
    "slmrec": ("SLMRec", 1, {"learning_rate": 1e-3, "ssl_temp": 0.2, "ssl_alpha": 0.1, "reg": 1e-3}),
}
NAME = "baby"  # the reference reads its settings of this data set, which name the files below


class Stub(types.ModuleType):
    """A module of which every attribute and submodule exists and does nothing."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)  # others ask whether it is there, and how new

    def __getattr__(self, name: str) -> Any:
        if name == "__path__":  # makes it a package
            return []
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(f"{self.__name__}.{name}")

    def __call__(self, *_: object, **__: object) -> Any:
        return self

    def __getitem__(self, _: object) -> Any:
        return self


def make_compatible() -> None:
    """What code of NumPy 1.19's and SciPy 1.12's time expects of them, and stand-ins for libraries that are not here."""
    from scipy.sparse import dok_matrix

    for name in ("float", "int", "bool", "object"):
        if name not in vars(np):
            setattr(np, name, getattr(__import__("builtins"), name))
    if not hasattr(dok_matrix, "_update"):
        dok_matrix._update = lambda self, entries: self._dict.update(entries)  # type: ignore[attr-defined]
    if not torch.cuda.is_available():  # which some of its models ask for by name
        _let_tensors_replace_parameters()
        torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign, assignment, misc]
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "lmdb", "torch_scatter"):
        try:
            __import__(name)
        except ImportError:
            sys.modules[name] = Stub(name)
            if name == "torch_scatter":  # of which one function is used
                vars(sys.modules[name])["scatter_add"] = _scatter_add


def _scatter_add(src: torch.Tensor, index: torch.Tensor, dim: int, dim_size: int) -> torch.Tensor:
    return torch.zeros(dim_size).index_add_(dim, index, src)


def _let_tensors_replace_parameters() -> None:
    """On CUDA ``Parameter(…).to(device)`` is a copy, and no parameter any more; on a CPU it is the parameter itself."""
    plain = torch.nn.Module.__setattr__

    def assign(module: torch.nn.Module, name: str, value: Any) -> None:
        if isinstance(value, torch.Tensor) and not isinstance(value, torch.nn.Parameter):
            module._parameters.pop(name, None)
        plain(module, name, value)

    torch.nn.Module.__setattr__ = assign  # type: ignore[method-assign, assignment]


def write_data(folder: Path) -> None:
    """The data in the layout that both sides read."""
    dataset = data()
    (folder / NAME).mkdir(parents=True)
    rows = dataset.interactions
    assert rows.split is not None
    lines = (f"{u}\t{i}\t1.0\t{x}\n" for u, i, x in zip(rows.user, rows.item, rows.split, strict=True))
    with (folder / NAME / f"{NAME}.inter").open("w") as file:
        file.write("userID\titemID\trating\tx_label\n")
        file.writelines(lines)
    for m, modality in dataset.modalities.items():
        np.save(folder / NAME / f"{m}_feat.npy", modality.values)
    np.save(folder / NAME / "user_graph_dict.npy", np.array(friends(dataset)))  # a dict, as DualGNN and DRAGON read it


def friends(dataset: Dataset, most: int = 200) -> dict[int, list[list[float]]]:
    """User → users with the most training items in common, and how many these are; the reference reads it from a file."""
    from scipy.sparse import csr_array

    train = dataset.interactions.part("train")
    taken = csr_array(
        (np.ones(len(train), np.float32), (train.user, train.item)), shape=(dataset.n_users, dataset.n_items)
    )
    common = (taken @ taken.T).tocsr()
    common.setdiag(0)
    common.eliminate_zeros()
    found = {}
    for user, (start, end) in enumerate(pairwise(common.indptr)):
        order = np.argsort(-common.data[start:end], kind="stable")[:most]
        found[user] = [common.indices[start:end][order].tolist(), common.data[start:end][order].tolist()]
    return found


Round = Callable[[int], dict[str, float]]
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def their_rounds(reference: Path, folder: Path, model: str, clock: Callable[[], float]) -> Round:
    """One epoch and two evaluations of the reference, through its own classes."""
    import os
    import warnings

    warnings.simplefilter("ignore")
    make_compatible()
    os.chdir(reference / "src")  # where it looks for its settings
    sys.path.insert(0, str(reference / "src"))
    import common  # type: ignore[import-not-found]

    sys.modules["models.common"] = common  # where LayerGCN there looks for it
    from common.trainer import Trainer  # type: ignore[import-not-found]
    from utils.configurator import Config  # type: ignore[import-not-found]
    from utils.dataloader import EvalDataLoader, TrainDataLoader  # type: ignore[import-not-found]
    from utils.dataset import RecDataset  # type: ignore[import-not-found]
    from utils.utils import get_model, init_seed  # type: ignore[import-not-found]

    settings = {"use_gpu": False, "gpu_id": 0, "data_path": f"{folder}/", "save_recommended_topk": False, "seed": 999}
    config = Config(SIDES[model][0], NAME, settings | SIDES[model][2])
    parts = RecDataset(config).split()
    for part in parts:
        str(part)  # counts, which its loaders expect to be there
    train = TrainDataLoader(config, parts[0], batch_size=config["train_batch_size"], shuffle=True)
    held_out = [
        EvalDataLoader(config, part, additional_dataset=parts[0], batch_size=config["eval_batch_size"])
        for part in parts[1:]
    ]
    init_seed(999)
    train.pretrain_setup()
    trainer = Trainer(config, get_model(SIDES[model][0])(config, train).to("cpu"))

    def one(number: int) -> dict[str, float]:
        start = clock()
        trainer.model.pre_epoch_processing()
        trainer._train_epoch(train, number)
        trainer.lr_scheduler.step()
        trained = clock()
        values = [trainer._valid_epoch(part)[0] for part in held_out]
        end = clock()
        return {"training": trained - start, "evaluation": end - trained, "recall": values[0]}

    return one


def our_rounds(folder: Path, model: str, clock: Callable[[], float]) -> Round:
    """One epoch and one evaluation of ours."""
    from benchmarks.plugin_cost import Contender
    from prismrec.data.sources import read
    from prismrec.evaluate import METRICS, Evaluator
    from prismrec.machine import memory_kept

    memory_kept().__enter__()  # for as long as this process lives
    dataset = read(folder / NAME)
    contender = Contender(model, (), dataset)
    validate = Evaluator.of(dataset.development(), "valid", metrics=METRICS)

    def one(number: int) -> dict[str, float]:
        start = clock()
        contender.train(number)
        trained = clock()
        recall = validate(contender.assembly.represent())["recall@20"]
        end = clock()
        return {"training": trained - start, "evaluation": end - trained, "recall": recall}

    return one


def answer(rounds: Round) -> None:
    """Wait for the number of a round on standard input, run it, print its seconds; until the input ends."""
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(rounds(int(line))), flush=True)


class Side:
    """A process that runs rounds when asked."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "benchmarks.against_reference", *arguments]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read("ready")

    def round(self, number: int) -> dict[str, float]:
        assert self.process.stdin is not None
        print(number, file=self.process.stdin, flush=True)
        found: dict[str, float] = json.loads(self._read("{"))
        return found

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _read(self, start: str) -> str:
        """The next line that starts so: the reference prints lines of its own."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(start):
                return line
        raise SystemExit(f"The process stopped with {self.process.wait()} before it answered: {self.process.args!r}")


def compare(reference: Path, folder: Path, model: str, rounds: int, threads: int, clock: str) -> dict[str, Any]:
    """Seconds of both sides, round by round."""
    common = ["--folder", str(folder), "--child", model, "--threads", str(threads), "--clock", clock]
    sides = {"theirs": Side("--reference", str(reference), *common), "ours": Side(*common)}
    found: dict[str, Any] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            result = side.round(number)
            if number:
                found[name].append(result)
    for side in sides.values():
        side.close()
    return found


def text(about: dict[str, Any], revision: str, results: dict[str, dict[str, Any]], clock: str = "wall") -> str:
    """The result as Markdown."""
    rows, medians = [], []
    for model, sides in results.items():
        whole = {name: [r["training"] + r["evaluation"] for r in rounds] for name, rounds in sides.items()}
        ratios = [a / b for a, b in zip(whole["theirs"], whole["ours"], strict=True)]
        cells = [
            f"{statistics.median(r[what] for r in sides[name]):.3f}"
            for name in ("theirs", "ours")
            for what in ("training", "evaluation")
        ]
        ratio = [statistics.median(ratios), min(ratios), max(ratios)]
        medians.append(ratio[0])
        rows.append([model, *cells, f"{ratio[0]:.1f}×", f"{ratio[1]:.1f} – {ratio[2]:.1f}", f"≥ {SIDES[model][1]:g}×"])
    header = [
        "model",
        "their training s",
        "two evaluations s",
        "our training s",
        "one evaluation s",
        "ratio",
        "range",
        "wanted",
    ]
    rounds = len(next(iter(results.values()))["ours"])
    intro = (
        f"MMRec at {revision}, unchanged, against PrismRec: the same interactions, features (4096 + 384) and settings, "
        f"batch 2048, d = 64, {rounds} alternating rounds after one to warm up, medians. Theirs: an epoch and the two "
        "evaluations that its loop makes after each. Ours: an epoch and the evaluation on validation. Both on the CPU. "
        "FREEDOM trains its raw feature tables there and keeps them frozen here, as each does by default."
    )
    if clock == "cpu":
        intro += (
            " Seconds are the processor's, spent by the process: the machine did other things meanwhile, whose use of "
            "caches and memory slows both sides."
        )
    mean = f"Geometric mean of the {len(medians)} ratios: **{statistics.geometric_mean(medians):.1f}×**."
    return "\n\n".join(["# Against the reference implementation", heading(about), intro, table(header, rows), mean])


def revision_of(checkout: Path) -> str:
    """The commit of a checkout, where it is one."""
    done = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    top = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=False
    )
    inside = top.stdout.strip() and Path(top.stdout.strip()).resolve() == checkout.resolve()
    return done.stdout.strip() if inside else "an unknown commit"


def main() -> None:
    arguments: argparse.ArgumentParser = parser(__doc__)
    arguments.add_argument("--reference", type=Path, help="checkout of MMRec")
    arguments.add_argument("--revision", help="its commit, where the folder does not say")
    arguments.add_argument("--models", nargs="+", default=list(SIDES), choices=list(SIDES))
    arguments.add_argument("--rounds", type=int, default=4)
    arguments.add_argument(
        "--clock", default="wall", choices=list(CLOCKS), help="cpu: of the processor, with one thread"
    )
    arguments.add_argument("--work", type=Path, help="keep each model's rounds here, and go on after them")
    arguments.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--child", help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.child:
        torch.set_num_threads(args.threads)
        clock = CLOCKS[args.clock]
        if args.reference is not None:
            answer(their_rounds(args.reference, args.folder, args.child, clock))
        else:
            answer(our_rounds(args.folder, args.child, clock))
        return
    if args.clock == "cpu" and args.threads != 1:
        raise SystemExit("--clock cpu adds up the threads of a process; use it with --threads 1.")
    if args.reference is None or not (args.reference / "src").is_dir():
        raise SystemExit(f"--reference is {args.reference}; name a checkout of MMRec (the folder that holds src/).")
    about = describe(args.threads)
    about["command"] = about["command"].replace(str(args.reference), "MMRec")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder))
        for model in args.models:
            print(f"{model} …", flush=True)
            kept = args.work and args.work / f"{model}-{args.clock}-{args.threads}.json"
            if kept and kept.exists():
                results[model] = json.loads(kept.read_text())
                continue
            results[model] = compare(
                args.reference.resolve(), Path(folder), model, args.rounds, args.threads, args.clock
            )
            if kept:
                write_json(kept, results[model])
    shown = text(about, args.revision or revision_of(args.reference), results, args.clock)
    print("\n" + shown)
    if args.write:
        print(f"\nwritten to {keep('against-reference', shown, {'about': about, 'results': results})}")


if __name__ == "__main__":
    main()
