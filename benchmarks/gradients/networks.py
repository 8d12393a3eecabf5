"""Two tasks without circuits: a sigmoid perceptron whose gradients vanish, and a recurrent network whose gradients explode.

A cost counts evaluations of the loss; a gradient by backpropagation is three, since the way back takes twice that forward.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import pi

import torch
from measured import Readings
from racing import Attempt, Method
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import mse_loss

import qvae
from qvae.ising.pseudo_boolean import PseudoBoolean
from qvae.models.networks import Skipped
from qvae.qubo.minimise import Minimum, minimise_by_sampling
from qvae.qubo.network import FewBitNetwork
from qvae.qubo.qaoa import minimise_by_qaoa
from qvae.training.jordan import jordan_backward
from qvae.training.optimizers import SPSA

DEPTH, WIDTH = 6, 3
LENGTH, UNITS, GAIN = 20, 12, 3.0
BACKPROPAGATION, ADAM, DESCENT, PERTURBED = 3, (0.01, 0.03, 0.1), (0.03, 0.3, 3.0), (0.03, 0.3, 3.0)
Data = tuple[Tensor, Tensor]


# The perceptron -------------------------------------------------------------------------------------------------------


def moons(seed: int) -> Data:
    """64 points of two half circles, with noise; targets are -1 and 1."""
    generator = torch.Generator().manual_seed(seed)
    angle = pi * torch.rand(64, generator=generator, dtype=torch.float64)
    side = torch.arange(64) % 2
    x = torch.stack([torch.cos(angle), torch.sin(angle)], 1)
    x = torch.where(side.unsqueeze(1) == 1, x, torch.tensor([1.0, 0.4]) - x) - torch.tensor([0.5, 0.2])
    x = x + 0.1 * torch.randn(64, 2, generator=generator, dtype=torch.float64)
    return x, (2.0 * side - 1).double().unsqueeze(1)


def perceptron(
    activation: type[nn.Module] = nn.Sigmoid, normalised: bool = False, residual: bool = False, scale: float | None = None
) -> nn.Module:
    """``scale`` over the root of a layer's inputs is the deviation of its weights; None is PyTorch's own start."""
    layers: list[nn.Module] = []
    for place in range(DEPTH):
        inputs = WIDTH if place else 2
        linear = nn.Linear(inputs, WIDTH)
        if scale is not None:
            nn.init.normal_(linear.weight, std=scale / inputs**0.5)
        layer = nn.Sequential(linear, *([nn.BatchNorm1d(WIDTH)] if normalised else []), activation())
        layers.append(Skipped(layer) if residual and place else layer)
    return nn.Sequential(*layers, nn.Linear(WIDTH, 1)).double()


def sigmoid_features(seed: int) -> Data:
    """Twelve random sigmoid units of the points, as weak classifiers, and the targets."""
    x, y = moons(seed)
    hidden = nn.Sequential(nn.Linear(2, 12), nn.Sigmoid()).double().requires_grad_(False)
    nn.init.normal_(hidden[0].weight, std=4.0)
    nn.init.normal_(hidden[0].bias, std=2.0)
    return hidden(x), y


def by_jordan(seed: int, rate: float) -> Attempt:
    x, y = moons(seed)
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), rate)
    executor, readings = qvae.load_executor("statevector", seed=seed), Readings(seed, 4)

    def step(progress: float) -> None:
        optimizer.zero_grad()
        found = jordan_backward(model, lambda predict: mse_loss(predict(x), y), 4.0, 20.0, executor=executor, repetitions=1)
        for estimate in found:
            readings.count(estimate)
            readings.evaluations += estimate.loss_evaluations
        optimizer.step()

    return Attempt(
        step, lambda: float(mse_loss(model(x), y).detach()), lambda: readings.evaluations, lambda: readings.in_words(8)
    )


# The recurrent network ------------------------------------------------------------------------------------------------


def sequences(seed: int) -> Data:
    """32 sequences of normal numbers; the target is their sum, over its deviation."""
    x = torch.randn(32, LENGTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x, x.sum(1, keepdim=True) / LENGTH**0.5


class Recurrent(nn.Module):
    """h <- f(W h + u x_t), read out at the end.

    Args:
        start: of W: chaotic, normal with so large a deviation that gradients explode; orthogonal; or identity.
        residual: h + f(W h + u x_t) / length in its place.
    """

    def __init__(
        self,
        start: str = "chaotic",
        activation: Callable[[Tensor], Tensor] = torch.tanh,
        normalised: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.across, self.given, self.read = nn.Linear(UNITS, UNITS), nn.Linear(1, UNITS), nn.Linear(UNITS, 1)
        self.norm = nn.LayerNorm(UNITS) if normalised else nn.Identity()
        self.activation, self.residual = activation, residual
        starts = {
            "chaotic": lambda weight: nn.init.normal_(weight, std=GAIN / UNITS**0.5),
            "orthogonal": nn.init.orthogonal_,
            "identity": nn.init.eye_,
        }
        starts[start](self.across.weight)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), UNITS)
        for given in self.given(x.unsqueeze(2)).unbind(1):
            new = self.activation(self.norm(self.across(state) + given))
            state = state + new / LENGTH if self.residual else new
        return self.read(state)


def chaotic_features(seed: int) -> Data:
    """The states that the network ends in, untrained, and the targets."""
    x, y = sequences(seed)
    network = Recurrent()
    network.read = nn.Identity()
    with torch.no_grad():
        return network(x), y


def by_jordan_in_pairs(seed: int, rate: float, steps: int) -> Attempt:
    """Two parameters at random in each step, by a clipped move: all 193 would take 97 circuits."""
    x, y = sequences(seed)
    model, readings = Recurrent(), Readings(seed, 4)
    names, shapes = zip(*((name, weight.shape) for name, weight in model.named_parameters()), strict=True)
    point = nn.utils.parameters_to_vector(model.parameters()).detach()
    generator = torch.Generator().manual_seed(seed)

    def loss(vector: Tensor) -> Tensor:
        parts = vector.split([shape.numel() for shape in shapes])
        own = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return mse_loss(functional_call(model, own, (x,)), y)

    def step(progress: float) -> None:
        chosen = torch.randperm(len(point), generator=generator)[:2]

        def of_pair(values: Tensor) -> Tensor:
            return vmap(loss)(point.expand(len(values), -1).index_copy(1, chosen, values))

        gradient = readings.read(of_pair, point[chosen], 1.0, 20.0)
        point[chosen] -= rate * gradient / max(1.0, float(gradient.norm()))

    return Attempt(step, lambda: float(loss(point).detach()), lambda: readings.evaluations, lambda: readings.in_words(steps))


# Methods --------------------------------------------------------------------------------------------------------------


def few_bits(seed: int, rate: float, features: Callable[[int], Data], bits: int, by: str) -> Attempt:
    """A layer of few-bit weights on fixed features, as in QBoost: its one step is all of the training, its rate their size."""
    x, y = features(seed)
    network = FewBitNetwork((12, 1), bits=bits, scale=rate).double()

    def minimum(polynomial: PseudoBoolean) -> Minimum:
        if by == "annealing":
            return minimise_by_sampling(polynomial, qvae.load_sampler("gibbs", seed=seed))
        return minimise_by_qaoa(polynomial, qvae.load_executor("statevector", seed=seed), steps=30, num_samples=100)

    def step(progress: float) -> None:
        network.bits.copy_(minimum(network.loss(x, y)).bits)

    cost = 2000 if by == "annealing" else 190  # 20 temperatures of 100 chains; circuits of 30 gradients, and 100 shots
    return Attempt(step, lambda: float(mse_loss(network(x), y)), cost)


def few_bit_methods(features: Callable[[int], Data]) -> list[Method]:
    """One and two bits a weight; QAOA takes a qubit for each."""
    sizes = (0.3, 1.0, 2.0)
    return [
        Method("two bits, annealed as a QUBO", partial(few_bits, features=features, bits=2, by="annealing"), sizes, 1),
        Method("one bit, annealed as a QUBO", partial(few_bits, features=features, bits=1, by="annealing"), sizes, 1),
        Method("one bit, by QAOA", partial(few_bits, features=features, bits=1, by="QAOA"), sizes, 1),
    ]

Maker = Callable[..., torch.optim.Optimizer]


def by_gradients(
    seed: int, rate: float, data: Callable[[int], Data], make: Callable[[], nn.Module], kind: Maker, clip: float | None = None
) -> Attempt:
    x, y = data(seed)
    model = make()
    optimizer = kind(model.parameters(), lr=rate)

    def step(progress: float) -> None:
        optimizer.zero_grad()
        mse_loss(model(x), y).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()

    return Attempt(step, lambda: float(mse_loss(model(x), y).detach()), BACKPROPAGATION)


def by_perturbation(seed: int, rate: float, data: Callable[[int], Data], make: Callable[[], nn.Module], steps: int) -> Attempt:
    x, y = data(seed)
    model = make()
    optimizer = SPSA(model.parameters(), rate, step=0.05, stability=0.1 * steps, seed=seed)

    def loss() -> Tensor:
        with torch.no_grad():
            return mse_loss(model(x), y)

    return Attempt(lambda progress: optimizer.step(loss), lambda: float(loss()), 2)


def contest(
    data: Callable[[int], Data], make: Callable[[], nn.Module], remedies: dict[str, Callable[[], nn.Module]], steps: int
) -> list[Method]:
    """Optimizers on the sick network, and Adam and clipping on mended ones."""
    adam, adamw = torch.optim.Adam, torch.optim.AdamW
    sgd = partial(torch.optim.SGD, momentum=0.9)

    def method(name: str, kind: Maker, rates: tuple[float, ...], made: Callable[[], nn.Module], **more: float) -> Method:
        return Method(name, partial(by_gradients, data=data, make=made, kind=kind, **more), rates, steps)

    return [
        method("Adam", adam, ADAM, make),
        method("AdamW", adamw, ADAM, make),
        method("SGD, momentum 0.9", sgd, DESCENT, make),
        Method("SPSA", partial(by_perturbation, data=data, make=make, steps=steps), PERTURBED, steps),
        method("Adam, clipping", adam, ADAM, make, clip=1.0),
        method("SGD, clipping", sgd, DESCENT, make, clip=1.0),
        *(method(f"Adam, {name}", adam, ADAM, made) for name, made in remedies.items()),
    ]


def vanishing() -> list[Method]:
    """The perceptron."""
    remedies = {
        "batch norm": partial(perceptron, normalised=True),
        "residual connections": partial(perceptron, residual=True),
        "SiLU": partial(perceptron, nn.SiLU),
        "weights of deviation 4": partial(perceptron, scale=4.0),  # a sigmoid's slope is at most 1/4
    }
    return [
        *contest(moons, perceptron, remedies, steps=300),
        Method("Jordan's gradients, SGD", by_jordan, (0.1,), 8),
        *few_bit_methods(sigmoid_features),
    ]


def exploding() -> list[Method]:
    """The recurrent network."""
    remedies = {
        "layer norm": partial(Recurrent, normalised=True),
        "residual connections": partial(Recurrent, residual=True),
        "orthogonal start": partial(Recurrent, "orthogonal"),
        "identity start, ReLU": partial(Recurrent, "identity", torch.relu),
    }
    return [
        *contest(sequences, Recurrent, remedies, steps=150),
        Method("Jordan's gradients, two at a time", partial(by_jordan_in_pairs, steps=100), (0.1,), 100),
        *few_bit_methods(chaotic_features),
    ]
