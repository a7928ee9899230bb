"""ContentKNN: the floor of what features alone can do.

P. Lops, M. de Gemmis, G. Semeraro, "Content-based Recommender Systems: State of the Art and Trends", Recommender Systems
Handbook, Springer 2011, doi 10.1007/978-0-387-85820-3_3: items are scored by how much they resemble those that a user took.

Nothing is trained, and nobody's taste but the user's own plays a part: what a model adds to this, it learnt from others.

Departures: 1. Of an item's likenesses to all others the ``neighbours`` largest are kept, itself included, as in ItemKNN.
2. Any number of modalities: their cosines are added up, with ``weights``.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from prismrec import graphs
from prismrec.models.base import Context, Paper, Strict
from prismrec.models.floors import Floor, to_torch, training_matrix
from prismrec.space import Range, named
from prismrec.types import Feats, Reps, Rows


class ContentKNN(Floor):
    """s(u, i) = Σ_m w_m Σ_{j in the user's items and i's k nearest by m} cos_m(i, j)."""

    name = "contentknn"
    paper = Paper(
        "Content-based Recommender Systems: State of the Art and Trends",
        "P. Lops, M. de Gemmis, G. Semeraro",
        "Recommender Systems Handbook",
        2011,
        "10.1007/978-0-387-85820-3_3",
    )
    needs = 1
    new_items = "its nearest items by features"
    by_features = "all"

    class Config(Strict):
        """A user's own items are among an item's neighbours as any others are."""

        neighbours: int = Field(100, ge=1, description="similar items kept for each item, by each modality")
        weights: dict[str, float] = Field(
            default_factory=dict, description="modality: weight of its cosines; else equal"
        )

    spaces = named(default={"neighbours": Range(5, 500, log=True, whole=True)})

    cfg: Config
    matrix: Tensor
    alike: Tensor

    def __init__(self, cfg: Config, ctx: Context) -> None:
        super().__init__(cfg, ctx)
        self.register_buffer("matrix", to_torch(training_matrix(ctx)), persistent=False)
        equal = dict.fromkeys(ctx.raw, 1 / len(ctx.raw))
        weights = ctx.shares(cfg.weights) if cfg.weights else equal
        alike = graphs.combined([(weights[m], _alike(ctx, m, cfg.neighbours)) for m in ctx.raw])
        shape = (ctx.n_items, ctx.n_items)
        sparse = graphs.csr_tensor(alike.indptr.long(), alike.indices.long(), alike.values, shape, check=True)
        self.register_buffer("alike", sparse, persistent=False)

    def forward(self, feats: Feats) -> Reps:
        return Reps(self.matrix, Rows(self.alike))


def _alike(ctx: Context, modality: str, k: int) -> graphs.Csr:
    """Cosines of each item with its k nearest known ones (I, I), no negative ones; a known item is its own nearest."""
    ids, cosine = ctx.near(modality, k + 1)
    new = (torch.arange(len(ids), device=ids.device) >= ctx.n_known).unsqueeze(1)
    # one that is new is nobody's item: the place that it would take itself goes to one more neighbour
    k = min(k, ids.shape[1])
    ids, cosine = (
        torch.where(new, torch.cat([table[:, 1:], table[:, :1]], dim=1), table)[:, :k] for table in (ids, cosine)
    )
    row, slot = ((ids >= 0) & (cosine > 0) & ~(new & (ids >= ctx.n_known))).nonzero(as_tuple=True)
    return graphs.from_edges(row, ids[row, slot], cosine[row, slot], len(ids), len(ids))
