"""Vision models of the transformers library: CLIP, SigLIP, DINOv2, ViT, ResNet, and whatever else gives a vector a picture.

The vector is the model's own: of CLIP and SigLIP the side that shares a space with texts, of others the pooled output, and
where a checkpoint has no trained pooling, the first token (or the mean over places of a convolutional network).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from prismrec.encode import run, weights
from prismrec.encode.base import Encoder, Kind, Ready, Unreadable, key_of, versions
from prismrec.encode.pictures import opened
from prismrec.errors import PrismError


class VisionModel(Encoder):
    """Pictures through a vision model; its own processor resizes, crops and normalises them, by Pillow."""

    kind: ClassVar[Kind] = "image"

    def __init__(self, name: str, folder: Path, device: str = "auto", precision: str = "auto") -> None:
        used = versions("transformers", "torch", "pillow")
        with weights.quietly(folder):
            from transformers import AutoImageProcessor

            self._processor = AutoImageProcessor.from_pretrained(
                folder, backend="pil", local_files_only=True, trust_remote_code=False
            )
            self._runner = run.Runner(folder, device, precision)
        self.name = name
        size = self._processor.size
        self._side = max((int(value) for value in dict(size).values() if value), default=224)
        self.key = key_of("vision 1", weights.digest_of(folder), self._runner.precision, used)
        blank = np.zeros(self._pixels(_blank(self._side)).shape, dtype=np.float32)
        self.width = self.encode([blank]).shape[1]

    def prepare(self, content: bytes) -> Ready:
        image, notes = opened(content, self._side)
        try:
            return Ready(self._pixels(image), notes)
        except ValueError:
            raise Unreadable("the model's processor does not take it") from None

    def encode(self, batch: Sequence[Any]) -> np.ndarray:
        if len({pixels.shape for pixels in batch}) > 1:
            raise PrismError(
                f"The processor of {self.name} gives pictures of several sizes, which cannot go through the model together; "
                "set do_resize and do_center_crop in its preprocessor_config.json."
            )
        return self._runner({"pixel_values": np.stack(batch)}, "get_image_features")

    def _pixels(self, image: Any) -> np.ndarray:
        found = self._processor(images=image, return_tensors="np")["pixel_values"][0]
        return np.asarray(found, dtype=np.float32)


def _blank(side: int) -> Any:
    from PIL import Image

    return Image.new("RGB", (side, side), "white")
