"""Nearest items by cosine for catalogues too large to compare all with all: approximate, by faiss (extra ``ann``).

Items are dealt into cells around centres (J. Sivic, A. Zisserman, "Video Google", ICCV 2003; H. Jégou, M. Douze, C. Schmid,
"Product Quantization for Nearest Neighbor Search", IEEE TPAMI 2011), an item looks for its neighbours in the nearest cells
only, and what it finds there is compared by its raw features. How many cells it must look at is found out: as many as give the
recall asked for on a sample of items whose exact neighbours are known.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prismrec.errors import PrismError
from prismrec.graphs.items import Cosines

_BLOCK = 4096  # rows read, added or searched at a time
_SAMPLE = 512  # items whose exact neighbours are looked up
_EACH = 64  # rows for each centre: faiss' default of 256 takes four times as long, and the cells are as good
_SPARE = 4  # candidates beyond those wanted: their order by half-precision numbers is not quite that by the features
_LOOKS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096)


@dataclass(frozen=True)
class Found:
    """One search: ``recall`` of the k nearest on ``sample`` items, reached by looking at ``looked`` of ``cells`` cells."""

    items: int
    k: int
    recall: float
    sample: int
    looked: int
    cells: int


@dataclass(frozen=True)
class Near:
    """``graphs.knn`` by approximation: at least ``recall`` (below 1) of an item's k nearest are found, on average.

    ``found`` tells of each search that it made. The bits hang on the number of threads.
    """

    recall: float
    found: list[Found] = field(default_factory=list)

    def __call__(self, values: Tensor, present: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Features (I, r) and ``present`` (I,) → ids (I, k) and cosines (I, k) as ``graphs.knn`` has them; -1 for none."""
        cosines = Cosines(values, present)
        usable = cosines.usable.nonzero().squeeze(1)
        k = min(k, len(values))
        most = len(usable) // 39  # with fewer than 39 items a cell faiss warns
        cells = max(1, min(most, round(2 * math.sqrt(len(usable)))))
        index = _filled(cosines, usable, cells)
        sample = usable[torch.from_numpy(_drawn(len(usable), _SAMPLE, 1))]
        truth = _exact(cosines, sample, k)
        recall, looked = 1.0, 1
        for looked in (*(n for n in _LOOKS if n < cells), cells):
            recall = _recall(truth, _search(index, cosines, sample, k, looked)[0])
            if recall >= self.recall:
                break
        self.found.append(Found(len(values), k, recall, len(sample), looked, cells))
        ids = torch.full((len(values), k), -1, device=values.device)
        cosine = torch.zeros((len(values), k), device=values.device)
        for rows in usable.split(_BLOCK):
            ids[rows], cosine[rows] = _search(index, cosines, rows, k, looked)
        return ids, cosine

    def told(self) -> list[dict[str, Any]]:
        """``found`` as plain values."""
        return [asdict(search) for search in self.found]


def _drawn(n: int, most: int, seed: int) -> np.ndarray:
    """At most ``most`` of n positions, ascending."""
    return np.sort(np.random.default_rng(seed).choice(n, min(n, most), replace=False))


def _units(cosines: Cosines, rows: Tensor) -> np.ndarray:
    """Features of ``rows`` (n,) at unit length, (n, r) float32."""
    units: np.ndarray = (cosines.values[rows].float() * cosines.scale[rows, None]).cpu().numpy()
    return units


def _filled(cosines: Cosines, usable: Tensor, cells: int) -> Any:
    """An index of all ``usable`` rows, in half precision."""
    try:
        import faiss
    except ImportError as error:
        raise PrismError(
            "Approximate neighbours need faiss: pip install 'prismrec[ann]', or ask for all of them with "
            "run.neighbour_recall=1."
        ) from error
    faiss.omp_set_num_threads(torch.get_num_threads())
    width = cosines.values.shape[1]
    quantizer = faiss.IndexFlatIP(width)
    half = faiss.ScalarQuantizer.QT_fp16
    index = faiss.IndexIVFScalarQuantizer(quantizer, width, cells, half, faiss.METRIC_INNER_PRODUCT, False)
    index.cp.seed, index.cp.max_points_per_centroid, index.cp.spherical = 1234, _EACH, True
    index.train(_units(cosines, usable[torch.from_numpy(_drawn(len(usable), max(_EACH, 39) * cells, 0))]))
    for rows in usable.split(_BLOCK):
        index.add_with_ids(_units(cosines, rows), rows.cpu().numpy())
    return index


def _search(index: Any, cosines: Cosines, rows: Tensor, k: int, looked: int) -> tuple[Tensor, Tensor]:
    """The k nearest of ``rows`` (n,), each its own first one, in ``looked`` cells → ids and cosines (n, k)."""
    import faiss

    units = _units(cosines, rows)
    found = index.search(units, k + _SPARE, params=faiss.SearchParametersIVF(nprobe=looked))[1]
    near = torch.from_numpy(found).sort(dim=1).values.to(rows.device)  # so that a tie goes to the lower id
    none = (near < 0) | (near == rows[:, None])
    wanted = near.clamp(min=0)
    candidates = cosines.values[wanted.reshape(-1)].float().view(*near.shape, -1)
    query = torch.from_numpy(units).to(rows.device)
    cosine = torch.einsum("nr,nkr->nk", query, candidates) * cosines.scale[wanted]
    cosine, order = cosine.masked_fill_(none, -torch.inf).sort(dim=1, descending=True, stable=True)
    ids = torch.cat([rows[:, None], near.gather(1, order)], dim=1)[:, :k]
    cosine = torch.cat([torch.ones_like(cosine[:, :1]), cosine], dim=1)[:, :k]
    ok = cosine.isfinite()
    return torch.where(ok, ids, -1), torch.where(ok, cosine.clamp(max=1.0), 0.0)


def _exact(cosines: Cosines, sample: Tensor, k: int) -> Tensor:
    """The k nearest of each item of ``sample`` (n,), itself first → ids (n, k)."""
    units = torch.from_numpy(_units(cosines, sample)).to(sample.device)
    best = torch.empty(len(sample), 0, device=sample.device)
    ids = torch.empty(len(sample), 0, dtype=torch.int64, device=sample.device)
    for start in range(0, len(cosines.values), 65536):
        stop = min(start + 65536, len(cosines.values))
        block = units @ cosines.values[start:stop].float().T * cosines.scale[start:stop]
        block.masked_fill_(~cosines.usable[start:stop], -torch.inf)
        here = (sample >= start) & (sample < stop)
        block[here.nonzero().squeeze(1), sample[here] - start] = 2.0
        best = torch.cat([best, block], dim=1)
        ids = torch.cat([ids, torch.arange(start, stop, device=sample.device).expand(len(sample), -1)], dim=1)
        best, order = best.topk(min(k, best.shape[1]), dim=1)
        ids = ids.gather(1, order)
    return torch.where(best.isfinite(), ids, -1)


def _recall(truth: Tensor, found: Tensor) -> float:
    """Share of the true neighbours (n, k) that stand in lists (n, k); itself, which is always found, does not count."""
    truth, found = truth[:, 1:], found[:, 1:]
    there = (truth[:, :, None] == found[:, None, :]).any(2) & (truth >= 0)
    return float(there.sum() / (truth >= 0).sum().clamp(min=1))
