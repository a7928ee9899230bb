"""One data set made by a command: where it goes, checked before any work, and what is said on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from prismrec.data.dataset import Dataset


class Job:
    """One reading, its result, and what is said on the way."""

    def __init__(self, quiet: bool) -> None:
        self.console = Console(quiet=quiet, highlight=False, stderr=True)
        self.dataset: Dataset | None = None

    def say(self, text: str) -> None:
        """What is done next."""
        self.console.print(f"[dim]{text} …[/dim]")

    def read(self, source: Path, given: dict[str, object]) -> Dataset:
        """The data at ``source``, of any layout that PrismRec reads."""
        from prismrec.data.sources import read

        self.say(f"Reading {source}")
        return read(source, **given)


@contextmanager
def writing(output: Path, overwrite: bool, quiet: bool) -> Iterator[Job]:
    """Yields a job; its data set is written to ``output``, which must be free (checked before any work)."""
    from prismrec.data import store

    store.refuse_taken(output, overwrite)
    job = Job(quiet)
    yield job
    assert job.dataset is not None
    store.save(job.dataset, output, overwrite=overwrite)
    dataset = job.dataset
    rows = dataset.interactions
    job.console.print(
        f"{output}: {dataset.n_users:,} users, {dataset.n_items:,} items, {len(rows):,} interactions, "
        f"modalities: {', '.join(dataset.modalities) or 'none'}, fingerprint {dataset.fingerprint}",
        soft_wrap=True,
    )
    for name, modality in dataset.modalities.items():
        if lacking := int((~modality.present).sum()):
            job.console.print(f"{lacking:,} of {dataset.n_items:,} items lack {name} and are marked missing")
    if rows.split is None:
        job.console.print(f"No split yet: prismrec data split {output} -o OUT", markup=False)
