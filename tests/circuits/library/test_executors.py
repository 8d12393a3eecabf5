"""Every encoding and ansatz on the default executor: Qiskit's own states, and gradients by shifts, in both precisions."""

import pytest
import torch

from qvae.circuits.gradients import ParameterShift
from qvae.circuits.layer import CircuitLayer
from qvae.circuits.library import ANSATZES, ENCODINGS, reuploading

N = 4
OBSERVABLES = [[("IIIZ", 1.0)], [("ZZII", 0.5), ("XIYI", -1.0)], [("YYXX", 1.0)]]


def layer_of(encoding, ansatz, dtype, gradient=None):
    torch.manual_seed(5)
    circuit = reuploading(ENCODINGS[encoding](N), ANSATZES[ansatz](N, 2), layers=2)
    layer = CircuitLayer(circuit, OBSERVABLES, gradient=gradient).to(dtype)
    x = torch.randn(2, circuit.num_inputs, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    return layer, x.to(dtype).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("encoding", "ansatz"),
    [*((encoding, "strongly_entangling") for encoding in ENCODINGS), *(("ry", ansatz) for ansatz in ANSATZES)],
)
def test_values_and_gradients(encoding, ansatz, dtype):
    quantum_info = pytest.importorskip("qiskit.quantum_info")
    layer, x = layer_of(encoding, ansatz, dtype)
    found = layer(x)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-10}[dtype]
    theirs = layer.circuit.to_qiskit()
    used = [parameter.index for parameter in theirs.parameters]
    for row, means in zip(x.detach(), found, strict=True):
        values = torch.cat([row, layer.weight.detach()]).double()
        state = quantum_info.Statevector(theirs.assign_parameters(values[used].tolist()))
        exact = [state.expectation_value(quantum_info.SparsePauliOp.from_list(terms)).real for terms in OBSERVABLES]
        assert means.tolist() == pytest.approx(exact, abs=tolerance)
    gradients = torch.autograd.grad(found.sum(), [x, layer.weight])
    shifted, x = layer_of(encoding, ansatz, torch.float64, ParameterShift())
    shifted.weight.data.copy_(layer.weight.data)
    exact = torch.autograd.grad(shifted(x).sum(), [x, shifted.weight])
    for one, other in zip(gradients, exact, strict=True):
        assert (one.double() - other).abs().max() < 20 * tolerance
