"""Compiled passes of a training step against torch's functions in float64, and where torch's own serve."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qvae.config.network import NetworkConfig
from qvae.errors import CapabilityError
from qvae.models import passes
from qvae.models.networks import Encoder, Layers

numba = pytest.importorskip("numba")

EPS = torch.finfo(torch.float32).eps / 2  # of a rounding in float32
HALF = torch.finfo(torch.bfloat16).eps / 2


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("QVAE_KERNELS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for each time that compiled passes served."""
    found, load = [], passes.load_passes

    def noted(device: torch.device) -> object:
        served = load(device)
        found.extend([] if served is None else [served])
        return served

    monkeypatch.setattr(passes, "load_passes", noted)
    return found


def numbers(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layers(width: int, momentum: float | None = 0.1) -> Layers:
    found = Layers(nn.BatchNorm1d(width, momentum=momentum), nn.SiLU())
    found[0].weight.data.copy_(1 + numbers(width, seed=1, scale=0.3))
    found[0].bias.data.copy_(numbers(width, seed=2))
    return found


def in_double(ours: Layers) -> nn.Sequential:
    return nn.Sequential(*copy.deepcopy(ours)).double()


def assert_near(found: Tensor, expected: Tensor, tolerance: Tensor | float, rounding: float = EPS) -> None:
    """To an absolute tolerance, and to what the type of ``found`` can hold of a number."""
    difference = (found.double() - expected.double()).abs() - 2 * rounding * expected.double().abs()
    assert bool((difference <= tolerance).all()), float((difference - tolerance).max())


def test_numbers_are_stored_in_bfloat16_to_the_nearest() -> None:
    fused = pytest.importorskip("qvae.models.fused")
    values = torch.cat([numbers(500), numbers(500, seed=1, scale=1e-20), torch.tensor([0.0, -0.0, 1.0, 1.0039, 1.0040])])

    @numba.njit
    def stored(values, found):  # type: ignore[no-untyped-def]
        for place in range(values.size):
            found[place] = fused.rounded(values[place], found[place])

    found = np.empty(len(values), np.uint16)
    stored(values.numpy(), found)
    assert np.array_equal(found.view(np.int16), values.bfloat16().view(torch.int16).numpy())


# Batch norm and SiLU --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "width"), [(256, 64), (37, 61), (2, 1), (3, 500)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (30.0, 1.0), (0.0, 1e4), (0.0, 1e-4)])
def test_batch_norm_and_silu_are_torchs(rows, width, dtype, shift, scale, used):
    ours = layers(width)
    theirs, rounding = in_double(ours), EPS if dtype == torch.float32 else HALF
    x = (shift + numbers(rows, width, scale=scale)).to(dtype).requires_grad_()
    y = x.detach().double().requires_grad_()
    out, expected = ours(x), theirs(y)
    assert len(used) == 1
    assert out.dtype == dtype
    # Sums of so many numbers, each rounded, and a division by their spread, which torch's eps keeps from 0.
    spread = (y.detach().var(0, correction=0) + 1e-5).sqrt()
    error = 4 * (rows**0.5 + 10) * EPS * (1 + y.detach().abs().amax(0) / spread)
    assert_near(out, expected, 2 * error, rounding)

    g = numbers(rows, width, seed=3).to(dtype)
    out.backward(g)
    expected.backward(g.double())
    size = 4 * g.double().abs().amax(0)
    assert_near(x.grad, y.grad, 4 * error * size * theirs[0].weight.detach() / spread * rows**0.5, rounding)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_near(mine.grad, other.grad, 4 * error * size * rows)
    mean, variance, batches = ours.buffers()
    assert_near(mean, theirs[0].running_mean, error * spread)
    assert_near(variance, theirs[0].running_var, error * spread**2 * 4 + EPS)
    assert int(batches) == 1


def test_second_derivatives_over_several_processes_are_refused():
    class Shared(nn.BatchNorm1d):
        sharing = passes.Sharing(2, lambda moments: moments, lambda sums: sums)

    x = numbers(6, 3).requires_grad_()
    out = Layers(Shared(3), nn.SiLU())(x)
    with pytest.raises(CapabilityError, match="no second derivatives; train in one process, or set model"):
        torch.autograd.grad(out.sum(), x, create_graph=True)


def test_running_statistics_may_be_plain_averages(used):
    ours = layers(5, momentum=None)
    theirs = in_double(ours)
    for seed in range(3):
        x = numbers(8, 5, seed=seed).requires_grad_()
        ours(x)
        theirs(x.double())
    assert len(used) == 3
    for mine, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        assert torch.allclose(mine.double(), other.double(), atol=20 * EPS)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6, 3e15])
def test_a_column_of_equal_numbers_has_its_bias_and_no_gradient(value, used):
    ours = layers(3)
    x = torch.full((100, 3), value, requires_grad=True)
    out = ours(x)
    assert torch.equal(out, out[:1].expand_as(out))
    assert torch.allclose(out[0], F.silu(ours[0].bias), atol=4 * EPS)
    out.sum().backward()
    assert float(x.grad.abs().max()) < 1e-2  # of terms 1/sqrt(eps) = 316 times as large, which cancel
    assert used


def test_large_activations_do_not_overflow_and_what_is_no_number_is_seen(used):
    ours = layers(4)
    ours[0].weight.data.mul_(1e4)
    x = numbers(64, 4).requires_grad_()
    out = ours(x)
    out.backward(torch.ones_like(out))
    assert bool(out.isfinite().all())
    assert bool(x.grad.isfinite().all())
    assert float(out.detach().min()) > -0.3  # the least of SiLU
    broken = x.detach().clone()
    broken[3, 1] = math.nan
    assert ours(broken.requires_grad_()).isnan().any(0).tolist() == [False, True, False, False]
    assert len(used) == 2


def test_a_single_row_is_refused_as_by_torch():
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        layers(4)(torch.zeros(1, 4, requires_grad=True))


def test_weights_keep_their_names_and_layers_can_be_taken_apart(used):
    encoder = Encoder(NetworkConfig(hidden=[6, 5]), (), torch.zeros(4))
    names = {name.removeprefix("layers.") for name in encoder.state_dict()}
    of_norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert names == {"mean_image", "0.weight", "3.weight"} | {f"{place}.{name}" for place in (1, 4) for name in of_norm}
    x = numbers(8, 4)
    assert torch.allclose(encoder.layers(x), encoder.layers[3:](encoder.layers[:3](x)), atol=1e-5)
    assert len(used) == 4


# Functions of logits --------------------------------------------------------------------------------------------------

LOGITS = torch.cat([torch.linspace(-100, 100, 4001), torch.tensor([0.0, -0.0, 1e-6, -1e-6, 1e-30, 300.0, -300.0])]).view(-1, 1)
"""A row each, so that sums are of one number."""


def gradients(function, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Values, and slopes of all of them, in the type of the logits."""
    logits = logits.clone().requires_grad_()
    found = function(logits)
    return found.detach(), torch.autograd.grad(found.sum(), logits)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bias_is_added_in_single_precision(dtype, used):
    generator = torch.Generator().manual_seed(5)
    x, bias = torch.randn(37, 61, generator=generator).to(dtype), torch.randn(61, generator=generator)
    gradient = torch.randn(37, 61, generator=generator)
    x.requires_grad_(), bias.requires_grad_()
    found = passes.plus_bias(x, bias)
    assert found.dtype == torch.float32
    assert torch.equal(found, x.float() + bias)
    found.backward(gradient)
    assert len(used) == 1
    assert x.grad.dtype == dtype
    exact = {"rtol": HALF, "atol": 0.0} if dtype == torch.bfloat16 else {"rtol": 0.0, "atol": 0.0}
    torch.testing.assert_close(x.grad.float(), gradient, **exact)
    of_rounding = 37 * EPS * float(gradient.abs().sum(0).max())
    torch.testing.assert_close(bias.grad.double(), gradient.double().sum(0), rtol=0, atol=of_rounding)


@pytest.mark.parametrize("bit", [0.0, 1.0, 0.3])
def test_log_probabilities_of_bits(bit, used):
    found = gradients(lambda logits: passes.bernoulli_log_prob(logits, torch.full_like(logits, bit)), LOGITS)
    expected = gradients(lambda logits: passes.bernoulli_log_prob(logits, torch.full_like(logits, bit)), LOGITS.double())
    assert len(used) == 1
    assert_near(found[0], expected[0], (4 * EPS * (1 + bit * LOGITS.abs())).flatten().double())
    assert_near(found[1], expected[1], 4 * EPS)
    if bit == 0:  # a rare one's is right to its own size
        rare = (LOGITS > -75) & (LOGITS < 0)
        assert torch.allclose(found[0].double()[rare.flatten()], -LOGITS.double().exp().log1p()[rare], rtol=1e-5, atol=0)


def test_entropies_and_means(used):
    for function, tolerance in ((passes.bernoulli_entropy, 4 * EPS), (passes.spin_means, 4 * EPS)):
        found, expected = gradients(function, LOGITS), gradients(function, LOGITS.double())
        for mine, other in zip(found, expected, strict=True):
            assert_near(mine, other, tolerance)
    assert len(used) == 2


def by_sign(logits: Tensor) -> Tensor:
    """Log-probabilities of some bits."""
    return passes.bernoulli_log_prob(logits, (numbers(*logits.shape, seed=1) > 0).to(logits))


def test_sums_over_rows_of_any_width(used):
    for width in (1, 15, 16, 33, 784):
        logits = numbers(7, width, scale=3.0)
        for function in (by_sign, passes.bernoulli_entropy):
            found, expected = gradients(function, logits), gradients(function, logits.double())
            assert_near(found[0], expected[0], 8 * EPS * (1 + expected[0].abs()))
            assert_near(found[1], expected[1], 8 * EPS)
    assert len(used) == 10


@pytest.mark.parametrize("function", [passes.bernoulli_entropy, passes.spin_means])
def test_what_is_no_number_stays_none(function, used):
    logits = torch.tensor([[0.0, math.nan], [1.0, 2.0]], requires_grad=True)
    found = function(logits).reshape(2, -1)
    assert found.isnan().any(1).tolist() == [True, False]
    assert used


def test_relaxed_bits_have_logistic_noise_and_the_slope_of_a_sigmoid(used):
    logits = torch.full((2000, 100), 0.7, requires_grad=True)
    zeta = passes.binary_concrete(logits, 0.5, torch.Generator().manual_seed(0))
    assert used
    noise = (torch.logit(zeta.detach().double()) * 0.5 - 0.7).flatten()
    number = noise.numel()
    for place in (-8.0, -4.0, -1.0, 0.0, 0.5, 3.0, 7.0):  # where float32 holds sigmoid(2 (0.7 + noise)) well enough
        p = 1 / (1 + math.exp(-place))
        assert abs(float((noise < place).double().mean()) - p) < 5 * (p * (1 - p) / number) ** 0.5
    kept = (noise.view(2000, 100) > 0).double() - 0.5
    for one, other in ((kept[1:], kept[:-1]), (kept[:, 1:], kept[:, :-1])):  # neighbours down and across
        assert abs(float((one * other).mean())) < 5 * 0.25 / one.numel() ** 0.5
    (slope,) = torch.autograd.grad(zeta.sum(), logits)
    assert torch.allclose(slope, 2 * zeta * (1 - zeta), atol=1e-6)
    again, other = (passes.binary_concrete(logits, 0.5, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert torch.equal(zeta, again)
    assert not bool((zeta == other).any())


# Where torch's own functions serve ------------------------------------------------------------------------------------


def everything(x: Tensor) -> Tensor:
    """One number of all passes."""
    bits = (x.detach() > 0).to(x.dtype)
    by_row = passes.bernoulli_log_prob(x, bits) + passes.bernoulli_entropy(x) + passes.spin_means(x).sum(-1)
    return by_row.square().sum()


def test_torch_serves_elsewhere(monkeypatch, used):
    ours, x = layers(5), numbers(6, 5).requires_grad_()
    of_columns = numbers(5, 6).requires_grad_().T
    for rows in (x.detach().double().requires_grad_(), of_columns, numbers(2, 3, 5).requires_grad_(), x.detach()):
        everything(rows)
    for rows in (of_columns.T.contiguous().T, x.detach()):
        ours(rows)
    with torch.no_grad():
        ours(x * 1)
        everything(x * 1)
    ours.eval()(x)
    ours.train()
    heard = []
    handle = ours[0].register_forward_hook(lambda *_: heard.append(1))
    ours(x)
    handle.remove()
    assert heard
    nn.Sequential(*ours).double()(x.double())
    assert not used
    ours.float()
    torch.set_num_threads(passes._MOST_THREADS + 1)
    everything(x)
    torch.set_num_threads(1)
    monkeypatch.setenv("QVAE_KERNELS", "torch")
    everything(x)
    assert not used
    monkeypatch.delenv("QVAE_KERNELS")
    everything(x)
    ours(x)
    assert len(used) == 4


def test_inside_of_functional_transforms(used):
    x = numbers(6, 5)
    found = torch.func.vmap(torch.func.grad(lambda row: everything(row.unsqueeze(0))))(x)
    assert not used
    rows = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(everything(rows), rows)
    assert torch.allclose(found, expected, atol=1e-4)
    assert used


def test_gradients_can_be_differentiated_again(used):
    def second(function, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        (first,) = torch.autograd.grad(function(x), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    x, ours = numbers(9, 5), layers(5)
    theirs = in_double(ours)
    for mine, other in (
        (everything, everything),
        (lambda rows: ours(rows).square().sum(), lambda rows: theirs(rows).square().sum()),
    ):
        found, expected = second(mine, x), second(other, x.double())
        assert torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert len(used) == 4


def test_second_derivatives_are_of_what_may_move(used):
    """A weight is frozen between rows and a bias that aren't: each gets the derivative of its own."""
    ours, rows = layers(5), numbers(9, 5)
    theirs, found = in_double(ours), []
    for network, x in ((ours, rows), (theirs, rows.double())):
        network[0].weight.requires_grad_(False)
        wanted = (x.clone().requires_grad_(), network[0].bias)
        first = torch.autograd.grad(network(wanted[0]).pow(3).sum(), wanted, create_graph=True)
        found.append(torch.autograd.grad(sum(each.square().sum() for each in first), wanted))
    for mine, other in zip(*found, strict=True):
        assert torch.allclose(mine.double(), other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))
    assert used
