"""Milliseconds that the circuit takes in a step of a model, measured by itself."""

from __future__ import annotations

import torch

from qvae.circuits.layer import CircuitLayer
from qvae.training.laps import now


def circuit_milliseconds(layer: CircuitLayer, rows: int, bits: bool) -> float | None:
    """Forward and backward of so many rows, the quicker of two calls.

    Args:
        layer: on the device of the training.
        rows: of a batch.
        bits: whether the model needs the probabilities of bits, and not expectations.

    Returns:
        None where gradients aren't the executor's own: such circuits are most of any step, and may cost money.
    """
    able = layer.executor.capabilities
    if not (able.exact and able.differentiable) or able.remote or layer.gradient is not None:
        return None
    inputs = layer.weight.new_zeros(rows, layer.circuit.num_inputs, requires_grad=True)
    leaves = [inputs, *(weight for weight in layer.parameters() if weight.requires_grad)]
    measured = layer.probabilities if bits else layer
    seconds, is_training = [], layer.training
    layer.eval()  # optimizers that watch a training see nothing of it
    for _ in range(2):  # the first one may find the caches full of something else
        started = now(inputs.device)
        values = measured(inputs)
        torch.autograd.grad(values, leaves, torch.ones_like(values))
        seconds.append(now(inputs.device) - started)
    layer.train(is_training)
    return 1e3 * min(seconds)
