"""What processes that train together do in tests: functions of a module, which a fresh process can import."""

import contextlib
import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from qvae.checkpoint import load_checkpoint, save_checkpoint
from qvae.config.load import load_config
from qvae.errors import RanksError, SamplerError
from qvae.models import passes
from qvae.models.networks import Layers
from qvae.progress import Progress
from qvae.runs.assemble import assemble
from qvae.sampling.registry import load_sampler
from qvae.sampling.sampler import Capabilities, LatentSampler, Samples
from qvae.training import devices, pulse, ranks
from qvae.training.objectives.boltzmann import BoltzmannObjective
from qvae.training.shared_norm import share_batch_norm
from qvae.workflow import train

SMALL = [
    "model.network.hidden=[16]", "training.epochs=3", "training.batch_size=100", "evaluation.tsne_every=0",
    "evaluation.num_test=20", "evaluation.importance_samples=2", "evaluation.log_z_chains=20",
    "evaluation.log_z_temperatures=20", "evaluation.num_generated=20", "evaluation.probes=false",
]  # fmt: skip
ROWS = 0.1 + 0.8 * (np.random.default_rng(0).random((400, 4, 4)) < np.linspace(0.1, 0.9, 16).reshape(4, 4)).astype(np.float32)


class Notes(Progress):
    """Remembers what is said."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)

    def warn(self, text):
        self.said.append(text)


def parts_of(settings, base="digits", progress=None):
    """All parts of a small training on rows in memory, whose checkpoints are put together, but not written."""
    labels = np.arange(len(ROWS)) % 3
    data = {"train": ROWS, "test": ROWS[:50], "train_labels": labels, "test_labels": labels[:50]}
    folder = Path("run").absolute()
    folder.mkdir(exist_ok=True)
    parts = assemble(folder, load_config(base, [*SMALL, *settings]), progress, data)
    parts.trainer.save = lambda trainer: trainer.state_dict()
    return parts


def bits(model):
    """All weights and statistics of a model, as numbers."""
    return torch.cat([value.detach().double().reshape(-1) for value in model.state_dict().values()]).numpy()


class OfTheWholeBatch(TorchFunctionMode):
    """Random numbers as one process would draw them for the whole batch, of which each takes its part."""

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        keywords = keywords or {}
        if function not in (torch.rand, torch.randn) or keywords.get("generator") is None:
            return function(*arguments, **keywords)
        rows, *others = arguments[0] if not isinstance(arguments[0], int) else arguments
        return ranks.own_part(function((rows * ranks.count(), *others), *arguments[len(arguments) :], **keywords))


def fifty_exact_steps(base, settings):
    """Weights after 50 steps in float64, with the same random numbers in each row for any number of processes."""
    of_all = ["training.epochs=13", "training.precision=float32", "training.average_decay=0.9"]
    trainer = parts_of([*of_all, *settings], base).trainer
    objective = trainer.objective
    objective.generator.manual_seed(0)
    objective.model.double()
    trainer.average.values = [value.double() for value in trainer.average.values]
    with OfTheWholeBatch():
        for _ in trainer.trial(50):
            pass
    return bits(trainer.averaged_model()), bits(trainer.model)


def normalised(x):
    """A shared batch norm's output, gradients and statistics, of this process's part of rows."""
    torch.manual_seed(0)
    norm = nn.Sequential(nn.BatchNorm2d(3) if x.ndim == 4 else nn.BatchNorm1d(3)).to(x.dtype)
    nn.init.normal_(norm[0].weight)
    share_batch_norm(norm)
    mine = ranks.own_part(x).clone().requires_grad_()
    found = norm(mine)
    ((found - 0.1).square() * torch.arange(1, 4).view(1, 3, *[1] * (x.ndim - 2))).sum(dim=1).mean().backward()
    ranks.average_gradients(norm.parameters())
    gradients = [norm[0].weight.grad, norm[0].bias.grad, mine.grad / ranks.count()]
    return [value.detach().numpy() for value in (found, *gradients, norm[0].running_mean, norm[0].running_var)]


def normalised_and_activated(x, gradient):
    """What :func:`normalised` tells, of a batch norm with a SiLU behind it by compiled passes, and how often these served."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = Layers(nn.BatchNorm1d(x.shape[1]), nn.SiLU())
    nn.init.normal_(layers[0].weight)
    share_batch_norm(layers)
    mine = ranks.own_part(x).clone().requires_grad_()
    served = []
    passes.load_passes = lambda device, load=passes.load_passes: served.append(load(device)) or served[-1]
    found = layers(mine)
    found.backward(ranks.own_part(gradient))
    norm = layers[0]
    told = (found, mine.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var)
    return [value.detach().float().numpy() for value in told], len(served)


def averaged(halves):
    """The first numbers of gradients (64, 64), (5000,) and (8, 8) of 1 + this process's / 1,000 after averaging; bytes sent.

    Vectors and small matrices, as of a circuit's weights, aren't halved.
    """
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in ((64, 64), (5000,), (8, 8))]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1 + ranks.number() / 1000)
    sent = []
    ranks._sum = lambda flat, add=ranks._sum: sent.append(flat.nbytes) or add(flat)
    ranks.average_gradients(parameters, halves=halves)
    return [float(parameter.grad.flatten()[0]) for parameter in parameters], sorted(sent)


def next_numbers(trainer):
    """What this process's generator gives next."""
    objective = getattr(trainer.objective, "game", trainer.objective)
    return torch.rand(4, generator=objective.generator).tolist()


def trained(models):
    """Weights and averages of trainings of several models, and this process's next random numbers."""
    found = []
    for base, settings in models:
        trainer = parts_of(settings, base).trainer
        trainer.fit()
        found.append((bits(trainer.model), bits(trainer.averaged_model()), next_numbers(trainer)))
    return found


def interrupted_and_resumed(settings, stop_at, base="digits"):
    """Where a training is that one process interrupts, and the ends of it, resumed, and of a whole one.

    The state at the interrupt is left in the file ``checkpoint``.
    """
    whole, first, second = (parts_of(settings, base).trainer for _ in range(3))
    whole.fit()
    states = []
    first.save = lambda trainer: states.append(trainer.state_dict())
    step = first.objective.step

    def interrupting(rows, clock):
        if clock.step == stop_at - 1 and ranks.number() == ranks.count() - 1:
            signal.raise_signal(signal.SIGTERM)
        return step(rows, clock)

    first.objective.step = interrupting
    with contextlib.suppress(KeyboardInterrupt):
        first.fit()
    second.load_state_dict(ranks.first_does(lambda: states[-1]))
    second.fit()
    ends = [(bits(trainer.model), next_numbers(trainer), trainer.metrics.row) for trainer in (whole, second)]
    if ranks.is_first():
        save_checkpoint("checkpoint", states[-1])
    return first.step, ends


def went_on(settings):
    """What is said where a training goes on from the file ``checkpoint``, its weights, and the next random numbers."""
    notes = Notes()
    trainer = parts_of(settings, progress=notes).trainer
    trainer.load_state_dict(load_checkpoint("checkpoint"))
    trainer.fit()
    return notes.said, bits(trainer.model), next_numbers(trainer)


def limited():
    """Where a process ends after so many seconds."""
    trainer = parts_of(["training.epochs=100000", "training.max_seconds=0.5"]).trainer
    trainer.fit()
    return trainer.step, trainer.seconds


class Far(LatentSampler):
    """Stands for a service that is asked by one process: its third call fails."""

    capabilities = Capabilities(remote=True)

    def __init__(self, error):
        self.error, self.calls = error, 0
        self.local = load_sampler("gibbs", seed=1)

    def _sample(self, hamiltonian, num_samples):
        self.calls += 1
        if self.calls == 3:
            raise self.error
        return Samples(self.local.sample(hamiltonian, num_samples).spins)


def asked_far_away(error, has_fallback):
    """Calls of this process's sampler, what the training says, its steps, weights, and the sampler at the end."""
    notes = Notes()
    trainer = parts_of([], progress=notes).trainer
    far, fallback = Far(error), load_sampler("gibbs", seed=2) if has_fallback else None
    trainer.objective = BoltzmannObjective(trainer.model, trainer.objective.prepare, trainer.config, far, fallback)
    trainer.objective.listen(trainer.metrics.warn)
    trainer.fit()
    return far.calls, notes.said, trainer.step, bits(trainer.model), type(trainer.objective.sampler).__name__


def dying(how):
    """The last process of three ends in a step, in words or without any."""
    trainer = parts_of(["training.batch_size=99", "training.chains=30"]).trainer
    step = trainer.objective.step

    def deadly(rows, clock):
        if clock.step == 5 and ranks.number() == ranks.count() - 1:
            if how == "raises":
                raise SamplerError("its sampler is broken.")
            os.kill(os.getpid(), signal.SIGKILL)
        return step(rows, clock)

    trainer.objective.step = deadly
    trainer.fit()


def vanishing():
    """The last process is silent for a while, but alive; later it stops, as if its machine had lost its power."""
    pulse._SECONDS = 0.15  # one that a busy machine holds up for a second is there
    pids = ranks.gathered(os.getpid())
    is_last = ranks.number() == ranks.count() - 1
    if is_last:
        time.sleep(8)  # longer than the first sign takes, and ten more
    waited = ranks.highest([ranks.number()])
    if is_last:
        os.kill(os.getpid(), signal.SIGSTOP)
    try:
        ranks.average(torch.ones(100_000))
    except RanksError as error:
        return waited, str(error)
    finally:
        if ranks.is_first():
            os.kill(pids[-1], signal.SIGKILL)


def forgetful():
    """An objective that doesn't average its gradients."""
    ranks.average_gradients = lambda parameters, halves: None
    parts_of([]).trainer.fit()


def with_settings(settings):
    """A training that can't be."""
    parts_of(settings)


def with_other_settings(settings):
    """A training whose processes are told different things."""
    train(load_config("digits", [*SMALL, *settings[ranks.number()]]), "run", data=ROWS)


def says(texts):
    """Which sentences this process would say."""
    said = [ranks.says(text) for text in texts[ranks.number()]]
    ranks.highest([0.0])  # whoever keeps account stays until all have asked
    return said


def runs_in_bfloat16(natively):
    """Whether this process's networks do, by whether each one's machine multiplies such numbers."""
    devices.multiplies_bfloat16 = lambda device: natively[ranks.number()]
    return devices.use_bfloat16("auto", torch.device("cpu"))
