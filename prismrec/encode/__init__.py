"""Pictures and texts → features: encoders behind one interface, safe pictures, a cache by content, transforms, a data card."""

from prismrec.encode.base import Encoder, Kind, Ready, Unreadable
from prismrec.encode.features import Made, add_features, features_like
from prismrec.encode.known import DEFAULT, ENCODERS, Settings, load

__all__ = [
    "DEFAULT",
    "ENCODERS",
    "Encoder",
    "Kind",
    "Made",
    "Ready",
    "Settings",
    "Unreadable",
    "add_features",
    "features_like",
    "load",
]
