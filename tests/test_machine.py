from __future__ import annotations

import os

import pytest
import torch

from prismrec import machine
from prismrec.errors import PrismError


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert machine.pick_device("auto").type == machine.pick_device("cpu").type == "cpu"
    with pytest.raises(PrismError, match=r"The device asked for is cuda, but this PyTorch sees no CUDA device\."):
        machine.pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert machine.pick_device("auto") == torch.device("cuda") and machine.pick_device("cuda:1").index == 1
    with pytest.raises(
        PrismError, match=r"The device asked for is cuda:2, but this PyTorch sees 2 CUDA devices, the first is cuda:0"
    ):
        machine.pick_device("cuda:2")


def test_threads_are_those_asked_for_and_then_those_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), machine.cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise RuntimeError
    assert torch.get_num_threads() == before
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with machine.cpu_threads(0):
        assert torch.get_num_threads() == 3


@pytest.mark.parametrize("value", ["", "0", "2,1"])
def test_cores_where_nothing_is_allowed_by_name(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert 1 <= machine.available_cores() <= (os.cpu_count() or 1)


def test_memory_and_environment() -> None:
    peak = machine.peak_memory_mb(torch.device("cpu"))
    assert peak is None or 50 < peak < 100_000
    known = machine.environment()
    assert {"prismrec", "python", "torch", "numpy", "platform", "cores", "threads", "cuda"} == set(known)
