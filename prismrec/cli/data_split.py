"""How rows are divided, as options of the commands that split, and the split that follows from them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

import typer

from prismrec.cli import data_options as options
from prismrec.data.dataset import Dataset
from prismrec.errors import PrismError, nearest


class By(StrEnum):
    """How rows are divided."""

    RATIO = "ratio"
    LEAVE_ONE_OUT = "leave-one-out"
    CUTOFF = "cutoff"
    ITEM = "item"


class Order(StrEnum):
    """Which rows of a user are held out."""

    RANDOM = "random"
    TIME = "time"


Ratio = Annotated[
    str | None,
    typer.Option(
        "--ratio", help="Train:valid:test for `ratio`, and of warm items for `item` (8:1:1).", show_default=False
    ),
]
OrderOption = Annotated[
    Order | None,
    typer.Option("--order", help="Hold out random rows of a user, or the latest (random).", show_default=False),
]
Quantiles = Annotated[
    str | None,
    typer.Option("--quantiles", help="For `cutoff`: shares of rows before the cuts (0.8,0.9).", show_default=False),
]
At = Annotated[
    str | None,
    typer.Option("--at", help="For `cutoff`: the two times themselves, numbers or dates.", show_default=False),
]
Cold = Annotated[
    str | None,
    typer.Option(
        "--cold",
        help="For `item`: shares of items all of whose rows are for validation, and for test (0.1,0.1).",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of a random split.")]
Asked = Annotated[
    str | None,
    typer.Option(
        "--split", help=f"Also split the result: {', '.join(By)}, or a ratio such as 8:1:1.", show_default=False
    ),
]


def asked(text: str, ratio: str | None) -> tuple[By, str | None]:
    """What ``--split`` says: ``cutoff`` → that; ``8:1:1`` → a split by ratio, and the ratio."""
    if ":" in text:
        if ratio is not None:
            raise PrismError(f"Both --split {text} and --ratio {ratio} set a ratio; leave one out.")
        return By.RATIO, text
    if text not in set(By):
        raise PrismError(
            f"--split {text!r} is not understood; expected a ratio such as 8:1:1 or one of {', '.join(By)}. "
            f"{nearest(text, By)}"
        )
    return By(text), ratio


def divide(
    dataset: Dataset,
    by: By,
    ratio: str | None,
    order: Order | None,
    quantiles: str | None,
    at: str | None,
    seed: int,
    cold: str | None = None,
) -> Dataset:
    """``dataset`` split as the options say; one that this kind of split does not take is refused."""
    from prismrec.data import splits

    takes = {
        By.RATIO: {"--ratio", "--order"},
        By.LEAVE_ONE_OUT: {"--order"},
        By.CUTOFF: {"--quantiles", "--at"},
        By.ITEM: {"--cold", "--ratio", "--order"},
    }[by]
    options_given = given(ratio=ratio, order=order, quantiles=quantiles, at=at, cold=cold)
    if stray := [option for option in options_given if option not in takes]:
        raise PrismError(f"A split by {by.value} takes {' and '.join(sorted(takes))}, not {' and '.join(stray)}.")
    if len(options_given) == 2 and by is By.CUTOFF:
        raise PrismError("Both --quantiles and --at were given; one of them sets the cuts.")
    held_out: Literal["random", "time"] = "time" if order is Order.TIME else "random"
    if by is By.RATIO:
        return splits.by_ratio(dataset, ratio=options.ratio(ratio or "8:1:1"), order=held_out, seed=seed)
    if by is By.ITEM:
        share = options.shares(cold or "0.1,0.1")
        return splits.by_item(dataset, share=share, ratio=options.ratio(ratio or "8:1:1"), order=held_out, seed=seed)
    if by is By.LEAVE_ONE_OUT:
        return splits.leave_one_out(dataset, order=held_out, seed=seed)
    times = None if at is None else options.cuts(at, dataset)
    return splits.by_cutoff(dataset, quantiles=options.quantiles(quantiles or "0.8,0.9"), at=times)


def given(**named: object) -> list[str]:
    """The options that were given, as they are written."""
    return [f"--{name}" for name, value in named.items() if value is not None]
