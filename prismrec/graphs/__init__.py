"""Graphs and what flows over them: sparse, built from arrays, pure functions of their arguments.

Nothing of size U×U or I×I is ever dense. A graph lives in a module's buffers (so that it follows ``.to(device)``)
which are not saved: it is rebuilt from the data.
"""

from prismrec.graphs.attention import Places
from prismrec.graphs.bipartite import (
    Bipartite,
    Edges,
    gather_users,
    propagate_each,
    propagate_last,
    propagate_mean,
    propagate_sum,
    spread,
    weighted_bipartite,
)
from prismrec.graphs.csr import Csr, Frozen, combined, csr_tensor, from_edges, inner_products, product
from prismrec.graphs.diffusion import Hop, Symmetric, diffuse, powers_mean, walk, weighted_powers, whole
from prismrec.graphs.dropping import dropout
from prismrec.graphs.interests import alike, closest, drawn_to, interest_weights, second_order
from prismrec.graphs.items import (
    Cosines,
    ItemGraph,
    grown,
    knn,
    knn_matrix,
    normalised,
    similarity_matrix,
    weighted_sum,
)
from prismrec.graphs.learned import Learned, LearnedGraphs, Neighbours
from prismrec.graphs.near import Near
from prismrec.graphs.users import Friends, co_interactions, common, fill_up, user_graph

__all__ = [
    "Bipartite",
    "Cosines",
    "Csr",
    "Edges",
    "Friends",
    "Frozen",
    "Hop",
    "ItemGraph",
    "Learned",
    "LearnedGraphs",
    "Near",
    "Neighbours",
    "Places",
    "Symmetric",
    "alike",
    "closest",
    "co_interactions",
    "combined",
    "common",
    "csr_tensor",
    "diffuse",
    "drawn_to",
    "dropout",
    "fill_up",
    "from_edges",
    "gather_users",
    "grown",
    "inner_products",
    "interest_weights",
    "knn",
    "knn_matrix",
    "normalised",
    "powers_mean",
    "product",
    "propagate_each",
    "propagate_last",
    "propagate_mean",
    "propagate_sum",
    "second_order",
    "similarity_matrix",
    "spread",
    "user_graph",
    "walk",
    "weighted_bipartite",
    "weighted_powers",
    "weighted_sum",
    "whole",
]
