"""The one error a user meets: a sentence that says what was found, what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class PrismError(ValueError):
    """Bad input of any kind. The command line prints its message and exits with status 2, without a traceback."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A suggestion for a misspelt ``name``: `` Did you mean 'x'?`` or the list of what exists."""
    options = sorted(known)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]!r}?"
    return "Known: " + ", ".join(options) + "." if options else "Nothing may be set here."


def first_fault(error: ValidationError) -> str:
    """Where the first fault of a record lies, and what it is: ``files.users: Field required``."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'its text'}: {first['msg']}"
