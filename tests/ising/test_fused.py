"""Compiled passes: their generator, their probabilities, pairs of bits, threads, and what serves where they can't be had."""

from __future__ import annotations

import gc
import math
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from qvae.ising import compiled, fused_line_sweeps, fused_sweeps, products
from qvae.ising.block_gibbs import BlockGibbs
from qvae.ising.graphs import Graph, complete, edge_list, rbm
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.world_lines import WorldLines

numba = pytest.importorskip("numba")
from qvae.ising import compiling, fused  # noqa: E402

CPU = torch.device("cpu")
SIGMAS = 5.0


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(compiled.SWITCH, raising=False)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# The generator --------------------------------------------------------------------------------------------------------


def test_the_generator_is_xoshiro128_plus_plus() -> None:
    # By whole numbers of any size, after the authors' description.
    def reference(s: list[int]) -> Iterator[int]:
        def rotated(word: int, places: int) -> int:
            return (word << places | word >> (32 - places)) % 2**32

        while True:
            yield (rotated((s[0] + s[3]) % 2**32, 7) + s[0]) % 2**32
            shifted = (s[1] << 9) % 2**32
            s[2] ^= s[0]
            s[3] ^= s[1]
            s[1] ^= s[2]
            s[0] ^= s[3]
            s[2] ^= shifted
            s[3] = rotated(s[3], 11)

    state = tuple(np.uint32(word) for word in (1, 2, 3, 0xFFFFFFFF))
    expected = reference([int(word) for word in state])
    for _ in range(1000):
        drawn, *state = fused.next_word(*state)
        assert int(drawn) == next(expected)
    first = fused.next_word(*(np.uint32(word) for word in (1, 2, 3, 4)))[0]
    assert int(first) == 641  # as other libraries' tests have it


def test_streams_depend_on_the_call_and_on_the_chain_alone() -> None:
    whole, part, other = (np.empty((4, size), np.uint32) for size in (100, 40, 100))
    fused.seed(whole, 12, 2**64 - 1, 0)
    fused.seed(part, 12, 2**64 - 1, 60)
    fused.seed(other, 13, 2**64 - 1, 0)
    assert np.array_equal(whole[:, 60:], part)
    for words in (whole, np.concatenate([whole, other], 1)[:2]):
        assert len(np.unique(words)) == words.size
    bits = np.unpackbits(np.concatenate([whole, other]).view(np.uint8))
    assert abs(bits.mean() - 0.5) < SIGMAS / 2 / math.sqrt(bits.size)


def test_probabilities_are_right_to_a_millionth_of_the_rarer_value() -> None:
    for logit in [*np.linspace(-19, 19, 120).tolist(), 1e-6, -1e-6, 0.0]:
        rare = 1 / (1 + math.exp(abs(np.float32(logit))))
        # The rarer value comes below a threshold of the random word, which bisection finds.
        low, high = 0, 2**32
        while high - low > 1:
            middle = (low + high) // 2
            is_rare = bool(fused.is_up(np.float32(logit), np.uint32(middle))) != (np.float32(logit) > 0)
            low, high = (middle, high) if is_rare else (low, middle)
        assert high / 2**32 == pytest.approx(rare, rel=1e-6, abs=2**-30)
    for logit in (1e9, 30.0, -30.0, -1e9):
        assert bool(fused.is_up(np.float32(logit), np.uint32(0))) == (logit > 0)


# Bits as they are drawn -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_products", [True, False])
@pytest.mark.parametrize("p", [0.5, 0.1, 0.003])
def test_pairs_of_bits_are_independent(by_products: bool, p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of spins of a chain, of one spin in neighbouring chains, and of successive sweeps: 10^7 pairs each.
    monkeypatch.setattr(fused_sweeps, "_ROWS", 0 if by_products else 1000)
    n, chains, sweeps = 50, 2000, 100
    field = -0.5 * math.log(p / (1 - p))
    gibbs = BlockGibbs(IsingHamiltonian(torch.full((n,), field), Graph(n, []), []))
    random, state, before = generator(3), gibbs.random_state(chains, generator()), None
    sums = torch.zeros(6, dtype=torch.float64)
    for _ in range(sweeps):
        spread = gibbs.sweep(state, 1, random) - p
        pairs = [spread[1:] * spread[:-1], spread[2:] * spread[:-2], spread[:, 1:] * spread[:, :-1]]
        pairs += [spread[:, 16:] * spread[:, :-16], spread * (0 * spread if before is None else before)]
        sums += torch.stack([spread.mean(dtype=torch.float64), *(part.mean(dtype=torch.float64) for part in pairs)])
        before = spread
    number, variance = n * chains * sweeps, p * (1 - p)
    assert abs(float(sums[0])) / sweeps < SIGMAS * math.sqrt(variance / number)
    assert float(sums[1:].abs().max()) / sweeps < SIGMAS * variance / math.sqrt(0.9 * number)


@pytest.mark.parametrize("graph", [rbm(100, 90), edge_list([(i, (i + 1) % 301) for i in range(301)])], ids=repr)
@pytest.mark.usefixtures("threads")
def test_the_number_of_threads_changes_nothing(graph: Graph, random_hamiltonian) -> None:
    gibbs = BlockGibbs(random_hamiltonian(graph, coupling=0.2))
    assert (gibbs.fused.factors is not None) == (graph.bipartite_sizes is not None)
    states = []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        state = gibbs.random_state(1100, generator()).to(gibbs.quickest)
        states.append(gibbs.sweep(state, 5, generator(1)))
        assert torch.get_num_threads() == number
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


@pytest.mark.parametrize("graph", [rbm(90, 80), edge_list([(i, (i + 1) % 31) for i in range(31)])], ids=repr)
@pytest.mark.usefixtures("threads")
def test_the_number_of_threads_changes_no_world_line(graph: Graph, random_hamiltonian, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_line_sweeps, "_BITS", 2**14)
    lines, found = WorldLines(random_hamiltonian(graph, coupling=0.2, gamma=1.0), 4), []
    for number in (1, 2):
        torch.set_num_threads(number)
        found.append(lines.sweep(lines.random_state(100, generator()), 3, generator(1)))
    assert torch.equal(found[0], found[1])


@pytest.mark.parametrize("graph", [rbm(100, 90), edge_list([(i, (i + 1) % 61) for i in range(61)])], ids=repr)
def test_no_two_chains_draw_the_same_bits(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do those that are updated apart: 64 chains in parts of 16, which begin alike, of spins without fields."""
    for module, name in ((fused_sweeps, "_GATHERED"), (fused_sweeps, "_MULTIPLIED"), (fused_line_sweeps, "_BITS")):
        monkeypatch.setattr(module, name, 16)
    n, m = graph.num_spins, graph.num_edges
    lines = WorldLines(IsingHamiltonian(torch.zeros(n), graph, torch.zeros(m), torch.ones(n)), 4)
    alike = torch.zeros(n, 4, 64, dtype=torch.int8)
    swept = lines.gibbs.sweep(alike[:, 0].clone(), 1, generator()), lines.sweep(alike, 1, generator()).flatten(0, 1)
    for bits in swept:
        assert len(bits.unique(dim=1).T) == 64


def test_what_is_of_a_chain_is_its_own_in_whatever_part_it_is(random_hamiltonian, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, found = WorldLines(random_hamiltonian(complete(4), gamma=1.0), 4), []
    base, beta = torch.randn(4, 500, generator=generator()), torch.linspace(0, 1, 500)
    pinned = torch.randn(4, 500, generator=generator(2)).sign()
    for bits in (2**20, 2**10):
        monkeypatch.setattr(fused_line_sweeps, "_BITS", bits)
        found.append(lines.sweep(lines.random_state(500, generator()), 3, generator(1), beta, base, pinned=pinned))
    assert torch.equal(found[0], found[1])


@pytest.mark.parametrize("graph", [rbm(100, 90), rbm(4, 3)], ids=repr)
@pytest.mark.usefixtures("threads")
def test_threads_write_to_states_of_inference_mode(graph: Graph, random_hamiltonian) -> None:
    torch.set_num_threads(2)
    with torch.inference_mode():
        gibbs = BlockGibbs(random_hamiltonian(graph))
        state = gibbs.random_state(700, generator()).to(gibbs.quickest)
        swept = gibbs.sweep(state.clone(), 2, generator(1))
    assert torch.equal(swept, gibbs.sweep(state.clone(), 2, generator(1)))
    assert not torch.equal(swept, state)


def test_chains_that_fill_no_vector(random_hamiltonian) -> None:
    gibbs = BlockGibbs(random_hamiltonian(rbm(4, 3)))
    many = gibbs.sweep(gibbs.random_state(20, generator()), 3, generator(1))
    few = gibbs.random_state(20, generator())[:, :3]
    assert torch.equal(gibbs.sweep(few, 3, generator(1)), many[:, :3])


# Products -------------------------------------------------------------------------------------------------------------


def test_two_digits_hold_weights_to_a_64000th_of_the_largest_of_their_row() -> None:
    weights = torch.randn(50, 300, generator=generator()).numpy() * np.logspace(-6, 6, 50, dtype=np.float32)[:, None]
    weights[0], weights[1], weights[2, 1:] = 0, 1e-42, 0
    weights[3, ::2], weights[3, 1::2] = weights[3].max(), -weights[3].max()
    digits, scale = np.empty((100, 300), np.int8), np.empty(50, np.float32)
    fused.split(weights, digits, scale)
    assert np.abs(digits.astype(int)).max() == 127
    found = scale[:, None].astype(float) * (fused.DIGIT * digits[:50].astype(float) + digits[50:])
    assert (np.abs(found - weights) <= np.abs(weights).max(1, keepdims=True) / 64_000 + 1e-30).all()


@pytest.mark.parametrize("of_digits", [True, False])
@pytest.mark.parametrize("graph", [rbm(100, 90), complete(3), edge_list([(1, 2), (2, 3), (3, 1), (5, 6)], 8)], ids=repr)
def test_products_with_bits(graph: Graph, of_digits: bool, random_hamiltonian, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "multiplies_int8", lambda: of_digits)
    monkeypatch.setattr(fused_sweeps, "_ROWS", 0)
    hamiltonian = random_hamiltonian(graph)
    gibbs, J = BlockGibbs(hamiltonian), hamiltonian.J
    state = gibbs.random_state(37, generator())
    bits = state.to(torch.int8)
    for block, product in enumerate(gibbs.fused.factors.times(bits)):
        for _ in range(2):
            found, scale = product()
            assert found.dtype == (np.int32 if of_digits else np.float32)
            rows = found
            if of_digits:
                rows = scale[:, None] * np.add(*(fused.DIGIT * found[: len(scale)], found[len(scale) :]))
            expected = gibbs.logits(state, block) - gibbs.logits(torch.zeros_like(state), block)
            assert np.allclose(rows, expected, atol=max(1e-4, 90 * 4 * float(J.abs().max()) / 64_000))
            bits.copy_(1 - bits)  # the next product sees it
            state = 1 - state
        assert len(scale) == gibbs.rows(block).stop - gibbs.rows(block).start


# Where they can't be had ----------------------------------------------------------------------------------------------


def test_torch_serves_where_numba_is_switched_off_or_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled.kernels(CPU) is fused
    assert compiled.name_of_kernels(CPU) == "numba"
    assert compiled.kernels(torch.device("meta")) is None
    monkeypatch.setenv(compiled.SWITCH, "torch")
    assert compiled.name_of_kernels(CPU) == "torch"
    monkeypatch.delenv(compiled.SWITCH)
    monkeypatch.setitem(sys.modules, "numba", None)
    compiled._loaded.cache_clear()
    try:
        assert compiled.name_of_kernels(CPU) == "torch"
    finally:
        compiled._loaded.cache_clear()


@pytest.mark.parametrize("failing", ["numba", "qvae.ising.fused"])
def test_kernels_that_do_not_compile_are_said_and_done_without(failing: str, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    def fails(name: str) -> None:
        collected.append(gc.isenabled())
        if name == failing:
            raise OSError("no compiler")

    collected: list[bool] = []

    monkeypatch.setattr(compiled.importlib, "import_module", fails)
    compiled._loaded.cache_clear()
    try:
        assert compiled.kernels(CPU) is None
    finally:
        compiled._loaded.cache_clear()
    assert "torch's, which are slower, serve" in caplog.text
    assert set(collected) == {False}  # numba loads in two thirds of the time without
    assert gc.isenabled()


def doubled(x):
    return np.float32(2) * x


SINGLE = numba.types.float32(numba.types.float32)


def test_where_nothing_can_be_written_code_is_compiled_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_a_place(function):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(compiling, "_Kept", without_a_place)
    double = compiling.compiled(SINGLE)(doubled)
    assert double(1.5) == 3.0
    with pytest.raises(TypeError, match="No matching definition"):
        double(1j)  # what is compiled is for its types alone


FIRST_CALL = """
import sys, torch
from qvae.ising.block_gibbs import BlockGibbs
from qvae.ising.graphs import rbm
from qvae.ising.hamiltonian import IsingHamiltonian

fields = IsingHamiltonian(0.1 * torch.ones(5), rbm(2, 3), torch.ones(6))
gibbs, generator = BlockGibbs(fields), torch.Generator().manual_seed(0)
found = gibbs.sweep(gibbs.random_state(40, generator), 3, generator)
"""
LOOK = """
print([name in sys.modules for name in ("numba", "numba.np.arraymath", "scipy.linalg")])
import numba, numpy
print(numba.njit(lambda x: numpy.dot(x, x))(numpy.arange(3.0)))  # others' code finds all tables
print(found.int().tolist())
"""


def test_code_on_disk_runs_without_numbas_tables_and_as_it_was_compiled() -> None:
    """Their import takes longer than all else in a first call. A version of numba that this fails on isn't in ``_TRIED``."""
    here: dict[str, torch.Tensor] = {}
    exec(FIRST_CALL, here)  # or the other process might have to compile
    told = subprocess.run([sys.executable, "-c", FIRST_CALL + LOOK], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == ["[True, False, False]", "5.0", str(here["found"].int().tolist())]
