"""The variational Gibbs state through Qiskit: samples, shots, noise, warm starts, and that Qiskit stays out until used."""

import importlib.util
import math
import pickle
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

import qvae
from qvae.errors import CapabilityError, SamplerError
from qvae.ising import graphs
from qvae.ising.exact import exact_distribution
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.diagnostics import expected_total_variation, total_variation
from qvae.sampling.info import SampleInfo
from qvae.sampling.registered import sampler_options
from qvae.sampling.registry import load_sampler
from qvae.sampling.sampler import Moments
from qvae.testing import check_sampler

pytest.importorskip("qiskit_aer", reason="Qiskit is not installed")

from qiskit.primitives import StatevectorSampler
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import Statevector
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, ReadoutError
from qvae_backends import aer
from qvae_backends.aer import measured_spins
from qvae_backends.qiskit_device import QiskitDevice

from qvae.circuits.gibbs_ansatz import GibbsAnsatz


def random_hamiltonian(n, gamma=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    graph = graphs.complete(n)
    h, J = (0.5 * torch.randn(k, generator=generator) for k in (n, graph.num_edges))
    return IsingHamiltonian(h, graph, J, gamma)


def allowed_distance(hamiltonian, info, num_samples):
    """By McDiarmid's bound, exceeded once in 1e6 times; and what the trained state is off itself (Pinsker's inequality)."""
    expected = expected_total_variation(exact_distribution(hamiltonian), num_samples)
    return expected + math.sqrt(math.log(1e6) / (2 * num_samples)) + math.sqrt(info["free_energy_gap"] / 2)


def test_conformance():
    check_sampler("aer", num_samples=2048, backend=AerSimulator(n_qubits=12))


@pytest.mark.parametrize("trainer", ["simulator", "varqite"])
@pytest.mark.parametrize("gamma", [0.0, [0.5, 1.0, 2.0, 0.0]])
def test_samples_are_of_the_distribution(trainer, gamma):
    hamiltonian = random_hamiltonian(4, torch.as_tensor(gamma))
    samples = load_sampler("aer", trainer=trainer, seed=0).sample(hamiltonian, 20_000)
    info, exact = samples.info, exact_distribution(hamiltonian)
    assert total_variation(samples, exact) < allowed_distance(hamiltonian, info, 20_000)
    assert info["free_energy"] == pytest.approx(info["free_energy_gap"] - exact.log_z)
    assert 0 <= info["free_energy_gap"] < 0.01
    assert 0.99 < info["fidelity"] <= 1
    # Bell pairs; then in each layer two bases of two gates for every spin, and one gate for each end of each edge.
    assert info["two_qubit_gates"] == 4 + 2 * (4 * 4 + 2 * 6)
    assert info["depth"] > 10
    assert info["wall_seconds"] > info["training_seconds"] > 0


def test_the_transpiled_circuit_is_the_ansatz():
    """In the backend's gates and on its couplings, with the measured bits still in the order of the spins."""
    ansatz = GibbsAnsatz(graphs.complete(3), layers=1)
    backend = GenericBackendV2(6, coupling_map=[(i, i + 1) for i in range(5)], seed=1)
    angles = torch.randn(ansatz.num_angles, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    circuit = QiskitDevice(backend).transpiled(measured_spins(ansatz))
    allowed = {tuple(sorted(pair)) for pair in backend.coupling_map.get_edges()}
    pairs = {tuple(sorted(circuit.find_bit(q).index for q in gate.qubits)) for gate in circuit if len(gate.qubits) == 2}
    assert pairs <= allowed
    assert set(circuit.count_ops()) <= set(backend.operation_names)
    qubit_of = {circuit.find_bit(g.clbits[0]).index: circuit.find_bit(g.qubits[0]).index for g in circuit if g.clbits}
    bare = circuit.remove_final_measurements(inplace=False).assign_parameters(angles.numpy())
    found = Statevector.from_instruction(bare).probabilities([qubit_of[i] for i in range(3)])
    assert torch.allclose(torch.from_numpy(found), ansatz.probabilities(angles), atol=1e-8)


def test_a_fresh_seed_for_each_call():
    """Aer's sampler itself repeats its samples in every run of one object."""
    sampler = load_sampler("aer", seed=0)
    hamiltonian = random_hamiltonian(3)
    first, second = (sampler.sample(hamiltonian, 2000).spins for _ in range(2))
    assert not torch.equal(first, second)
    # And they are not related: half of the independent bits agree but for what the distribution makes agree.
    means = exact_distribution(hamiltonian).moments()[0]
    agreement = (first * second).float().mean(0)
    assert (agreement - means.float() ** 2).abs().max() < 5 / math.sqrt(2000)


# Shots ----------------------------------------------------------------------------------------------------------------


def test_more_shots_than_samples():
    hamiltonian = random_hamiltonian(3)
    sampler = load_sampler("aer", shots=20_000, seed=0)
    samples = sampler.sample(hamiltonian, 50)
    assert (len(samples), samples.info["shots"]) == (50, 20_000)
    found, exact = sampler.moments(hamiltonian, 50), Moments(*exact_distribution(hamiltonian).moments())
    # Far closer than 50 samples would come.
    assert (found.spins - exact.spins).abs().max() < 5 / math.sqrt(20_000) + 0.01
    assert (found.pairs - exact.pairs).abs().max() < 5 / math.sqrt(20_000) + 0.01


def test_fewer_shots_than_samples():
    samples = load_sampler("aer", shots=7, seed=0).sample(random_hamiltonian(5), 16)
    assert (len(samples), samples.info["shots"]) == (16, 7)
    counts = samples.spins.unique(dim=0, return_counts=True)[1]
    assert len(counts) <= 7
    assert counts.min() >= 2


# Backends and noise ---------------------------------------------------------------------------------------------------


def test_a_noisy_backend():
    backend = GenericBackendV2(6, coupling_map=[(i, i + 1) for i in range(5)], seed=1)
    hamiltonian = random_hamiltonian(3, 1.0)
    sampler = load_sampler("aer", backend=backend, layers=1, seed=0)
    assert sampler.capabilities.max_spins == 3
    samples = sampler.sample(hamiltonian, 2000)
    exact = exact_distribution(hamiltonian)
    # Noise, but not nonsense.
    assert total_variation(samples, exact) < 0.2 < total_variation(-samples.spins, exact)
    assert samples.info["two_qubit_gates"] > load_sampler("aer", layers=1).sample(hamiltonian, 1).info["two_qubit_gates"]
    with pytest.raises(CapabilityError, match="it takes at most 3 spins"):
        sampler.sample(random_hamiltonian(4, 1.0), 1)


def test_the_noise_model_is_used():
    inverted = NoiseModel()
    inverted.add_all_qubit_readout_error(ReadoutError([[0, 1], [1, 0]]))
    hamiltonian = IsingHamiltonian([4.0, -4.0], [], [])
    for noise_model, sign in ((None, 1), (inverted, -1)):
        sampler = load_sampler("aer", noise_model=noise_model, seed=0)
        means = sampler.moments(hamiltonian, 200).spins
        assert (sign * means * hamiltonian.h < -3.9 * 0.95).all()


def test_a_backend_that_fails_is_a_sampler_that_fails():
    class Broken(StatevectorSampler):
        def run(self, pubs, *, shots=None):
            raise RuntimeError("job lost")

    with pytest.raises(SamplerError, match="backend 'Broken' failed to run the circuit: RuntimeError: job lost") as caught:
        load_sampler("aer", backend=Broken()).sample(random_hamiltonian(2), 5)
    assert caught.value.__suppress_context__


# State ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trainer", ["simulator", "varqite"])
def test_the_warm_start_travels(trainer):
    """A copy and a resumed sampler go on bit for bit, with few iterations, on an equal graph of another object."""
    hamiltonian = random_hamiltonian(4, 1.0)
    first = load_sampler("aer", trainer=trainer, seed=0)
    cold = first.sample(hamiltonian, 10).info["iterations"]
    resumed = load_sampler("aer", trainer=trainer, seed=1)
    resumed.load_state_dict(first.state_dict())
    copy = pickle.loads(pickle.dumps(first))
    moved = random_hamiltonian(4, 1.0)
    moved = moved.replace(moved.h + 0.01)
    for _ in range(2):
        expected = first.sample(moved, 10)
        assert expected.info["iterations"] <= 5 < cold
        for other in (resumed, copy):
            found = other.sample(moved, 10)
            assert torch.equal(found.spins, expected.spins)
            assert found.info["free_energy"] == expected.info["free_energy"]


def test_another_graph_of_as_many_edges_has_a_circuit_of_its_own():
    sampler = load_sampler("aer", seed=0)
    for i, j in ((0, 1), (1, 2)):
        hamiltonian = IsingHamiltonian(torch.zeros(3), [(i, j)], [-2.0])
        assert float(sampler.moments(hamiltonian, 1000).pairs) > 0.9


def test_a_warm_start_of_something_else_is_left_alone():
    small, large = random_hamiltonian(3, 1.0), random_hamiltonian(4, 1.0)
    first = load_sampler("aer", seed=0)
    first.sample(small, 10)
    for options, hamiltonian in (({}, large), ({"layers": 1}, small), ({"trainer": "varqite"}, small)):
        other = load_sampler("aer", **options)
        other.load_state_dict(first.state_dict())
        assert other.sample(hamiltonian, 10).info["free_energy_gap"] < 0.1
    edges = [(0, 1), (1, 2)], [(0, 1), (0, 2)]
    one, another = (IsingHamiltonian(torch.full((3,), 0.3), each, torch.full((2,), -0.4), 1.0) for each in edges)
    first = load_sampler("aer", trainer="varqite", seed=0)
    cold, again = (first.sample(one, 10).info["iterations"] for _ in range(2))
    other = load_sampler("aer", trainer="varqite", seed=0)
    other.load_state_dict(first.state_dict())
    assert other.sample(another, 10).info["iterations"] == cold > again == 1
    with pytest.raises(SamplerError, match=r"'aer' was given the state \['chains'\] of another one"):
        first.load_state_dict({"chains": torch.zeros(1)})


# Options --------------------------------------------------------------------------------------------------------------


def test_options_are_registered():
    assert list(sampler_options("aer")) == ["layers", "trainer", "shots", "backend", "noise_model", "seed"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 0}, "refuses its options: layers is 0; it must be a whole number, 1 or more"),
        ({"shots": 0}, "refuses its options: shots is 0; it must be a whole number, 1 or more"),
        ({"trainer": "simulater"}, "trainer is 'simulater'; did you mean 'simulator'\\? Allowed: simulator, varqite"),
        ({"trainer": ["x"]}, "trainer is \\['x'\\]"),
        ({"backend": "aer"}, "refuses its options: backend is 'aer'; it must be an import path"),
        ({"backend": "nowhere:x"}, "backend 'nowhere:x' needs the module nowhere"),
        ({"noise_model": 3}, "the object of type int set as noise_model is not a NoiseModel or a BackendV2"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(SamplerError, match=message) as caught:
        load_sampler("aer", **options)
    assert "\n" not in str(caught.value)


def test_limits_of_the_trainers():
    nine = random_hamiltonian(9)
    with pytest.raises(CapabilityError, match="it takes at most 8 spins"):
        load_sampler("aer", trainer="varqite").sample(nine, 1)
    with pytest.raises(CapabilityError, match="it takes at most 10 spins"):
        load_sampler("aer").sample(random_hamiltonian(11), 1)


@pytest.mark.parametrize("gamma", [0.0, 0.8])
def test_what_noise_makes_of_the_temperature_is_measured_and_told(gamma):
    """Readout that is wrong in a fifth of the cases: the pair's correlation falls as in a hotter state."""
    hamiltonian = random_hamiltonian(3, gamma)
    clean = load_sampler("aer", seed=0).sample(hamiltonian, 4000)
    assert abs(clean.info["effective_beta"] - 1) < 4 * clean.info["effective_beta_stderr"] + 0.05
    assert clean.info["qubits"] == 6
    assert not clean.advice
    noise = NoiseModel()
    noise.add_all_qubit_readout_error(ReadoutError([[0.8, 0.2], [0.2, 0.8]]))
    noisy = load_sampler("aer", noise_model=noise, seed=0).sample(hamiltonian, 4000)
    assert noisy.info["effective_beta"] < 0.8
    (advice,) = noisy.advice
    assert advice.kind == "temperature"
    assert f"{noisy.info['effective_beta']:.2f} instead of 1" in advice.text


def test_the_temperature_is_where_shots_are_most_likely():
    """Of a spin in a field of 1, by its own means of -tanh(beta): the parabola through a grid of 0.05 finds it."""
    ansatz = GibbsAnsatz(graphs.edge_list([], 1))
    solution = SimpleNamespace(coefficients=ansatz.coefficients(IsingHamiltonian([1.0], [], [])))
    number = 100_000
    for beta in (0.1, 0.63, 1.0, 1.9):
        down = round(number * (1 + math.tanh(beta)) / 2)
        spins = torch.ones(number, 1, dtype=torch.int8)
        spins[:down] = -1
        found = aer._temperature(ansatz, solution, spins)
        assert found["effective_beta"] == pytest.approx(beta, abs=2e-3)
        assert found["effective_beta_stderr"] == pytest.approx(math.cosh(beta) / number**0.5, rel=0.02)
    free = SimpleNamespace(coefficients=ansatz.coefficients(IsingHamiltonian([0.0], [], [])))
    assert aer._temperature(ansatz, free, spins) == {}  # which any temperature explains as well


@pytest.mark.parametrize(
    ("beta", "error", "is_told"),
    [(1.17, 0.02, False), (1.19, 0.02, True), (0.83, 0.02, False), (0.81, 0.02, True), (9.0, None, False), (None, 0.1, False)],
)
def test_a_temperature_is_told_where_chance_and_a_tenth_do_not_explain_it(beta, error, is_told):
    info = SampleInfo(effective_beta=beta, effective_beta_stderr=error)
    assert [said.kind for said in aer._advice(info)] == ["temperature"] * is_told


def test_a_small_device_says_its_qubits_and_one_in_pieces_that_it_is():
    reason = r"at most 2 spins \(backend 'GenericBackendV2' has 5 qubits, and a spin takes two\)"
    with pytest.raises(CapabilityError, match=reason):
        load_sampler("aer", backend=GenericBackendV2(5)).check(random_hamiltonian(3))
    halves = GenericBackendV2(8, coupling_map=[(0, 1), (1, 2), (2, 3), (4, 5), (5, 6), (6, 7)], seed=0)
    sampler = load_sampler("aer", backend=halves, seed=0)
    assert len(sampler.sample(random_hamiltonian(2), 10)) == 10
    with pytest.raises(SamplerError, match="the circuit of 6 qubits finds no place on backend .* may be in pieces"):
        sampler.sample(random_hamiltonian(3), 10)


# Imports --------------------------------------------------------------------------------------------------------------


def test_qiskit_is_not_imported_before_it_is_used():
    code = (
        "import sys, qvae, qvae_backends.aer, qvae_backends.qiskit;"
        "from qvae.sampling.registered import sampler_infos;"
        "assert any(info.name == 'aer' and info.capabilities for info in sampler_infos());"
        "sys.exit('qiskit' in sys.modules or 'qiskit_aer' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_qiskit(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "qiskit_aer" else real(name, *rest))
    for module in ("aer", "qiskit_device"):
        monkeypatch.delitem(sys.modules, f"qvae_backends.{module}")
    with pytest.raises(SamplerError, match="sampler 'aer' needs the module qiskit_aer, which isn't installed: pip install"):
        load_sampler("aer")


def test_a_report_shows_the_circuit_and_how_good_it_was_where_gradients_are_exact_too(tmp_path, whole_reports):
    settings = [
        "sampler.name=aer", "model.latent.graph=complete", "model.latent.sizes=[3]", "model.latent.gamma=0.5",
        "model.network.hidden=[8]", "training.prior_gradient=exact", "training.epochs=1", "training.chains=50",
        "evaluation.importance_samples=2", "evaluation.num_test=10", "evaluation.num_generated=0", "evaluation.probes=false",
        "evaluation.tsne_every=0", "generation.sampler={name: exact}",
    ]  # fmt: skip
    run = qvae.train(qvae.load_config("digits", settings), tmp_path / "run")
    assert (run.path / "figures" / "circuit.png").exists()
    html = (run.path / "report.html").read_text()
    assert "The circuit of the negative phase" in html
    assert "fidelity to the exact Gibbs state" in html
    assert load_sampler("aer", layers=1).circuit(run.model.prior.frozen()).num_qubits == 6
