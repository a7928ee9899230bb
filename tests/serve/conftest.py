"""A service over a small export, asked without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from shelves import planted

pytest.importorskip("fastapi", reason="the service is not installed: pip install -e .[serve]")

from serving import opened
from starlette.testclient import TestClient

Open = Callable[..., Any]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with pictures of its first two items. Not to be changed."""
    folder = tmp_path_factory.mktemp("serve")
    pictures = folder / "pictures"
    pictures.mkdir()
    (pictures / "i00000.png").write_bytes(b"\x89PNG picture 0")
    (pictures / "i00001.jpg").write_bytes(b"picture 1")
    (pictures / "notes.txt").write_text("no picture")
    (pictures / "i00002.png").symlink_to(folder / "secret.png")
    (folder / "secret.png").write_bytes(b"HIDDEN")
    planted(pictures=pictures).save(folder / "model")
    return folder / "model"


@pytest.fixture(scope="session")
def client(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service with default settings, shared: nobody is forgotten here."""
    with opened({"shop": model}, tmp_path_factory.mktemp("state")) as found:
        yield found


@pytest.fixture
def start(model: Path, tmp_path: Path) -> Iterator[Open]:
    """``start(setting=…)``: a service of one's own."""
    with ExitStack() as stack:

        def begin(exports: dict[str, Path] | None = None, **settings: Any) -> TestClient:
            return stack.enter_context(opened(exports or {"shop": model}, tmp_path, **settings))

        yield begin
