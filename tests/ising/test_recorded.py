"""Where CUDA graphs are recorded."""

import torch

from qvae.ising.recorded import records


def test_on_cuda_unless_it_is_switched_off(monkeypatch):
    assert records(torch.device("cuda"))
    assert not records(torch.device("cpu"))
    monkeypatch.setenv("QVAE_KERNELS", "torch")
    assert not records(torch.device("cuda"))
