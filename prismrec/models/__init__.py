"""The models: one paper a file, and the one tuple that lists them."""

from prismrec.errors import PrismError, nearest
from prismrec.models.apegnn import ApeGNN
from prismrec.models.base import Context, Model, Paper, Strict
from prismrec.models.bm3 import BM3
from prismrec.models.bpr import BPR
from prismrec.models.br_mrs_backbone import BRMRSBackbone
from prismrec.models.clear_backbone import CLEARBackbone
from prismrec.models.content import ContentKNN
from prismrec.models.dragon import DRAGON
from prismrec.models.dualgnn import DualGNN
from prismrec.models.floors import EASE, ItemKNN, MostPop
from prismrec.models.freedom import FREEDOM
from prismrec.models.grcn import GRCN
from prismrec.models.lattice import LATTICE
from prismrec.models.layergcn import LayerGCN
from prismrec.models.lgmrec import LGMRec
from prismrec.models.lightgcn import LightGCN
from prismrec.models.mentor import MENTOR
from prismrec.models.mgcn import MGCN
from prismrec.models.mgdn import MGDN
from prismrec.models.micro import MICRO
from prismrec.models.mig_gt import MIGGT
from prismrec.models.mmgcn import MMGCN
from prismrec.models.mmssl import MMSSL
from prismrec.models.rearm import REARM
from prismrec.models.slmrec import SLMRec
from prismrec.models.soil import SOIL
from prismrec.models.ssr import SSR
from prismrec.models.vbpr import VBPR

MODELS: tuple[type[Model], ...] = (
    MostPop,
    ItemKNN,
    EASE,
    ContentKNN,
    BPR,
    LightGCN,
    LayerGCN,
    ApeGNN,
    MGDN,
    VBPR,
    MMGCN,
    DualGNN,
    GRCN,
    DRAGON,
    MENTOR,
    SSR,
    LATTICE,
    MICRO,
    SLMRec,
    BM3,
    FREEDOM,
    CLEARBackbone,
    BRMRSBackbone,
    MGCN,
    SOIL,
    LGMRec,
    MIGGT,
    MMSSL,
    REARM,
)

__all__ = ["MODELS", "Context", "Model", "Paper", "Strict", "model_named"]


def model_named(name: str) -> type[Model]:
    """The class of a model by its name on the command line."""
    known = {model.name: model for model in MODELS}
    if name not in known:
        raise PrismError(f"There is no model {name!r}. {nearest(name, known)}")
    return known[name]
