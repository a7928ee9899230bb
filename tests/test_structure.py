"""The shape of the house: imports go one way, nothing dangerous is called, settings load, documented commands exist."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer
from program import call, dataset

from prismrec.cli.app import app
from prismrec.config import merge, read_yaml, resolve, settings_of
from prismrec.models import MODELS
from prismrec.plugins import PLUGINS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "prismrec"
ORDER = (
    "errors", "types", "parallel", "cluster", "io", "machine", "data", "topk", "graphs", "cache", "encode", "losses", "nn",
    "space", "models", "plugins", "recipes", "assembly", "sampling", "checkpoint", "shards", "train", "ranking", "metrics",
    "evaluate", "external", "folding", "sides", "index", "config", "run_folder", "experiment", "pairing", "compare",
    "figures", "runs", "warm", "cold", "recommender", "export", "panels", "tracking", "studies", "diagnostics", "report",
    "demo", "serve", "cli",
)  # fmt: skip
DOORS = {"__init__", "__main__"}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> Iterator[str]:
    """Rooms of this package that a file imports from, wherever in the file."""
    rooms = {room(source) for source in SOURCES}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)} imports relatively"
            head, _, rest = (node.module or "").partition(".")
            if head == "prismrec":
                yield from [rest.split(".")[0]] if rest else [a.name for a in node.names if a.name in rooms]
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("prismrec.") for alias in node.names), f"{name(path)}: from … import …"


def test_every_room_has_its_place() -> None:
    assert {room(path) for path in SOURCES} - DOORS == set(ORDER)


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_go_down_the_list_only(path: Path) -> None:
    if room(path) in DOORS:
        return
    own = ORDER.index(room(path))
    for other in imported(path):
        assert ORDER.index(other) <= own, f"{name(path)} imports {other}, which stands after {room(path)}"


def test_folders_are_two_levels_deep_at_most() -> None:
    for path in PACKAGE.rglob("*"):
        if "__pycache__" not in path.parts and path.is_dir():
            assert len(path.relative_to(PACKAGE).parts) <= 2, path


@pytest.mark.parametrize(
    "path", [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))], ids=lambda p: p.relative_to(ROOT).as_posix()
)
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= (350 if PACKAGE in path.parents else 600)


def called(node: ast.Call) -> str:
    """``print``, ``.cuda``, ``torch.load``."""
    function = node.func
    if isinstance(function, ast.Name):
        return function.id
    if isinstance(function, ast.Attribute):
        value = function.value
        return f"{value.id if isinstance(value, ast.Name) else ''}.{function.attr}"
    return ""


def faults(path: Path) -> Iterator[str]:
    """What no file of the package may do."""
    talks = room(path) in ("cli", "demo")
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            called_ = called(node)
            if called_ == "print" and not talks:
                yield "prints"
            if called_ in ("eval", "exec", "compile", "__import__"):
                yield f"calls {called_}()"
            if called_.endswith(".cuda") and not called_.startswith("torch."):
                yield "moves something to a device by .cuda()"
            if called_ in ("torch.load", "torch.save", "yaml.unsafe_load", "yaml.full_load", "os.system"):
                yield f"calls {called_}()"
            if called_ == "np.load" and _keyword(node, "allow_pickle") is not False:
                yield "calls np.load without allow_pickle=False"
            if called_ == "np.save" and _keyword(node, "allow_pickle") is not False:
                yield "calls np.save without allow_pickle=False"
            if called_ == "yaml.load" and not any(k.arg == "Loader" for k in node.keywords):
                yield "loads YAML without saying how"
            if called_.startswith("subprocess.") and _keyword(node, "shell"):
                yield "opens a shell"
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for module in modules:
                if module.split(".")[0] in ("pickle", "dill", "joblib", "shelve", "marshal"):
                    yield f"imports {module}"
        if isinstance(node, ast.Global):
            yield f"has global state: {', '.join(node.names)}"


def _keyword(node: ast.Call, wanted: str) -> object:
    return next((k.value.value for k in node.keywords if k.arg == wanted and isinstance(k.value, ast.Constant)), None)


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_nothing_dangerous_is_done(path: Path) -> None:
    assert list(faults(path)) == []


def test_the_search_for_faults_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    for line in ("print(1)", "eval('1')", "import pickle", "np.load(x)", "np.load(x, allow_pickle=True)", "x.cuda()",
                 "torch.load(x)", "yaml.load(x)", "def f():\n    global x"):  # fmt: skip
        (tmp_path / "x.py").write_text(line)
        assert list(faults(tmp_path / "x.py")), line
    (tmp_path / "x.py").write_text("model.eval()\nnp.load(x, allow_pickle=False)\ntorch.cuda.is_available()\n")
    assert list(faults(tmp_path / "x.py")) == []


NAMES = {kind.name for kind in (*MODELS, *PLUGINS)}


@pytest.mark.parametrize("path", [path for path in SOURCES if room(path) not in ("demo",)], ids=name)
def test_nothing_is_decided_by_the_name_of_a_model_or_plugin(path: Path) -> None:
    """To vary, a class says what it needs; an ``if model.name == "freedom"`` would say it in the wrong place."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            constants = {side.value for side in sides if isinstance(side, ast.Constant) and isinstance(side.value, str)}
            assert not constants & NAMES, f"{name(path)}:{node.lineno} compares with {constants & NAMES}"
        if isinstance(node, ast.MatchValue) and isinstance(node.value, ast.Constant):
            assert node.value.value not in NAMES, f"{name(path)}:{node.value.lineno}"


# settings


CONFIGS = sorted(path for path in (PACKAGE / "configs").rglob("*.y*ml") if path.parent.name != "studies")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_packaged_settings_load_and_say_what_they_are_for(path: Path) -> None:
    found = read_yaml(path)
    cfg = resolve(settings_of(found))
    assert cfg.label == path.parent.name and path.suffix == ".yaml"
    for plugin, more in (found.get("with") or {}).items():
        assert plugin in {p.name for p, _ in resolve(merge(settings_of(found), more)).plugins}
    meant = found["data"]
    if meant == "any":
        assert path.stem == "any" and "measured" not in found  # what was measured was measured on something
    else:
        assert re.fullmatch(r"[0-9a-f]{16}", meant["interactions"]) and meant["name"] == path.stem


def test_packaged_settings_of_a_model_are_for_different_data() -> None:
    prints = [(path.parent.name, read_yaml(path)["data"]["interactions"]) for path in CONFIGS if path.stem != "any"]
    assert len(prints) == len(set(prints)) > 0


# the command line


OPTIONS: dict[str, set[str]] = {
    "": {"--version", "--debug"},
    "train": {"data", "--model", "-m", "--plugin", "-p", "--config", "-c", "--set", "--protocol", "--seed", "--device",
              "--threads", "--out", "-o", "--resume", "--warm-start", "--track", "--workers", "--ray", "--shard",
              "--quiet", "-q"},
    "tune": {"data", "--model", "-m", "--plugin", "-p", "--config", "-c", "--set", "--space", "--sampler", "--pruner",
             "--trials", "-n", "--hours", "--threads", "--jobs", "-j", "--storage", "--ray", "--protocol", "--seed",
             "--device", "--out", "-o", "--resume", "--quiet", "-q"},
    "compare": {"data", "--models", "-m", "--plugins", "-p", "--seeds", "-s", "--trials", "-n", "--space", "--set",
                "--protocol", "--seed", "--device", "--threads", "--jobs", "-j", "--out", "-o", "--resume", "--quiet", "-q"},
    "ablate": {"data", "--model", "-m", "--plugin", "-p", "--config", "-c", "--set", "--off", "--seeds", "-s", "--protocol",
               "--seed", "--device", "--threads", "--jobs", "-j", "--out", "-o", "--resume", "--quiet", "-q"},
    "sweep": {"data", "--model", "-m", "--plugin", "-p", "--over", "--config", "-c", "--set", "--part", "--seeds", "-s",
              "--protocol", "--seed", "--device", "--threads", "--jobs", "-j", "--out", "-o", "--resume", "--quiet", "-q"},
    "reproduce": {"name", "--quick", "--data", "--data-folder", "--device", "--threads", "--jobs", "-j", "--out", "-o",
                  "--resume", "--quiet", "-q"},
    "evaluate": {"run", "--scores", "--data", "--part", "--protocol", "--metric", "--groups", "--format", "-f"},
    "export": {"run", "--out", "-o", "--dtype", "--ann", "--pictures", "--data", "--threads", "--quiet", "-q"},
    "cold": {"data", "--model", "-m", "--set", "--part", "--protocol", "--seed", "--device", "--threads", "--out", "-o",
             "--format", "-f", "--quiet", "-q"},
    "recommend": {"run", "--user", "-u", "--for", "--all", "--top", "-k", "--modality", "--include-seen", "--format", "-f",
                  "--output", "-o"},
    "serve": {"exports", "--host", "--port", "--workers", "--threads", "--api-key-file", "--max-k", "--max-batch",
              "--max-body", "--max-waiting", "--rate", "--burst", "--timeout", "--allow-host", "--proxy", "--forgotten",
              "--watch", "--page", "--log"},
    "diagnose": {"run", "--out", "-o", "--only", "--k", "--part", "--no-mask", "--data", "--seed", "--format"},
    "report": {"folder", "--data", "--users", "--runs"},
    "models": {"--format"},
    "plugins": {"--format"},
    "demo": {"--out", "-o", "--seed", "--quick"},
    "data": set(),
    "data import": {"source", "--output", "-o", "--user", "--item", "--rating", "--timestamp", "--weight", "--split-column",
                    "--items", "--item-id", "--feature", "--name", "--nan", "--null-ids", "--overwrite", "--quiet", "-q"},
    "data inspect": {"source", "--user", "--item", "--rating", "--timestamp", "--weight", "--split-column", "--items",
                     "--item-id", "--feature", "--name", "--nan", "--null-ids", "--format"},
    "data prepare": {"source", "--output", "-o", "--images", "--encode", "--picture-urls",
                     "--duplicates", "--min-rating", "--k-core", "--kcore", "--split", "--ratio",
                     "--order", "--quantiles", "--at", "--cold", "--seed", "--user", "--item", "--rating", "--timestamp",
                     "--weight", "--split-column", "--items", "--item-id", "--feature", "--name", "--nan", "--null-ids",
                     "--overwrite", "--quiet", "-q"},
    "data encode": {"source", "--output", "-o", "--modality", "-m", "--encoder", "-e", "--images", "--column", "--transform",
                    "--fit-on", "--dtype", "--as", "--batch", "--workers", "--device", "--precision", "--no-cache", "--ray",
                    "--overwrite", "--quiet", "-q"},
    "data encoders": {"--format"},
    "data download": {"name", "--output", "-o", "--quiet", "-q"},
    "data draw": {"--output", "-o", "--users", "--items", "--interactions", "--feature", "--user-skew", "--item-skew",
                  "--loyalty", "--seed", "--quiet", "-q"},
    "data split": {"source", "--output", "-o", "--by", "--ratio", "--order", "--quantiles", "--at", "--cold", "--seed",
                   "--overwrite", "--quiet", "-q"},
}  # fmt: skip
"""What scripts may rely on. A change here is a change of the interface: say so in the change log."""

COMMAND: Any = typer.main.get_command(app)


def commands(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    yield path, command
    for key, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{path} {key}".strip())


def test_commands_and_options_are_those_reviewed() -> None:
    found = {
        path: {text for p in command.params for text in p.opts if text != "--help"}
        for path, command in commands(COMMAND)
    }
    assert found == OPTIONS


@pytest.mark.parametrize("path", OPTIONS)
def test_help_shows_an_example_that_is_right(path: str) -> None:
    said = call(*path.split(), "--help")
    text = " ".join(said.out.split())
    assert said.status == 0 and said.err == ""
    if path in ("", "data"):
        return
    assert f"Example: prismrec {path}" in text
    command = dict(commands(COMMAND))[path]
    examples = re.findall(r"Example: [*`]+(prismrec .*?)[*`]+\s*(?:\n|$)", command.help)
    assert examples
    for example in examples:
        parse(shlex.split(example))


# documentation


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[str]:
    return re.findall(
        r"^ *```(?:bash|sh|console|shell|text)?[^\n`]*\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.M | re.S
    )


def command_lines(page: Path) -> list[str]:
    """Lines of code blocks that call the program, continuations joined."""
    joined = (block.replace("\\\n", " ") for block in blocks(page))
    lines = [line.strip().removeprefix("$ ") for block in joined for line in block.splitlines()]
    return [line for line in lines if re.match(r"prismrec\s", line)]


DOCUMENTED = [
    (page.relative_to(ROOT).as_posix(), line) for page in PAGES if page.exists() for line in command_lines(page)
]


def parse(words: list[str]) -> None:
    """Read a command line as the program would, without running it; an unknown option raises."""
    assert words[0] == "prismrec"
    command, info, rest, above = COMMAND, "prismrec", [word for word in words[1:] if word != "--debug"], None
    while True:
        context = command.make_context(info, list(rest), parent=above)
        if not hasattr(command, "commands"):
            return
        given = [*getattr(context, "_protected_args", []), *context.args]
        info, command, rest = command.resolve_command(context, given)
        above = context


def test_the_documentation_shows_commands() -> None:
    assert len(DOCUMENTED) > 5


@pytest.mark.parametrize(("page", "line"), DOCUMENTED)
def test_documented_commands_exist(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    if not {"--help", "--version"} & set(words):
        parse(words)


def test_the_way_from_a_log_to_lists_in_the_readme_works_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dataset(n_users=80, interactions=9.0)
    rows = data.interactions
    users, items = data.users.decode(rows.user), data.items.decode(rows.item)
    pl.DataFrame({"customer": users, "sku": items}).write_parquet(tmp_path / "log.parquet")
    data.item_table.rename({"item": "sku"}).write_csv(tmp_path / "products.csv")
    for modality, features in data.modalities.items():
        np.save(tmp_path / f"{modality}.npy", features.values)
    monkeypatch.chdir(tmp_path)
    (block,) = (block for block in blocks(ROOT / "README.md") if "prismrec data import" in block)
    lines = [line for line in block.replace("\\\n", " ").splitlines() if line.startswith("prismrec ")]
    assert len(lines) >= 4
    for line in lines:
        words = shlex.split(line, comments=True)
        extra = ["--set", "train.epochs=2", "--threads", "1"] if words[1] == "train" else []
        said = call(*words[1:], *extra)
        assert said.status == 0, f"{line}: {said.sentence}"
    assert len(pl.read_parquet("recs.parquet")) > 0


def test_a_misspelt_option_would_be_found() -> None:
    with pytest.raises(Exception, match="--modell"):
        parse(shlex.split("prismrec train data --modell bpr"))
