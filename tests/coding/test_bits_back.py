"""Rows without loss: they come back on other machines' terms, and take minus the ELBO in bits and little more."""

import math
import sys
import zlib

import numpy as np
import pytest
import torch

pytest.importorskip("constriction", reason="needs the extra: pip install -e '.[compress]'")

from qvae.coding import bits_back
from qvae.coding.bits_back import Block, Changed, CodeCoder, RowCoder
from qvae.config.schema import ModelConfig
from qvae.errors import CapabilityError
from qvae.evaluation.log_terms import log_prior_of, log_terms
from qvae.ising.partition import log_partition
from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.likelihoods.strings import ended
from qvae.models.qvae import QVAE

LEVELS = 6
WORDS = ("strings", "recurrent-strings")
NUMBERS = ("poisson", "negative-binomial", "categorical", *WORDS)


def model(levels=1, likelihood="bernoulli", kind="mlp"):
    """Of 4 x 4 images and 4 + 4 bits, with weights large enough that all its parts say something."""
    torch.manual_seed(levels)
    config = ModelConfig.model_validate(
        {
            "likelihood": likelihood,
            "latent": {"sizes": [4, 4]},
            "posterior": {"levels": levels},
            "network": {"kind": kind, "hidden": [16] if kind == "mlp" else [4]},
        }
    )
    statistics = Statistics.blank((5,), LEVELS) if likelihood in WORDS else Statistics.blank((4, 4), LEVELS)
    found = QVAE.from_config(config, statistics).eval()
    for parameter in found.parameters():
        parameter.data.add_(0.5 * torch.randn_like(parameter))
    return found


def rows(count):
    return (np.random.default_rng(0).random((count, 16)) < 0.3).astype(np.int8)


def numbers(likelihood, count):
    """Rows of other likelihoods, (count, D), int32, and among counts some that no model expects."""
    rng = np.random.default_rng(1)
    if likelihood in WORDS:
        return ended(torch.from_numpy(rng.integers(0, LEVELS, (count, 5)).astype(np.int32))).int().numpy()
    if likelihood == "categorical":
        return rng.integers(0, LEVELS, (count, 16)).astype(np.int32)
    found = rng.poisson(rng.gamma(1, 2, (count, 16))).astype(np.int32)
    found[0, :3] = 2**24, 2**24 - 1, 70_000
    return found


def test_rows_of_files_that_there_are_go_together_as_they_always_did():
    """Other parts would be another version of the format."""
    sizes = [part.stop - part.start for part in bits_back._parts(1000)]
    start = [1] * 8 + [2, 2, 3, 3, 4, 5, 6, 8, 10, 12, 15, 19, 24, 30, 37, 47, 58, 73, 91, 114]
    assert sizes == [*start, 128, 128, 128, 45]
    assert [(part.start, part.stop) for part in bits_back._parts(6)] == [(row, row + 1) for row in range(6)]


def test_files_of_before_can_be_read():
    """The words of a block are the same as they always were, on any machine: another grid, table or start ends this."""
    made = model(2)
    with torch.no_grad():
        for number, parameter in enumerate(made.parameters()):
            parameter.copy_(((torch.arange(parameter.numel()) * 37 + 11 * number) % 64 - 31).view_as(parameter) / 32)
    data = (np.arange(20 * 16).reshape(20, 16) ** 2 % 7 < 3).astype(np.int8)
    block, bits, _ = RowCoder(made).encode(data)
    codes, _, _ = CodeCoder(made).encode(data[:, :8])
    found = [(len(each.words), zlib.crc32(each.words.astype("<u4").tobytes()), each.shift) for each in (block, codes)]
    assert found == [(20, 4222735385, 0), (10, 1730191334, 0)]
    assert (bits.data, bits.prior, bits.posterior, bits.start) == (416, 261, 74, 31)


def test_a_stack_begins_with_a_bit_for_each_latent_and_its_last_word_is_no_small_number():
    coder, longest = CodeCoder(model()), np.random.PCG64(np.random.SeedSequence(0)).random_raw(10).astype(np.uint32)
    for number in range(1, 11):
        for coder.num_latents in (32 * number - 31, 32 * number):
            *words, last = coder._start().tolist()
            assert words == longest[: number - 1].tolist()
            assert last == int(longest[number - 1]) | 2**31


@pytest.mark.parametrize(("levels", "kind"), [(1, "mlp"), (2, "mlp"), (1, "conv")])
@pytest.mark.parametrize("count", [1, 2, 37, 300])
def test_rows_come_back_in_batches_of_another_size_and_with_other_threads(levels, kind, count, monkeypatch):
    coder = RowCoder(model(levels, kind=kind), 4)
    block, _, codes = coder.encode(rows(count))
    assert codes.shape == (count, 8)
    threads, linear = torch.get_num_threads(), torch.nn.functional.linear
    # Another machine: sums in another order.
    monkeypatch.setattr(
        torch.nn.functional, "linear", lambda x, W, b=None: linear(x.flip(-1).contiguous(), W.flip(-1).contiguous(), b)
    )
    torch.set_num_threads(threads + 1)
    try:
        assert np.array_equal(RowCoder(model(levels, kind=kind), 4).decode(block, count), rows(count))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("likelihood", NUMBERS)
def test_numbers_come_back_on_another_machine_and_with_other_threads(likelihood, monkeypatch):
    given = numbers(likelihood, 30)
    block, _, _ = RowCoder(model(likelihood=likelihood), 4).encode(given)
    threads, linear = torch.get_num_threads(), torch.nn.functional.linear
    monkeypatch.setattr(
        torch.nn.functional, "linear", lambda x, W, b=None: linear(x.flip(-1).contiguous(), W.flip(-1).contiguous(), b)
    )
    torch.set_num_threads(threads + 1)
    try:
        back = RowCoder(model(likelihood=likelihood), 4).decode(block, 30)
    finally:
        torch.set_num_threads(threads)
    assert back.dtype == np.int32
    assert np.array_equal(back, given)
    assert block.checksum == zlib.crc32(given.astype("<i4").tobytes())


@pytest.mark.parametrize("likelihood", NUMBERS)
def test_numbers_take_what_the_likelihood_says(likelihood):
    """Rows that it has drawn itself, whatever their codes; those that it rules out take less, by what is leaked."""
    count, given = 500, model(likelihood=likelihood)
    output = torch.randn(1, given.likelihood.outputs * given.likelihood.num_features).double().expand(count, -1)
    given.decoder.forward = lambda latents: output[: len(latents)]
    with torch.no_grad():
        drawn = given.likelihood.double().sample(output, torch.Generator().manual_seed(0))
        ideal = -float(given.likelihood.log_prob(output, drawn).sum()) / math.log(2)
    _, bits, _ = RowCoder(given, 4).encode(drawn.int().numpy())
    assert bits.ideal == pytest.approx(ideal, rel=1e-9)
    # Rounding costs 2e-4 nats an answer, of which some five are open; and as much by chance, of either sign.
    assert abs(bits.data - ideal) < drawn.numel() * 5 * 2 * 2e-4 / math.log(2)


@pytest.mark.parametrize("levels", [1, 2])
def test_rows_take_the_bits_of_the_bound_and_what_is_said_beyond(levels):
    count, given = 2000, model(levels)
    coder = RowCoder(given, 64)
    block, bits, codes = coder.encode(rows(count))
    log_prior = log_prior_of(given, log_partition(given.prior.frozen()), None)
    terms = log_terms(given, torch.from_numpy(rows(count)).float(), 20, log_prior, torch.Generator().manual_seed(1))
    one_draw = terms.weights[:, 0].std() / math.sqrt(count) / math.log(2)
    bound = -terms.weights.mean() / math.log(2)
    ideal = -log_prior(torch.from_numpy(codes).float()).sum() / math.log(2)
    beyond = (bits.prior - ideal) / count
    found = (bits.data + ideal - bits.posterior) / count
    rounding = 0.005 * 24  # of 24 logits a row, at most, and of whole bits in the sums
    assert abs(found - bound) < 4 * one_draw + rounding
    assert abs(bits.ideal - bits.data) < count * rounding
    assert 0 < beyond < 0.2
    # What stands in the file is that and the start, to within its last words.
    assert 32 * len(block.words) == pytest.approx(bits.start + bits.data + bits.prior - bits.posterior, abs=64)


def test_codes_alone_come_back_and_take_what_the_prior_says():
    coder, codes = CodeCoder(model(), 16), np.random.default_rng(1).integers(0, 2, (500, 8)).astype(np.int8)
    block, bits, _ = coder.encode(codes)
    assert np.array_equal(CodeCoder(model(), 16).decode(block, 500), codes)
    assert (bits.data, bits.posterior) == (0, 0)
    assert 32 * len(block.words) == pytest.approx(bits.start + bits.prior, abs=64)


def test_another_grid_is_taken_where_a_logit_is_on_the_fence(monkeypatch):
    monkeypatch.setattr("qvae.coding.probabilities.MARGIN", 5e-6)  # then some logit of most blocks is
    shifts = set()
    for seed in range(8):
        given = rows(300)[np.random.default_rng(seed).permutation(300)]
        coder = RowCoder(model(), 2)
        block, _, _ = coder.encode(given)
        shifts.add(block.shift)
        assert np.array_equal(coder.decode(block, 300), given)
    assert len(shifts) > 1
    monkeypatch.setattr("qvae.coding.probabilities.MARGIN", 1.0)
    with pytest.raises(CapabilityError, match="can't be rounded alike"):
        coder.encode(rows(5))


def test_rows_that_changed_are_no_rows():
    coder = RowCoder(model(), 4)
    block, _, _ = coder.encode(rows(50))
    other = RowCoder(model(2), 4)
    words = block.words.copy()
    words[len(words) // 2] ^= 1
    for wrong, by, count in (
        (Block(words, block.shift, block.checksum), coder, 50),
        (Block(block.words, block.shift, block.checksum ^ 1), coder, 50),
        (block, other, 50),
        (block, coder, 49),
    ):
        with pytest.raises(Changed):
            by.decode(wrong, count)


def test_other_models_are_refused_before_any_work(monkeypatch):
    with pytest.raises(CapabilityError, match="only the latent bits of a qvae"):
        CodeCoder(torch.nn.Linear(1, 1))
    with pytest.raises(CapabilityError, match="reals can't be kept without loss"):
        RowCoder(model(likelihood="gaussian"))
    CodeCoder(model(likelihood="gaussian"))
    single = model()
    single.decoder.forward = lambda latents: torch.zeros(len(latents), 16)
    with pytest.raises(CapabilityError, match="compute in float32"):
        RowCoder(single).encode(rows(2))
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(CapabilityError, match="needs constriction"):
        RowCoder(model())


def test_rows_of_a_block_are_few_where_they_are_wide(monkeypatch):
    assert RowCoder(model()).block_rows == 4096
    monkeypatch.setattr(bits_back, "_MOST_LOGITS", 100)
    assert RowCoder(model()).block_rows == 4


def test_a_checksum_is_of_every_bit():
    """That of zlib: CRC-32 of the bits, eight to a byte, the first one highest."""
    few = rows(5)
    checksum = RowCoder(model(), 4).encode(few)[0].checksum
    as_bytes = bytes(int("".join(map(str, eight)), 2) for row in few.tolist() for eight in (row[:8], row[8:]))
    assert checksum == zlib.crc32(as_bytes)
