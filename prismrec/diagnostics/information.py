"""How much the modalities' codes say: KL divergence and mutual information along training, and of the final codes.

H. Wang et al., *MRdIB*, 2025, eq. 3 and 8. Everything here is an estimate, in nats, and is named after how it was made:

- ``bound``: the Donsker–Varadhan bound (Belghazi et al., *MINE*, ICML 2018) under a critic; the truth lies above, on average.
- ``gaussian``: −½ Σ log(1 − ρ_i²) over canonical correlations ρ_i, exact for Gaussian codes; a finite sample shows some of it
  between codes that have nothing to do with each other, which ``chance`` (the same codes, items shuffled) tells.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn

from prismrec.diagnostics.finding import Finding
from prismrec.diagnostics.stages import complete, pairs, stages
from prismrec.diagnostics.subject import Subject
from prismrec.errors import PrismError
from prismrec.figures import curves, grouped
from prismrec.losses import mine
from prismrec.plugins.mrdib import MRdIB, information

_SHUFFLES = 5
_MOST = 10_000  # items that an estimate is made from
_ROUNDS = 4  # shuffles of the held-out items that a bound is averaged over
_HIDDEN = 96
_PATIENCE = 5  # looks at the rows that choose the step, twenty steps apart


@dataclass(frozen=True)
class Canonical:
    """Canonical variates of paired rows: (x − mean) · map of either side is uncorrelated, of variance one, and correlates with
    the same column of the other side alone, by ``correlations`` ρ_1 ≥ ρ_2 ≥ … in [0, 1].

    Of sides of unequal width the wider one's directions that correlate with nothing are left out.
    """

    means: tuple[Tensor, Tensor]
    maps: tuple[Tensor, Tensor]
    correlations: Tensor

    @staticmethod
    def of(a: Tensor, b: Tensor) -> Canonical:
        """Of (n, d_a) and (n, d_b); directions narrower than 1e-6 of the widest are left out."""
        (white_a, map_a), (white_b, map_b) = _whitened(a), _whitened(b)
        u, s, vt = torch.linalg.svd(white_a.T @ white_b / len(a))
        paired = len(s)
        left, right = map_a @ u[:, :paired], map_b @ vt.T[:, :paired]
        skewed = (white_a @ u[:, :paired]).pow(3).sum(0)
        sign = torch.where(
            skewed < 0, -1.0, 1.0
        )  # so that an invertible map of the codes leaves the variates as they are
        return Canonical((a.double().mean(0), b.double().mean(0)), (left * sign, right * sign), s.clamp(0, 1))

    def __call__(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Variates (n, r_a) and (n, r_b)."""
        left, right = ((x.double() - mean) @ by for x, mean, by in zip((a, b), self.means, self.maps, strict=True))
        return left, right


def _whitened(x: Tensor) -> tuple[Tensor, Tensor]:
    """(n, d) → (n, r) uncorrelated columns of variance one, and the map (d, r) from centred rows to them."""
    u, s, vt = torch.linalg.svd((x - x.mean(0)).double(), full_matrices=False)
    kept = s > 1e-6 * s[0].clamp_min(1e-300)
    scale = len(x) ** 0.5
    return u[:, kept] * scale, vt[kept].T / s[kept] * scale


def gaussian_information(correlations: Tensor) -> float:
    """I = −½ Σ log(1 − ρ_i²) in nats: the mutual information of Gaussians with these canonical correlations."""
    return float(-0.5 * torch.log1p(-correlations.square().clamp(max=1 - 1e-12)).sum())


def information_by_chance(a: Tensor, b: Tensor, seed: int = 0) -> float:
    """What ``gaussian_information`` comes to on average when the items of one side are shuffled: its bias on so many items."""
    left, right = _whitened(a)[0], _whitened(b)[0]
    rng = torch.Generator().manual_seed(seed)
    mixed = [right[torch.randperm(len(right), generator=rng)] for _ in range(_SHUFFLES)]
    values = [gaussian_information(torch.linalg.svdvals(left.T @ other / len(left))) for other in mixed]
    return sum(values) / len(values)


def trained_bound(a: Tensor, b: Tensor, seed: int = 0, steps: int = 400, batch: int = 512) -> float:
    """A freshly trained estimate of I(a; b) in nats from paired rows (n, d_a), (n, d_b): a critic of two hidden layers on
    their canonical variates.

    70 % of the rows train the critic (and make the variates), 15 % choose the step, of at most ``steps``, and the bound is
    that of the last 15 %, so that nothing learnt by heart counts. Not below 0. The same seed gives the same bits.
    """
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(a), generator=rng)
    train, choose, hold = order.tensor_split([int(0.7 * len(order)), int(0.85 * len(order))])
    left, right = (side.float() for side in Canonical.of(a[train], b[train])(a, b))
    if not left.shape[1] or not right.shape[1]:
        return 0.0
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        critic = nn.Sequential(
            nn.Linear(2 * left.shape[1], _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, 1),
        )
    optimizer = torch.optim.Adam(critic.parameters(), lr=2e-3, weight_decay=1e-4)
    best, found, since = 0.0, 0.0, 0
    with torch.enable_grad():
        for step in range(steps):
            rows = train[torch.randperm(len(train), generator=rng)[:batch]]
            optimizer.zero_grad()
            (-mine(*_statistics(critic, left[rows], right[rows]))).backward()
            optimizer.step()
            if step % 20 == 19:
                value, since = _held_out(critic, left, right, choose, rng), since + 1
                if value > best:
                    best, found, since = value, _held_out(critic, left, right, hold, rng), 0
                if since == _PATIENCE:
                    break
    return max(found, 0.0)


def _statistics(critic: nn.Module, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """f of pairs that belong together (n,), and of pairs by chance (3n,): rows in random order, so their next do not match."""
    sides = torch.cat([b, *(b.roll(k, 0) for k in range(1, 4))])
    values = critic(torch.cat([a.repeat(4, 1), sides], dim=1)).squeeze(1)
    return values[: len(a)], values[len(a) :]


@torch.no_grad()
def _held_out(critic: nn.Module, a: Tensor, b: Tensor, rows: Tensor, rng: torch.Generator) -> float:
    """The bound on ``rows``, its chance pairs taken from several shuffles together."""
    shuffled = [rows[torch.randperm(len(rows), generator=rng)] for _ in range(_ROUNDS)]
    joint, product = zip(*(_statistics(critic, a[mixed], b[mixed]) for mixed in shuffled), strict=True)
    return float(mine(joint[0], torch.cat(product)))


def code_information(subject: Subject, steps: int = 400) -> Finding:
    """Mutual information between the modalities' features, before and after the plug-ins, estimated in two ways.

    ``steps``: of training a fresh critic at each stage; 0 leaves the bound out. Items that lack a modality stay out.
    """
    if subject.assembly is None:
        raise PrismError("It looks at the codes of a model, which data alone does not have.")
    by_stage = stages(subject)
    some = complete(subject, next(iter(by_stage.values())))
    seed = subject.view.seed
    if len(some) > _MOST:
        rng = torch.Generator().manual_seed(seed)
        some = some[torch.randperm(len(some), generator=rng)[:_MOST].sort().values]
    rows = []
    for (stage, tables), (a, b) in itertools.product(by_stage.items(), pairs(next(iter(by_stage.values())))):
        left, right = tables[a][some], tables[b][some]
        _enough(left, right)
        correlations = Canonical.of(left, right).correlations
        rows.append(
            {
                "stage": stage,
                "a": a,
                "b": b,
                "gaussian": gaussian_information(correlations),
                "chance": information_by_chance(left, right, seed),
                "bound": trained_bound(left, right, seed, steps) if steps else None,
                "largest_correlation": float(correlations.max()) if len(correlations) else 0.0,
                "items": len(some),
            }
        )
    table = pl.DataFrame(rows, schema_overrides={"bound": pl.Float64})
    title = "Mutual information between the modalities' codes"
    return Finding("code_information", title, _code_says(table), table, (_code_figure(table),))


def _enough(a: Tensor, b: Tensor) -> None:
    if a.shape[1] + b.shape[1] >= len(a):
        raise PrismError(
            f"Codes of {a.shape[1]} and {b.shape[1]} columns correlate perfectly on {len(a)} items; it needs more items than "
            "columns."
        )


def _code_says(table: pl.DataFrame) -> str:
    sentences = []
    for a, b in table.select("a", "b").unique(maintain_order=True).rows():
        rows = table.filter((pl.col("a") == a) & (pl.col("b") == b))
        arrow = " → ".join(rows["stage"])
        gaussian = " → ".join(f"{g:.2f} ({c:.2f} by chance)" for g, c in rows.select("gaussian", "chance").rows())
        text = f"{str(a).capitalize()} and {b} ({arrow}), estimated as if Gaussian: {gaussian} nats"
        if rows["bound"].null_count() == 0:
            text += f"; by a freshly trained critic, at least {' → '.join(f'{v:.2f}' for v in rows['bound'])}"
        sentences.append(text + ".")
        if len(rows) == 2 and abs(rows["gaussian"][0] - rows["gaussian"][1]) < 1e-4 * abs(rows["gaussian"][0]):
            sentences.append("The plug-ins map these codes invertibly, which takes no information away.")
    return " ".join(sentences)


def _code_figure(table: pl.DataFrame) -> str:
    several = len(table.select("a", "b").unique()) > 1
    names = [f"{a} × {b}, {stage}" if several else stage for stage, a, b in table.select("stage", "a", "b").rows()]
    series = {"as if Gaussian": table["gaussian"].to_list(), "the same by chance": table["chance"].to_list()}
    if table["bound"].null_count() == 0:
        series["critic's bound"] = table["bound"].to_list()
    return grouped(names, series, "mutual information, nats")


def training_information(subject: Subject) -> Finding:
    """KL divergence of each modality's code and the bound on their mutual information, epoch by epoch, of a run with MRdIB."""
    cfg = _mrdib(subject)
    rows = [
        {"epoch": int(record["epoch"]), "what": what.split(".", 1)[0], "of": what.split(".", 1)[1], "nats": value}
        for record in subject.history
        for what, value in _estimates(record, cfg).items()
    ]
    if not rows:
        raise PrismError(
            "The run's log holds no estimate: mrdib measured neither divergence nor mutual information (compress and "
            "redundant are 0), or nothing was trained."
        )
    table = pl.DataFrame(rows)
    figures = []
    sentences = []
    for what, title, y in (
        ("kl", "KL divergence from N(0, I)", "KL divergence, nats"),
        ("mi", "Lower bound on mutual information", "mutual information (bound), nats"),
    ):
        lines = {
            of: _line(table.filter((pl.col("what") == what) & (pl.col("of") == of)))
            for of in table.filter(pl.col("what") == what)["of"].unique(maintain_order=True)
        }
        if lines:
            figures.append(curves(lines, y))
            told = ", ".join(f"{of} {ys[0]:.3g} → {ys[-1]:.3g}" for of, (_, ys) in lines.items())
            sentences.append(f"{title}, first → last epoch: {told} nats.")
    sentences.append("Estimates over training batches, noise on.")
    title = "What the codes say along training"
    return Finding("training_information", title, " ".join(sentences), table, tuple(figures))


def _mrdib(subject: Subject) -> MRdIB.Config:
    plugins = () if subject.config is None else subject.config.plugins
    for plugin, cfg in plugins:
        if plugin is MRdIB and isinstance(cfg, MRdIB.Config):
            return cfg
    raise PrismError("It reads what mrdib logs along training; this run has no mrdib (train with --plugin mrdib).")


def _estimates(record: Mapping[str, Any], cfg: MRdIB.Config) -> dict[str, float]:
    return information(record["terms"], cfg, record.get("plugins", {}).get("mrdib"))


def _line(rows: pl.DataFrame) -> tuple[Sequence[float], Sequence[float]]:
    return rows["epoch"].to_list(), rows["nats"].to_list()
