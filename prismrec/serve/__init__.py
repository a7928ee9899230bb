"""Recommendations over HTTP: an API, and a page to explore them with, on top of an export.

Nothing here needs torch. The libraries of a web server are the extra ``serve``.
"""

from prismrec.serve.settings import Settings

__all__ = ["Settings"]
