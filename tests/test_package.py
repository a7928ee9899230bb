"""A wheel, built and installed into a folder of its own, is the whole program: nothing of the repository is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import prismrec

ROOT = Path(__file__).resolve().parents[1]


def run(*command: object, cwd: Path, path: Path | None = None) -> str:
    """The output of a command with only ``path`` on PYTHONPATH, away from the repository."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP", "PRISMREC"))}
    environment |= {"OMP_NUM_THREADS": "1", **({} if path is None else {"PYTHONPATH": str(path)})}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    pip = ["-m", "pip", "install", "--no-deps", "--no-index", "--no-compile", "--quiet", "--disable-pip-version-check"]
    run(sys.executable, *pip, "--target", target, wheel, cwd=target)
    return target


def test_the_wheel_holds_all_of_the_package_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    kept = {".py", ".yaml", ".typed", ".html", ".css", ".js", ".j2", ".svg", ".json"}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "prismrec").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    assert {Path(name).suffix for name in wanted} <= kept | {""}
    assert wanted <= names
    others = {name for name in names if not name.startswith("prismrec/")}
    assert all(name.startswith(f"prismrec-{prismrec.__version__}.dist-info/") for name in others)
    assert "prismrec/py.typed" in names and f"prismrec-{prismrec.__version__}.dist-info/licenses/LICENSE" in names
    assert any(name.startswith("prismrec/configs/") for name in names)
    assert any(name.startswith("prismrec/templates/") for name in names)


def test_the_wheel_says_what_it_is_and_needs(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    said = Parser().parsestr(archive.read(name).decode())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (
        said["Name"] == "prismrec" and said["Version"] == prismrec.__version__ and said["Requires-Python"] == ">=3.11"
    )
    assert said["License-Expression"] == "Apache-2.0"
    plain = [text for text in said.get_all("Requires-Dist") or [] if "extra ==" not in text]
    assert sorted(text.replace(" ", "") for text in plain) == sorted(
        text.replace(" ", "") for text in project["dependencies"]
    )
    (points,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("entry_points.txt"))
    assert "prismrec = prismrec.cli.app:program" in points


PROGRAM = """
import sys
import prismrec
from prismrec import config
from prismrec.cli.app import main
from prismrec.data.synthetic import draw

assert prismrec.__file__.startswith(sys.argv[1]), prismrec.__file__
assert any((config.resources.files("prismrec") / "configs").iterdir())
shop = draw(60, 40, interactions=8.0, seed=1).dataset
settings = {"train.epochs": 2, "clear.rank": 4}
made = prismrec.Recommender("freedom", ["clear"], settings=settings).fit(shop, "run")
assert prismrec.load("run").recommend(shop.users.external[:2], 3).height == 6
for arguments in (["models", "--format", "json"], ["recommend", "run", "--all", "--top", "2", "-o", "recs.csv"]):
    sys.argv = ["prismrec", *arguments]
    try:
        main()
    except SystemExit as leaving:
        assert not leaving.code
"""


def test_the_installed_program_runs_away_from_the_repository(installed: Path, tmp_path: Path) -> None:
    version = run(sys.executable, "-m", "prismrec", "--version", cwd=tmp_path, path=installed)
    assert version == f"prismrec {prismrec.__version__}\n"
    out = run(sys.executable, "-W", "error", "-c", PROGRAM, installed, cwd=tmp_path, path=installed)
    assert {"mostpop", "ease", "bpr", "lightgcn", "vbpr", "freedom"} <= {row["name"] for row in json.loads(out)}
    assert len((tmp_path / "recs.csv").read_text().splitlines()) == 121


def test_a_type_checker_sees_the_types(installed: Path) -> None:
    assert (installed / "prismrec" / "py.typed").is_file()
