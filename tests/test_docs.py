"""The documentation is true: its code runs, its commands parse or run, its links lead somewhere, its tables are the code's."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer
import yaml
from typer.testing import CliRunner

from prismrec.cli.app import app
from prismrec.config import RunSettings, override, resolve
from prismrec.data.synthetic import draw
from prismrec.diagnostics import DIAGNOSTICS
from prismrec.models import MODELS, Strict
from prismrec.plugins import PLUGINS
from prismrec.recipes import expand
from prismrec.recommender import Recommender
from prismrec.train import TrainConfig

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
AT_ROOT = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "README.md"]
GENERATED = {
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "results/index.md": "benchmarks/results",
}
"""Pages of the site that docs/hooks.py makes → what they are made of."""
RUN = ("data.md", "evaluation.md", "use.md")
"""Pages whose commands are run, and not only parsed; those of index.md make what the others use."""
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FILLED = re.compile(r"…|\b(?:N|M|user|valid|clear|freedom|nan|1|modality)\b")
"""What stands in a message of the page where the code fills in a value."""
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    return [code for kind, code in _FENCE.findall(page.read_text(encoding="utf-8")) if kind == language]


def commands(page: Path) -> list[list[str]]:
    """The arguments of each ``prismrec`` line of the page's bash blocks."""
    lines = [line for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("prismrec ")]


def inline(page: Path) -> list[list[str]]:
    """Those that stand in a sentence."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    found = [shlex.split(code)[1:] for code in re.findall(r"`(prismrec [^`]+)`", text)]
    return [args for args in found if "…" not in args and "|" not in args]


def parse(args: list[str]) -> dict[str, Any]:
    """Parse a command line as ``prismrec`` does, without running it; the parameters of its last command."""
    command: Any = typer.main.get_command(app)
    while commands := getattr(command, "commands", None):
        args = [arg for arg in args if arg not in ("--debug", "--version")]
        if not args:
            return {}
        assert args[0] in commands, f"there is no command {args[0]!r}"
        command, args = commands[args[0]], args[1:]
    # a command that a sentence only names need not be complete
    return dict(command.make_context(command.name, list(args), resilient_parsing=not args).params)


@pytest.fixture(scope="session")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with raw files, in which the commands of index.md were run as they stand."""
    folder = tmp_path_factory.mktemp("docs")
    shop = draw(n_users=120, n_items=80, interactions=15, seed=1).dataset
    rows = shop.interactions
    assert rows.timestamp is not None
    log = {"customer": shop.users.decode(rows.user), "sku": shop.items.decode(rows.item), "ts": rows.timestamp}
    stars = pl.Series("rating", 3 + rows.item % 3)
    pl.DataFrame(log).with_columns(stars).write_parquet(folder / "log.parquet")
    shop.item_table.rename({"item": "sku"}).write_csv(folder / "products.csv")
    for m, modality in shop.modalities.items():
        np.save(folder / f"{m}.npy", modality.values)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PRISMREC_CACHE", str(folder / "cache"))
        for args in commands(DOCS / "index.md"):
            run(args)
        Recommender("bpr", settings={"train.epochs": 1, "run.threads": 1}).fit("data/shop5", out="runs/second")
    return folder


@pytest.fixture
def here(walked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, as the working directory."""
    folder = tmp_path / "work"
    shutil.copytree(walked, folder)
    monkeypatch.chdir(folder)
    lists = pl.read_parquet("recs.parquet").select("user", "item", "rank")
    lists.write_parquet("lists.parquet")
    known = Recommender.load("runs/first").index
    np.savez("theirs.npz", user=known.sides["fused"][0].numpy(), item=known.sides["fused"][1].numpy())
    return folder


def run(args: list[str]) -> str:
    """Run a command as it stands but for the length of training."""
    if args[0] == "train":
        args = [*args, "--set", "train.epochs=2", "--threads", "1"]
    for option in ("-o", "--out"):
        if option in args:
            shutil.rmtree(args[args.index(option) + 1], ignore_errors=True)
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 0, f"prismrec {shlex.join(args)}: {done.output} {done.exception}"
    return done.output


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name_of)
def test_python_blocks_run(page: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # classes look up the names of their annotations there
    for code in blocks(page, "python"):
        exec(compile(code, name_of(page), "exec"), module.__dict__)


@pytest.mark.parametrize("page", [*PAGES, *AT_ROOT], ids=name_of)
def test_commands_parse_and_their_settings_exist(page: Path) -> None:
    for args in [*commands(page), *inline(page)]:
        try:
            given = parse(args)
        except Exception as error:
            pytest.fail(f"{name_of(page)}: prismrec {shlex.join(args)}: {error}")
        if args[:1] == ["train"] and given.get("model"):
            tree = {"model": {"name": given["model"]}, "plugins": {p: {} for p in given["plugin"] or []}}
            resolve(override(expand(tree), given["assign"] or []))


@pytest.mark.parametrize("name", RUN)
def test_commands_run(name: str, here: Path) -> None:
    for args in commands(DOCS / name):
        if "data/baby" not in args:
            assert run(args) is not None


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "yaml")], ids=name_of)
def test_yaml_blocks_are_settings(page: Path) -> None:
    for text in blocks(page, "yaml"):
        assert resolve(yaml.safe_load(text)).model in MODELS


def slug(heading: str) -> str:
    """The anchor that Python-Markdown makes of a heading."""
    text = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
    return re.sub(r"[-\s]+", "-", text)


def anchors(page: Path) -> Iterator[str]:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    yield from (slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE))


@pytest.mark.parametrize("page", [*PAGES, *AT_ROOT], ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)} links {link}, which does not exist"
        assert target.is_relative_to(ROOT), f"{name_of(page)} links {link}, which lies outside the repository"
        assert not anchor or anchor in set(anchors(target)), f"{name_of(page)} links {link}: no such heading"


def leaves(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from leaves(entry)


def test_navigation_is_complete() -> None:
    nav = set(leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    assert nav == {page.relative_to(DOCS).as_posix() for page in PAGES} | GENERATED.keys()
    assert all((ROOT / source).exists() for source in GENERATED.values())


def rows(page: Path, header: str) -> list[list[str]]:
    """The cells of the table whose header starts so."""
    text = page.read_text(encoding="utf-8")
    assert header in text, f"{name_of(page)} has no table {header!r}"
    body = text.split(header, 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body]


def page_of(plugin: str) -> Path:
    """Where the list of plug-ins says that a plug-in is described; one page may describe several."""
    link = re.search(rf"^\| \[`{plugin}`\]\(([^)]+)\)", (DOCS / "models.md").read_text(encoding="utf-8"), re.MULTILINE)
    return DOCS / (link[1] if link else f"methods/{plugin}.md")


CONFIGS: list[tuple[Path, str, type[Strict]]] = [
    *((DOCS / "models.md", f"| setting of `{m.name}` |", m.Config) for m in MODELS if m.Config.model_fields),
    *((page_of(p.name), f"| setting of `{p.name}` |", p.Config) for p in PLUGINS),
    (DOCS / "runs.md", "### `train.*`\n\n| setting |", TrainConfig),
    (DOCS / "runs.md", "### `run.*`\n\n| setting |", RunSettings),
]


@pytest.mark.parametrize(("page", "header", "config"), CONFIGS, ids=[header.split("`")[1] for _, header, _ in CONFIGS])
def test_settings_are_those_of_the_code(page: Path, header: str, config: type[Strict]) -> None:
    found = {cells[0].strip("`"): yaml.safe_load(cells[1].strip("`")) for cells in rows(page, header)}
    defaults = {key: field.get_default(call_default_factory=True) for key, field in config.model_fields.items()}
    written = {key: f"{len(value)} of them" if isinstance(value, list) else value for key, value in defaults.items()}
    assert found == written


def test_models_and_plugins_are_those_of_the_code() -> None:
    listed = {
        cells[0].strip("`"): cells[2]
        for cells in rows(DOCS / "models.md", "| name | paper | year | needs | trained by |")
    }
    assert listed == {m.name: "-" if m.paper.venue == "-" else str(m.paper.year) for m in MODELS}
    plugins = rows(DOCS / "models.md", "| name | paper | year | needs of the model |")
    assert [re.findall(r"`(\w+)`", cells[0]) for cells in plugins] == [[p.name] for p in PLUGINS]


def test_diagnostics_are_those_of_the_code() -> None:
    listed = [cells[0].strip("`") for cells in rows(DOCS / "diagnostics.md", "| name | asks | needs |")]
    assert listed == [measure.__name__ for measure in DIAGNOSTICS]


def test_a_run_folder_holds_what_the_page_says(walked: Path) -> None:
    text = blocks(DOCS / "runs.md", "")[1]
    named = [name for line in text.splitlines()[1:] for name in line.strip().split("  ")[0].split(", ")]
    folder = walked / "runs" / "first"
    assert all((folder / name).exists() for name in named), named
    known = {path.split("/")[0] for path in named}
    assert known == {p.name for p in folder.iterdir() if not p.name.startswith(".")}
    keys = {key for cells in rows(DOCS / "runs.md", "| key | |") for key in re.findall(r"`(\w+)`", cells[0])}
    assert keys == json.loads((folder / "result.json").read_text()).keys()


def test_every_room_is_on_the_page_of_the_architecture() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    rooms = {p.stem for p in (ROOT / "prismrec").iterdir() if not p.name.startswith("_") and p.suffix in ("", ".py")}
    missing = {room for room in rooms if not re.search(rf"`{room}/?`", text)}
    assert not missing, f"docs/architecture.md does not name {missing}"


def sentences() -> str:
    """All text constants of the package, with … where a value is filled in."""
    found = []
    for path in sorted((ROOT / "prismrec").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_messages_are_those_of_the_code() -> None:
    code = sentences()
    for message, _ in rows(DOCS / "troubleshooting.md", "| message | what to do |"):
        parts = [part.strip(" ?'") for part in _FILLED.split(message.strip("`"))]
        assert any(len(part) > 6 for part in parts), message
        for part in parts:
            assert part in code, f"no message of the code holds {part!r}"
