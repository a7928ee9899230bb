"""A run's recommendations as a folder of their own, which is read without torch.

Examples:
    >>> from prismrec.export import Filter, Shelf
    >>> shelf = Shelf.load("model")  # doctest: +SKIP
    >>> shelf.recommend(["u00007"], k=10, only=Filter(deny=["i00003"]))  # doctest: +SKIP
"""

from prismrec.export.explain import FUSED, Said, Why
from prismrec.export.filters import Filter, Range
from prismrec.export.lists import Lists
from prismrec.export.shelf import Shelf
from prismrec.export.tables import Side

__all__ = ["FUSED", "Filter", "Lists", "Range", "Said", "Shelf", "Side", "Why"]
