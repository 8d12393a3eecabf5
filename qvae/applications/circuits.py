"""A run's model whose circuit is run by a chosen executor, such as hardware, where evaluation takes exact amplitudes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qvae.errors import ExecutorError

if TYPE_CHECKING:
    from qvae.models.autoencoder import Autoencoder
    from qvae.runs.run import Run


@contextmanager
def running_on(run: Run, executor: str | None = None, seed: int | None = None) -> Iterator[Autoencoder]:
    """The model, whose circuit, if it has one, is run by an executor while the block runs.

    Args:
        run: with the model.
        executor: ``NAME[:OPTION=VALUE,...]``; None is the run's own.
        seed: of it; None is the run's own.

    Raises:
        ExecutorError: it can't be had, or the model has no circuit.
    """
    from qvae.models.vqvae import VQVAE
    from qvae.sampling.closing import close

    model = run.model
    layer = model.circuit if isinstance(model, VQVAE) else None
    if layer is None:
        if executor is not None:
            raise ExecutorError(f"this model has no circuit for executor {executor!r} to run; leave it out.")
        yield model
        return
    exact, chosen = layer.executor, run.executor(executor, seed)
    layer.executor = chosen
    try:
        yield model
    finally:
        layer.executor = exact
        close(chosen)
