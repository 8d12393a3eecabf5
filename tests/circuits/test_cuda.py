"""Circuits on a CUDA device, against dense matrices and the processor in float64."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from on_cuda import DEVICE, needs_cuda
from qvae_backends import statevector
from qvae_backends.statevector import StatevectorExecutor
from torch import nn

import qvae
from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.executor import ExecutorCapabilities
from qvae.circuits.gibbs_ansatz import GibbsAnsatz, follow_imaginary_time, minimise_free_energy
from qvae.circuits.gradients import load_gradient
from qvae.circuits.gradients.jordan import jordan_gradient
from qvae.circuits.gradients.metric import fubini_study, overlaps
from qvae.circuits.library import angle_encoding, hardware_efficient, reuploading
from qvae.ising import graphs
from qvae.ising.exact import exact_distribution
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.testing.circuit_problems import circuit_problems
from qvae.testing.circuit_trial import CircuitTrial
from qvae.training.optimizers import QNSPSA, SPSA, QuantumNaturalGradient, Rotosolve

pytestmark = needs_cuda

SIGMAS = 5.0
FALSE_ALARM = 1e-6
PROBLEMS = circuit_problems()
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}
precisions = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


class WithoutGradients(StatevectorExecutor):
    """Has shots as well as exact expectations."""

    capabilities, shots = ExecutorCapabilities(exact=True), 100


class Shots(StatevectorExecutor):
    """Knows no amplitudes."""

    capabilities, shots = ExecutorCapabilities(), 4000


def layer_of(num_qubits, dtype=torch.float64, device="cpu", **options):
    """Data uploaded twice between entangling layers; with observables that aren't diagonal."""
    torch.manual_seed(3)
    circuit = reuploading(angle_encoding(num_qubits), hardware_efficient(num_qubits, 1, ("ry", "rz")), 2)
    rest = "I" * (num_qubits - 2)
    observables = [[("ZZ" + rest, 1.0)], [("XY" + rest, 0.5), (rest + "YX", -0.7)], [(rest + "ZI", 1.0), (rest + "XX", 0.3)]]
    layer = qvae.CircuitLayer(circuit, observables, **options).double()
    return layer.to(device, dtype)


def inputs(rows, num_qubits, dtype=torch.float64, device="cpu"):
    x = torch.rand(rows, num_qubits, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x.to(device, dtype).requires_grad_()


def with_gradients(layer, x, method=None):
    """Results, and gradients of a fixed sum of them, on the CPU in float64; all were on the layer's device."""
    found = (method or layer)(x)
    dual = torch.linspace(-1, 1, found.numel(), dtype=torch.float64).view_as(found).to(found)
    parts = [found, *torch.autograd.grad((found * dual).sum(), [x, layer.weight])]
    assert all(part.device == layer.weight.device and part.dtype == layer.weight.dtype for part in parts)
    return [part.detach().double().cpu() for part in parts]


def assert_close(found, expected, dtype):
    for mine, true in zip(found, expected, strict=True):
        assert (mine - true).abs().max() < TOLERANCE[dtype] * max(1, float(true.abs().max()))
        assert true.abs().max() > 0.02


# The executor ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", PROBLEMS, ids=[problem.name for problem in PROBLEMS])
def test_every_gate(problem):
    trial = CircuitTrial(qvae.load_executor("statevector", seed=0), 2000, -math.log(FALSE_ALARM))
    there = replace(problem, values=problem.values.to(DEVICE))
    trial.expectations(there)
    trial.distribution(there)
    single = trial.executor.expectations(problem.circuit, there.values.float(), problem.observables)
    assert (single.cpu().double() - problem.expectations()).abs().max() < TOLERANCE[torch.float32]


@precisions
@pytest.mark.parametrize("num_qubits", [4, 12])
@pytest.mark.parametrize("ways", ["stored states", "backwards run"])
def test_expectations_and_gradients(num_qubits, dtype, ways, monkeypatch):
    expected = with_gradients(layer_of(num_qubits), inputs(5, num_qubits))
    monkeypatch.setattr(statevector, "_STORED", 0.0 if ways == "backwards run" else 1.0)
    found = with_gradients(layer_of(num_qubits, dtype, DEVICE), inputs(5, num_qubits, dtype, DEVICE))
    assert_close(found, expected, dtype)


@precisions
def test_probabilities_and_their_gradients(dtype):
    there, here = layer_of(4, dtype, DEVICE), layer_of(4)
    expected = with_gradients(here, inputs(5, 4), here.probabilities)
    assert_close(with_gradients(there, inputs(5, 4, dtype, DEVICE), there.probabilities), expected, dtype)


def test_rows_in_parts(monkeypatch):
    whole = with_gradients(layer_of(4, device=DEVICE), inputs(11, 4, device=DEVICE))
    for name in ("_CPU_AMPLITUDES", "_GPU_AMPLITUDES"):
        monkeypatch.setattr(statevector, name, 3 * 2**4)
    assert_close(with_gradients(layer_of(4, device=DEVICE), inputs(11, 4, device=DEVICE)), whole, torch.float64)


def test_circuits_keep_their_precision_in_autocast():
    layer = layer_of(4, torch.float32, DEVICE)

    def in_autocast(x):
        with torch.autocast(DEVICE.type, torch.bfloat16):
            return layer(x)

    found = with_gradients(layer, inputs(5, 4, torch.float32, DEVICE), in_autocast)
    assert_close(found, with_gradients(layer_of(4), inputs(5, 4)), torch.float32)


def test_bits():
    layer = layer_of(4, torch.float32, DEVICE, executor=qvae.load_executor("statevector", seed=0))
    x, shots = inputs(3, 4, torch.float32, DEVICE), 20_000
    bits = layer.sample(x, shots)
    assert bits.device == DEVICE
    states = (bits.cpu().long() << torch.arange(4)).sum(2)
    found = torch.stack([row.bincount(minlength=16) / shots for row in states])
    p = layer_of(4).probabilities(inputs(3, 4)).detach()
    assert ((found - p).abs() < SIGMAS * (p * (1 - p) / shots).sqrt() + SIGMAS**2 / shots).all()


def test_equal_seeds_give_equal_bits_and_a_state_goes_on():
    x = inputs(3, 4, torch.float32, DEVICE)
    first, same, other = (
        layer_of(4, torch.float32, DEVICE, executor=qvae.load_executor("statevector", seed=seed)) for seed in (1, 1, 2)
    )
    bits = first.sample(x, 50)
    assert torch.equal(bits, same.sample(x, 50))
    assert not torch.equal(bits, other.sample(x, 50))
    other.executor.load_state_dict(first.executor.state_dict())
    assert torch.equal(other.sample(x, 50), first.sample(x, 50))
    assert torch.equal(copy.deepcopy(first).sample(x, 50), first.sample(x, 50))


# Estimated gradients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["parameter-shift", "hadamard"])
def test_exact_rules(name):
    layer = layer_of(4, device=DEVICE, executor=WithoutGradients(), gradient=name)
    assert_close(with_gradients(layer, inputs(3, 4, device=DEVICE)), with_gradients(layer_of(4), inputs(3, 4)), torch.float64)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("stochastic-shift", {"repetitions": 4}),
        ("spsa", {"repetitions": 8, "step": 1e-3}),
        ("shot-budget", {"shots": 4000}),
        ("shadows", {"copies": 500}),
    ],
)
def test_random_estimates_have_the_gradient_as_their_mean(name, options):
    gates = [Gate("ry", (0,), (Affine(0),)), Gate("rx", (1,), (Affine(1),)), Gate("cry", (0, 1), (Affine(0),))]
    circuit = Circuit(2, [*gates, Gate("rxx", (0, 1), (Affine(2, 0.5),))], num_parameters=3)
    values = torch.linspace(-1, 2, 6, dtype=torch.float64).view(2, 3)
    observables = [[("ZI", 1.0)], [("XX", 0.5), ("ZY", 0.4)]]
    dual = torch.tensor([[1.0, 0.5], [-0.3, 0.8]], dtype=torch.float64)
    leaf = values.clone().requires_grad_()
    (exact,) = torch.autograd.grad((StatevectorExecutor().expectations(circuit, leaf, observables) * dual).sum(), leaf)
    estimator, executor = load_gradient(name, options, seed=0), WithoutGradients(seed=0)
    runs = []
    for _ in range(40):
        found = estimator.gradients(executor, circuit, values.to(DEVICE), observables, dual.to(DEVICE), range(3))
        assert found.device == DEVICE
        runs.append(found.cpu())
    runs = torch.stack(runs)
    # A t of 39 degrees of freedom goes further than a normal number does.
    assert ((runs.mean(0) - exact).abs() < 1.3 * SIGMAS * runs.std(0) / 40**0.5 + 1e-5).all()
    assert runs.std(0).mean() < 1


def test_jordan_finds_a_gradient():
    at = torch.tensor([0.25, -0.125], dtype=torch.float64, device=DEVICE)
    executor = qvae.load_executor("statevector", seed=0)
    found = jordan_gradient(lambda w: w.square().sum(1), at, bound=0.75, curvature=1.0, repetitions=21, executor=executor)
    assert found.gradient.device == DEVICE
    assert (found.gradient - 2 * at).abs().max() <= found.precision


# Metrics and optimizers -----------------------------------------------------------------------------------------------


def test_the_metric_and_overlaps():
    there, here = (layer_of(3, device=device) for device in (DEVICE, "cpu"))
    x, w = inputs(2, 3).detach(), here.weight.detach()
    exact = fubini_study(here.executor, here.circuit, x, w)
    found = fubini_study(there.executor, there.circuit, x.to(DEVICE), there.weight)
    assert found.device == DEVICE
    assert torch.allclose(found.cpu(), exact, atol=1e-10)
    others = torch.stack([w, w + 0.3])
    for executor, allowed in ((there.executor, 1e-10), (Shots(seed=0), SIGMAS * 0.5 / Shots.shots**0.5)):
        seen = overlaps(executor, there.circuit, x.to(DEVICE), there.weight.detach(), others.to(DEVICE))
        assert (seen.cpu() - overlaps(here.executor, here.circuit, x, w, others)).abs().max() < allowed


def test_a_measured_metric():
    circuit = Circuit(2, [Gate("ry", (0,), (Affine(0),)), Gate("cx", (0, 1)), Gate("rx", (1,), (Affine(1),))], num_parameters=2)
    none, weights = torch.zeros(1, 0, dtype=torch.float64), torch.tensor([0.4, 1.0], dtype=torch.float64)
    for blocks in (None, torch.arange(2)):
        exact = fubini_study(StatevectorExecutor(), circuit, none, weights, blocks)
        found = fubini_study(Shots(seed=0), circuit, none.to(DEVICE), weights.to(DEVICE), blocks)
        assert found.device == DEVICE
        assert (found.cpu() - exact).abs().max() < SIGMAS * 2 * 0.5 * 0.5 / Shots.shots**0.5


def network(device):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), layer_of(3), nn.Linear(3, 1)).double().to(device)


@pytest.mark.parametrize(
    "options",
    [{}, {"metric": "block-diagonal", "momentum": 0.5}, {"solver": "cg"}, {"metric": "diagonal"}],
    ids=str,
)
def test_natural_gradients_go_where_they_go_on_the_processor(options):
    x = torch.rand(6, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ended = []
    for device in (torch.device("cpu"), DEVICE):
        model = network(device)
        optimizer = QuantumNaturalGradient(model, lr=0.1, damping=0.01, rows=4, **options)
        for _ in range(3):
            optimizer.zero_grad()
            model(x.to(device)).square().sum().backward()
            optimizer.step()
        ended.append([parameter.detach().cpu() for parameter in model.parameters()])
    for mine, true in zip(ended[1], ended[0], strict=True):
        torch.testing.assert_close(mine, true, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("kind", "options", "steps"),
    [
        (SPSA, {"lr": 1.0, "seed": 0}, 150),
        (QNSPSA, {"lr": 0.1, "seed": 0}, 150),
        (Rotosolve, {}, 4),
    ],
)
def test_optimizers_by_losses_lower_an_energy(kind, options, steps):
    gates = [Gate("ry", (0,), (Affine(0),)), Gate("rx", (1,), (Affine(1),))]
    layer = qvae.CircuitLayer(Circuit(2, gates, num_parameters=2), [[("ZI", 1.0), ("IZ", 0.5)]]).double()
    nn.init.constant_(layer.weight, 0.3)
    layer.to(DEVICE)
    none = torch.zeros(1, 0, dtype=torch.float64, device=DEVICE)
    optimizer = kind(layer if kind in (QNSPSA,) else layer.parameters(), **options)
    for _ in range(steps):
        optimizer.step(lambda: layer(none).sum().detach())
    assert float(layer(none).sum().detach()) < 0.9 * -1.5  # the lowest there is


# Gibbs states ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [minimise_free_energy, follow_imaginary_time])
def test_variational_gibbs_states(train):
    generator = torch.Generator().manual_seed(0)
    h, J = torch.randn(2, 3, generator=generator)
    hamiltonian = IsingHamiltonian(h, graphs.complete(3), J, 0.7)
    exact = exact_distribution(hamiltonian).probabilities
    ansatz = GibbsAnsatz(hamiltonian.graph, 2, DEVICE)
    found = ansatz.probabilities(train(ansatz, hamiltonian.to(DEVICE)).angles)
    assert found.device == DEVICE
    assert (found.cpu() - exact).abs().sum() / 2 < 0.02
