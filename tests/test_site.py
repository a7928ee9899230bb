"""The site: it builds without a warning, its examples are as short as they say, its figures are those of the results."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import prismrec

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"
_FIGURE = re.compile(r"\b0\.0\d{3}(?: ± 0\.\d{4})?")


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    if importlib.util.find_spec("material") is None or importlib.util.find_spec("mkdocstrings") is None:
        pytest.skip("mkdocs-material or mkdocstrings is not installed: pip install -e .[docs]")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.html")}
    assert {"index.html", "choose.html", "extending.html", "api.html", "results/index.html"} <= pages
    foreign = re.findall(
        r'<(?:script|link|img)[^>]+(?:src|href)="https?://[^"]+"', (tmp_path / "site" / "index.html").read_text()
    )
    assert [tag for tag in foreign if "canonical" not in tag] == []


def linked(page: Path) -> str:
    """All results that a page links, as one text."""
    names = set(re.findall(r"benchmarks/results/([\w.-]+\.md)", page.read_text(encoding="utf-8")))
    return "\n".join((RESULTS / name).read_text(encoding="utf-8") for name in sorted(names))


def test_figures_of_the_page_that_helps_to_choose_stand_in_the_results() -> None:
    page = DOCS / "choose.md"
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    figures = {figure for row in rows for figure in _FIGURE.findall(row)}
    assert len(figures) > 15
    known = linked(page)
    assert {figure for figure in figures if figure not in known} == set()


@pytest.mark.parametrize(("heading", "most"), [("## A model in 60 lines", 60), ("## A plug-in in 30 lines", 30)])
def test_examples_are_as_short_as_they_say(heading: str, most: int) -> None:
    after = (DOCS / "extending.md").read_text(encoding="utf-8").split(heading + "\n", 1)[1]
    code = after.split("```python\n", 1)[1].split("```", 1)[0]
    lines = [line for line in code.splitlines() if line.strip()]
    assert 10 < len(lines) <= most


def test_the_citation_names_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == prismrec.__version__ and cited["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license"} <= cited.keys()
