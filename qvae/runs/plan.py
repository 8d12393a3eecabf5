"""What a training would take, said before anything is spent: `qvae train --dry-run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qvae.config.paths import settled
from qvae.config.schema import Config
from qvae.models.prior import boltzmann_prior
from qvae.runs.assemble import assemble, num_prior_samples
from qvae.runs.folder import choose_folder
from qvae.sampling.abilities import Metered
from qvae.training.threads import threads_for


def plan(config: Config, out: str | Path | None = None, data: Any = None) -> dict[str, Any]:
    """What a training would take: steps, what the sampler must do, and its QPU seconds where it has such a price.

    Everything is put together as for :func:`qvae.train`, with its errors; nothing is spent or written. Without a token for a
    quantum annealer it is planned on the ideal graph of its family, which is said. With local backends three steps are made
    and timed; where gradients of a circuit take many circuits, these are counted instead.
    """
    config = settled(config, data)
    parts = assemble(choose_folder(out, config), config, data=data, is_rehearsal=True)
    trainer, sampler = parts.trainer, parts.sampler
    model: Any = trainer.model
    layer = model.circuit
    call: dict[str, Any] = {}
    at_end: dict[str, Any] = {}
    found: dict[str, Any] = {} if layer is None else {"circuit": layer.extra_repr()}
    try:
        if sampler is not None:
            hamiltonian = boltzmann_prior(model).frozen()
            found |= {"latent spins": hamiltonian.num_spins, "couplings": hamiltonian.graph.num_edges}
            call = sampler.plan(hamiltonian, config.training.chains) if isinstance(sampler, Metered) else {}
            last = parts.generating or sampler
            at_end = last.plan(hamiltonian, num_prior_samples(config)) if isinstance(last, Metered) else {}
        step, by_shifts = None, layer is not None and not layer.executor.capabilities.differentiable
        if layer is not None and layer.gradient is not None and by_shifts:
            learns = layer.weight.requires_grad
            wanted = range(layer.circuit.num_parameters if learns else layer.circuit.num_inputs)
            circuits = 1 + layer.gradient.executions(layer.circuit, wanted)  # a row; a step would take too long to be timed
            number = circuits * config.training.batch_size + parts.objective.circuit_executions
            shots = layer.gradient.shots_in_words(layer.executor)
            found["circuits in a step"] = f"about {number:,}, {shots}, for gradients by shifts"
        if not (by_shifts or parts.objective.is_remote or isinstance(sampler, Metered)):
            with threads_for(parts.objective.model, parts.objective.device, config.training.batch_size, lambda text: None):
                step = trainer.seconds_of_step()
    finally:
        parts.close(lambda text: None)
    seconds = f", or {config.training.max_seconds:g} s if that is less" if config.training.max_seconds else ""
    looks = "" if sampler is None else f" and {trainer.num_looks} looks at the sampler"
    found["training"] = f"{trainer.total_steps:,} steps{looks}{seconds}"
    if sampler is not None:
        found["samples in a step"] = config.training.chains
    if step is not None:
        whole = min(step * trainer.total_steps, config.training.max_seconds or float("inf"))
        found["time of the training"] = f"about {whole:,.0f} s here, at {1e3 * step:.1f} ms a step; evaluation comes on top"
    found |= {key: value for key, value in call.items() if key not in ("qpu_seconds", "budget")}
    if "qpu_seconds" in call:
        found["QPU seconds of a step"] = f"{call['qpu_seconds']:.4f}"
        calls = trainer.total_steps + trainer.num_looks
        found["QPU seconds of the training"] = f"{call['qpu_seconds'] * calls:,.1f}"
        found["QPU seconds of the samples at the end"] = f"{at_end.get('qpu_seconds', 0.0):.1f}"
        if "budget" in call and call["qpu_seconds"] > 0:
            steps = int(call["budget"] / call["qpu_seconds"])
            found["budget of the training"] = f"{call['budget']:.1f} s, which is {steps:,} steps"
    return found
