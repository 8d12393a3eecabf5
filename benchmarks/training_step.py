"""A training step against its matrix products, and where the rest of its time goes.

    OMP_NUM_THREADS=1 python benchmarks/training_step.py mnist --set data.root=FOLDER
    OMP_NUM_THREADS=1 QVAE_KERNELS=torch python benchmarks/training_step.py mnist --set data.root=FOLDER
    OMP_NUM_THREADS=1 python benchmarks/training_step.py mnist --set data.root=FOLDER --seconds 15
    OMP_NUM_THREADS=1 python benchmarks/training_step.py digits --by-python

The products, which are the floor, are those that one step asks for, in its order and on matrices of its shapes, strides and
types, with nothing between them. They take turns with steps, so that a drift of the machine hits both. Times are of the
processor, in milliseconds. Steps are those of the middle of a training, where the average of the weights has its full window.
With --seconds a training runs so long by the clock, and only its steps are counted. With --by-python steps that are played
again take turns with those that Python makes.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

import qvae
from qvae.memory import keep_freed_memory
from qvae.runs.assemble import assemble
from qvae.training.metrics import Metrics

TURN, WARM_UP, TIMED = 10, 30, 40  # steps

_PRODUCTS = ("mm", "addmm", "_int_mm", "bmm", "baddbmm", "mv", "addmv")
_PARTS = {
    "products": _PRODUCTS,
    "casts": ("_to_copy",),
    "optimizer": ("_fused_adamw_", "_fused_adam_", "_foreach_add_"),
    "average of the weights": ("_foreach_lerp_",),
    "batch norm and SiLU by torch": ("silu", "silu_backward", "native_batch_norm", "native_batch_norm_backward"),
    "sigmoids and logarithms by torch": (
        *("log_sigmoid_forward", "log_sigmoid_backward", "softplus", "softplus_backward", "tanh", "tanh_backward"),
        *("logit", "sigmoid", "sigmoid_", "sigmoid_backward", "binary_cross_entropy_with_logits"),
    ),
    "rows and random numbers by torch": ("index_select", "random_", "uniform_", "le", "lt", "rand"),
}
"""Names of torch's operations."""


class _Recorded(TorchDispatchMode):
    """How long each of torch's operations takes, in milliseconds; the products are kept if asked for."""

    def __init__(self, keeps_products: bool) -> None:
        super().__init__()
        self._keeps_products = keeps_products
        self.products: list[Callable[[], Any]] = []
        self.times: list[tuple[str, float]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, function._schema.name.removeprefix("aten::")
        if self._keeps_products and name in _PRODUCTS:
            own, named = pytree.tree_map_only(torch.Tensor, _twin, (args, kwargs))
            self.products.append(lambda: function(*own, **named))
        began = time.process_time()
        found = function(*args, **kwargs)
        self.times.append((name, (time.process_time() - began) * 1e3))
        return found


def _twin(x: torch.Tensor) -> torch.Tensor:
    if 0 in x.stride():  # one matrix for many
        return x.detach()[tuple(slice(1) if step == 0 else slice(None) for step in x.stride())].clone().expand(x.shape)
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device).copy_(x)


def record_of(steps: Iterator[int], keeps_products: bool) -> _Recorded:
    """What the next step does."""
    with _Recorded(keeps_products) as recorded:
        next(steps)
    return recorded


def milliseconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1e3


def parts_of(steps: Iterator[int]) -> Counter[str]:
    """Milliseconds a step, of each operation the median over steps."""
    recorded = [record_of(steps, keeps_products=False).times for _ in range(TIMED)]
    length = len(recorded[-1])
    same = [times for times in recorded if len(times) == length]
    found: Counter[str] = Counter()
    for number, (name, _) in enumerate(same[-1]):
        part = next((part for part, names in _PARTS.items() if name in names), "torch's other operations")
        found[part] += float(np.median([times[number][1] for times in same]))
    return found


def beside_python(trainer: Any, steps: Iterator[int], turns: int) -> None:
    """Print what a step takes that is played again, and one that Python and autograd make."""
    objective, found = trainer.objective, []
    replay = objective._replay
    if replay is None or replay._recorder._recorded is None:
        raise SystemExit("a step of this configuration isn't recorded.")
    for _ in range(turns):
        row = []
        for objective._replay in (replay, None):
            row.append(milliseconds(lambda: [next(steps) for _ in range(TURN)]) / TURN)
        found.append(row)
    played, made = np.array(found).T
    print(f"a step, played again {np.median(played):.2f} ms, at best {played.min():.2f}")
    print(f"made by Python {np.median(made):.2f} ms, at best {made.min():.2f}")
    print(f"ratio {np.median(played / made):.3f}, of the best {played.min() / made.min():.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="mnist")
    parser.add_argument("--turns", type=int, default=30, help=f"of {TURN} steps")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--by-python", action="store_true", help="turns of steps that Python makes")
    parser.add_argument("--seconds", type=float, help="count the steps that a training makes in this time")
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command line does
    limit = "null" if arguments.seconds is None else arguments.seconds
    config = qvae.load_config(arguments.config, [*arguments.settings, f"training.max_seconds={limit}"])
    trainer = assemble(Path("unused"), config).trainer
    trainer.step = middle = trainer.total_steps // 2
    if arguments.seconds is not None:
        trainer.save, trainer.metrics = (lambda trainer: None), Metrics()  # nothing is written
        trainer.fit()
        print(f"{trainer.step - middle} steps in {trainer.seconds:.1f} s")
        return
    steps = trainer.trial(WARM_UP + 1 + 2 * TURN * arguments.turns + TIMED)
    for _ in range(WARM_UP):
        next(steps)
    if arguments.by_python:
        beside_python(trainer, steps, arguments.turns)
        return
    products = record_of(steps, keeps_products=True).products
    found = []
    for _ in range(arguments.turns):
        for _ in range(TURN):
            step = milliseconds(lambda: next(steps))
            found.append((step, milliseconds(lambda: [product() for product in products])))
    times = np.array(found)
    print(f"a step {np.median(times[:, 0]):.2f} ms, at best {times[:, 0].min():.2f}")
    print(f"its {len(products)} products {np.median(times[:, 1]):.2f} ms, at best {times[:, 1].min():.2f}")
    ratio = np.median(times[:, 0] / times[:, 1])
    print(f"ratio {ratio:.3f}, of the best {times[:, 0].min() / times[:, 1].min():.3f}")
    parts = parts_of(steps)
    for part, ms in parts.most_common():
        print(f"| {part} | {ms:.2f} |")
    print(f"| compiled passes, Python and autograd | {np.median(times[:, 0]) - parts.total():.2f} |")


if __name__ == "__main__":
    main()
