"""Where a model's files are: a folder, a package that carries them, the hub's cache on this machine, or the hub itself.

Only weights in safetensors are loaded (other files of weights are pickles, which can run code), and no code of a model's
folder is ever run.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prismrec.encode.base import lacking
from prismrec.errors import PrismError
from prismrec.io import sha256

_KINDS = ("*.json", "*.txt", "*.model", "*.safetensors")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def find(source: str, package: str = "", digest: str = "") -> Path:
    """The folder with the files of a model.

    ``source``: a folder, or ``owner/name`` of the Hugging Face hub, which is looked for on this machine first. ``package``:
    an installed package that carries the files, taken before the hub if its weights have the SHA-256 ``digest``. Raises
    ``PrismError`` that says what to download and where to put it.
    """
    folder = Path(source)
    if folder.is_dir():
        return _complete(folder)
    if package and (carried := _carried(package, digest)):
        return carried
    if not _HUB_NAME.fullmatch(source):
        raise PrismError(
            f"There is no encoder and no folder {source!r}; `prismrec data encoders` lists what has a name, and a model of "
            "the Hugging Face hub is named owner/name."
        )
    return _hub(source, package)


def digest_of(folder: Path) -> str:
    """SHA-256 over all files that decide what a model does: weights, settings, tokenizer."""
    sha = hashlib.sha256()
    for path in sorted({path for kind in _KINDS for path in folder.rglob(kind)}):
        sha.update(f"{path.relative_to(folder).as_posix()} {sha256(path)}\n".encode())
    return sha.hexdigest()


def settings_of(folder: Path) -> dict[str, Any]:
    """The content of ``config.json``; empty where there is none."""
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise PrismError(f"{path} is not valid JSON ({error}); copy the model again.") from None
    return found if isinstance(found, dict) else {}


@contextmanager
def quietly(folder: Path) -> Iterator[None]:
    """While a model is loaded: no bars of the library, and what it raises becomes one sentence."""
    from safetensors import SafetensorError

    try:
        from transformers.utils import logging
    except ModuleNotFoundError:
        raise lacking("transformers") from None
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        if isinstance(error, PrismError):
            raise
        said = " ".join(str(error).split())[:300].rstrip(".")
        raise PrismError(
            f"The model in {folder} cannot be loaded ({said}). It needs config.json, weights in safetensors, and the files of "
            "its tokenizer or image processor; copy it again, or name another with --encoder."
        ) from error
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _complete(folder: Path) -> Path:
    if any(folder.rglob("*.safetensors")) and ((folder / "config.json").exists() or (folder / "modules.json").exists()):
        return folder
    pickled = next((p.name for p in sorted(folder.iterdir()) if p.suffix in (".bin", ".pt", ".pth", ".ckpt")), "")
    if pickled:
        raise PrismError(
            f"{folder} holds weights only as {pickled}, which is a pickle and could run code; PrismRec loads safetensors. "
            "Convert it with the model's save_pretrained, or download the model's safetensors."
        )
    raise PrismError(f"{folder} is not a model: it needs config.json and weights in safetensors.")


def _carried(package: str, digest: str) -> Path | None:
    """The folder within an installed package, found without running any of its code."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.suffix == ".safetensors":
            path = Path(str(file.locate()))
            if not path.is_file():
                return None
            if digest and sha256(path) != digest:
                raise PrismError(
                    f"The weights in the package {package} are not those that were published (SHA-256 of {path} differs); "
                    "remove the package, and name a folder with the model with --encoder."
                )
            return path.parent
    return None


def _hub(name: str, package: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError:
        raise lacking("huggingface_hub") from None
    why = ""
    for only_here in (True, False):
        try:
            return _complete(Path(snapshot_download(name, local_files_only=only_here, allow_patterns=list(_KINDS))))
        except Exception as error:  # of the hub, of the network below it, of the disk: all mean that it is not here
            why = next(iter(str(error).splitlines()), type(error).__name__)[:160].rstrip(".: ")
    folder = name.split("/")[1]
    instead = f"Or: pip install {package}. " if package else ""
    raise PrismError(
        f"The model {name} is no folder here, not in the hub's cache, and could not be fetched ({why}). {instead}Where there "
        f"is a network run `hf download {name} --local-dir {folder}`, put the folder {folder} here, and name it: "
        f"--encoder {folder}."
    )
