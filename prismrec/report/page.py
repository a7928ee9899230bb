"""From values to a page: templates, colours, the script that the page brings along."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

from prismrec import __version__
from prismrec.figures import PALETTE
from prismrec.io import write_text

_HEADING = re.compile(r'<h2 id="([^"]+)"(?: data-nav="([^"]+)")?>(.*?)</h2>', re.DOTALL)


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Fill in a template and write it; ``path``.

    Values are text and are escaped, but for those under the key ``svg``, which ``prismrec.figures`` made. The page may run one
    script, known by its hash, and load nothing.
    """
    import jinja2
    from markupsafe import Markup

    def safe(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: Markup(v) if k == "svg" else safe(v) for k, v in value.items()}
        return [safe(v) for v in value] if isinstance(value, list | tuple) else value

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("prismrec", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["headings"] = _headings
    # page.js first: it makes the button that theme.js then switches
    script = "".join(environment.get_template(name).render() for name in ("page.js", "theme.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = environment.get_template(template).render(
        version=__version__,
        palette=Markup(PALETTE),
        script=Markup(script),
        script_hash=Markup(f"sha256-{digest}"),
        **{k: safe(v) for k, v in values.items()},
    )
    write_text(path, text.lstrip())
    return path


def _headings(body: Any) -> list[tuple[str, Any]]:
    """Id and text of each section of a page, for its list of contents."""
    from markupsafe import Markup

    return [(anchor, Markup(short or text)) for anchor, short, text in _HEADING.findall(str(body))]
