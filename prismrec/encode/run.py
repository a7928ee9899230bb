"""A model of the transformers library on a device: arrays in, the vector that it has for them out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prismrec.errors import PrismError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "float32", "bfloat16", "float16")


class Runner:
    """A model in evaluation on ``device``, in ``precision``: float32 on a CPU and bfloat16 elsewhere, unless it is named.

    Lower precision is torch's autocast: weights and sums that need it stay in float32.
    """

    def __init__(self, folder: Path, device: str, precision: str) -> None:
        from transformers import AutoModel

        self.device, self.precision = place(device, precision)
        model, loading = AutoModel.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, trust_remote_code=False, output_loading_info=True,
            dtype="float32",
        )  # fmt: skip
        absent = {str(key) for key in loading["missing_keys"]}
        self._pooled = not any("pool" in key for key in absent)
        if left := sorted(key for key in absent if "pool" not in key):
            raise PrismError(
                f"{folder} lacks {len(left)} of the model's weights (first: {left[0]}), which would be random; copy the whole "
                "model again, or name another with --encoder."
            )
        self.model = model.to(self.device).eval()

    def has(self, method: str) -> bool:
        """Whether the model has a side of its own for this kind of content."""
        return hasattr(self.model, method)

    def __call__(self, arrays: Mapping[str, np.ndarray], method: str) -> np.ndarray:
        """The vectors (n, d) float32 by ``method`` of the model, where it has it, else by its pooled output."""
        import torch

        tensors = {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}
        with torch.inference_mode(), lower(self.device, self.precision):
            out = getattr(self.model, method, self.model)(**tensors)
        return self._vectors(out).float().cpu().numpy()

    def _vectors(self, out: Any) -> torch.Tensor:
        import torch

        if isinstance(out, torch.Tensor):
            return out
        pooled = getattr(out, "pooler_output", None)
        if pooled is not None and self._pooled:
            return torch.as_tensor(pooled).flatten(1)
        places = torch.as_tensor(out.last_hidden_state)
        return places[:, 0] if places.ndim == 3 else places.mean((2, 3))


def place(device: str, precision: str) -> tuple[torch.device, str]:
    """The device, and the precision by name; ``auto`` resolved. Raises ``PrismError``."""
    from prismrec.machine import pick_device

    if precision not in PRECISIONS:
        raise PrismError(f"There is no precision {precision!r}; take one of {', '.join(PRECISIONS)}.")
    found = pick_device(device)
    if precision == "auto":
        precision = "float32" if found.type == "cpu" else "bfloat16"
    return found, precision


def lower(device: torch.device, precision: str) -> Any:
    """Autocast to ``precision``; for float32 a context that does nothing."""
    import torch

    wanted = getattr(torch, precision)
    return torch.autocast(device.type, dtype=wanted, enabled=wanted is not torch.float32)
