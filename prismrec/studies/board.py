"""A leaderboard as a record: arms on one data set, means over seeds, tests over users, groups of users, costs.

An arm is one configuration, run with one or several seeds. Its values are averaged over its runs first, user by user, and
tests and intervals then speak of users: a lucky seed does not count as many users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from prismrec.data.dataset import Dataset
from prismrec.errors import PrismError, first_fault
from prismrec.io import write_text
from prismrec.models.base import Strict
from prismrec.runs import Run
from prismrec.studies import contest
from prismrec.studies.groups import rows_by_group
from prismrec.studies.row import Group, Row


class Data(Strict):
    """What the arms were trained on; ``tested``: users with a held-out item."""

    name: str
    fingerprint: str
    users: int
    items: int
    interactions: int
    tested: int


class Board(Strict):
    """Arms, best first by the main ``metric``; plain values throughout, so that its JSON says all of it.

    ``part``: the part of the split that was ranked, under ``protocol``.
    """

    version: int = 1
    data: Data
    protocol: str
    part: str = "test"
    metric: str
    metrics: tuple[str, ...]
    groups: tuple[Group, ...]
    rows: tuple[Row, ...]

    @staticmethod
    def of(
        arms: Mapping[str, Sequence[Run]],
        dataset: Dataset,
        metrics: Sequence[str],
        metric: str = "recall@20",
        against: Mapping[str, str] | None = None,
    ) -> Board:
        """Arm → its finished runs with different seeds, all on ``dataset`` under one protocol → their board.

        ``metrics``: columns, in order; the main ``metric`` is one of them or stands before them. ``against``: arm → its host,
        where that is not its model without plug-ins or, for others, the strongest arm without parameters.
        """
        metrics = tuple(dict.fromkeys([*([] if metric in metrics else [metric]), *metrics]))
        found = contest.entries(arms, dataset, metrics, metric)
        host = contest.hosts(found, against or {})
        result, users = found[0].runs[0].result, found[0].runs[0].test.per_user["user"]
        members = rows_by_group(dataset, "test", dataset.users.encode(users))
        values = contest.estimates(found, metrics)
        answers = contest.answers(list(contest.questions(found, metrics, host)), metric, members)
        return Board(
            data=Data(
                name=dataset.name,
                fingerprint=dataset.fingerprint,
                users=dataset.n_users,
                items=dataset.n_items,
                interactions=len(dataset.interactions),
                tested=len(users),
            ),
            protocol=str(result["protocol"]),
            metric=metric,
            metrics=metrics,
            groups=tuple(Group(by=by, label=label, users=len(rows)) for (by, label), rows in members.items()),
            rows=tuple(
                Row(
                    arm=entry.name,
                    model=str(entry.result["model"]),
                    plugins=tuple(entry.result["plugins"]),
                    seeds=entry.seeds,
                    folders=tuple(run.folder.as_posix() for run in entry.runs),
                    metrics={m: values[entry.name, m] for m in metrics},
                    groups=tuple(float(entry.values[metric][rows].mean()) for rows in members.values()),
                    cost=contest.cost(entry),
                    host=None if (other := host[entry.name]) is None else other.name,
                    against_best={m: a for m in metrics if (a := answers.get(("best", m, entry.name))) is not None},
                    against_host={m: a for m in metrics if (a := answers.get(("host", m, entry.name))) is not None},
                )
                for entry in found
            ),
        )

    @staticmethod
    def read(path: str | Path) -> Board:
        """From a JSON file that ``write`` wrote."""
        path = Path(path)
        if not path.is_file():
            raise PrismError(f"{path} does not exist; expected the board.json of a study.")
        try:
            return Board.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise PrismError(f"{path} is no board of this version: {first_fault(error)}. Make it again.") from None

    def write(self, path: str | Path) -> None:
        """As JSON, in full precision."""
        write_text(path, self.model_dump_json(indent=2) + "\n")

    @property
    def best(self) -> Row:
        """The arm with the largest mean of the main metric."""
        return self.rows[0]

    def row(self, arm: str) -> Row:
        """The row of an arm."""
        return next(row for row in self.rows if row.arm == arm)
