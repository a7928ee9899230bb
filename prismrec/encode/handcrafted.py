"""An image encoder without weights: where the colours are, and which way the edges run.

**Colours**: a histogram of hue, saturation and value (8 × 3 × 3 bins) of the whole picture and of its four quarters, square
roots of shares (so that the inner product is the Bhattacharyya coefficient). **Edges**: histograms of oriented gradients
(Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005) by scikit-image, of the picture at
128 × 128: 9 directions, cells of 16 × 16, blocks of 2 × 2 cells. Each half has length √½, so that both count the same.
PCA to 128 numbers follows (``transform``); it is fitted to the catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from prismrec.encode.base import Encoder, Kind, Ready, key_of, lacking, versions
from prismrec.encode.pictures import opened

_SIDE = 128
_BINS = (8, 3, 3)


class Handcrafted(Encoder):
    """Colour histograms and HOG, 2,124 numbers a picture, to be reduced by PCA."""

    kind: ClassVar[Kind] = "image"
    transform: ClassVar[str] = "pca:128"
    name = "handcrafted"
    width = 5 * 8 * 3 * 3 + 7 * 7 * 2 * 2 * 9

    def __init__(self) -> None:
        self.key = key_of("handcrafted 1", versions("scikit-image", "pillow"))

    def prepare(self, content: bytes) -> Ready:
        try:
            from skimage.feature import hog
        except ModuleNotFoundError:
            raise lacking("scikit-image") from None
        image, notes = opened(content, _SIDE)
        small = image.resize((_SIDE, _SIDE), 3, reducing_gap=3.0)  # 3: bicubic
        grey = np.asarray(small.convert("L"), dtype=np.float32) / 255
        edges = hog(grey, 9, (16, 16), (2, 2), block_norm="L2-Hys", feature_vector=True)
        parts = [colours(np.asarray(small.convert("HSV"))), np.asarray(edges, dtype=np.float32)]
        return Ready(np.concatenate([_unit(part) for part in parts]) * np.float32(0.5**0.5), notes)

    def encode(self, batch: Sequence[Any]) -> np.ndarray:
        return np.stack(batch).astype(np.float32, copy=False)


def colours(hsv: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 → (360,) float32: roots of the shares of 72 bins, of the whole and of each quarter."""
    bins = np.zeros(hsv.shape[:2], dtype=np.int64)
    for channel, count in enumerate(_BINS):
        bins = bins * count + hsv[..., channel].astype(np.int64) * count // 256
    top, left = hsv.shape[0] // 2, hsv.shape[1] // 2
    regions = [bins, bins[:top, :left], bins[:top, left:], bins[top:, :left], bins[top:, left:]]
    total = int(np.prod(_BINS))
    shares = [np.bincount(region.ravel(), minlength=total) / region.size for region in regions]
    return np.sqrt(np.concatenate(shares)).astype(np.float32)


def _unit(values: np.ndarray) -> np.ndarray:
    return np.asarray(values / max(float(np.linalg.norm(values)), 1e-12), dtype=np.float32)
