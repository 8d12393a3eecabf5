"""Steps of AdamW: torch's own, bit by bit or, of weights with copies in bfloat16, to the rounding of float32."""

import copy

import pytest
import torch
from support import model_of
from torch import nn

from qvae.config.schema import ModelConfig, TrainingConfig
from qvae.models.networks import Layers
from qvae.sampling.registry import load_sampler
from qvae.training.objective import Clock
from qvae.training.objectives.boltzmann import BoltzmannObjective
from qvae.training.optimizers.adamw import AdamWSteps
from qvae.training.optimizers.halves import Halves

WIDTH = 128  # of a layer that is large enough for a copy
X = torch.randn(16, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.delenv("QVAE_KERNELS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network():
    """Two large dense layers, and others."""
    torch.manual_seed(3)
    config = ModelConfig(latent={"sizes": [4, 4]}, network={"hidden": [WIDTH, WIDTH], "decoder_hidden": [8]})
    return model_of(config, torch.full((8, 16), 0.4)).encoder


def adamw(model):
    first, *rest = model.parameters()
    groups = [{"params": rest, "weight_decay": 0.1}, {"params": [first], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-2, betas=(0.8, 0.95), fused=True)


def backward(model, halves=None, factor=1.0):
    with torch.autocast("cpu", torch.bfloat16):
        if halves is None:
            out = model(X)
        else:
            with halves:
                out = model(X)
    (factor * out.float()).square().mean().backward()


def zero_grad(model):
    for weight in model.parameters():
        weight.grad = None


def steps_by_torch(model, optimizer, factors):
    for factor in factors:
        zero_grad(model)
        backward(model, factor=factor)
        optimizer.step()


def steps_of_ours(model, steps, factors, halves=None):
    for factor in factors:
        zero_grad(model)
        backward(model, halves, factor)
        steps.step()


def weights_and_state(model, optimizer):
    state = optimizer.state_dict()["state"]
    return [*(weight.detach() for weight in model.parameters()), *(x for of_one in state.values() for x in of_one.values())]


def same(some, others):
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


def no_call(*arguments):
    raise AssertionError


def test_without_copies_steps_have_the_bits_of_torch_s(monkeypatch):
    one, two = network(), network()
    ours, theirs = adamw(one), adamw(two)
    steps = AdamWSteps(ours)
    steps_by_torch(two, theirs, [1.0, 2.0, 0.5])
    steps_of_ours(one, steps, [1.0])
    monkeypatch.setattr(ours, "step", no_call)  # the first one alone is torch's
    steps_of_ours(one, steps, [2.0, 0.5])
    assert same(weights_and_state(one, ours), weights_and_state(two, theirs))
    for optimizer in (ours, theirs):
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        optimizer.param_groups[0]["lr"] = 1e-3
    steps_by_torch(two, theirs, [3.0])
    steps_of_ours(one, steps, [3.0])
    assert same(weights_and_state(one, ours), weights_and_state(two, theirs))


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_other_optimizers_make_their_own(kind):
    one, two = network(), network()
    ours, theirs = (kind(model.parameters(), 0.1, weight_decay=0.1, fused=True) for model in (one, two))
    steps_by_torch(two, theirs, [1.0, 2.0])
    steps_of_ours(one, AdamWSteps(ours), [1.0, 2.0])
    assert same(one.parameters(), two.parameters())


@pytest.mark.parametrize("setting", ["amsgrad", "maximize"])
def test_unusual_settings_are_torch_s_to_follow(setting):
    one, two = network(), network()
    ours, theirs = (torch.optim.AdamW(model.parameters(), 0.1, fused=True, **{setting: True}) for model in (one, two))
    steps_by_torch(two, theirs, [1.0, 2.0])
    steps_of_ours(one, AdamWSteps(ours), [1.0, 2.0])
    assert same(one.parameters(), two.parameters())


def test_what_has_no_gradient_stays():
    one = network()
    ours = adamw(one)
    steps = AdamWSteps(ours)
    steps_of_ours(one, steps, [1.0, 1.0])
    last = [*one.parameters()][-1]
    before = last.detach().clone()
    backward(one)
    last.grad = None
    steps.step()
    assert torch.equal(last, before)
    assert {float(state["step"]) for state in ours.state.values()} == {2, 3}


# Copies in bfloat16 ---------------------------------------------------------------------------------------------------


def halved():
    pytest.importorskip("numba")
    model = network()
    halves = Halves(model)
    assert len(halves.of) == 2
    return model, halves, adamw(model)


def test_weights_with_copies_move_as_torch_moves_them(monkeypatch):
    one, halves, ours = halved()
    two = network()
    theirs = adamw(two)
    steps = AdamWSteps(ours, halves)
    steps_of_ours(one, steps, [1.0], halves)
    monkeypatch.setattr(ours, "step", no_call)
    for factor in (4.0, 0.25, 2.0):
        steps_of_ours(one, steps, [factor], halves)
        assert all(weight.grad is None for weight in halves.of)
        assert all(torch.equal(half.copy, weight.bfloat16()) for weight, half in halves.of.items())
    steps_by_torch(two, theirs, [1.0, 4.0, 0.25, 2.0])
    found, expected = weights_and_state(one, ours), weights_and_state(two, theirs)
    assert all(float((new - old).detach().abs().max()) > 1e-2 for new, old in zip(halves.of, Halves(network()).of, strict=True))
    for mine, other in zip(found, expected, strict=True):
        assert mine.dtype == other.dtype
        # Two weights that differ in their last bits may become neighbours in bfloat16.
        assert float((mine - other).abs().mean()) <= 2e-5 * float(other.abs().mean())


def test_one_step_is_torch_s_to_the_rounding_of_float32():
    one, halves, ours = halved()
    steps_of_ours(one, AdamWSteps(ours, halves), [1.0, 3.0], halves)
    ours.param_groups[0]["lr"] = 0.5  # so that it is felt
    two = copy.deepcopy(one)
    theirs = adamw(two)
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    zero_grad(one)
    backward(one, halves)
    gradients = [halves.of[weight].copy.grad.float() if weight in halves.of else weight.grad for weight in one.parameters()]
    for weight, gradient in zip(two.parameters(), gradients, strict=True):
        weight.grad = gradient.clone()
    AdamWSteps(ours, halves).step()
    theirs.step()
    for mine, other in zip(weights_and_state(one, ours), weights_and_state(two, theirs), strict=True):
        torch.testing.assert_close(mine, other, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("change", ["in place", "state", "memory", "data", "fused"])
def test_a_weight_that_was_changed_is_copied_again(change):
    model, halves, ours = halved()
    steps_of_ours(model, AdamWSteps(ours, halves), [1.0, 1.0], halves)
    weight = next(iter(halves.of))
    if change == "in place":
        with torch.no_grad():
            weight[3, 5] += 1
    elif change == "state":
        model.load_state_dict(network().state_dict())
    elif change == "memory":
        weight.data = weight.data.clone()
        weight.data[3, 5] += 1
    elif change == "data":
        weight.data.mul_(1.1)
    else:
        steps_by_torch(model, ours, [1.0])
    stale = halves.of[weight].copy.detach().clone()
    with halves:
        assert torch.equal(halves.of[weight].copy, weight.bfloat16())
        assert not torch.equal(halves.of[weight].copy, stale)
    before = weight.detach().clone()
    steps_of_ours(model, AdamWSteps(ours, halves), [1.0], halves)
    assert not torch.equal(weight, before)  # where it lies now


def test_a_weight_is_copied_when_it_may_have_changed_and_then_alone():
    model, halves, ours = halved()
    steps_of_ours(model, AdamWSteps(ours, halves), [1.0, 1.0], halves)
    half = next(iter(halves.of.values()))
    half.copy.data.zero_()
    with halves:
        assert not half.copy.any()
    halves.hand_over()  # to an optimizer that moves a single number, and isn't seen to
    half.weight.data[3, 5] += 1
    with halves:
        assert torch.equal(half.copy, half.weight.bfloat16())


def test_copies_are_rounded_as_torch_rounds():
    _, halves, _ = halved()
    half = next(iter(halves.of.values()))
    halfway = 1 + torch.arange(half.weight.numel()).view(half.weight.shape) % 512 / 256  # every second one between two
    half.weight.data.copy_(halfway)
    weight, copy = half.arrays
    moments = torch.zeros(2, *weight.shape).numpy()
    halves.update.adamw(weight, copy, copy, *moments, 1.0, 0.0, 0.1, 0.1, 1.0, 1e-8)
    assert torch.equal(half.copy, halfway.bfloat16())


@pytest.mark.parametrize("reason", ["watched", "frozen", "kernels"])
def test_weights_stay_in_their_places(reason, monkeypatch):
    model, halves, ours = halved()
    first, second = halves.of
    steps, seen = AdamWSteps(ours, halves), []
    steps_of_ours(model, steps, [1.0, 1.0], halves)
    if reason == "watched":
        first.register_post_accumulate_grad_hook(lambda weight: seen.append(weight.grad.norm()))
    elif reason == "frozen":
        first.requires_grad_(False)
    else:
        monkeypatch.setenv("QVAE_KERNELS", "torch")
    before = first.detach().clone(), second.detach().clone()
    zero_grad(model)
    backward(model, halves)
    assert (second.grad is None, first.grad is None) == (False, reason == "frozen")
    steps.step()
    assert torch.equal(first, before[0]) == (reason == "frozen")
    assert not torch.equal(second, before[1])
    assert len(seen) == (reason == "watched")


def test_gradients_of_several_losses_add_up():
    one, halves, ours = halved()
    two = network()
    theirs = adamw(two)
    steps = AdamWSteps(ours, halves)
    for _ in range(2):
        for model, of_model in ((one, halves), (two, None)):
            zero_grad(model)
            backward(model, of_model)
            backward(model, None, 3.0)  # of another part of a step, which knows nothing of copies
        steps.step()
        theirs.step()
    assert same(weights_and_state(one, ours), weights_and_state(two, theirs))
    zero_grad(one)
    backward(one, halves)  # of a step that failed
    next(iter(halves.of)).register_post_accumulate_grad_hook(lambda weight: None)
    with halves:
        assert all(half.copy.grad is None for half in halves.of.values())


def test_layers_have_their_weights_again_after_a_failure():
    model, halves, _ = halved()
    weights = [*halves.of]

    def fail():
        with halves:
            assert not any(weight is parameter for parameter in model.parameters() for weight in weights)
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert all(any(weight is parameter for parameter in model.parameters()) for weight in weights)


def test_layers_that_someone_else_calls_keep_their_weights():
    assert not Halves(Layers(nn.Linear(WIDTH, WIDTH))).of


# In a training --------------------------------------------------------------------------------------------------------


def objective(**settings):
    torch.manual_seed(0)
    model = model_of(ModelConfig(latent={"sizes": [3, 3]}, network={"hidden": [WIDTH, WIDTH]}), torch.full((4, 4), 0.4))
    config = TrainingConfig(chains=20, warmup_steps=1, **{"precision": "bfloat16", "clip_norm": None} | settings)
    return BoltzmannObjective(model, lambda rows, generator: rows, config, load_sampler("gibbs", seed=0))


def after_steps(one, count=3):
    rows = torch.rand(16, 16, generator=torch.Generator().manual_seed(1))
    for step in range(count):
        one.step(rows, Clock(step, 0, 0.3))
    return {name: value.clone() for name, value in one.model.state_dict().items()}


def test_a_training_ends_near_where_it_would_without_copies(monkeypatch):
    pytest.importorskip("numba")
    one, two = objective(), objective()
    assert len(one._halves.of) == 2
    two._halves, two._steps = None, two.optimizer
    found, expected, start = after_steps(one), after_steps(two), objective().model.state_dict()
    assert all(weight.grad is None for weight in one._halves.of)  # it came to the copies
    for name, value in expected.items():
        assert (found[name] - value).abs().double().mean() <= 0.05 * (value - start[name]).abs().double().mean() + 1e-6, name


def test_a_state_goes_on_with_the_same_bits():
    one, two = objective(), objective()
    after_steps(one)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    found, expected = after_steps(two), after_steps(one)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("settings", [{"precision": "float32"}, {"clip_norm": 1.0}, {}])
def test_what_needs_gradients_in_float32_has_them(settings):
    torch.set_num_threads(1 if settings else 2)  # on which torch's own update and casts are as quick
    one = objective(**settings)
    after_steps(one, 1)
    assert one._halves is None
    assert all(weight.grad is not None for weight in one._networks.values())
