"""The plug-in methods: one paper a file, and the one tuple that lists them."""

from prismrec.errors import PrismError, nearest
from prismrec.plugins.base import Offer, Plugin
from prismrec.plugins.chns import CHNS
from prismrec.plugins.clear import CLEAR
from prismrec.plugins.infonce import InfoNCE
from prismrec.plugins.mrdib import MRdIB
from prismrec.plugins.orthogonal import Orthogonal
from prismrec.plugins.synergy import Synergy

PLUGINS: tuple[type[Plugin], ...] = (CLEAR, MRdIB, CHNS, Synergy, InfoNCE, Orthogonal)

__all__ = ["PLUGINS", "Offer", "Plugin", "plugin_named"]


def plugin_named(name: str) -> type[Plugin]:
    """The class of a plug-in by its name on the command line."""
    known = {plugin.name: plugin for plugin in PLUGINS}
    if name not in known:
        raise PrismError(f"There is no plug-in {name!r}. {nearest(name, known)}")
    return known[name]
