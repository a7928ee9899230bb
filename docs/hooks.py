"""What the site shows beside the files of docs/: pages of the repository's root, and the benchmarks' results with figures.

Links in Markdown are those of the repository, so that they work where the files are read as they are; here they are turned
into those of the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
RESULTS = "benchmarks/results"
PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "results/reading.md",
    RESULTS: "results/index.md",
}
"""Path in the repository → page of the site."""
PAGES |= {f"{RESULTS}/{path.name}": f"results/{path.name}" for path in sorted((ROOT / RESULTS).glob("*.md"))}
FIGURES = {
    path.relative_to(ROOT).as_posix(): f"results/figures/{path.name}" for path in (ROOT / RESULTS).glob("figures/*.svg")
}
"""Path in the repository → place on the site."""
_SOURCES = {page: path for path, page in PAGES.items()}
_LINK = re.compile(r"(\]\()([^)#\s]+)([^)]*\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/, and their figures."""
    for path, page in PAGES.items():
        content = _list_of_results() if path == RESULTS else (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=content))
    for path, place in sorted(FIGURES.items()):
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links within the repository into links within the site."""
    uri = page.file.src_uri
    source = _SOURCES.get(uri, f"docs/{uri}")
    here = source if source == RESULTS else posixpath.dirname(source)

    def on_site(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join(here, target))
        known = (
            PAGES.get(path) or FIGURES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        )
        if known is None:
            return match[0]
        return f"{before}{posixpath.relpath(known, posixpath.dirname(uri) or '.')}{after}"

    return _LINK.sub(on_site, markdown)


def _list_of_results() -> str:
    """A page that links every result, by its title."""
    lines = ["# Results", "", "Each page gives its date, command and machine.", ""]
    for path in PAGES:
        if path.startswith(f"{RESULTS}/"):
            title = (ROOT / path).read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
            lines.append(f"- [{title}]({posixpath.basename(path)})")
    return "\n".join(lines) + "\n"
