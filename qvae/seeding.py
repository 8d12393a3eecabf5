"""A random number generator made from a seed, for classes that draw: its state travels in checkpoints and pickles."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from qvae.errors import QvaeError
from qvae.options import checked_options

Seed = Annotated[int, Field(ge=0, lt=2**63)] | None
"""Option of what draws random numbers; None draws one. Below 2^63, as all libraries' generators take them."""


class Seeded:
    """Owns a torch generator, on the device it is used on.

    Args:
        seed: of the generator, 0 or more; None draws one.

    Attributes:
        error: what is raised where a state doesn't fit.

    Raises:
        ValueError: ``seed`` isn't such a number.
    """

    error: ClassVar[type[QvaeError]] = QvaeError

    @checked_options
    def __init__(self, seed: Seed = None) -> None:
        # torch.seed() would draw one, too, but it also reseeds the user's global generator.
        self.seed = secrets.randbits(63) if seed is None else seed
        self._generator: torch.Generator | None = None
        self._restored: Tensor | None = None

    def generator(self, device: torch.device) -> torch.Generator:
        """The generator on ``device``; one on another device starts afresh from the seed.

        Raises:
            error: the state that was loaded is of a generator on another kind of device.
        """
        if self._generator is None or self._generator.device != device:
            generator = torch.Generator(device).manual_seed(self.seed)
            if self._restored is not None:
                try:
                    generator.set_state(self._restored.cpu())
                except RuntimeError as error:
                    raise self.error(
                        f"the random state was not saved on {device.type}; go on with the device it was saved on."
                    ) from error
            self._generator, self._restored = generator, None
        return self._generator

    def fresh_seed(self) -> int:
        """A seed for a library that wants one in every call, drawn from the generator on the CPU."""
        return int(torch.randint(2**31 - 1, (), generator=self.generator(torch.device("cpu"))))

    def state_dict(self) -> dict[str, Any]:
        """The generator's state."""
        state = self._restored if self._generator is None else self._generator.get_state()
        return {} if state is None else {"generator": state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a generator's state.

        Raises:
            error: the state has other parts.
        """
        foreign = sorted(set(state) - {"generator"})
        if foreign:
            name = getattr(self, "label", type(self).__name__)
            raise self.error(f"{name!r} was given the state {foreign} of another one.")
        self._generator, self._restored = None, state.get("generator")

    def __getstate__(self) -> dict[str, Any]:
        """Generators don't pickle: their state travels instead."""
        return self.__dict__ | {"_generator": None, "_restored": Seeded.state_dict(self).get("generator")}
