"""The memory that a configuration asks for, reckoned before anything is made of it."""

from __future__ import annotations

import itertools

from qvae.config.latent import LatentConfig
from qvae.config.schema import Config, ModelConfig
from qvae.errors import ConfigError
from qvae.memory import require_memory

_AMPLITUDE_BYTES = 24
"""Of a basis state: its amplitude, complex64, its probability and its logarithm."""
_EDGE_BYTES = 40
"""Of a coupling: two ends, as they are built and as they stay, and its coefficient."""


def require_sizes(config: Config, features: int, levels: int | None = None) -> None:
    """Raise a ConfigError if a part of a run takes more memory than the machine has.

    Args:
        config: of the run.
        features: of a row of data.
        levels: categories of each feature, if it has some.
    """
    training, evaluation, spins = config.training, config.evaluation, config.model.latent.num_spins
    circuit = config.model.circuit
    if circuit is not None and circuit.is_run:
        state = _AMPLITUDE_BYTES * 2**circuit.qubits
        require_memory(state, f"model.circuit.qubits={circuit.qubits}", "make it smaller", ConfigError)
        if config.model.discrete is not None:  # of which the probabilities of all states are kept
            what = f"training.batch_size={training.batch_size} of circuits of {circuit.qubits} qubits"
            require_memory(state * training.batch_size, what, "make either smaller", ConfigError)
    inputs = features * (levels or 1)
    row = 4 * (inputs + spins + max(config.model.network.hidden, default=0))
    for name, number, size in (
        ("model.latent.sizes", config.model.latent.sizes, _EDGE_BYTES * num_edges(config.model.latent)),
        ("model.network.hidden", config.model.network.hidden, 4 * num_weights(config.model, inputs)),
        ("training.batch_size", training.batch_size, training.batch_size * row),
        ("training.chains", training.chains, training.chains * spins),
        ("evaluation.importance_samples", evaluation.importance_samples, evaluation.importance_samples * row),
        ("evaluation.log_z_chains", evaluation.log_z_chains, evaluation.log_z_chains * 4 * spins),
        ("evaluation.log_z_temperatures", evaluation.log_z_temperatures, evaluation.log_z_temperatures * 8),
        ("evaluation.num_generated", evaluation.num_generated, evaluation.num_generated * spins),
    ):
        require_memory(size, f"{name}={number}", "make it smaller", ConfigError)


def num_edges(latent: LatentConfig) -> int:
    """Couplings of a latent graph, or a few more."""
    if latent.graph == "rbm":
        return latent.sizes[0] * latent.sizes[1]
    if latent.graph == "complete":
        return latent.num_spins * (latent.num_spins - 1) // 2
    if latent.graph == "edges":
        return len(latent.edges)
    return 10 * latent.num_spins  # of hardware: each qubit has 20 couplers at most


def num_weights(config: ModelConfig, features: int) -> int:
    """Weights of the networks, roughly: of the layers between neighbouring widths, those of convolutions with their kernels."""
    network, spins = config.network, config.latent.num_spins
    kernel = 9 if network.kind == "conv" else 1
    first = 1 if network.kind == "conv" else features
    decoder = network.hidden[::-1] if network.decoder_hidden is None else network.decoder_hidden
    widths = ([first, *network.hidden], [*decoder, first])
    inner = kernel * sum(a * b for chain in widths for a, b in itertools.pairwise(chain))
    ends = spins * (max(network.hidden[-1:], default=features) + max(decoder[:1], default=features))
    levels = config.posterior.levels - 1
    width = max(network.hidden[-1:], default=features)
    return inner + ends + levels * width * (width + spins)
