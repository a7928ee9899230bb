"""Tiny models as any model is written to disk, pictures as the world has them, and a shop that has both."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from program import dataset

from prismrec.data import store

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "toy", "red", "blue", "train", "car", "doll", "the", "of", "film"]


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=16,
    )  # fmt: skip


TEXT = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": len(WORDS),
    "max_position_embeddings": 16, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip


def clip() -> tuple[Any, Any]:
    from transformers import CLIPConfig, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    model = CLIPModel(CLIPConfig(text_config=TEXT, vision_config={**VISION, "projection_dim": 12}, projection_dim=12))
    return model, CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def siglip() -> tuple[Any, Any]:
    from transformers import SiglipConfig, SiglipModel
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    model = SiglipModel(SiglipConfig(text_config={**TEXT, "projection_size": 16}, vision_config=VISION))
    return model, SiglipImageProcessorPil(size={"height": 32, "width": 32})


def dinov2() -> tuple[Any, Any]:
    from transformers import Dinov2Config, Dinov2Model
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    model = Dinov2Model(Dinov2Config(**{**VISION, "mlp_ratio": 2}))
    return model, BitImageProcessorPil(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32})


def vit() -> tuple[Any, Any]:
    """Saved as a classifier, so that it has no trained pooling."""
    from transformers import ViTConfig, ViTForImageClassification
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    return ViTForImageClassification(ViTConfig(**VISION)), ViTImageProcessorPil(size={"height": 32, "width": 32})


def resnet() -> tuple[Any, Any]:
    from transformers import ResNetConfig, ResNetModel
    from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

    model = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 20], depths=[1, 1], layer_type="basic"))
    return model, ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=0.875)


MAKERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "clip": clip, "siglip": siglip, "dinov2": dinov2, "vit": vit, "resnet": resnet,
}  # fmt: skip
WIDTHS = {"clip": 12, "siglip": 16, "dinov2": 16, "vit": 16, "resnet": 20}


def write_models(root: Path) -> Path:
    """Each model in a folder of its name, with what reads its pictures and texts."""
    import torch

    for name, make in MAKERS.items():
        torch.manual_seed(len(name))
        model, processor = make()
        model.save_pretrained(root / name)
        processor.save_pretrained(root / name)
        if name in ("clip", "siglip"):
            tokenizer().save_pretrained(root / name)
    return root


def picture(seed: int = 0, size: tuple[int, int] = (40, 30)) -> Any:
    """A picture of a few rectangles."""
    rng = np.random.default_rng(seed)
    values = np.full((size[1], size[0], 3), rng.integers(0, 256, 3), dtype=np.uint8)
    for _ in range(4):
        top, left = rng.integers(0, size[1]), rng.integers(0, size[0])
        values[top : top + size[1] // 2, left : left + size[0] // 2] = rng.integers(0, 256, 3)
    return Image.fromarray(values)


def as_bytes(image: Any, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def shop(folder: Path, n: int = 20, **more: Any) -> Path:
    """A data set of ``n`` items with titles, the first ones with a picture file each below ``folder``/pictures."""
    import polars as pl

    table = dataset(n_users=30, n_items=n, interactions=5.0, **more)
    ids = table.items.external.to_list()
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for position, item in enumerate(ids):
        picture(position).save(folder / "pictures" / f"{item}.png")
    titles = [f"a {colour} {thing} {n}" for n, (colour, thing) in enumerate(zip(COLOURS * n, THINGS * n, strict=False))]
    items = pl.DataFrame({"item": ids, "title": titles[:n], "category": (THINGS * n)[:n]})
    store.save(replace(table, item_table=items, modalities={}), folder / "data")
    return folder


COLOURS, THINGS = ["red", "blue"], ["toy", "car", "train"]


def die_after_batches(which: int, folder: str) -> None:
    """SIGKILL in place of the keeping of the ``which``-th batch (from 0), with the cache in ``folder``."""
    import os
    import signal

    from prismrec.encode.cache import Cache

    os.environ["PRISMREC_CACHE"] = folder  # a process that was forked has the environment of the first one
    whole, count = Cache.put, 0

    def put(self: Cache, known: Any) -> None:
        nonlocal count
        if count == which:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        whole(self, known)

    Cache.put = put  # type: ignore[method-assign]
