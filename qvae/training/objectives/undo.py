"""What a step that fails has drawn and moved is taken back, so that it can be made again as if for the first time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Undo:
    """Remembers a generator of random numbers and the buffers of a model, such as batch norms', while a step is made.

    Args:
        generator: of the step's draws.
        model: whose buffers a forward pass moves.
    """

    def __init__(self, generator: torch.Generator, model: nn.Module) -> None:
        self._generator = generator
        self._buffers = list(model.buffers())
        self._before = [buffer.clone() for buffer in self._buffers]
        # Of one type at a time, since torch copies others one by one.
        types = {buffer.dtype for buffer in self._buffers}
        self._alike = [_of_type(dtype, self._before, self._buffers) for dtype in types]

    @contextmanager
    def on_failure(self) -> Iterator[None]:
        """Take back what the block has done to them if it raises."""
        state = self._remember()
        try:
            yield
        except BaseException:
            self._take_back(state)
            raise

    @contextmanager
    def always(self) -> Iterator[None]:
        """Take back what the block does to them."""
        state = self._remember()
        try:
            yield
        finally:
            self._take_back(state)

    def _remember(self) -> Tensor:
        for kept, moving in self._alike:  # a pass each: this is part of every step
            torch._foreach_copy_(kept, moving)
        return self._generator.get_state()

    def _take_back(self, state: Tensor) -> None:
        self._generator.set_state(state)
        for buffer, before in zip(self._buffers, self._before, strict=True):
            buffer.copy_(before)


def _of_type(dtype: torch.dtype, *lists: list[Tensor]) -> list[list[Tensor]]:
    return [[tensor for tensor in tensors if tensor.dtype == dtype] for tensors in lists]
