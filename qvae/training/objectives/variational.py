"""The objective of any autoencoder here: the weighted bound of log p(x), and the optimizers that maximise it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from qvae.circuits.executor import Executor
from qvae.circuits.gradients import GradientEstimator
from qvae.circuits.layer import CircuitLayer
from qvae.config.schema import TrainingConfig
from qvae.data.corruption import Corruption
from qvae.models.autoencoder import Autoencoder
from qvae.models.circuit_block import CircuitBlock
from qvae.models.passes import load_passes
from qvae.sampling.closing import close
from qvae.training import ranks
from qvae.training.averaging import retake_batch_norm
from qvae.training.circuit_time import circuit_milliseconds
from qvae.training.clipping import clip_gradients
from qvae.training.devices import choose_device, use_bfloat16
from qvae.training.laps import Laps
from qvae.training.objective import Clock, Objective, load_optimizer_state, optimizer_state
from qvae.training.objectives.held_out import HeldOutWatch
from qvae.training.objectives.replay import Replay, ReplayedLoss
from qvae.training.objectives.surrogate import Surrogate
from qvae.training.objectives.undo import Undo
from qvae.training.optimizers.adamw import AdamWSteps
from qvae.training.optimizers.chosen import ByLosses, circuit_optimizer, gradient_optimizer
from qvae.training.optimizers.halves import halves_of
from qvae.training.optimizers.rotosolve import Rotosolve
from qvae.training.schedules import kl_weight, learning_rate_factor

Prepare = Callable[[Tensor, torch.Generator], Tensor]
"""Stored rows (B, D) to what the model sees of them, with a generator of what is drawn."""


_NO_SINUSOID = (
    "Rotosolve takes the loss for a sinusoid in each angle, which it isn't with a decoder behind the circuit: an angle goes to "
    "the minimum of a fit, unless blocking finds the loss of the batch higher there"
)


class PositivePhase(Protocol):
    """Parts of the loss of prepared rows (B, D): a function for each kind of latents, in a file of its own."""

    def __call__(
        self, model: Any, x: Tensor, generator: torch.Generator | None, bf16: bool, exact: bool, seen: Tensor | None
    ) -> Surrogate:
        """With bfloat16 networks or not, with the ``exact`` log p(z) of a Boltzmann prior or its energy, and with what the
        encoder has ``seen`` (B, D), if that isn't x itself."""
        ...


class VariationalObjective(Objective):
    """Maximises mean log p(x|z) - weight * KL(q || p); log p(z) is known.

    Networks, circuit and prior have learning rates of their own, which follow one schedule; weights of networks decay. One
    optimizer moves all of them by their gradients, or all but the circuit's weights, which then have one of their own.

    Args:
        model: moved to the device in place.
        prepare: stored rows to what the model sees, with a generator: :meth:`qvae.data.dataset.Dataset.prepare_in_training`.
        config: the ``training`` section.
        positive: the parts of the loss, as :func:`~qvae.training.objectives.gaussian.gaussian_surrogate`.
    """

    model: Autoencoder
    figures: ClassVar[tuple[str, ...]] = ("log_likelihood", "energy", "entropy")
    shown = {  # noqa: RUF012
        "minus_elbo": ("-ELBO", ".2f"),
        "reconstruction": ("reconstruction", ".2f"),
        "kl": ("kl", ".2f"),
        "held_out": ("held out", ".2f"),
    }
    headline = ("minus_elbo", "reconstruction")
    is_exact = False

    def __init__(
        self,
        model: Autoencoder,
        prepare: Prepare,
        config: TrainingConfig,
        positive: PositivePhase,
    ) -> None:
        super().__init__(model, choose_device(config.device))
        load_passes(self.device)  # before the clock runs
        self.prepare, self.config, self.positive = prepare, config, positive
        self.bf16 = use_bfloat16(config.precision, self.device)
        self.generator = torch.Generator(self.device).manual_seed(ranks.seed(config.seed))
        layers = [module for module in model.modules() if isinstance(module, CircuitLayer)]
        self._layer = layers[0] if layers else None
        self.executor: Executor | None = None if self._layer is None else self._layer.executor
        self._networks, self._circuit, self._prior = _parts(model, layers)
        self._parameters = list(self.parameters().values())
        blocks = [module for module in model.modules() if isinstance(module, CircuitBlock)]
        self._layerwise = [(block.layer.weight, block.layerwise) for block in blocks if block.layerwise is not None]
        self._hold_layers(0.0)
        self.circuit_optimizer = circuit_optimizer(config, layers)
        if isinstance(self.circuit_optimizer, ByLosses):
            for layer in layers:
                layer.weight.requires_grad_(False)  # on shots, gradients that nobody asks for would be most of the circuits
        if isinstance(self.circuit_optimizer, Rotosolve):
            self.warn("rotosolve", _NO_SINUSOID)
        by_gradient = {} if self.circuit_optimizer is not None else self._circuit
        groups = (self._networks, config.learning_rate), (by_gradient, config.circuit_learning_rate)
        used = [(group, rate) for group, rate in (*groups, (self._prior, config.prior_learning_rate)) if group]
        self._peaks = [rate for _, rate in used]
        settings = [{"params": list(group.values()), "weight_decay": 0.0} for group, _ in used]
        settings[0]["weight_decay"] = config.weight_decay
        self.optimizer = gradient_optimizer(config, settings)
        takes_halves = self.bf16 and config.clip_norm is None and ranks.count() == 1
        self._halves = halves_of(model, self.device) if takes_halves else None
        self._steps = AdamWSteps(self.optimizer, self._halves)
        self.corruption = _corruption(model, config)
        self._undo = Undo(self.generator, model)
        self.watch = HeldOutWatch(self.warn)
        self._laps = Laps(self.device)
        self._replay = Replay(model, self.generator) if self._is_replayed else None

    # A step -----------------------------------------------------------------------------------------------------------

    def step(self, rows: Tensor, clock: Clock) -> Tensor:
        """Forward, backward and one update; figures are means over the batch, in nats."""
        with self._undo.on_failure():
            self._laps.start(clock.step)
            self._set_learning_rates(clock)
            x, weight = self.prepare(rows, self.generator), kl_weight(self.config, clock)
            drawn_from = self.generator.get_state()
            terms = self._backward(x, weight)
            ranks.average_gradients(self.model.parameters(), halves=self.bf16)
            self._move_circuit(x, weight, drawn_from, clock.progress)
        if self.config.clip_norm is not None:
            clip_gradients(self._networks.values(), self.config.clip_norm)
        self._steps.step()
        self._hold_layers(clock.progress)
        self._laps.lap("ms_optimizer")
        with torch.no_grad():
            return torch.stack([terms.log_likelihood, terms.energy, terms.entropy]).mean(1)

    def _backward(self, x: Tensor, weight: float) -> Surrogate:
        """Gradients of the loss of prepared rows (B, D)."""
        self._zero_grad()
        terms, loss = self._loss(x, weight)
        self._laps.lap("ms_forward")
        loss.backward()
        self._laps.lap("ms_backward")
        return terms

    def _loss(self, x: Tensor, weight: float) -> tuple[Surrogate, Tensor | ReplayedLoss]:
        """Parts of the loss of prepared rows (B, D), and the loss."""
        with self._halves or nullcontext():  # gradients go to where the optimizer takes them from
            if self._replay is not None:
                others = type(self)._terms, self.positive, self.executor, self.corruption, self.bf16
                return self._replay.loss(self._terms_of_step, x, weight, others)
            terms = self._terms_of_step(x)
            return terms, terms.loss(weight)

    def _terms_of_step(self, x: Tensor) -> Surrogate:
        return self._terms(x, self.generator)

    @property
    def _is_replayed(self) -> bool:
        """Whether every step asks the device for the same."""
        is_plain = not self.is_exact and self.circuit_optimizer is None and self._gradient is None and ranks.count() == 1
        is_exact = self.executor is None or self.executor.capabilities.exact  # others may have costs, and draw
        return self.device.type in ("cpu", "cuda") and is_plain and is_exact

    def _hold_layers(self, progress: float) -> None:
        """Layers of the circuit that don't learn yet stay at 0, whatever an optimizer made of them."""
        for weight, layerwise in self._layerwise:
            layerwise.hold(weight, progress)

    def _zero_grad(self) -> None:
        for parameter in self._parameters:  # the way of torch's optimizers takes several times as long
            parameter.grad = None
        if self.circuit_optimizer is not None:
            self.circuit_optimizer.zero_grad()  # one that keeps inputs forgets those of other uses than this step's

    def _move_circuit(self, x: Tensor, weight: float, drawn_from: Tensor, progress: float) -> None:
        """A step of the circuit's own optimizer; one that asks for losses gets those of the same rows and draws."""
        if isinstance(self.circuit_optimizer, ByLosses):

            def loss() -> Tensor:
                self._hold_layers(progress)  # or a layer that doesn't learn yet would have a say
                return ranks.average(self._loss_again(x, weight, drawn_from))

            self.circuit_optimizer.step(loss)
        elif self.circuit_optimizer is not None:
            self.circuit_optimizer.step()
        if self.circuit_optimizer is not None:  # whose metrics are of some rows, and in shots
            ranks.take_first_(self._circuit.values())

    def _loss_again(self, x: Tensor, weight: float, drawn_from: Tensor) -> Tensor:
        """The loss of prepared rows (B, D) at the weights as they are, with the draws that follow a generator's state.

        Nothing is moved by it. log Z, in which the circuit has no part, is left out.
        """
        with Undo(self.generator, self.model).always():
            self.generator.set_state(drawn_from)
            return self._terms(x, self.generator).loss(weight)

    def _terms(self, x: Tensor, generator: torch.Generator) -> Surrogate:
        seen = None if self.corruption is None else self.corruption(x, generator)
        return self.positive(self.model, x, generator, self.bf16, self.is_exact, seen)

    def _set_learning_rates(self, clock: Clock) -> None:
        factor = learning_rate_factor(self.config, clock)
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = factor * peak
        for group in [] if self.circuit_optimizer is None else self.circuit_optimizer.param_groups:
            group["lr"] = factor * self.config.circuit_learning_rate

    @property
    def circuit_executions(self) -> int:
        """Those that the circuit's own optimizer runs in a step."""
        return 0 if self.circuit_optimizer is None else self.circuit_optimizer.executions(self.config.batch_size)

    @property
    def _gradient(self) -> GradientEstimator | None:
        return None if self._layer is None else self._layer.gradient

    @property
    def is_remote(self) -> bool:
        """Whether the circuit is run elsewhere."""
        return self.executor is not None and self.executor.capabilities.remote

    # Figures ----------------------------------------------------------------------------------------------------------

    def look(self, clock: Clock) -> dict[str, float]:
        """Times of the parts of a step; nothing is missing in log p(z)."""
        return {"log_z": 0.0, **self._laps.medians(), **self._circuit_time()}

    def _circuit_time(self) -> dict[str, float]:
        """Of the forward and backward parts of a step, the circuit's; nothing where there is none, or it can't be timed."""
        if self._layer is None:
            return {}
        found = circuit_milliseconds(self._layer, self.config.batch_size, self.model.latents_are_bits)
        return {} if found is None else {"ms_circuit": found}

    @torch.no_grad()
    def validate(self, rows: Tensor, found: Mapping[str, float], clock: Clock) -> dict[str, float]:
        """The loss of held-out rows at the weights as they are, where log Z is known; says it when it rises."""
        if "log_z" not in found:
            return {}
        generator = torch.Generator(self.device).manual_seed(0)  # the same draws at every look
        self.model.eval()
        parts = [
            self._terms(self.prepare(batch, generator), generator).loss() * len(batch)
            for batch in rows.split(self.config.batch_size)
        ]
        self.model.train()
        held_out = float(torch.stack(parts).sum()) / len(rows) + found["log_z"]
        self.watch.check_held_out(held_out, clock.epoch)
        return {"held_out": held_out}

    def epoch_figures(self, means: Mapping[str, float], found: Mapping[str, float], clock: Clock) -> dict[str, float]:
        """Reconstruction, KL part and, of a model that has one, the ELBO's negative; schedules and times."""
        row = {"reconstruction": -means["log_likelihood"]}
        if self.model.prior is not None:
            row["kl"] = means["energy"] - means["entropy"]
            row["minus_elbo"] = row["reconstruction"] + row["kl"]
        return row | self._schedules(clock) | {key: value for key, value in found.items() if key != "log_z"}

    def _schedules(self, clock: Clock) -> dict[str, float]:
        return {"learning_rate": self.optimizer.param_groups[0]["lr"], "kl_weight": kl_weight(self.config, clock)}

    # Weights ----------------------------------------------------------------------------------------------------------

    def parameters(self) -> dict[str, nn.Parameter]:
        """All of them, the prior's last."""
        return self._networks | self._circuit | self._prior

    def settle(self, model: nn.Module, rows: Tensor, batch_size: int) -> None:
        """Retake batch-norm statistics on latents as evaluation draws them: bits, where training's are relaxed."""
        assert isinstance(model, Autoencoder)
        generator = torch.Generator(self.device).manual_seed(0)

        def run(batch: Tensor) -> None:
            model.decoder(self._latents(model, self.prepare(batch, generator), generator))

        retake_batch_norm(model, rows.split(batch_size), run)

    def _latents(self, model: Autoencoder, x: Tensor, generator: torch.Generator) -> Tensor:
        """As evaluation draws them, of what the encoder has seen of prepared rows (B, D)."""
        seen = x if self.corruption is None else self.corruption(x, generator)
        return model.posterior_sample(seen, relaxed=False, generator=generator).latents

    # State ------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Model, optimizers, generators, and what was seen."""
        return {
            "model": self.model.state_dict(),
            "optimizer": optimizer_state(self.optimizer),
            "generator": self.generator.get_state(),
            "circuit_optimizer": _state_of(self.circuit_optimizer),
            "executor": {} if self.executor is None else self.executor.state_dict(),
            "circuit_gradient": {} if self._gradient is None else self._gradient.state_dict(),
            "watch": self.watch.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there, every generator included."""
        self.model.load_state_dict(state["model"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        self.generator.set_state(state["generator"])
        if self.executor is not None and state.get("executor"):
            self.executor.load_state_dict(state["executor"])
        if self._gradient is not None and state.get("circuit_gradient"):
            self._gradient.load_state_dict(state["circuit_gradient"])
        if self.circuit_optimizer is not None:
            load_optimizer_state(self.circuit_optimizer, **state["circuit_optimizer"])
        self.watch.load_state_dict(state["watch"])

    def release(self) -> None:
        """Forget what was recorded of steps."""
        if self._replay is not None:
            self._replay.forget()

    def close(self) -> None:
        """Release the executor's connections."""
        if self.executor is not None:
            close(self.executor, lambda text: self.warn("close", text))


def _corruption(model: Autoencoder, config: TrainingConfig) -> Corruption | None:
    """The damage that a configuration names; what is hidden has the likelihood's mean at an output of 0."""
    if config.corruption is None:
        return None
    likelihood, parameter = model.likelihood, next(model.parameters())
    blank = likelihood.mean(parameter.new_zeros(likelihood.outputs * likelihood.num_features)).detach()
    return Corruption(config.corruption, config.corruption_amount, likelihood.kind, model.shape, blank)


def _state_of(optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    """What an optimizer remembers of each parameter, and besides."""
    if optimizer is None:
        return {}
    others = {key: value for key, value in optimizer.state_dict().items() if key != "param_groups"}
    return others | {"state": optimizer_state(optimizer)}


def _parts(model: Autoencoder, layers: list[CircuitLayer]) -> tuple[dict[str, nn.Parameter], ...]:
    """Parameters of networks, circuit and prior, by their names in the model."""
    of_circuit = {id(parameter) for layer in layers for parameter in layer.parameters()}
    of_prior = set() if model.prior is None else {id(parameter) for parameter in model.prior.parameters()}
    # A critic has an optimizer of its own.
    named = {name: weight for name, weight in model.named_parameters() if not name.startswith("critic.")}
    return (
        {name: p for name, p in named.items() if id(p) not in of_circuit | of_prior},
        {name: p for name, p in named.items() if id(p) in of_circuit},
        {name: p for name, p in named.items() if id(p) in of_prior},
    )
