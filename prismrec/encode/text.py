"""Texts through sentence-transformers, or through the text side of CLIP and SigLIP, so that both kinds share a space.

A text longer than the model reads is cut to its length, and counted. Where a sentence model states a prompt for documents,
it stands before each text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from prismrec.encode import run, weights
from prismrec.encode.base import Encoder, Kind, Ready, Unreadable, key_of, versions
from prismrec.errors import PrismError

NOTHING = "empty text"
_CHARACTERS = 40
"""Of a text that is longer than so many characters for each token that the model reads, the rest is not tokenized."""
_DOCUMENT = ("document", "passage", "corpus")


class TextModel(Encoder):
    """What both have in common: a tokenizer, a longest text, padding to the longest of a batch."""

    kind: ClassVar[Kind] = "text"
    prompt = ""

    def __init__(self, name: str, tokenizer: Any, longest: int, key: str) -> None:
        self.name, self.key = name, key
        self._tokenizer, self._longest = tokenizer, longest
        self.width = self.encode([self.prepare(b"a").value]).shape[1]

    def prepare(self, content: bytes) -> Ready:
        text = content.decode(errors="replace").strip()
        if not text:
            raise Unreadable(NOTHING)
        # always with the same settings: others would be set in the tokenizer, under the feet of other threads
        start = text[: _CHARACTERS * self._longest]
        found = self._tokenizer(self.prompt + start, truncation=True, max_length=self._longest, verbose=False)
        cut = len(start) < len(text) or any(one.overflowing for one in found.encodings or ())
        return Ready(dict(found), (f"longer than {self._longest} tokens: its beginning",) if cut else ())

    def padded(self, batch: Sequence[Mapping[str, Any]], to: int | None = None) -> dict[str, np.ndarray]:
        """Token ids and masks (n, L), L the longest of the batch or ``to``."""
        padding = "longest" if to is None else "max_length"
        return dict(self._tokenizer.pad(list(batch), padding=padding, max_length=to, return_tensors="np"))


class SentenceModel(TextModel):
    """A model of sentence-transformers; one without its files is read by the mean over tokens."""

    def __init__(self, name: str, folder: Path, device: str = "auto", precision: str = "auto") -> None:
        import torch

        used = versions("sentence-transformers", "transformers", "torch")
        _only_known_modules(folder)
        self._device, self._precision = run.place(device, precision)
        with weights.quietly(folder):
            from sentence_transformers import SentenceTransformer

            self._model = SentenceTransformer(
                str(folder), device=str(self._device), local_files_only=True, trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            ).eval()  # fmt: skip
        prompts = self._model.prompts or {}
        stated = (prompts.get(role) for role in (*_DOCUMENT, self._model.default_prompt_name or ""))
        self.prompt = next((prompt for prompt in stated if prompt), "")
        key = key_of("sentence 1", weights.digest_of(folder), self._precision, used)
        longest = self._model.get_max_seq_length() or 512
        super().__init__(name, self._model.tokenizer, int(longest), key)

    def encode(self, batch: Sequence[Any]) -> np.ndarray:
        import torch

        arrays = self.padded(batch)
        tensors = {name: torch.from_numpy(array).to(self._device) for name, array in arrays.items()}
        with torch.inference_mode(), run.lower(self._device, self._precision):
            found = self._model(tensors)["sentence_embedding"]
        return np.asarray(found.float().cpu().numpy())


class TextTower(TextModel):
    """The text side of a model of pictures and texts."""

    def __init__(self, name: str, folder: Path, device: str = "auto", precision: str = "auto") -> None:
        used = versions("transformers", "torch")
        with weights.quietly(folder):
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            self._runner = run.Runner(folder, device, precision)
        if not self._runner.has("get_text_features"):
            raise PrismError(f"The model in {folder} has no side for texts; name a sentence model, CLIP or SigLIP.")
        config = self._runner.model.config
        longest = int(config.text_config.max_position_embeddings)
        # SigLIP was trained on texts padded to its full length, without a mask, and is wrong on others
        self._full = longest if config.model_type.startswith("siglip") else None
        key = key_of("tower 1", weights.digest_of(folder), self._runner.precision, used)
        super().__init__(name, tokenizer, longest, key)

    def encode(self, batch: Sequence[Any]) -> np.ndarray:
        arrays = self.padded(batch, self._full)
        taken = ("input_ids",) if self._full else ("input_ids", "attention_mask")
        return self._runner({name: arrays[name] for name in taken}, "get_text_features")


def _only_known_modules(folder: Path) -> None:
    """``modules.json`` names classes to load: only those of the library itself are."""
    path = folder / "modules.json"
    if not path.is_file():
        return
    try:
        types = [str(module["type"]) for module in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError) as error:
        raise PrismError(
            f"{path} does not list the parts of a sentence model ({error}); copy the model again."
        ) from None
    if foreign := [kind for kind in types if not kind.startswith("sentence_transformers.")]:
        raise PrismError(
            f"{path} asks for code of its own ({foreign[0]}), which PrismRec does not run; name another model with --encoder."
        )
