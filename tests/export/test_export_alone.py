"""An export is used without torch, by a process that starts quickly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_USE = """
import sys
from prismrec.export import Filter, Shelf
shelf = Shelf.load(sys.argv[1])
user, item = shelf.users.external[0], shelf.items.external[0]
assert len(shelf.recommend([user], 5)) == 5
assert len(shelf.recommend([user], 5, weights={"text": 1.0}, only=Filter(deny=[item]))) == 5
assert len(shelf.similar([item], 5, modality="image").table()) == 5
shelf.save(sys.argv[2])
loaded = {"torch", "scipy", "sklearn", "matplotlib", "pandas"} & set(sys.modules)
assert not loaded, loaded
"""


def test_torch_is_never_imported(folder: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _USE, str(folder), str(tmp_path / "copy")], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
