"""Graphs and what flows over them: sparse, built from arrays, pure functions of their arguments.

Nothing of size U×U or I×I is ever dense. A graph lives in a module's buffers (so that it follows ``.to(device)``)
which are not saved: it is rebuilt from the data.
"""

from prismrec.graphs.bipartite import Bipartite, Edges, gather_users, propagate_mean, propagate_sum, spread
from prismrec.graphs.csr import Csr, Frozen, from_edges
from prismrec.graphs.items import ItemGraph, knn, knn_matrix, normalised, similarity_matrix, weighted_sum
from prismrec.graphs.users import co_interactions, fill_up, user_graph

__all__ = [
    "Bipartite",
    "Csr",
    "Edges",
    "Frozen",
    "ItemGraph",
    "co_interactions",
    "fill_up",
    "from_edges",
    "gather_users",
    "knn",
    "knn_matrix",
    "normalised",
    "propagate_mean",
    "propagate_sum",
    "similarity_matrix",
    "spread",
    "user_graph",
    "weighted_sum",
]
