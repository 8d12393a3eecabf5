"""A race: every method on the same task, its rate tuned on two seeds and its curves taken on five others."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import torch

TUNING_SEEDS = range(100, 102)
SEEDS = range(5)
MARKS = 24  # points of a curve


class Attempt(NamedTuple):
    """A training that has begun.

    Attributes:
        step: makes one, at a part of the training that is done.
        loss: of all data, exact.
        cost: what a step takes, in the task's unit, or what all so far have taken.
        told: at the end, in words.
    """

    step: Callable[[float], object]
    loss: Callable[[], float]
    cost: float | Callable[[], float]
    told: Callable[[], str] = str


@dataclass(frozen=True)
class Method:
    """A way to train, with the rates that are tried.

    Attributes:
        begin: from a seed and a rate.
        rates: of which the one with the lowest mean loss at the end, on seeds of their own, is taken.
        steps: of a training.
    """

    name: str
    begin: Callable[[int, float], Attempt]
    rates: tuple[float, ...]
    steps: int


class Curve(NamedTuple):
    """Losses along a training, with what each took: steps, cost, and seconds of CPU time."""

    steps: list[int]
    costs: list[float]
    seconds: list[float]
    losses: list[float]
    told: list[str]


class Result(NamedTuple):
    name: str
    rate: float
    curves: list[Curve]

    @property
    def ends(self) -> list[float]:
        """The last loss of each seed."""
        return [curve.losses[-1] for curve in self.curves]

    def middle(self) -> Curve:
        """Medians over the seeds."""
        first = self.curves[0]
        columns = zip(*(curve.losses for curve in self.curves), strict=True)
        seconds = zip(*(curve.seconds for curve in self.curves), strict=True)
        costs = zip(*(curve.costs for curve in self.curves), strict=True)
        return Curve(first.steps, list(map(median, costs)), list(map(median, seconds)), list(map(median, columns)), first.told)

    def cost_to(self, loss: float) -> tuple[float, float] | None:
        """Cost and seconds at which the median is first as low, or None."""
        middle = self.middle()
        found = [place for place, value in enumerate(middle.losses) if value <= loss]
        return (middle.costs[found[0]], middle.seconds[found[0]]) if found else None


def curve(method: Method, seed: int, rate: float) -> Curve:
    """One training; a loss that is no number counts as infinite."""
    torch.manual_seed(seed)
    attempt = method.begin(seed, rate)
    marks = sorted({round(place * method.steps / MARKS) for place in range(MARKS + 1)})
    found = Curve([], [], [], [], [])
    spent = 0.0
    for step in range(method.steps + 1):
        if step in marks:
            value = attempt.loss()
            found.steps.append(step)
            found.costs.append(attempt.cost() if callable(attempt.cost) else step * attempt.cost)
            found.seconds.append(spent)
            found.losses.append(value if math.isfinite(value) else math.inf)
        if step < method.steps:
            started = time.process_time()
            attempt.step(step / method.steps)
            spent += time.process_time() - started
    found.told.extend(filter(None, [attempt.told()]))
    return found


def race(methods: Sequence[Method]) -> list[Result]:
    """All of them, tuned alike."""
    results = []
    for method in methods:
        rate = method.rates[0]
        if len(method.rates) > 1:
            rate = min(method.rates, key=lambda each: sum(curve(method, seed, each).losses[-1] for seed in TUNING_SEEDS))
        results.append(Result(method.name, rate, [curve(method, seed, rate) for seed in SEEDS]))
        print(f"{method.name}: rate {rate:g}, ends {', '.join(f'{end:.3g}' for end in results[-1].ends)}", flush=True)
    return results
