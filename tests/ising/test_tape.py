"""Recorded calls do again, bit by bit, what Python and autograd did, and what can't be recorded is refused."""

import threading

import pytest
import torch
from torch.nn import functional as F

from qvae.ising import tape
from qvae.ising.tape import record, run


def first_draws():
    return torch.Generator().manual_seed(1)


def views_and_writes(x, w):
    y = x.clone()
    y[:, 1:3].mul_(2.0).add_(w[0, 0])
    y.t()[0].zero_()
    return y.reshape(-1) + y.flatten()[::1].flip(0)


def lists(x, w):
    torch._foreach_add_(parts := [p.clone() for p in x.unbind(0)], 0.5)
    return torch.cat([torch.stack(parts), x @ w], 1)


def new_tensors(x, w):
    found = torch.zeros(4, 6).index_put((torch.tensor([0, 2]), torch.tensor([1, 1])), x[0, :2])
    return found + torch.arange(6) * torch.ones_like(found) + x.new_full((4, 6), 3.0) + torch.eye(4, 6)


def several_outputs(x, w):
    values, places = (x @ w).sort(1)
    variance, mean = torch.var_mean(values, 1)
    return F.batch_norm(values, None, None, training=True) + places + (variance - mean).unsqueeze(1)


def precisions(x, w):
    half = x.bfloat16() @ w.bfloat16()
    return half.float() + (x.double() @ w.double()).sum(1, keepdim=True).float() + x.to(torch.int8).sum()


def complex_numbers(x, w):
    z = torch.complex(x, x.roll(1, 0))
    return torch.view_as_real(torch.fft.fft(z, dim=1) * z.conj()).sum(2) + (z @ z.mH).real.abs().sum()


def convolution(x, w):
    return F.conv2d(x.view(1, 1, 4, 6), w[:3, :3].reshape(1, 1, 3, 3), padding=1).relu().view(4, 6)


def autocast(x, w):
    with torch.autocast("cpu", torch.bfloat16):
        return F.silu(F.linear(F.linear(x, w), w))


def places_and_nothing(x, w):
    return x[:0].sum() + x[torch.tensor([2, 0, 1, 3])]


FUNCTIONS = [
    *(views_and_writes, lists, new_tensors, several_outputs, precisions, complex_numbers, convolution, autocast),
    places_and_nothing,
]


def loss(found, w):
    return found.float().square().sum() + w[0].exp().sum()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_replay_finds_what_python_finds(function):
    draws = first_draws()
    x, w = torch.empty(4, 6), torch.empty(6, 6, requires_grad=True)
    results = []

    def forward():
        results.append(function(x * 1.0, w))

    def backward():
        loss(results[0], w).backward()

    def fill():
        with torch.no_grad():
            x.normal_(generator=draws)
            w.normal_(generator=draws)

    fill()
    tapes = record([forward, backward])
    assert tapes is not None
    found, gradient = results[0].detach(), w.grad
    for _ in range(2):
        fill()
        for each in tapes:
            each.replay()
        own = w.detach().clone().requires_grad_()
        expected = function(x * 1.0, own)
        loss(expected, own).backward()
        assert torch.equal(found, expected)
        assert torch.equal(gradient, own.grad)


def test_draws_go_on():
    def draw(generator):
        noise = torch.rand(3, generator=generator) + torch.empty(3).exponential_(generator=generator)
        return noise + torch.randn(3, generator=generator) + torch.bernoulli(noise / 99, generator=generator)

    found, generator, other = [], first_draws(), first_draws()
    (played,) = record([lambda: found.append(draw(generator))])
    seen = [found[0].clone()]
    for _ in range(3):
        played.replay()
        seen.append(found[0].clone())
    assert torch.equal(torch.stack(seen), torch.stack([draw(other) for _ in range(4)]))


@pytest.mark.parametrize("draw", [lambda: torch.rand(2), lambda: F.dropout(torch.ones(3)), lambda: torch.empty(2).normal_()])
def test_torch_s_own_generator_is_left_alone(draw, caplog):
    """Another thread may draw from it at the same time, whose draws nobody could take back."""
    before = torch.get_rng_state()
    with caplog.at_level("INFO", "qvae.ising.tape"):
        assert record([draw]) is None
    assert "torch's own generator" in caplog.text
    assert torch.equal(torch.get_rng_state(), before)


def test_calls_of_kernels_are_kept():
    x, y = torch.ones(3), torch.empty(3)

    def doubled(values, out):
        out[:] = 2 * values

    (played,) = record([lambda: run(doubled, x.numpy(), y.numpy())])
    run(doubled, x.numpy(), y.numpy())  # of nobody's interest
    x.fill_(5.0)
    played.replay()
    assert y.tolist() == [10.0, 10.0, 10.0]
    assert len(played._calls) == 1


def test_calls_of_other_threads_are_theirs():
    calls = []

    def work():
        thread = threading.Thread(target=run, args=(calls.append, 1))
        thread.start()
        thread.join()

    (played,) = record([work])
    played.replay()
    assert calls == [1]


def test_memory_of_its_own_may_be_written_to():
    mean, variance, x = torch.zeros(3), torch.ones(3), torch.ones(2, 3)

    def norm():
        F.batch_norm(x, mean, variance, training=True, momentum=0.5)
        mean.add_(1.0)

    assert record([norm]) is None  # add_ writes to what isn't known to be there
    (played,) = record([norm], [mean])
    mean.zero_()
    played.replay()
    assert mean.tolist() == [1.5, 1.5, 1.5]


x = torch.arange(4.0)
REFUSED = {
    "a number": lambda: x.sum().item(),
    "a truth": lambda: bool((x > 1).any()),
    "a comparison": lambda: torch.equal(x, x),
    "a shape": lambda: x[x > 1],
    "places": lambda: x.nonzero(),
    "unique": lambda: x.unique(),
    "a stranger": lambda: x.neg_(),
    "a view of a stranger": lambda: x[1:].zero_(),
    "a copy to a stranger": lambda: x.copy_(torch.ones(4)),
    "an error": lambda: x @ torch.ones(3),
    "a silent error": lambda: exec("raise ValueError()"),
}


REASONS = dict.fromkeys(REFUSED, "depends on numbers")
REASONS |= dict.fromkeys(("a stranger", "a view of a stranger", "a copy to a stranger"), "changes something from elsewhere")
REASONS |= {"an error": "3 elements", "a silent error": "ValueError"}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_recorded_is_refused(name, caplog):
    with caplog.at_level("INFO", "qvae.ising.tape"):
        assert record([lambda: x * 2, REFUSED[name]]) is None
    assert tape._here.tape is None
    assert REASONS[name] in caplog.text


def test_what_writes_too_much_is_refused(monkeypatch):
    def work():
        for _ in range(4):
            torch.ones(64) * torch.empty(64)  # 256 bytes each

    monkeypatch.setattr(tape, "MOST_BYTES", 12 * 256)
    assert record([work]) is not None
    monkeypatch.setattr(tape, "MOST_BYTES", 12 * 256 - 1)
    assert record([work]) is None


def test_gradients_are_left_to_autograd():
    """It takes over what nobody else holds, and copies what somebody does."""
    w = torch.ones(3, requires_grad=True)
    loss = []
    _, backward = record([lambda: loss.append((w * 2).sum()), lambda: loss[0].backward()])
    names = [call.func._schema.name for call in backward._calls if hasattr(call.func, "_schema")]
    assert "aten::clone" not in names
    assert not any("copy" in name for name in names)
    assert len(backward._calls) == 2
