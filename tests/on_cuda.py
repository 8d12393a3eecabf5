"""The device of the tests that need CUDA.

``QVAE_TEST_DEVICE=cpu pytest tests/ising/test_cuda.py`` runs them on the processor, to try the tests themselves.
"""

import os

import pytest
import torch

DEVICE = torch.device(os.environ.get("QVAE_TEST_DEVICE", "cuda:0"))

needs_cuda = pytest.mark.skipif(
    DEVICE.type == "cuda" and not torch.cuda.is_available(), reason="there is no CUDA device here"
)
