"""A pretended CUDA device: its tensors hold their numbers on the CPU, say that they are on CUDA, and refuse to meet others.

So that tests without a GPU find what a GPU would: a tensor on the wrong device, and where the host waits for the device. What
runs is the code's own path for CUDA (``is_cuda``), with numbers that can be compared. What it cannot find: faults of CUDA's own
kernels, and how fast they are.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

FAR = torch.device("cuda", 0)

WAITS = {  # operations whose result's size, or value, the host must learn before it can go on
    "_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select", "bincount", "histc", "multinomial", "_unique2",
    "unique_dim", "unique_consecutive", "linalg_svd", "_linalg_svd", "_linalg_eigh", "linalg_cholesky_ex", "linalg_solve_ex",
    "coalesce", "_coalesce", "_sparse_coo_tensor_with_dims_and_tensors",
}  # fmt: skip
_OF_SPARSE = ("crow_indices", "col_indices", "values", "to_dense")


class Far(Tensor):
    """A tensor that says it is on the device; ``near`` holds its numbers."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> Far:
        sparse = near.layout == torch.sparse_csr
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            near.size(),
            strides=None if sparse else near.stride(),
            storage_offset=None if sparse else near.storage_offset(),
            dtype=near.dtype,
            requires_grad=False,
        )
        made.near = near.detach()
        return made  # type: ignore[no-any-return]

    def __init__(self, near: Tensor) -> None:
        pass

    device = property(lambda self: FAR)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]

    layout = property(lambda self: self.near.layout)  # type: ignore[assignment]

    def data_ptr(self) -> int:
        return self.near.data_ptr()

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"Far({self.near!r})"

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["near"], None

    @staticmethod
    def __tensor_unflatten__(inner: Mapping[str, Tensor], *_: Any) -> Far:
        return Far(inner["near"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if Watch.on and _waits(name, args, kwargs):
            Watch.found[name] += 1
        moves = name in ("copy_", "_to_copy")
        out = func(*_each(near, args) if moves else _each(_only_near, args), **_each(_only_near, kwargs))
        if name == "_local_scalar_dense":
            return out
        changed = [kwargs.get(key, args[i] if i < len(args) else None) for i, key in _written(func)]
        if changed and func._schema.returns:
            return changed[0] if len(changed) == 1 else type(out)(changed)
        return _each(far, out)


def far(x: Any) -> Any:
    """A tensor as it would be on the device; anything else as it is."""
    return Far(x) if isinstance(x, Tensor) and not isinstance(x, Far) else x


def near(x: Any) -> Any:
    return x.near if isinstance(x, Far) else x


def _only_near(x: Any) -> Any:
    if isinstance(x, Far):
        return x.near
    if isinstance(x, Tensor) and x.dim() > 0:  # a lone number may come from the host
        raise RuntimeError(
            f"Expected all tensors to be on the same device: one of shape {tuple(x.shape)} is on the CPU"
        )
    return x


def _each(do: Callable[[Any], Any], tree: Any) -> Any:
    """``do`` on all that lists and dictionaries hold."""
    if isinstance(tree, list | tuple):
        return type(tree)([_each(do, value) for value in tree])
    if isinstance(tree, dict):
        return {key: _each(do, value) for key, value in tree.items()}
    return do(tree)


@functools.cache
def _written(func: Any) -> list[tuple[int, str]]:
    """Arguments that an operation writes to: their places and names."""
    specs = enumerate(func._schema.arguments)
    return [(i, spec.name) for i, spec in specs if spec.alias_info is not None and spec.alias_info.is_write]


def _far_among(tree: Any) -> bool:
    if isinstance(tree, list | tuple):
        return any(_far_among(value) for value in tree)
    return isinstance(tree, Far)


def _waits(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
        masks = any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1])
        return masks and not (name != "index" and args[2].numel() == 1)  # a single number is filled in
    return name in WAITS


class Watch:
    """Counts what makes the host wait, while ``on``."""

    found: ClassVar[Counter[str]] = Counter()
    on = False

    @classmethod
    def told(cls, name: str) -> None:
        if cls.on:
            cls.found[name] += 1


@contextmanager
def watched() -> Iterator[Counter[str]]:
    """What makes the host wait meanwhile: operation → how often."""
    Watch.found, Watch.on = Counter(), True
    try:
        yield Watch.found
    finally:
        Watch.on = False


class _Device(TorchFunctionMode):
    """Makes and moves tensors as PyTorch does when it is told a device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in _MOVES and isinstance(args[0], Tensor):
            return _moved(func, name, args, kwargs)
        if name in ("tolist", "numpy", "__array__") and isinstance(args[0], Far):
            if name != "tolist":
                raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
            Watch.told(name)
            return args[0].near.tolist()
        if name in _OF_SPARSE and isinstance(args[0], Far) and args[0].layout == torch.sparse_csr:
            return far(func(args[0].near))
        if name in ("tensor", "as_tensor") and torch.device(kwargs.get("device") or "cpu").type == FAR.type:
            Watch.told("to the device")
            return far(func(*args, **{**kwargs, "device": "cpu"}))
        if name == "backward" and isinstance(args[0], Tensor):
            with self:  # functions on the way back make and move tensors too
                kwargs["grad_tensors"] = kwargs.pop("gradient", None)
                return torch.autograd.backward(args[0], *args[1:], **kwargs)
        return func(*args, **kwargs)


class _Factories(TorchDispatchMode):
    """Makes tensors where they are asked for."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # nothing is compiled here, and asking for it takes a second
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        if func is torch.ops.aten.zeros.default and torch._C._current_graph_task_id() != -1:
            return far(
                func(*args, **kwargs)
            )  # a gradient that nobody asked for: the engine takes its tensor to be here
        if device is None or device.type != FAR.type:
            return func(*args, **kwargs)
        if _far_among(args):  # ones_like and its kin: the answer is there anyway
            kwargs["device"] = None
            return func(*args, **kwargs)
        if any(isinstance(x, Tensor) for x in args):  # torch.tensor(…, device=…)
            Watch.told("to the device")
        kwargs["device"] = torch.device("cpu")
        return far(func(*args, **kwargs))


class _Generator(torch.Generator):
    def __new__(cls, device: Any = "cpu") -> _Generator:
        return super().__new__(cls, "cpu")


_MOVES = ("to", "cpu", "cuda")


def _moved(func: Callable[..., Any], name: str, args: Any, kwargs: dict[str, Any]) -> Tensor:
    x, *rest = args
    target = {"cpu": "cpu", "cuda": "cuda"}.get(name, kwargs.pop("device", None))
    if name == "to" and rest and isinstance(rest[0], str | torch.device):
        target, rest = rest[0], rest[1:]
    elif name == "to" and rest and isinstance(rest[0], Tensor):
        target, rest = rest[0].device, [rest[0].dtype, *rest[1:]]
    if isinstance(target, Tensor):
        target = target.device
    if name == "to" and (rest or kwargs) and (rest[:1] != [None] or kwargs):
        rest = [r for r in rest if r is not None]
        if rest or set(kwargs) - {"non_blocking"}:
            x = func(x, *rest, **kwargs)
    if target is None:
        return x  # type: ignore[no-any-return]
    there = torch.device(target).type == FAR.type
    if there == isinstance(x, Far):
        return x  # type: ignore[no-any-return]
    Watch.told("to the device" if there else "to the host")
    return _Move.apply(x, there)  # type: ignore[no-any-return, no-untyped-call]


class _Move(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, there: bool) -> Tensor:
        ctx.there = there
        return Far(x.detach().clone()) if there else x.near.clone()  # type: ignore[attr-defined, no-any-return]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return (near(grads[0]) if ctx.there else far(grads[0])), None


@contextmanager
def device() -> Iterator[torch.device]:
    """The pretended device is there: ``torch`` takes its name in place of CUDA's. Tensors of its own outlast it."""
    patch = pytest.MonkeyPatch()
    patch.setattr(torch, "Generator", _Generator)
    patch.setattr(torch, "inference_mode", torch.no_grad)  # which takes no tensors of another kind
    patch.setattr(torch.cuda, "_lazy_init", lambda: None)
    patch.setattr(torch.cuda, "device_count", lambda: 1)
    patch.setattr(torch.cuda, "max_memory_allocated", lambda *_: 1 << 20)
    patch.setattr(torch.cuda, "get_rng_state", lambda *_: torch.zeros(1))
    patch.setattr(torch.cuda, "set_rng_state", lambda *_: None)
    try:
        with _Factories(), _Device():
            yield FAR
    finally:
        patch.undo()
