"""What a run's files keep of its model: whatever an autoencoder of another run follows from comes back."""

from pathlib import Path

import pytest
import torch

from qvae.config.schema import ModelConfig
from qvae.errors import RunError
from qvae.runs.models import Held

EDGES = torch.tensor([[0, 1], [1, 2]])


def test_what_is_held_comes_back():
    native = ModelConfig.model_validate({"latent": {"graph": "native", "sizes": [3]}})
    found = Held.of_state(Held((3, 7), native, EDGES).to_state(), Path("model"))
    assert (found.classes, found.autoencoder) == ((3, 7), native)
    assert torch.equal(found.edges, EDGES)
    assert Held().to_state() == {}


@pytest.mark.parametrize("damage", [{"autoencoder_edges": EDGES[0]}, {"classes": [0.5]}, {"autoencoder": {"kind": "vqgan"}}])
def test_damage_is_told(damage):
    with pytest.raises(RunError, match="model doesn't say what its generator and autoencoder are"):
        Held.of_state(damage, Path("model"))
