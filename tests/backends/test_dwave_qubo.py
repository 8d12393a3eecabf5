"""A network of few-bit weights trained on an annealer: the local server's, embedded and within its ranges."""

import pytest
import torch

from qvae.qubo.minimise import minimise_by_sampling, minimise_exhaustively
from qvae.qubo.network import FewBitNetwork

pytest.importorskip("dwave.system", reason="needs the extra: pip install -e '.[dwave]'")


def test_the_annealer_finds_the_weights(annealer, server):
    server.beta = 8.0  # colder than a prior wants it, as real ones are
    generator = torch.Generator().manual_seed(0)
    network = FewBitNetwork((3, 1), bits=2)
    x = torch.randn(20, 3, generator=generator)
    loss = network.loss(x, x @ torch.tensor([[1.0], [-0.3], [0.4]]) + 0.1)
    best = minimise_by_sampling(loss, annealer(beta=1.0), 100)
    assert best.value == pytest.approx(minimise_exhaustively(loss).value)
    assert len(server.submissions) >= 1
