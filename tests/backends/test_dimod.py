"""dimod samplers: simulated annealing that samples, other samplers by import path, and what they may return."""

import math
import textwrap

import pytest
import torch

from qvae.errors import SamplerError
from qvae.ising import graphs
from qvae.ising.exact import exact_distribution
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.diagnostics import effective_beta, expected_total_variation, total_variation
from qvae.sampling.registry import load_sampler
from qvae.sampling.sampler import Moments
from qvae.testing import check_sampler, run_checks

SIGMAS = 5.0


def random_hamiltonian(graph, scale=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    h = scale * torch.randn(graph.num_spins, generator=generator)
    return IsingHamiltonian(h, graph, scale * torch.randn(graph.num_edges, generator=generator))


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module of dimod samplers; its name."""

    def write(source):
        (tmp_path / "third_party_samplers.py").write_text("import dimod, numpy as np\n" + textwrap.dedent(source))
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(__import__("sys").modules, "third_party_samplers", raising=False)
        return "third_party_samplers"

    return write


def test_conformance():
    check_sampler("dimod")


def test_simulated_annealing_samples_and_does_not_optimize():
    hamiltonian = random_hamiltonian(graphs.complete(8))
    exact, n = exact_distribution(hamiltonian), 5000
    allowed = expected_total_variation(exact, n) + math.sqrt(math.log(1e6) / (2 * n))
    assert total_variation(load_sampler("dimod", seed=0).sample(hamiltonian, n), exact) < allowed
    its_own = load_sampler("dimod", seed=0, parameters={"beta_schedule_type": "geometric"})
    assert not its_own.capabilities.native_beta
    samples = its_own.sample(hamiltonian, n)
    assert total_variation(samples, exact) > 3 * allowed
    assert effective_beta(samples, hamiltonian).value > 2


def test_it_is_ergodic_on_a_frustrated_triangle():
    # Metropolis updates in a fixed order aren't: 0.16 off in one of the three correlations, however many sweeps.
    hamiltonian = IsingHamiltonian([0.0, 0.0, 0.0], [(0, 1), (1, 2), (0, 2)], [1.0, 1.0, 1.0])
    exact = exact_distribution(hamiltonian).moments()[1]
    found = Moments.from_samples(load_sampler("dimod", seed=0).sample(hamiltonian, 10_000), hamiltonian).pairs
    assert (found - exact).abs().max() < SIGMAS / 100


SCHEDULES = [("beta_range", [0.1, 3.0]), ("beta_schedule", [0.5, 1.0]), ("num_sweeps", 500), ("num_sweeps_per_beta", 2)]


@pytest.mark.parametrize(("name", "value"), SCHEDULES)
def test_any_part_of_a_schedule_of_its_own_makes_the_temperature_unknown(name, value):
    assert not load_sampler("dimod", parameters={name: value}).capabilities.native_beta
    assert load_sampler("dimod", parameters={"interrupt_function": None}).capabilities.native_beta


@pytest.mark.parametrize("held", [0, 0.5, 1])
@pytest.mark.parametrize("num_sweeps", [1, 7])
def test_schedules_have_the_sweeps_asked_for_and_end_at_one(num_sweeps, held):
    sampler = load_sampler("dimod", num_sweeps=num_sweeps, held=held)
    schedule = sampler._schedule()
    assert len(schedule) == num_sweeps
    assert (schedule[round(num_sweeps * (1 - held)) :] == 1).all()
    assert (schedule[1:] >= schedule[:-1]).all()
    sampler.sample(random_hamiltonian(graphs.rbm(2, 2)), 5)


def test_thousands_of_spins():
    graph = graphs.edge_list([(i, (i + k) % 2000) for i in range(2000) for k in (1, 7)])
    samples = load_sampler("dimod", num_sweeps=2, seed=0).sample(random_hamiltonian(graph), 3)
    assert samples.spins.shape == (3, 2000)


def test_another_sampler_by_import_path():
    hamiltonian = random_hamiltonian(graphs.complete(5))
    exact, n = exact_distribution(hamiltonian), 3000
    tree = load_sampler("dimod", sampler="dwave.samplers.TreeDecompositionSampler", parameters={"beta": 1.0}, seed=0)
    assert not tree.capabilities.native_beta
    allowed = expected_total_variation(exact, n) + math.sqrt(math.log(1e6) / (2 * n))
    samples = tree.sample(hamiltonian, n)
    assert samples.info["method"] == "dwave.samplers.TreeDecompositionSampler"
    assert total_variation(samples, exact) < allowed
    found = run_checks("dimod", sampler="dwave.samplers.TreeDecompositionSampler", num_samples=50)
    # It always gives -1 to a spin without field and couplings; that is seen, and nothing else.
    assert [check.name for check in found if check.outcome == "failed"] == ["distribution, no couplings"]


def test_parameters_that_a_sampler_takes_but_does_not_list():
    schedule = {"beta_schedule_type": "custom", "Hp_field": [0.5, 1.0], "Hd_field": [1.0, 0.5]}
    path = "dwave.samplers.PathIntegralAnnealingSampler"
    sampler = load_sampler("dimod", sampler=path, parameters=schedule, seed=0)
    assert sampler.sample(random_hamiltonian(graphs.rbm(2, 2)), 5).spins.shape == (5, 4)


def test_parameters_of_the_user_win_over_those_set_here(module):
    name = module("""
        class Ups(dimod.Sampler):
            properties, parameters, seen = {}, {"num_reads": [], "seed": []}, []

            def sample(self, bqm, num_reads, seed):
                self.seen.append((num_reads, seed))
                return dimod.SampleSet.from_samples(np.ones((num_reads, bqm.num_variables)), "SPIN", energy=0)
    """)
    plain, own = (load_sampler("dimod", sampler=f"{name}.Ups", parameters=given, seed=1) for given in ({}, {"seed": 5}))
    for sampler in (plain, plain, own, own):
        sampler.sample(IsingHamiltonian([0.0, 0.0], [], []), 3)
    (first, second, *others) = plain._child.seen
    assert (first[0], second[0]) == (3, 3)
    assert first[1] != second[1]
    assert others == [(3, 5), (3, 5)]


def test_reads_in_any_form(module):
    name = module("""
        class Scrambled(dimod.Sampler):
            # Spins are alternately -1 and +1, as bits, from the fifth variable on, each row three times.
            properties, parameters = {}, {"num_reads": []}

            def __init__(self, flip=False):
                self.flip = flip

            def sample(self, bqm, num_reads=1):
                order = list(range(4, bqm.num_variables)) + [0, 1, 2, 3]
                bits = [(i + self.flip) % 2 for i in order]
                rows, counts = [bits] * (num_reads // 3), [3] * (num_reads // 3)
                return dimod.SampleSet.from_samples(
                    (rows, order), "BINARY", energy=0, num_occurrences=counts, sort_labels=False
                )
    """)
    hamiltonian = IsingHamiltonian(torch.zeros(11), [], [])
    alternating = torch.tensor([2 * (i % 2) - 1 for i in range(11)], dtype=torch.int8)
    for flip, sign in ((False, 1), (True, -1)):
        sampler = load_sampler("dimod", sampler=f"{name}.Scrambled", sampler_options={"flip": flip})
        assert torch.equal(sampler.sample(hamiltonian, 6).spins, sign * alternating.expand(6, -1))


def test_more_reads_than_asked_for_are_thinned_at_random(module):
    name = module("""
        class Doubling(dimod.Sampler):
            properties, parameters = {}, {"num_reads": []}

            def sample(self, bqm, num_reads=1):
                return dimod.SampleSet.from_samples([[1]] * num_reads + [[-1]] * num_reads, "SPIN", energy=0)
    """)
    hamiltonian = IsingHamiltonian([0.0], [], [])
    found = [load_sampler("dimod", sampler=f"{name}.Doubling", seed=seed).sample(hamiltonian, 1000).spins for seed in (0, 0, 1)]
    spins = found[0]
    assert torch.equal(spins, found[1])
    assert not torch.equal(spins, found[2])
    assert len(spins) == 1000
    assert abs(spins.float().mean()) < SIGMAS / 1000**0.5


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("[[1, 1]] * (num_reads - 1), 'SPIN'", "returned 4 reads where 5 were asked for"),
        ("([[1, 1]] * num_reads, ['a', 'b']), 'SPIN'", r"given the spins 0\.\.1, but returned 2 others"),
        ("[[1, 1, 1]] * num_reads, 'SPIN'", r"given the spins 0\.\.1, but returned 3 others"),
    ],
)
def test_wrong_reads_are_refused(module, body, message):
    name = module(f"""
        class Wrong(dimod.Sampler):
            properties, parameters = {{}}, {{"num_reads": []}}

            def sample(self, bqm, num_reads=1):
                return dimod.SampleSet.from_samples({body}, energy=0)
    """)
    with pytest.raises(SamplerError, match=message):
        load_sampler("dimod", sampler=f"{name}.Wrong").sample(IsingHamiltonian([0.0, 0.0], [], []), 5)


def test_a_function_that_makes_something_else_is_refused(module):
    name = module("""
        def make():
            return 3
    """)
    with pytest.raises(SamplerError, match=f"{name}.make made a int, which is not a dimod.Sampler"):
        load_sampler("dimod", sampler=f"{name}.make")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "dimod.ExactSolver"}, "takes no num_reads, so it doesn't draw samples .*--sampler exact"),
        ({"sampler": "dimod.BQM"}, "dimod.BQM is no class of dimod samplers"),
        ({"sampler": "collections.OrderedDict"}, "collections.OrderedDict is no class of dimod samplers"),
        ({"sampler": "dwave.samplers.SimulatedAnealing"}, "the module dwave.samplers has no SimulatedAnealing"),
        ({"sampler": "absent_module.It"}, "needs the module absent_module, which can't be imported: install the package"),
        ({"sampler": "dwave.cloud.absent.Sampler"}, r"needs the module dwave\.cloud.*: pip install -e '\.\[dwave\]' in"),
        ({"sampler": "SimulatedAnnealingSampler"}, "sampler is 'SimulatedAnnealingSampler'; it must be an import path"),
        ({"sampler": 3}, "sampler is 3; it must be an import path"),
        ({"sampler_options": {"flavour": 1}}, "flavour"),
        ({"parameters": {"num_sweep": 1}}, "parameters has 'num_sweep', which .* doesn't know: did you mean 'num_sweeps'"),
        ({"parameters": {"bqm": 1}}, "parameters has 'bqm'"),
        ({"parameters": [1]}, r"parameters is \[1\]; it must be a mapping"),
        ({"num_sweeps": 0}, "num_sweeps is 0; it must be a whole number from 1 to 10000000"),
        ({"held": 1.5}, "held is 1.5; it must be a number from 0 to 1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(SamplerError, match=message):
        load_sampler("dimod", **options)


def test_close_reaches_the_dimod_sampler(module):
    name = module("""
        class Connected(dimod.Sampler):
            properties, parameters, closed = {}, {"num_reads": []}, False

            def sample(self, bqm, num_reads=1): ...

            def close(self):
                type(self).closed = True
    """)
    load_sampler("dimod", sampler=f"{name}.Connected").close()
    assert __import__(name).Connected.closed
