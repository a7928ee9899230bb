"""How an inspection looks in a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from prismrec.data.inspect import QUANTILES, Inspection


def render(seen: Inspection) -> RenderableType:
    """Counts, degrees, split, modalities and remarks, one below the other."""
    return Group(*_blocks(seen))


def _blocks(seen: Inspection) -> Iterator[RenderableType]:
    yield Text.assemble((seen.name, "bold"), f"  fingerprint {seen.fingerprint}")
    yield (
        f"{seen.users:,} users ({seen.users_without_rows:,} without rows) · "
        f"{seen.items:,} items ({seen.items_without_rows:,} without rows) · {seen.interactions:,} interactions · "
        f"sparsity {seen.sparsity:.4%} · {seen.duplicates:,} duplicates"
    )
    yield _degrees(seen)
    if seen.parts:
        yield _parts(seen)
        leaks = ", ".join(f"{n:,} in {parts}" for parts, n in seen.leakage.items())
        yield f"Pairs in two parts: {leaks}."
        if seen.earlier_test_rows is not None:
            share = seen.earlier_test_rows / max(seen.parts["test"].rows, 1)
            yield f"Test rows older than a training row of their user: {seen.earlier_test_rows:,} ({share:.1%})."
    if seen.modalities:
        yield _modalities(seen)
    for name, (low, mean, high) in seen.ranges.items():
        # Times can have any unit: nothing but their range means anything.
        yield (
            f"{name}: {low:.0f} to {high:.0f}"
            if name == "timestamp"
            else f"{name}: {low:g} to {high:g}, mean {mean:.4g}"
        )
    yield f"Item table: {', '.join(seen.item_columns) or 'none'}"
    for remark in seen.remarks():
        yield Text(f"! {remark}", style="yellow")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False)
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _degrees(seen: Inspection) -> Table:
    table = _table("\nInteractions per", "", "mean", *QUANTILES)
    for name, degree in (("user", seen.user_degree), ("item", seen.item_degree)):
        if degree:
            table.add_row(name, f"{degree['mean']:.1f}", *(f"{degree[q]:,.0f}" for q in QUANTILES))
    return table


def _parts(seen: Inspection) -> Table:
    table = _table("\nSplit", "part", "rows", "users", "items", "users without", "rows on untrained items")
    for name, part in seen.parts.items():
        counts = (part.rows, part.users, part.items, part.users_without, part.cold_rows)
        table.add_row(name, *(f"{n:,}" for n in counts))
    return table


def _modalities(seen: Inspection) -> Table:
    table = _table("\nFeatures", "modality", "width", "type", "items with", "without", "coverage")
    for name, m in seen.modalities.items():
        table.add_row(name, f"{m.width:,}", m.type, f"{m.present:,}", f"{m.missing:,}", f"{m.share:.1%}")
    return table
