"""Tiny models on disk, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from encoding import write_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder per model."""
    with torch.random.fork_rng(devices=[]):
        return write_models(tmp_path_factory.mktemp("models"))
