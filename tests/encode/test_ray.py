"""The same step on a local Ray cluster of two workers. Ray is an extra that the checks do not install."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from encoding import as_bytes, picture

from prismrec.encode import load, pipeline
from prismrec.encode import ray as on_ray
from prismrec.encode.cache import Cache
from prismrec.errors import PrismError

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own warnings are many


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two machines of one CPU each, as far as Ray can tell."""
    pytest.importorskip("ray", reason='Ray is not installed: pip install "prismrec[ray]"')
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster.address
    cluster.shutdown()


@pytest.mark.parametrize(("name", "exact"), [("handcrafted", True), ("clip", False)])
def test_two_workers_give_what_one_machine_gives(
    name: str, exact: bool, address: str, models: Path, tmp_path: Path
) -> None:
    files: list[pipeline.Content] = []
    for n in range(30):
        (tmp_path / f"{n}.png").write_bytes(as_bytes(picture(n % 25)))  # five of them twice
        files.append(tmp_path / f"{n}.png")
    (tmp_path / "7.png").write_bytes(b"broken")
    files += [None, tmp_path / "no.png"]
    source = name if exact else str(models / name)
    encoder = load(source, "image")
    alone = pipeline.encode(encoder, files)
    recipe = (source, "image", "auto", "auto")
    with Cache(tmp_path / "c.sqlite", encoder.width) as cache:
        found = on_ray.encode(encoder, recipe, files, address=address, cache=cache, batch=4, workers=2)
        again = on_ray.encode(encoder, recipe, files, address=address, cache=cache, batch=4, workers=2)
    assert found.reasons == alone.reasons and found.same == alone.same and found.progress.encoded == 24
    np.testing.assert_allclose(found.values, alone.values, atol=0 if exact else 1e-5)
    assert again.progress.known == 24 and np.array_equal(again.values, found.values)


def test_texts_go_through_too(address: str, models: Path) -> None:
    encoder = load(str(models / "clip"), "text")
    texts: list[pipeline.Content] = [f"a red toy {'car ' * n}".encode() for n in range(9)] + [b" ", None]
    found = on_ray.encode(encoder, (str(models / "clip"), "text", "auto", "auto"), texts, address=address, batch=3)
    np.testing.assert_allclose(found.values, pipeline.encode(encoder, texts).values, atol=1e-5)
    assert found.reasons == {9: "empty text", 10: pipeline.NONE}


def test_a_cluster_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason='Ray is not installed: pip install "prismrec[ray]"')

    def absent(**options: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "init", absent)
    with pytest.raises(PrismError, match="no Ray cluster at 'auto'"), on_ray.cluster("auto", 2):
        pass
