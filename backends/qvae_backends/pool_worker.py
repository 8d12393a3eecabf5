"""What happens on a worker of a pool: samplers that it holds, one for each share of the chains, are drawn from."""

from __future__ import annotations

import pickle
import time
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from qvae.config.backends import BackendSpec
from qvae.errors import SamplerError, in_a_line
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.info import Advice
from qvae.sampling.registry import make_sampler
from qvae.sampling.sampler import LatentSampler, Moments, Samples

_KEPT_SECONDS = 86_400.0  # after which chains that nobody asked for are forgotten: those of a client that died


@dataclass(frozen=True)
class Origin:
    """How the sampler of a share is made.

    Attributes:
        spec: its name and options.
        seed: of it.
        state: it goes on from there; empty at the beginning.
    """

    spec: BackendSpec
    seed: int
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Order:
    """What is wanted of a share.

    Attributes:
        key: of the share.
        calls: how many the share has answered; one that counts otherwise isn't that share any more.
        values: fields, couplings and transverse fields, on the graph that the share saw last.
        num_samples: how many.
        moments: whether moments are wanted, and no samples.
        origin: the share begins with this; None for one that goes on.
        hamiltonian: in place of ``values``, where the graph is another one.
        returns_state: whether the worker keeps nothing, and the state is handed over with the answer.
    """

    key: str
    calls: int
    values: tuple[Tensor, Tensor, Tensor]
    num_samples: int
    moments: bool
    origin: Origin | None = None
    hamiltonian: IsingHamiltonian | None = None
    returns_state: bool = False


@dataclass(frozen=True)
class Answer:
    """What a share drew, in a form that travels.

    Attributes:
        found: spins and weights of samples, or moments of spins and pairs.
        info: what was measured.
        advice: what the sampler says about it.
        state: of the sampler, where it is wanted.
    """

    found: tuple[Tensor, Tensor | None]
    info: dict[str, Any]
    advice: list[Advice]
    state: dict[str, Any] | None = None


class _Share:
    def __init__(self, origin: Origin) -> None:
        self.sampler: LatentSampler = make_sampler(origin.spec, origin.seed)
        self.sampler.load_state_dict(origin.state)
        self.hamiltonian: IsingHamiltonian | None = None
        self.calls = 0
        self.used = time.monotonic()


_shares: dict[str, _Share] = {}


def draw(message: bytes) -> bytes | None:
    """The pickled :class:`Answer` to an :class:`Order`; None where the share isn't here, or isn't what it was.

    Both are pickled here, and not by whoever carries them: torch would put tensors that go between processes of one machine
    into shared memory, which outlives those that die.

    Raises:
        SamplerError: as the sampler's own.
    """
    order: Order = pickle.loads(message)
    if order.returns_state:
        assert order.origin is not None
        return _packed(_answer(_Share(order.origin), order), order.origin.spec.name)
    if order.origin is not None:
        _forget_the_abandoned()
        _shares[order.key] = _Share(order.origin)
    share = _shares.get(order.key)
    if share is None or share.calls != order.calls:
        return None
    return _packed(_answer(share, order), share.sampler.label)


def state(key: str, calls: int) -> bytes | None:
    """The pickled state of a share; None where it isn't here, or isn't what it was."""
    share = _shares.get(key)
    return None if share is None or share.calls != calls else pickle.dumps(share.sampler.state_dict())


def forget(key: str) -> None:
    """Let a share go."""
    share = _shares.pop(key, None)
    if share is not None:
        share.sampler.close()


def _answer(share: _Share, order: Order) -> Answer:
    share.used = time.monotonic()
    if order.hamiltonian is not None:
        share.hamiltonian = order.hamiltonian
    assert share.hamiltonian is not None
    hamiltonian = share.hamiltonian = share.hamiltonian.replace(*order.values)
    ask = share.sampler.moments if order.moments else share.sampler.sample
    drawn: Samples | Moments = ask(hamiltonian, order.num_samples)
    found = (drawn.spins, drawn.weights if isinstance(drawn, Samples) else drawn.pairs)
    told = share.sampler.state_dict() if order.returns_state else None
    share.calls += 1
    return Answer(found, dict(drawn.info), list(drawn.advice), told)


def _packed(answer: Answer, name: str) -> bytes:
    try:
        return pickle.dumps(answer)
    except Exception as error:
        raise SamplerError(f"what {name!r} tells in info can't be sent from a worker ({in_a_line(error)}).") from None


def _forget_the_abandoned() -> None:
    now = time.monotonic()
    for key in [key for key, share in _shares.items() if now - share.used > _KEPT_SECONDS]:
        forget(key)
