"""Pictures and texts a second of ``prismrec.encode``, beside the bare forward pass of the same model at the same batch size.

    python -m benchmarks.encoding [--models vit-b32 …] [--items 96] [--batch 16] [--rounds 3] [--threads 1] [--write]

**Bare**: the model alone on batches that stand ready in memory. **Whole**: files read from disk, digested, decoded, resized and
normalised by threads, through the model, and the vectors into a new cache. Vision models have their published shapes and
random weights (speed does not depend on them); pictures are drawn JPEG files of 500 × 500; texts are words of a
catalogue. Both alternate, round by round; the ratio is the median of the rounds. Threads that prepare share the cores with
the model: on one core nothing can overlap, which is the hardest case.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.setting import describe, heading, keep, parser, table
from prismrec.encode import load
from prismrec.encode.base import Encoder
from prismrec.encode.cache import Cache
from prismrec.encode.pipeline import Content, encode


def vit_b32() -> tuple[Any, Any]:
    from transformers import CLIPVisionConfig, CLIPVisionModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    shape = CLIPVisionConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
                             image_size=224, patch_size=32)  # fmt: skip
    return CLIPVisionModel(shape), CLIPImageProcessorPil()


def dinov2_small() -> tuple[Any, Any]:
    from transformers import Dinov2Config, Dinov2Model
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    shape = Dinov2Config(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=224, patch_size=14)
    return Dinov2Model(shape), BitImageProcessorPil()


def resnet50() -> tuple[Any, Any]:
    from transformers import ResNetConfig, ResNetModel
    from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

    return ResNetModel(ResNetConfig()), ConvNextImageProcessorPil(size={"shortest_edge": 224})


VISION: dict[str, tuple[str, Callable[[], tuple[Any, Any]]]] = {
    "vit-b32": ("CLIP's ViT-B/32", vit_b32),
    "resnet50": ("ResNet-50", resnet50),
    "dinov2-small": ("DINOv2 ViT-S/14", dinov2_small),
}


def pictures(folder: Path, n: int) -> list[Content]:
    """JPEG files with some structure, of the size that shops use."""
    from PIL import Image

    rng = np.random.default_rng(0)
    found: list[Content] = []
    for i in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        fine = np.asarray(coarse.resize((500, 500), 3)).astype(np.int16) + rng.integers(-12, 13, (500, 500, 1))
        path = folder / f"{i}.jpg"
        Image.fromarray(fine.clip(0, 255).astype(np.uint8)).save(path, quality=85)
        found.append(path)
    return found


def texts(n: int) -> list[Content]:
    """Between 10 and 120 words."""
    rng = np.random.default_rng(0)
    words = [
        "a",
        "the",
        "soft",
        "cotton",
        "baby",
        "bottle",
        "steel",
        "with",
        "and",
        "for",
        "red",
        "large",
        "safe",
        "gift",
    ]
    return [" ".join(rng.choice(words, rng.integers(10, 121))).encode() for _ in range(n)]


def measure(encoder: Encoder, contents: Sequence[Content], batch: int, rounds: int, workers: int) -> dict[str, Any]:
    """Seconds an item, bare and whole, of each round, and their ratios."""
    raw = [one.read_bytes() if isinstance(one, Path) else one or b"" for one in contents]
    order = sorted(range(len(raw)), key=lambda i: 0 if isinstance(contents[i], Path) else -len(raw[i]))
    ready = [encoder.prepare(raw[i]).value for i in order]
    batches = [ready[start : start + batch] for start in range(0, len(ready), batch)]
    encoder.encode(batches[0])
    bare, whole = [], []
    for _ in range(rounds):
        clock = _clocks()
        for part in batches:
            encoder.encode(part)
        bare.append((_clocks() - clock) / len(raw))
        with tempfile.TemporaryDirectory() as folder, Cache(Path(folder) / "c.sqlite", encoder.width) as cache:
            clock = _clocks()
            found = encode(encoder, contents, cache=cache, batch=batch, workers=workers)
            whole.append((_clocks() - clock) / len(raw))
            assert found.progress.encoded == len(raw)
    ratios = np.array(whole) / np.array(bare)
    return {
        "bare": np.array(bare)[:, 0].tolist(),
        "whole": np.array(whole)[:, 0].tolist(),
        "ratios": ratios[:, 0].tolist(),
        "ratios of processor time": ratios[:, 1].tolist(),
    }


def _clocks() -> np.ndarray:
    """Seconds gone by, and seconds that this process has computed, in all its threads."""
    return np.array([time.perf_counter(), time.process_time()])


def _told(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--models", nargs="+", default=[*VISION, "minilm"], choices=[*VISION, "minilm"])
    arguments.add_argument("--items", type=int, default=96)
    arguments.add_argument("--batch", type=int, default=16)
    arguments.add_argument("--rounds", type=int, default=3)
    args = arguments.parse_args()
    about = describe(args.threads)
    torch.set_num_threads(args.threads)
    rows, record = [], {"about": about, "items": args.items, "batch": args.batch, "models": {}}
    with tempfile.TemporaryDirectory() as root:
        files = pictures(Path(root), args.items)
        for name in args.models:
            if name in VISION:
                label, make = VISION[name]
                torch.manual_seed(0)
                model, processor = make()
                model.save_pretrained(Path(root) / name)
                processor.save_pretrained(Path(root) / name)
                encoder, contents = load(str(Path(root) / name), "image"), files
            else:
                label, encoder, contents = "all-MiniLM-L6-v2", load(name, "text"), texts(args.items)
            found = measure(encoder, contents, args.batch, args.rounds, args.threads)
            record["models"][name] = found
            speeds = [f"{1 / min(found[side]):.1f}" for side in ("bare", "whole")]
            rows.append([label, *speeds, *(_told(found[by]) for by in ("ratios", "ratios of processor time"))])
            print(rows[-1], flush=True)
    text = (
        f"# Encoding beside the bare model\n\n{heading(about)}\n\n"
        f"{args.items} pictures (JPEG, 500 × 500) or texts (10 to 120 words), {args.batch} at once; items a second of the best "
        f"of {args.rounds} rounds, and a ratio, median and range: reading, digesting, decoding, resizing, model and cache over "
        "the model alone, by seconds gone by, and by seconds computed, which a busy machine does not move.\n\n"
        + table(["model", "bare items/s", "whole items/s", "ratio", "ratio computed"], rows)
        + "\n\nWanted: at most 1.3."
    )
    print(text)
    if args.write:
        print(keep("encoding", text, record))


if __name__ == "__main__":
    main()
