"""The same encode step on a Ray cluster, as a Ray Data pipeline: for catalogues beyond one machine.

Two passes over the contents: one that reads and digests them, so that what the cache knows and what is there twice is not
encoded; one that prepares and encodes the rest, one encoder for each worker. Vectors come back in batches and are remembered
one by one here, so that a call that was killed goes on where it stopped. Folders of pictures and of models must be seen by
all machines under the same name.

Ray decides which contents share a batch, so vectors of a model agree with those of one machine to rounding, not to the bit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prismrec.cluster import LOCAL, cluster
from prismrec.encode.base import Encoder, Kind
from prismrec.encode.cache import Cache, Known
from prismrec.encode.pipeline import Content, Encoded, Job, Progress, Read, Watch, read, step

if TYPE_CHECKING:
    from ray.data import Dataset

Batch = dict[str, np.ndarray]


@contextmanager
def _quiet(address: str, workers: int) -> Iterator[None]:
    """The cluster, without Ray Data's own bars and plans: progress is told here."""
    with cluster(address, workers):
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield


def encode(
    encoder: Encoder,
    recipe: tuple[str, Kind, str, str],
    contents: Sequence[Content],
    *,
    address: str = LOCAL,
    cache: Cache | None = None,
    batch: int = 0,
    workers: int = 2,
    watch: Watch | None = None,
) -> Encoded:
    """``pipeline.encode`` on the cluster at ``address``, by ``workers`` processes.

    ``recipe``: name, kind, device and precision, by which each worker loads the encoder that ``encoder`` is here.
    """
    job = Job(encoder, cache, Progress(len(contents)), watch)
    batch = batch or encoder.batch
    with _quiet(address, workers):
        reads = _digested(contents, 4 * batch)
        rows = [found.item for found in job.unknown(reads, 4 * batch)]
        digests = {item: digest for digest, items in job.items.items() for item in items}
        encoding = _table(contents, rows, batch).map_batches(
            Encode, fn_constructor_args=recipe, batch_size=batch, compute=_pool(workers)
        )
        for found in encoding.iter_batches(batch_size=batch, batch_format="numpy", prefetch_batches=1):
            job.came({digests[int(i)]: _outcome(found, n) for n, i in enumerate(found["item"])})
    return job.result()


class Encode:
    """What a worker runs: an encoder of its own, and ``pipeline.step`` on each batch."""

    def __init__(self, name: str, kind: Kind, device: str, precision: str) -> None:
        from prismrec.encode.known import Settings, load

        self.encoder = load(name, kind, Settings(device, precision))

    def __call__(self, batch: Batch) -> Batch:
        outcomes = step(self.encoder, _contents(batch))
        vectors = np.zeros((len(outcomes), self.encoder.width), dtype=np.float32)
        said = []
        for position, outcome in enumerate(outcomes):
            if isinstance(outcome, Known):
                vectors[position] = outcome.vector
            said.append("\n".join(outcome.notes) if isinstance(outcome, Known) else outcome)
        fine = np.array([isinstance(outcome, Known) for outcome in outcomes])
        return {"item": batch["item"], "vector": vectors, "fine": fine, "said": np.array(said, dtype=object)}


def digested(batch: Batch) -> Batch:
    """What a worker runs first: the digest of each content, or the reason why there is none."""
    found = [read(int(item), content) for item, content in zip(batch["item"], _contents(batch), strict=True)]
    return {
        "item": batch["item"],
        "digest": np.array([one.digest.hex() for one in found], dtype=object),
        "reason": np.array([one.reason for one in found], dtype=object),
    }


def _digested(contents: Sequence[Content], size: int) -> Iterator[Read]:
    """In the order of the items, so that the first of several with one content is the same everywhere."""
    table = _table(contents, range(len(contents)), size).map_batches(digested, batch_size=size)
    found = {}
    for batch in table.iter_batches(batch_size=size, batch_format="numpy"):
        for item, digest, reason in zip(batch["item"], batch["digest"], batch["reason"], strict=True):
            found[int(item)] = Read(int(item), bytes.fromhex(digest), b"", reason)
    for item in range(len(contents)):
        yield found[item]


def _table(contents: Sequence[Content], rows: Sequence[int], size: int) -> Dataset:
    """The contents of these rows as a table of Ray, in blocks of ``size``: item, path, text."""
    import pyarrow as pa
    import ray.data

    chosen = [contents[row] for row in rows]
    paths = [str(one.resolve()) if isinstance(one, Path) else None for one in chosen]
    texts = [one if isinstance(one, bytes) else None for one in chosen]
    columns = {
        "item": pa.array(rows, pa.int64()), "path": pa.array(paths, pa.string()), "content": pa.array(texts, pa.binary()),
    }  # fmt: skip
    whole = pa.table(columns)
    return ray.data.from_arrow([whole.slice(start, size) for start in range(0, max(len(rows), 1), size)])


def _pool(workers: int) -> Any:
    import ray.data

    return ray.data.ActorPoolStrategy(size=workers)


def _contents(batch: Batch) -> list[Content]:
    pairs = zip(batch["path"], batch["content"], strict=True)
    return [Path(path) if path else None if content is None else bytes(content) for path, content in pairs]


def _outcome(batch: dict[str, Any], row: int) -> Known | str:
    said = str(batch["said"][row])
    return Known(np.asarray(batch["vector"][row]), tuple(said.splitlines())) if batch["fine"][row] else said
