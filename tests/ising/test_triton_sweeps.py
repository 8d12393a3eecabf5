"""Block Gibbs by Triton's kernel, in its interpreter, against enumeration; where layouts put couplings; their two halves."""

from __future__ import annotations

import functools
import itertools
import math

import pytest
import torch
from interpreted_sweeps import interpreted
from torch import Tensor

from qvae.ising.block_gibbs import BlockGibbs
from qvae.ising.exact import exact_distribution, spin_states
from qvae.ising.graphs import Graph, edge_list, rbm
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.products import Block

pytest.importorskip("triton")
from qvae.ising import triton_sweeps
from qvae.ising.triton_sweeps import Layout, TritonSweeps, chains_of_program

CHAINS, FEW = 4000, 19  # neither is a whole number of programs
SIGMAS = 5.0
IN_TILES = {"_MULTIPLIED_ROWS": 16, "_GATHERED_ROWS": 16}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hamiltonian_on(graph: Graph, coupling: float, seed: int = 0) -> IsingHamiltonian:
    random = generator(seed)
    h = 0.5 * torch.randn(graph.num_spins, generator=random)
    return IsingHamiltonian(h, graph, coupling * torch.randn(graph.num_edges, generator=random))


def call(hamiltonian: IsingHamiltonian, *sweeps: int, chains: int = CHAINS, **more: object) -> dict:
    bits = BlockGibbs(hamiltonian).random_state(chains, generator()).to(torch.int8)
    return {"hamiltonian": hamiltonian, "bits": bits, "sweeps": sweeps} | more


# A hub of five neighbours in a ring, so four colours, of 4, 3, 2 and 1 spins: first 0, 6, 7 and 9.
WHEEL = [(1, 9), (2, 9), (3, 9), (4, 9), (5, 9), (1, 2), (2, 3), (3, 4), (4, 5), (1, 5), (3, 6), (7, 8)]
SPARSE = hamiltonian_on(edge_list(WHEEL, 10), 0.4)
SMALL = hamiltonian_on(rbm(3, 4), 0.5)
LARGE = hamiltonian_on(rbm(17, 37), 0.12)  # two and three tiles of 16 rows, in a product and one below the other
FREE = IsingHamiltonian(torch.zeros(40), edge_list([], 40), [])
RARE = 1 / (1 + math.exp(8))
FIELDS = IsingHamiltonian([30.0, -30.0, 0.3, -1.0] + [4.0] * 36, edge_list([], 40), [])
OTHER_FIELDS = torch.linspace(-1, 1, 10)
BASE = -2 * OTHER_FIELDS[BlockGibbs(SPARSE).order].unsqueeze(1)
BETAS = torch.tensor([0.9, 0.3]).repeat_interleave(CHAINS // 2)
FEW_BETAS = torch.linspace(0, 2, FEW)
ALIGNING = IsingHamiltonian(torch.zeros(4), rbm(2, 2), [-9.0] * 4)
SECOND_UP = torch.tensor([0, 0, 1, 1], dtype=torch.int8).unsqueeze(1).repeat(1, FEW)
# Two large couplings, all but opposite, of a spin in the field of what is left of them: 1200.4 and 1199.6 are 1200 in float16.
CANCELLING = IsingHamiltonian([-1e4, -1e4, 0.1], rbm(2, 1), [300.1, -299.9])
BEYOND = IsingHamiltonian([-0.1, 0.0, 0.0, 0.0], rbm(2, 2), [-1e5, 1e6, -1e5, 1e6])
NOTHING = IsingHamiltonian([], Graph(0, []), [])
LOGITS = torch.cat([torch.linspace(-19, 19, 121), torch.tensor([1e-6, -1e-6, 0.0, 30.0, -30.0, 1e9, -1e9])])


@functools.cache
def calls() -> dict[str, dict]:
    gathered, large = {"is_sparse": True, "sizes": {"_GATHERED_ROWS": 4}}, {"chains": FEW, "sizes": IN_TILES}
    few = {"chains": FEW, "is_sparse": True, "sizes": {"_GATHERED": (32, 32)}}
    free = {"chains": 4096, "is_sparse": True, "sizes": IN_TILES | {"_GATHERED": (1024, 1024)}}
    one, many = {"_MULTIPLIED": (8, 64), "_GATHERED": (4, 32), "_PROGRAMS": 1}, {"_MULTIPLIED": (8, 8), "_GATHERED": (8, 8)}
    return {
        "rbm": call(SMALL, 10),
        "rbm of many tiles": call(LARGE, 8, sizes=IN_TILES),
        "sparse": call(SPARSE, 10, is_sparse=True, sizes={"_GATHERED_ROWS": 2}),
        "no edges": call(FIELDS, 1, chains=16_000),
        "no edges, gathered": call(FIELDS, 1, chains=16_000, is_sparse=True),
        "number": call(SMALL, 10, given={"beta": 0.6}),
        "path": call(SPARSE, 9, given={"beta": BETAS, "base": BASE, "order": [3, 2, 1, 0]}, **gathered),
        "path in parts": call(
            SPARSE, 9, given={"beta": BETAS, "base": BASE}, is_sparse=True, sizes={"_MOST_BITS": 10 * CHAINS // 3}
        ),
        "base": call(SPARSE, 7, given={"beta": 0.5, "base": BASE}),
        "beta 1": call(SPARSE, 2, **few),
        "beta 1, base": call(SPARSE, 2, given={"base": BASE}, **few),
        "beta 0.7": call(SPARSE, 2, given={"beta": 0.7}, **few),
        "beta 0.7, tensor": call(SPARSE, 2, given={"beta": torch.tensor(0.7, dtype=torch.float64)}, **few),
        "beta 0.7, each": call(SPARSE, 2, given={"beta": torch.full((FEW,), 0.7)}, **few),
        "betas": call(SPARSE, 2, given={"beta": FEW_BETAS}, **few),
        "betas, many programs": call(SPARSE, 2, given={"beta": FEW_BETAS}, **few | {"sizes": many}),
        "first left out": call(SMALL, 2, chains=FEW, given={"order": [1]}),
        "two of four": call(SPARSE, 2, given={"order": (0, 2)}, **few),
        "onwards": call(ALIGNING, 1, bits=SECOND_UP),
        "backwards": call(ALIGNING, 1, bits=SECOND_UP, given={"order": range(1, -1, -1)}),
        "no order": call(SMALL, 1, chains=FEW, given={"order": []}),
        "cancelling": call(CANCELLING, 2),
        "beyond float16": call(BEYOND, 3, chains=FEW),
        "large": call(LARGE, 1, **large),
        "large, one program": call(LARGE, 1, **large | {"sizes": IN_TILES | one}),
        "large, many programs": call(LARGE, 1, **large | {"sizes": IN_TILES | many}),
        "large, one tile": call(LARGE, 1, chains=FEW),
        "large, gathered": call(LARGE, 1, chains=FEW, is_sparse=True, sizes=IN_TILES),
        "few": call(SPARSE, 1, 0, 1, **few),
        "few, one program": call(SPARSE, 1, 0, 1, **few | {"sizes": one}),
        "few, many programs": call(SPARSE, 1, 0, 1, **few | {"sizes": many}),
        "one sweep": call(FREE, 1, 1, **free),
        "two sweeps": call(FREE, 2, **free),
        "updated twice": call(FREE, 1, given={"order": [0, 0]}, **free),
        "other seed": call(FREE, 1, seed=2, **free),
        "no spins": call(NOTHING, 2, chains=5),
        "no spins, gathered": call(NOTHING, 2, chains=5, is_sparse=True),
        "no chains": call(SMALL, 2, chains=0, given={"beta": torch.zeros(0)}),
        "no chains, gathered": call(SPARSE, 2, chains=0, is_sparse=True),
        "thresholds": {"logits": LOGITS},
    }


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """What each of ``calls`` gives."""
    return dict(zip(calls(), interpreted(tmp_path_factory.mktemp("sweeps"), list(calls().values())), strict=True))


def spins_of(name: str, swept: dict[str, Tensor]) -> Tensor:
    return BlockGibbs(calls()[name]["hamiltonian"]).to_spins(swept[name][-1])


def assert_moments(spins: Tensor, means: Tensor, pairs: Tensor, edges: Tensor) -> None:
    x = spins.double()
    for found, true in ((x.mean(0), means), ((x[:, edges[:, 0]] * x[:, edges[:, 1]]).mean(0), pairs)):
        assert ((found - true).abs() <= SIGMAS * ((1 - true**2).clamp(min=0) / len(x) + 1 / len(x) ** 2).sqrt()).all()


def assert_distribution(spins: Tensor, hamiltonian: IsingHamiltonian, excess) -> None:
    exact = exact_distribution(hamiltonian)
    assert_moments(spins, *exact.moments(), hamiltonian.edges)
    assert excess(spins, exact) < SIGMAS


# Distributions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rbm", "sparse"])
def test_spins_are_distributed_as_enumeration_says(name: str, swept, excess) -> None:
    assert_distribution(spins_of(name, swept), calls()[name]["hamiltonian"], excess)


def test_moments_of_layers_of_many_tiles(swept) -> None:
    # Enumerated is the first layer; the second one's spins are independent given it.
    first = spin_states(17).double()
    h, J = LARGE.h.double(), LARGE.J.double().view(17, 37)
    field = h[17:] + first @ J
    p = torch.softmax(torch.log(2 * torch.cosh(field)).sum(1) - first @ h[:17], 0).unsqueeze(1)
    second = -torch.tanh(field)
    means = torch.cat([(p * first).sum(0), (p * second).sum(0)])
    assert_moments(spins_of("rbm of many tiles", swept), means, (first.T @ (p * second)).flatten(), LARGE.edges)


@pytest.mark.parametrize("name", ["no edges", "no edges, gathered"])
def test_spins_in_fields_of_their_own(name: str, swept) -> None:
    spins = spins_of(name, swept).double()
    assert bool((spins[:, 0] == -1).all())
    assert bool((spins[:, 1] == 1).all())
    means = -torch.tanh(FIELDS.h.double())
    assert ((spins.mean(0) - means)[2:4].abs() < SIGMAS * ((1 - means[2:4] ** 2) / len(spins)).sqrt()).all()
    expected = RARE * spins[:, 4:].numel()
    assert float((spins[:, 4:] == 1).sum()) == pytest.approx(expected, abs=SIGMAS * expected**0.5)


def test_what_is_left_of_large_couplings_is_right(swept) -> None:
    spins = spins_of("cancelling", swept).double()
    assert bool((spins[:, :2] == 1).all())
    assert float(spins[:, 2].mean()) == pytest.approx(-math.tanh(0.1 + 0.2), abs=SIGMAS / math.sqrt(CHAINS))


def test_couplings_beyond_float16_align_spins(swept) -> None:
    spins = spins_of("beyond float16", swept)
    assert torch.equal(spins[:, 0], spins[:, 1])
    assert torch.equal(spins[:, 0], spins[:, 2])
    assert torch.equal(spins[:, 0], -spins[:, 3])


def test_probabilities_are_right_to_a_millionth_of_the_rarer_value(swept) -> None:
    for logit, words in zip(LOGITS.tolist(), swept["thresholds"].tolist(), strict=True):
        expected = 1 / (1 + math.exp(abs(logit))) if abs(logit) < 700 else 0.0
        assert words / 2**32 == pytest.approx(expected, rel=1e-6, abs=2**-30)


# Temperatures and paths -----------------------------------------------------------------------------------------------


def test_one_temperature_for_all(swept, excess) -> None:
    assert_distribution(spins_of("number", swept), SMALL.replace(0.6 * SMALL.h, 0.6 * SMALL.J), excess)


def between(beta: float) -> IsingHamiltonian:
    return SPARSE.replace((1 - beta) * OTHER_FIELDS + beta * SPARSE.h, beta * SPARSE.J)


def test_the_path_from_independent_spins(swept, excess) -> None:
    assert_distribution(spins_of("base", swept), between(0.5), excess)
    for name in ("path", "path in parts"):
        for part, beta in zip(spins_of(name, swept).split(CHAINS // 2), (0.9, 0.3), strict=True):
            assert_distribution(part, between(beta), excess)


def test_a_temperature_is_a_number_or_a_tensor(swept) -> None:
    assert torch.equal(swept["beta 0.7"], swept["beta 0.7, tensor"])
    assert torch.equal(swept["beta 0.7"], swept["beta 0.7, each"])
    assert not torch.equal(swept["beta 0.7"], swept["beta 1"])


def test_at_beta_1_the_base_counts_for_nothing(swept) -> None:
    assert torch.equal(swept["beta 1"], swept["beta 1, base"])


# Order ----------------------------------------------------------------------------------------------------------------


def test_blocks_that_are_left_out_stay_as_they_are(swept) -> None:
    def changed(name: str) -> list[bool]:
        return (swept[name][0] != calls()[name]["bits"]).any(1).tolist()

    assert changed("first left out") == [False] * 3 + [True] * 4
    assert changed("two of four") == [True] * 4 + [False] * 3 + [True] * 2 + [False]
    assert changed("no order") == [False] * 7


def test_blocks_are_updated_in_their_order(swept) -> None:
    assert bool((swept["onwards"] == 1).all())
    assert bool((swept["backwards"] == 0).all())


# Random numbers -------------------------------------------------------------------------------------------------------


def assert_independent(first: Tensor, second: Tensor) -> None:
    """Of spins without fields."""
    assert abs(float((first * second).mean())) < SIGMAS / math.sqrt(first.numel())


@pytest.fixture
def free(swept) -> list[Tensor]:
    """Spins without fields after one sweep, the next call, two sweeps, two updates in one, and one from another seed."""
    names = ["one sweep", "two sweeps", "updated twice", "other seed"]
    return [2 * bits.double() - 1 for name in names for bits in swept[name]]


def test_sweeps_updates_calls_and_seeds_are_independent(free: list[Tensor]) -> None:
    assert len(free) == 5
    for first, second in itertools.combinations(free, 2):
        assert_independent(first, second)


def test_spins_and_chains_are_independent(free: list[Tensor]) -> None:
    for spins in free:
        assert abs(float(spins.mean())) < SIGMAS / math.sqrt(spins.numel())
        for lag in (1, 2, 3, 4, 16):  # those of a tile, and of the next one
            assert_independent(spins[lag:], spins[:-lag])
        for lag in (1, 2, 3, 4, 8, 256, 1024, 2048):  # those of four that are drawn together, and of the next program
            assert_independent(spins[:, lag:], spins[:, :-lag])
        assert len(spins.unique(dim=1).T) == 4096


def test_chains_draw_the_same_numbers_in_programs_and_tiles_of_any_size(swept) -> None:
    for name in ("few, one program", "few, many programs"):
        assert torch.equal(swept["few"], swept[name])
    assert torch.equal(swept["betas"], swept["betas, many programs"])
    for name in ("large, one program", "large, many programs", "large, one tile", "large, gathered"):
        assert differing(swept["large"], swept[name]) < 0.01


def differing(first: Tensor, second: Tensor) -> float:
    """Products are rounded otherwise in other tiles, and a bit may then be another."""
    return float((first != second).double().mean())


# Nothing to do --------------------------------------------------------------------------------------------------------


def test_no_sweeps_change_nothing(swept) -> None:
    once, none, twice = swept["few"]
    assert torch.equal(once, none)
    assert not torch.equal(once, twice)


@pytest.mark.parametrize("name", ["no spins", "no spins, gathered", "no chains", "no chains, gathered"])
def test_neither_spins_nor_chains(name: str, swept) -> None:
    assert torch.equal(swept[name][0], calls()[name]["bits"])


# Layouts --------------------------------------------------------------------------------------------------------------


def test_programs_take_few_chains_until_the_device_is_full() -> None:
    n = triton_sweeps._PROGRAMS
    assert [chains_of_program(chains, 4, 32) for chains in (0, 1, 4 * n, 4 * n + 1, 8 * n + 1, 99 * n)] == [4, 4, 4, 8, 16, 32]


@pytest.mark.parametrize("rows", [16, 32, 512])
@pytest.mark.parametrize("hamiltonian", [SPARSE, LARGE, FIELDS], ids=["sparse", "large", "fields"])
def test_couplings_begin_where_the_compiler_is_told(hamiltonian: IsingHamiltonian, rows: int, monkeypatch) -> None:
    monkeypatch.setattr(triton_sweeps, "_MULTIPLIED_ROWS", rows)
    monkeypatch.setattr(triton_sweeps, "_GATHERED_ROWS", rows)
    gibbs = BlockGibbs(hamiltonian)
    for layout in (Layout.dense(gibbs._blocks, torch.device("cpu")), Layout.sparse(gibbs._blocks, gibbs._rows, gibbs._columns)):
        assert bool((layout.table[:, 2] % 16 == 0).all())
        assert len(layout.table) == int(layout.starts[-1]) == sum(-(-(b.stop - b.start) // layout.rows) for b in gibbs._blocks)


def test_two_halves_hold_a_weight_to_a_4000000th_of_it() -> None:
    magnitudes = torch.logspace(-12, 4.8, 256) * torch.randn(256, generator=generator()).sign()
    weights = magnitudes.unsqueeze(0), magnitudes.unsqueeze(1)
    layout = Layout.dense([Block(0, 1, 1, 257), Block(1, 257, 0, 1)], torch.device("cpu"))
    sweeps = TritonSweeps(layout, torch.empty(0), torch.zeros(257, 1), weights)
    found = sweeps._values.double() + sweeps._others.double()
    first = found[: layout.rows * 256].view(layout.rows, 256)
    second = found[layout.rows * 256 :].view(256, layout.rows)
    for row in (first[0], second[:, 0]):
        assert bool(((row - magnitudes).abs() <= magnitudes.abs() * 2.0**-22 + 3e-8).all())
    assert not bool(first[1:].any())
    assert not bool(second[:, 1:].any())
