"""Vision and text models as they are loaded from disk, the sentence model of the field, and what is not loaded."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from encoding import MAKERS, WIDTHS, as_bytes, picture

from prismrec.encode import Settings, Unreadable, load, weights
from prismrec.encode.base import Encoder
from prismrec.encode.handcrafted import Handcrafted, colours
from prismrec.encode.known import ENCODERS
from prismrec.errors import PrismError

PICTURES = [as_bytes(picture(n, (50, 30 + n))) for n in range(4)]


def vectors(encoder: Encoder, contents: list[bytes]) -> np.ndarray:
    return encoder.encode([encoder.prepare(content).value for content in contents])


@pytest.mark.parametrize("name", MAKERS)
def test_a_vision_model_gives_its_own_vectors(name: str, models: Path) -> None:
    from transformers import AutoImageProcessor, AutoModel

    encoder = load(str(models / name), "image")
    found = vectors(encoder, PICTURES)
    assert encoder.width == WIDTHS[name] and found.shape == (4, WIDTHS[name]) and found.dtype == np.float32
    assert found.std(axis=0).max() > 0
    processor = AutoImageProcessor.from_pretrained(models / name, backend="pil")
    model = AutoModel.from_pretrained(models / name).eval()
    pixels = processor(images=[picture(n, (50, 30 + n)) for n in range(4)], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        out = model.get_image_features(pixels) if hasattr(model, "get_image_features") else model(pixels)
    # a classifier's checkpoint has no trained pooling: there the first token counts
    wanted = out.last_hidden_state[:, 0] if name == "vit" else out.pooler_output.flatten(1)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_a_text_tower_shares_the_space_of_its_pictures(name: str, models: Path) -> None:
    encoder = load(str(models / name), "text")
    texts = [b"a red toy", b"the blue train of a film", b"toy " * 40]
    assert encoder.width == WIDTHS[name] == load(str(models / name), "image").width
    found = vectors(encoder, texts)
    alone = np.concatenate([vectors(encoder, [text]) for text in texts])
    np.testing.assert_allclose(found, alone, atol=1e-5)  # padding does not matter
    assert encoder.prepare(texts[2]).notes == ("longer than 16 tokens: its beginning",)
    assert encoder.prepare(texts[0]).notes == ()
    for empty in (b"", b" \n"):
        with pytest.raises(Unreadable, match="empty text"):
            encoder.prepare(empty)


def test_texts_of_all_lengths_are_read_by_several_threads(models: Path) -> None:
    encoder = load(str(models / "clip"), "text")
    texts = [b"toy " * (1 + 37 * (n % 3)) for n in range(60)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(encoder.prepare, texts * 5))
    assert found == [encoder.prepare(text) for text in texts] * 5
    assert [len(ready.notes) for ready in found[:3]] == [0, 1, 1]


def test_a_model_without_a_side_for_texts_is_refused(models: Path) -> None:
    from prismrec.encode.text import TextTower

    shutil.copy(models / "clip" / "tokenizer.json", models / "dinov2" / "tokenizer.json")
    shutil.copy(models / "clip" / "tokenizer_config.json", models / "dinov2" / "tokenizer_config.json")
    with pytest.raises(PrismError, match="no side for texts"):
        TextTower("dinov2", models / "dinov2")


def test_the_key_stands_for_weights_settings_and_precision(models: Path, tmp_path: Path) -> None:
    again = load(str(models / "resnet"), "image")
    assert again.key == load(str(models / "resnet"), "image").key
    assert again.key != load(str(models / "resnet"), "image", Settings(precision="bfloat16")).key
    other = shutil.copytree(models / "resnet", tmp_path / "other")
    (other / "README.md").write_text("words")
    assert load(str(other), "image").key == again.key
    settings = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(json.dumps({**settings, "image_mean": [0.1, 0.2, 0.3]}))
    assert load(str(other), "image").key != again.key


def test_lower_precision_is_near(models: Path) -> None:
    exact = vectors(load(str(models / "dinov2"), "image"), PICTURES)
    rough = vectors(load(str(models / "dinov2"), "image", Settings(precision="bfloat16")), PICTURES)
    assert 0 < np.abs(exact - rough).max() < 0.1
    with pytest.raises(PrismError, match="no precision"):
        load(str(models / "dinov2"), "image", Settings(precision="int8"))


def test_pickled_absent_and_incomplete_weights_are_refused(models: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    half = shutil.copytree(models / "vit", tmp_path / "half")
    tensors = load_file(half / "model.safetensors")
    save_file(dict(sorted(tensors.items())[4:]), half / "model.safetensors", {"format": "pt"})
    with pytest.raises(PrismError, match=r"lacks \d+ of the model's weights"):
        load(str(half), "image")
    (half / "model.safetensors").write_bytes(b"short")
    with pytest.raises(PrismError, match="cannot be loaded"):
        load(str(half), "image")
    (half / "model.safetensors").unlink()
    with pytest.raises(PrismError, match="is not a model"):
        load(str(half), "image")
    (half / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(PrismError, match="is a pickle"):
        load(str(half), "image")


def test_a_sentence_model_with_code_of_its_own_is_refused(models: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(models / "clip", tmp_path / "foreign")
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "os.path.Evil"}]))
    with pytest.raises(PrismError, match=r"code of its own \(os.path.Evil\)"):
        load(str(folder), "text")


def test_names_that_mean_nothing_and_models_that_are_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    with pytest.raises(PrismError, match="Did you mean 'handcrafted'"):
        load("handcrafed", "image")
    with pytest.raises(PrismError, match="reads text, not image"):
        load("minilm", "image")

    def away(*given: object, **options: object) -> str:
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", away)
    with pytest.raises(PrismError, match=r"no route to the hub.*hf download openai/clip-vit-base-patch32 --local-dir"):
        load("clip", "image")


def test_weights_of_a_package_are_those_that_were_published(monkeypatch: pytest.MonkeyPatch) -> None:
    known = next(one for one in ENCODERS if one.name == "minilm")
    assert (weights.find(known.source, known.package, known.digest) / "tokenizer.json").is_file()
    with pytest.raises(PrismError, match="not those that were published"):
        weights.find(known.source, known.package, "0" * 64)


def test_the_sentence_model_of_the_field_knows_what_is_alike() -> None:
    encoder = load("minilm", "text")
    texts = [
        "A cowboy doll is jealous of a new toy.",
        "Toys come to life when nobody looks.",
        "Baby bottle, 250 ml, glass",
    ]
    found = vectors(encoder, [text.encode() for text in texts])
    cosine = found @ found.T
    assert encoder.width == 384 and cosine[0, 1] > 0.3 > cosine[0, 2]
    np.testing.assert_allclose(np.diag(cosine), 1, atol=1e-5)
    alone = np.concatenate([vectors(encoder, [text.encode()]) for text in texts])
    np.testing.assert_allclose(found, alone, atol=1e-5)


def test_the_encoder_without_weights_tells_colours_and_edges_apart() -> None:
    encoder = Handcrafted()
    found = vectors(encoder, [*PICTURES, PICTURES[0]])
    assert found.shape == (5, encoder.width) and np.array_equal(found[0], found[4])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    hsv = np.zeros((4, 4, 3), np.uint8)
    hsv[:, 2:] = (128, 255, 255)
    shares = colours(hsv) ** 2
    np.testing.assert_allclose(shares.reshape(5, 72).sum(1), 1, rtol=1e-6)
    assert sorted(set(shares.round(6).tolist())) == [0, 0.5, 1]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_device_runs_in_mixed_precision_and_gives_nearly_the_same(models: Path) -> None:
    for name, kind, contents in (("clip", "image", PICTURES), ("siglip", "text", [b"a red toy", b"the car"])):
        here = load(str(models / name), kind, Settings("cpu"))
        there = load(str(models / name), kind, Settings("cuda"))
        assert here.key != there.key
        np.testing.assert_allclose(vectors(there, contents), vectors(here, contents), atol=0.1)
