"""Which kernels serve on a CUDA device, and where Triton can't be had; of those on a CPU tell the tests of numba's."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator

import pytest
import torch

from qvae.ising import compiled

CUDA = torch.device("cuda")  # which needs no GPU to be named


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(compiled.SWITCH, raising=False)
    compiled._loaded.cache_clear()
    yield
    compiled._loaded.cache_clear()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Triton is there, and compiles: notes each time that it is tried."""
    pytest.importorskip("triton")
    tried: list[str] = []
    monkeypatch.setattr("qvae.ising.triton_bits.draw_one", lambda: tried.append("tried"))
    return tried


def test_tritons_kernels_serve_on_cuda_instead_of_numbas(drawn: list[str], caplog: pytest.LogCaptureFixture) -> None:
    for name, module in (("ising.fused", "triton_sweeps"), ("ising.fused_lines", "triton_lines")):
        found = compiled.kernels(CUDA, name)
        assert found is importlib.import_module(f"qvae.ising.{module}")
        assert compiled.kernels(torch.device("cuda", 1), name) is found
    assert compiled.kernels(CUDA) is compiled.kernels(CUDA, "ising.fused")
    assert compiled.name_of_kernels(CUDA) == "triton"
    assert drawn == ["tried"] * 2  # before each of them is used, and never again
    assert not caplog.records


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("name", ["models.fused", "data.fused"])
def test_torchs_serve_on_cuda_where_triton_has_none(name: str) -> None:
    assert compiled.kernels(CUDA, name) is None


def test_tritons_are_switched_off(drawn: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled.SWITCH, "torch")
    assert compiled.kernels(CUDA) is None
    assert compiled.name_of_kernels(CUDA) == "torch"
    assert not drawn


def test_where_triton_is_missing_torchs_serve_without_a_word(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    with caplog.at_level(logging.DEBUG):
        assert compiled.kernels(CUDA) is None
        assert compiled.name_of_kernels(CUDA) == "torch"
    assert not caplog.records


@pytest.mark.usefixtures("drawn")
def test_a_triton_that_compiles_nothing_is_said_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr("qvae.ising.triton_bits.draw_one", fails)
    for _ in range(3):
        assert compiled.kernels(CUDA) is None
        assert compiled.name_of_kernels(CUDA) == "torch"
    told = ["triton can't compile the kernels (RuntimeError); torch's, which are slower, serve"]
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("WARNING", told[0])]
