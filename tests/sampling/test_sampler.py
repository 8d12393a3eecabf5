"""The contract: guards, the derived methods, and the generators of seeded samplers."""

import math
import pickle

import pytest
import torch

from qvae.errors import CapabilityError, DataError, SamplerError
from qvae.ising import graphs
from qvae.ising.block_gibbs import BlockGibbs
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.info import Advice, SampleInfo
from qvae.sampling.sampler import (
    Capabilities,
    LatentSampler,
    Moments,
    Samples,
    SeededSampler,
    fault_of_moments,
    fault_of_samples,
    pair_moments,
)

PAIR = IsingHamiltonian([0.1, -0.2], [(0, 1)], [0.5])


class Upwards(LatentSampler):
    capabilities = Capabilities(max_spins=3)

    def _sample(self, hamiltonian, num_samples):
        return Samples(torch.ones(num_samples, hamiltonian.num_spins, dtype=torch.int8))


class Coins(SeededSampler):
    def _sample(self, hamiltonian, num_samples):
        shape = (num_samples, hamiltonian.num_spins)
        return Samples(2 * torch.randint(0, 2, shape, generator=self.generator(torch.device("cpu"))).to(torch.int8) - 1)


def test_one_method_gives_the_rest():
    sampler = Upwards()
    assert sampler.sample(PAIR, 4).spins.shape == (4, 2)
    moments = sampler.moments(PAIR, 4)
    assert moments.spins.tolist() == [1, 1]
    assert moments.pairs.tolist() == [1]
    assert sampler.state_dict() == {}
    sampler.load_state_dict({})
    sampler.close()


def test_a_class_without_sample_is_abstract():
    class Nothing(LatentSampler):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Nothing()


@pytest.mark.parametrize(
    ("hamiltonian", "reason"),
    [
        (IsingHamiltonian(torch.zeros(4), [], []), "4 spins: it takes at most 3 spins; these can: .*exact"),
        (IsingHamiltonian([0.0], [], [], gamma=1.0), "1 spins with a transverse field: it has no transverse field; .*exact"),
        (IsingHamiltonian(torch.zeros(30), [], [], gamma=1.0), "these can: path_integral"),
    ],
)
def test_refusals_name_those_that_can(hamiltonian, reason):
    sampler = Upwards()
    for ask in (sampler.sample, sampler.moments):
        with pytest.raises(CapabilityError, match=reason):
            ask(hamiltonian, 5)


def test_a_transverse_field_has_its_own_limit():
    able = Capabilities(transverse_field=True, max_spins=20, max_quantum_spins=12)
    assert able.excludes(12, quantum=True) is None
    assert able.excludes(13, quantum=True) == "it takes at most 12 spins with a transverse field"
    assert able.excludes(20, quantum=False) is None


def test_no_samples_is_an_error_and_no_spins_is_not():
    with pytest.raises(SamplerError, match="num_samples is 0; it must be 1 or more"):
        Upwards().sample(PAIR, 0)
    empty = IsingHamiltonian([], [], [])

    class Never(LatentSampler):
        def _sample(self, hamiltonian, num_samples):
            raise AssertionError("there is nothing to sample")

    assert Never().sample(empty, 5).spins.shape == (5, 0)
    assert Upwards().sample(empty, 5).spins.shape == (5, 0)
    assert Upwards().moments(empty, 5).pairs.shape == (0,)


@pytest.mark.parametrize(
    ("hamiltonian", "num_samples", "words"),
    [
        ({"h": [0.1]}, 5, r"'Upwards' was given a dict; it takes a qvae\.IsingHamiltonian"),
        (PAIR, 2.5, "num_samples is 2.5; it must be a whole number, 1 or more"),
        (PAIR, True, "num_samples is True; it must be a whole number"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(hamiltonian, num_samples, words):
    for ask in (Upwards().sample, Upwards().moments):
        with pytest.raises(SamplerError, match=words):
            ask(hamiltonian, num_samples)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (torch.ones(5, 2, dtype=torch.int8), "'Returns' returned no samples: it is a Tensor, not a qvae.Samples"),
        (Samples(torch.ones(4, 2, dtype=torch.int8)), r"spins of shape \(4, 2\), not \(num_samples, n\) = \(5, 2\)"),
        (Samples(torch.ones(5, 2)), "spins are torch.float32, not torch.int8"),
        (Samples(torch.tensor([[-2, 1]] * 5, dtype=torch.int8)), r"spins hold \[-2\]"),
        (Samples(torch.ones(5, 2, dtype=torch.int8), torch.full((5,), 0.20003)), "weights sum to 1.00015, not to 1"),
        (Samples(torch.ones(5, 2, dtype=torch.int8), torch.full((5,), 0.19997)), "weights sum to 0.99985, not to 1"),
        (Samples(torch.tensor([[0, 1]] * 5, dtype=torch.int8)), r"spins hold \[0\]; they must be -1 or \+1"),
        (Samples(torch.tensor([[3, 1]] * 5, dtype=torch.int8)), r"spins hold \[3\]"),
        (Samples(torch.ones(5, 2, dtype=torch.int8), torch.ones(4) / 4), r"weights of shape \(4,\)"),
        (Samples(torch.ones(5, 2, dtype=torch.int8), torch.tensor([1.5, -0.5, 0, 0, 0])), "a weight is negative"),
        (Samples(torch.ones(5, 2, dtype=torch.int8), torch.full((5,), torch.nan)), "weights sum to nan, not to 1"),
        (Samples(torch.ones(5, 2, dtype=torch.int8), [0.2] * 5), "weights are a list, not a torch.Tensor of real numbers"),
        (Samples(torch.ones(5, 2, dtype=torch.int8), torch.ones(5, dtype=int)), "weights are torch.int64, not a"),
        (Samples(torch.ones(5, 2, dtype=torch.complex64)), "spins are torch.complex64, not torch.int8"),
        (Samples(torch.ones(5, 2, dtype=torch.int8), info={"device_beta": "warm"}), "device_beta is 'warm', not a number"),
        (Samples(torch.ones(5, 2, dtype=torch.int8), info={"qpu_seconds": -1.0}), "qpu_seconds is -1.0; it must be a finite"),
        (Samples(torch.ones(5, 2, dtype=torch.int8), info={"wall_seconds": float("nan")}), "wall_seconds is nan"),
    ],
)
def test_what_comes_back_is_looked_at(returned, words):
    class Returns(LatentSampler):
        def _sample(self, hamiltonian, num_samples):
            return returned

    for ask in (Returns().sample, Returns().moments):
        with pytest.raises(SamplerError, match=words):
            ask(PAIR, 5)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (torch.zeros(2), "it is a Tensor, not a qvae.Moments"),
        (Moments([0.0, 0.0], torch.zeros(1)), r"spins are a list, not \(2,\)"),
        (Moments(torch.zeros(2), torch.tensor([1.0002])), "pairs are not all between -1 and 1"),
        (Moments(torch.zeros(2), torch.zeros(3)), r"pairs have shape \(3,\), not \(1,\)"),
        (Moments(torch.zeros(2).double(), torch.zeros(1)), "spins are torch.float64 on cpu, not torch.float32 on cpu as h is"),
        (Moments(torch.tensor([0.0, torch.nan]), torch.zeros(1)), "spins are not all between -1 and 1"),
        (Moments(torch.zeros(2), torch.tensor([-1.5])), "pairs are not all between -1 and 1"),
        (Moments(torch.zeros(2), torch.zeros(1), info={"clipped": None, "wall_seconds": True}), "wall_seconds is True, not a"),
    ],
)
def test_moments_are_looked_at_too(returned, words):
    class Returns(Upwards):
        def _moments(self, hamiltonian, num_samples):
            return returned

    with pytest.raises(SamplerError, match=f"'Returns' returned no moments: .*{words}"):
        Returns().moments(PAIR, 5)


def test_what_was_measured_as_nothing_is_a_measurement():
    assert SampleInfo.of({"wall_seconds": 0.0, "qpu_seconds": 0, "device_beta": -0.5, "clipped": None}).fault is None
    assert SampleInfo.of({"wall_seconds": math.inf}).fault.startswith("info's wall_seconds is inf; it must be a finite number")


def test_sums_and_moments_may_be_rounded():
    rounded = Samples(torch.ones(5, 2, dtype=torch.int8), torch.full((5,), 0.20001))
    assert fault_of_samples(rounded, PAIR, 5) is None
    assert fault_of_moments(Moments(torch.tensor([-1.00005, 1.00005]), torch.zeros(1)), PAIR) is None
    assert fault_of_samples(Samples([[1, 1]]), PAIR, 1) == "spins are a list, not a torch.Tensor"


def test_what_is_done_to_the_hamiltonian_reaches_nobody():
    class Spoils(Upwards):
        def _sample(self, hamiltonian, num_samples):
            for part in (hamiltonian.h, hamiltonian.J, hamiltonian.gamma):
                assert not part.requires_grad
                part.numpy()[:] = 7
            return super()._sample(hamiltonian, num_samples)

    parameter = torch.nn.Parameter(torch.tensor([0.1, -0.2]))
    hamiltonian = PAIR.replace(h=parameter)
    for ask in (Spoils().sample, Spoils().moments):
        ask(hamiltonian, 5)
    assert torch.equal(parameter, PAIR.h)
    assert (float(hamiltonian.J), float(hamiltonian.gamma.sum())) == (0.5, 0.0)


class Speechless(Exception):
    def __str__(self):
        raise RuntimeError


def test_errors_of_others_become_ours_and_an_interrupt_stays_one():
    class Fails(LatentSampler):
        def _sample(self, hamiltonian, num_samples):
            raise self.error

    sampler = Fails()
    for error, words in (
        (RuntimeError("out of\n memory."), "sampler 'Fails' failed with RuntimeError: out of memory."),
        (KeyError(), "sampler 'Fails' failed with KeyError."),
        (SamplerError("it is offline."), "it is offline."),
        (DataError("there is no file."), "sampler 'Fails' failed: there is no file."),
        (SystemExit(0), "sampler 'Fails' failed with SystemExit: 0."),
        (GeneratorExit(), "sampler 'Fails' failed with GeneratorExit."),
        (RuntimeError("\x1b]0;title\x07 [red]"), "sampler 'Fails' failed with RuntimeError: ]0;title [red]."),
        (Speechless(), "sampler 'Fails' failed with Speechless."),
    ):
        sampler.error = error
        for ask in (sampler.sample, sampler.moments):
            with pytest.raises(SamplerError) as caught:
                ask(PAIR, 5)
            assert str(caught.value) == words
    sampler.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        sampler.sample(PAIR, 5)


def test_what_is_told_is_a_mapping_with_fields_and_advice_comes_when_it_is_asked_for():
    asked = []

    def advise(info):
        asked.append(info)
        return [Advice("slow", f"it took {info.wall_seconds} s")]

    samples = Samples(torch.ones(2, 2, dtype=torch.int8), info={"wall_seconds": 3.0, "sweeps": 7}, advise=advise)
    assert (samples.info.wall_seconds, samples.info.qpu_seconds, samples.info.extra) == (3.0, None, {"sweeps": 7})
    assert dict(samples.info) == {"wall_seconds": 3.0, "sweeps": 7}
    assert samples.info.get("sweeps") == 7
    assert ("qpu_seconds" in samples.info, "sweeps" in samples.info) == (False, True)
    samples.info |= {"qpu_seconds": 0.5, "sweeps": 8}
    assert (samples.info.qpu_seconds, samples.info["sweeps"]) == (0.5, 8)
    moments = Moments.from_samples(samples, PAIR)
    assert not asked
    assert [moments.advice, samples.advice] == 2 * [[Advice("slow", "it took 3.0 s")]]
    assert Samples(samples.spins).advice == ()
    with pytest.raises(TypeError, match="info is a list, not a mapping"):
        Samples(samples.spins, info=[1])


def test_advice_is_in_one_line_and_words_that_fail_cost_nothing():
    def samples(advise):
        return Samples(torch.ones(2, 2, dtype=torch.int8), advise=advise)

    assert samples(lambda info: [Advice("slow", "it is\n\x1b[31mslow.")]).advice == [Advice("slow", "it is [31mslow")]
    for broken in (lambda info: 1 / 0, lambda info: ["slow"], lambda info: exit()):
        (found,) = samples(broken).advice
        assert "what the sampler says about trouble failed with" in found.text


def test_state_of_another_sampler_is_refused():
    with pytest.raises(SamplerError, match=r"'Upwards' keeps no state, but was given \['chains'\]"):
        Upwards().load_state_dict({"chains": torch.zeros(1)})
    with pytest.raises(SamplerError, match=r"given the state \['chains'\] of another one"):
        Coins(seed=0).load_state_dict({"chains": torch.zeros(1)})


GRAPHS = [graphs.rbm(2, 3), graphs.complete(5), graphs.edge_list([(4, 0)], 50), graphs.edge_list([], 3)]


@pytest.mark.parametrize("graph", GRAPHS, ids=repr)
def test_moments_of_weighted_samples(graph):
    hamiltonian = IsingHamiltonian(torch.zeros(graph.num_spins), graph, torch.zeros(graph.num_edges))
    generator = torch.Generator().manual_seed(0)
    spins = 2 * torch.randint(0, 2, (40, graph.num_spins), generator=generator).to(torch.int8) - 1
    weights = torch.rand(40, generator=generator)
    weights /= weights.sum()
    found = Moments.from_samples(Samples(spins, weights), hamiltonian)
    i, j = graph.edges.T
    torch.testing.assert_close(found.spins, (weights.unsqueeze(1) * spins).sum(0))
    torch.testing.assert_close(found.pairs, (weights.unsqueeze(1) * spins[:, i] * spins[:, j]).sum(0))
    equal = Moments.from_samples(Samples(spins), hamiltonian)
    torch.testing.assert_close(equal.pairs, (spins[:, i] * spins[:, j]).float().mean(0))


def test_samples_of_equal_weight_stand_as_often_as_they_weigh():
    weights = torch.tensor([0.5, 0.0, 0.3, 0.05, 0.15])
    numbers = torch.arange(5, dtype=torch.int8)
    samples = Samples(numbers.repeat_interleave(200).unsqueeze(1), weights.repeat_interleave(200) / 200, info={"sweeps": 7})
    assert samples.effective_size == pytest.approx(200 / float((weights**2).sum()))
    generator = torch.Generator().manual_seed(0)
    drawn = samples.equal_weights(generator)
    assert (drawn.weights, drawn.info["sweeps"], len(drawn)) == (None, 7, 1000)
    # Each of them is rounded up or down, and 200 of a kind are at most 2 off in all.
    assert (drawn.spins.flatten().bincount() - 1000 * weights).abs().max() <= 2
    head = drawn.spins[:300].flatten().bincount(minlength=5) / 300  # shuffled
    assert (head - weights).abs().max() < 5 * (0.25 / 300) ** 0.5
    assert not torch.equal(drawn.spins, samples.equal_weights(generator).spins)


def test_each_sample_is_drawn_in_proportion_to_its_weight():
    """Four samples, 2,000 times: the mean number of each is 4 times its weight."""
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    samples = Samples(torch.arange(4, dtype=torch.int8).unsqueeze(1), weights)
    generator = torch.Generator().manual_seed(0)
    counts = torch.stack([samples.equal_weights(generator).spins.flatten().bincount(minlength=4) for _ in range(2000)])
    assert (counts.float().mean(0) - 4 * weights).abs().max() < 5 * 0.5 / 2000**0.5
    assert ((counts - 4 * weights).abs() < 1).all()


def test_samples_without_weights_are_themselves_and_nothing_is_drawn():
    samples = Samples(torch.ones(3, 2, dtype=torch.int8))
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert samples.equal_weights(generator) is samples
    assert torch.equal(generator.get_state(), before)
    assert samples.effective_size == 3


def test_pair_moments_keeps_its_sides_apart():
    for graph in (graphs.rbm(2, 1), graphs.complete(3), graphs.edge_list([(0, 90)], 91)):
        left, right = torch.randn(7, graph.num_spins), torch.randn(7, graph.num_spins)
        hamiltonian = IsingHamiltonian(torch.zeros(graph.num_spins), graph, torch.zeros(graph.num_edges))
        i, j = graph.edges.T
        torch.testing.assert_close(pair_moments(left, right, hamiltonian), (left[:, i] * right[:, j]).sum(0))


def test_seeds():
    first, second, other = Coins(seed=3), Coins(seed=3), Coins(seed=4)
    drawn = first.sample(PAIR, 50).spins
    assert torch.equal(drawn, second.sample(PAIR, 50).spins)
    assert not torch.equal(drawn, other.sample(PAIR, 50).spins)
    assert not torch.equal(Coins().sample(PAIR, 50).spins, Coins().sample(PAIR, 50).spins)
    for seed in (-1, 1.5, "one", True):
        with pytest.raises(ValueError, match="seed is .*; it must be a whole number, 0 or more"):
            Coins(seed=seed)


def test_without_a_seed_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    Coins().sample(PAIR, 5)
    assert torch.equal(torch.rand(3), expected)


def test_state_survives_a_save_before_the_first_call():
    first = Coins(seed=0)
    first.sample(PAIR, 7)
    state = {key: value.clone() for key, value in first.state_dict().items()}
    second = Coins(seed=1)
    second.load_state_dict(state)
    third = Coins(seed=2)
    third.load_state_dict(second.state_dict())
    copy = pickle.loads(pickle.dumps(second))
    expected = first.sample(PAIR, 30).spins
    for sampler in (second, third, copy):
        assert torch.equal(sampler.sample(PAIR, 30).spins, expected)


def test_state_of_another_device_is_explained():
    sampler = Coins(seed=0)
    sampler.load_state_dict({"generator": torch.zeros(16, dtype=torch.uint8)})  # the size of a CUDA generator's
    with pytest.raises(SamplerError, match="random state was not saved on cpu"):
        sampler.sample(PAIR, 5)


@pytest.mark.parametrize("graph", [graphs.rbm(3, 4), graphs.complete(5), graphs.edge_list([(k, k + 1) for k in range(79)])])
def test_conditional_moments_agree_with_plain_ones_and_scatter_less(graph):
    """Against long averages of Gibbs samples: plain and conditional estimates of 200 samples, forty times."""
    generator = torch.Generator().manual_seed(0)
    n, m = graph.num_spins, graph.num_edges
    hamiltonian = IsingHamiltonian(0.3 * torch.randn(n, generator=generator), graph, 0.4 * torch.randn(m, generator=generator))
    kernel = BlockGibbs(hamiltonian)
    state = kernel.random_state(8000, generator)
    spins = kernel.to_spins(kernel.sweep(state, 200, generator))
    whole = [make(Samples(spins), hamiltonian) for make in (Moments.from_samples, Moments.conditional)]
    parts = [
        [make(Samples(part), hamiltonian) for part in spins.split(200)] for make in (Moments.from_samples, Moments.conditional)
    ]
    for name in ("spins", "pairs"):
        plain, conditional = (torch.stack([getattr(moments, name) for moments in part]) for part in parts)
        assert float((getattr(whole[0], name) - getattr(whole[1], name)).abs().max()) < 5 / 8000**0.5
        assert float(conditional.var(0).mean()) < 0.8 * float(plain.var(0).mean())


@pytest.mark.parametrize("weights", [None, [0.5, 0.2, 0.3]])
@pytest.mark.parametrize("edges", [[(0, 2), (1, 2)], [(0, 1), (1, 2), (0, 2)]], ids=["rbm", "complete"])
def test_conditional_moments_by_hand(edges, weights):
    h, J = [0.5, -0.2, 0.3], [-1.0, 0.4, 0.7][: len(edges)]
    rows, fields = [[1, 1, -1], [-1, 1, 1], [-1, -1, 1]], []
    for row in rows:
        field = list(h)
        for (i, j), coupling in zip(edges, J, strict=True):
            field[i] += coupling * row[j]
            field[j] += coupling * row[i]
        fields.append(field)
    given = [[-math.tanh(value) for value in field] for field in fields]
    share = weights or [1 / 3] * 3
    samples = Samples(torch.tensor(rows, dtype=torch.int8), None if weights is None else torch.tensor(weights))
    hamiltonian = IsingHamiltonian(h, edges, J)
    found = Moments.conditional(samples, hamiltonian)
    assert found.spins.tolist() == pytest.approx([sum(w * m[i] for w, m in zip(share, given, strict=True)) for i in range(3)])
    triples = list(zip(share, given, rows, strict=True))
    pairs = [sum(w * (m[i] * s[j] + s[i] * m[j]) / 2 for w, m, s in triples) for i, j in hamiltonian.edges.tolist()]
    assert found.pairs.tolist() == pytest.approx(pairs)


def test_in_a_transverse_field_moments_stay_averages_of_the_samples():
    hamiltonian = IsingHamiltonian([0.5, -0.2], [(0, 1)], [-1.0], gamma=0.7)
    samples = Samples(torch.tensor([[1, 1], [-1, 1], [-1, -1]], dtype=torch.int8))
    plain, conditional = Moments.from_samples(samples, hamiltonian), Moments.conditional(samples, hamiltonian)
    assert torch.equal(conditional.spins, plain.spins)
    assert torch.equal(conditional.pairs, plain.pairs)
