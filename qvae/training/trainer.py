"""The training loop: time, epochs, checkpoints, interrupts, averaging and progress; what is optimised is an objective's."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from qvae.config.schema import TrainingConfig
from qvae.data.classes import places_of_labels, with_classes
from qvae.data.dataset import Dataset, epoch_permutation
from qvae.errors import BudgetExhausted, QvaeError, in_a_line
from qvae.progress import Report
from qvae.training import ranks
from qvae.training.averaging import WeightAverage
from qvae.training.early_stopping import EarlyStopping
from qvae.training.interrupts import interrupts_deferred
from qvae.training.metrics import Metrics
from qvae.training.objective import Clock, Objective
from qvae.training.random_state import global_random_state, restore_global_random_state
from qvae.training.rank_states import fitting, own_state

_SETTLING_ROWS = 4096  # enough that batch-norm statistics add less noise to the likelihood than the test set has
_NO_EPOCH = 2**40  # whose order chooses the rows that are held out: that of no epoch, however long a run goes on
_LOOKS = 8  # in a short run, where they cost about 3 %
_LOOKS_TO_STOP = 40  # where it may end early at any of them, about 15 %
_STEPS_BETWEEN_LOOKS = 2000  # in a long one, where they cost less than 1 %
_MOST_ON_DEVICE = 2**31  # bytes of data
_REPORT_SECONDS = 0.1  # between two reports to the display


class Observer(Protocol):
    """Watches a model train, outside the training's clock; its state travels in the checkpoint."""

    def is_due(self, epoch: int) -> bool:
        """Whether to be called at the end of ``epoch``; it always is at the last one."""
        ...

    def observe(self, model: Any, epoch: int, loss: str) -> None:
        """Look at the model as it trains, and leave it as it was; ``loss`` says what the training display would."""

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


def _held_out(rows: Tensor, config: TrainingConfig) -> tuple[Tensor, Tensor]:
    """Rows (N, ...) to train on, and those, chosen by the seed and N alone, that are looked at only."""
    count = round(config.validation * len(rows))
    if not count:
        return rows, rows[:0]
    order = epoch_permutation(len(rows), _NO_EPOCH, config.seed)
    return rows[order[count:]], rows[order[:count]]


@dataclass(frozen=True)
class _Verdict:
    """What is to be done after a step."""

    saves: bool
    is_interrupted: bool
    ends: bool


class Trainer:
    """Takes an objective through the epochs of a data set.

    Args:
        objective: what a step does.
        dataset: whose training rows are drawn, in a new order each epoch.
        config: the ``training`` section: epochs, seconds, batches and checkpoints.
        metrics: takes the figures; None keeps silent.
        save: called with the trainer every ``checkpoint_seconds``, at the end, and where a training is cut short.
        observer: called at the end of the epochs that it asks for.

    Attributes:
        observers: functions of the model and the last epoch's figures, called at the end of every epoch.

    Everything random comes from generators whose state is in :meth:`state_dict`: a run that is saved, loaded and
    continued ends, on the CPU, with the same bits as one that was never interrupted. All that depends on the clock is decided
    in one place, :meth:`_judge`, where several processes (:mod:`~qvae.training.ranks`) share the verdict of the first of them.
    Each has its part of every batch; all have the same weights, and save, look and end together.
    """

    def __init__(
        self,
        objective: Objective,
        dataset: Dataset,
        config: TrainingConfig,
        metrics: Metrics | None = None,
        save: Callable[[Trainer], None] = lambda trainer: None,
        observer: Observer | None = None,
    ) -> None:
        self.objective, self.config, self.save, self.observer = objective, config, save, observer
        self.metrics = Metrics() if metrics is None else metrics
        objective.listen(self.metrics.warn)
        ranks.take_first_([*objective.model.parameters(), *objective.model.buffers()])
        rows, self.held_out = _held_out(dataset.train.flatten(1), config)
        ranks.require_equal_parts(min(len(rows), config.batch_size))
        self.classes: Tensor | None = None
        if objective.takes_classes:
            self.classes, of_held_out = _held_out(places_of_labels(dataset), config)
            self.held_out = with_classes(self.held_out, of_held_out)
        # Large data, which may be mapped from a file larger than memory, go to the device batch by batch.
        self.rows = rows if rows.nbytes > _MOST_ON_DEVICE else rows.to(objective.device)
        if self.classes is not None:
            self.classes = self.classes.to(self.rows.device)
        self.steps_per_epoch = max(1, len(rows) // config.batch_size)
        self.total_steps = config.epochs * self.steps_per_epoch
        self.step, self.seconds = 0, 0.0
        self.average = WeightAverage(objective.parameters(), config.average_decay)
        self.stopping = EarlyStopping(config.early_stopping, config.kl_warmup)
        self.observers: list[Callable[[Any, Mapping[str, Any]], object]] = []
        self._resumed_at = self._saved_at = self._reported_at = 0.0
        self._budget_is_spent = False
        self._budget_share = 0.0  # of the first of several processes, after the last step

    @property
    def model(self) -> nn.Module:
        """The model as it trains."""
        return self.objective.model

    # The loop ---------------------------------------------------------------------------------------------------------

    def fit(self) -> None:
        """Train to the end of the epochs, of ``max_seconds`` or of a sampler's budget; saves on the way and at the end.

        Raises:
            QvaeError: a sampler failed, or another thing that a user can mend; the state before the step in flight is saved.
            TrainingDiverged: the surrogate is no longer finite; the last checkpoint is from before that.
            KeyboardInterrupt: at Ctrl-C, after the step in flight is done and the state saved.
            BrokenPipeError: nobody reads what is shown any more, as after ``| head -1``; the state is saved, too.
        """
        self._resumed_at = time.perf_counter() - self.seconds
        self._saved_at = time.perf_counter()
        say = self.metrics.progress.say
        with self.metrics.progress.work("training") as report, interrupts_deferred(say) as interrupted, self._released():
            if self.step % self.steps_per_epoch == 0 and self.metrics.has_open_epoch:
                self._end_epoch()  # of a run whose sampler failed when it was looked at there
            while not self.is_finished:
                for rows in self._batches():
                    self._guarded(lambda rows=rows: self._train_step(rows))  # type: ignore[misc]
                    verdict = self._judge(interrupted.is_set() or self._reader_has_left)
                    if self.step % self.steps_per_epoch == 0 or verdict.ends:
                        self._end_epoch()
                    self._report(report, verdict.ends)
                    if verdict.saves:
                        self._save()
                    if verdict.is_interrupted:
                        raise BrokenPipeError if self._reader_has_left else KeyboardInterrupt
                    if verdict.ends:
                        break
        if self.stopping.words:
            self.metrics.warn("early stopping", self.stopping.words)
        self.metrics.flush()
        self._save()

    @contextmanager
    def _released(self) -> Iterator[None]:
        """What steps alone need isn't kept when the block ends."""
        try:
            yield
        finally:
            self.objective.release()

    def _batches(self) -> Iterator[Tensor]:
        """Stored rows (B, D) of the rest of the current epoch, of this process's parts of its batches."""
        epoch, position = divmod(self.step, self.steps_per_epoch)
        order = epoch_permutation(len(self.rows), epoch, self.config.seed).to(self.rows.device)
        for places in order.split(self.config.batch_size)[position : self.steps_per_epoch]:
            yield self._taken(ranks.own_part(places))

    def _taken(self, places: Tensor) -> Tensor:
        """The stored rows at these places, (B, D), with their classes, (B, D + 1), if the objective takes them."""
        rows = self.rows.index_select(0, places)
        if self.classes is not None:
            rows = with_classes(rows, self.classes[places])
        return rows.to(self.objective.device)

    def _train_step(self, rows: Tensor) -> None:
        figures = self.objective.step(rows, self.clock)
        self.step += 1
        self.average.update(self.step, self.step - self.objective.began)
        self.metrics.record(figures)

    def _judge(self, is_interrupted: bool) -> _Verdict:
        """Read the clock, and decide what follows: of several processes the first one reads it, and any may be interrupted."""
        now = time.perf_counter()
        self.seconds = now - self._resumed_at
        is_due = now - self._saved_at > self.config.checkpoint_seconds
        if ranks.count() > 1:
            of_first = [self.seconds, self.objective.budget_share, is_due] if ranks.is_first() else [0.0, 0.0, 0.0]
            found = ranks.highest([*of_first, is_interrupted or ranks.is_orphan()])
            self.seconds, self._budget_share, is_due, is_interrupted = *found[:2], bool(found[2]), bool(found[3])
        return _Verdict(is_interrupted or is_due, is_interrupted, self.is_finished)

    def _guarded(self, work: Callable[[], Any]) -> Any:
        """Work of the objective; None where a budget doesn't allow it, which ends the training."""
        try:
            return work()
        except BudgetExhausted as end:
            self._budget_is_spent = True
            self.metrics.warn("budget", f"{str(end).rstrip('.')}; training ends here")
            return None
        except QvaeError as error:
            if ranks.count() == 1 or error.is_everywhere:  # or the others wait for this process in the step
                self._save()  # a sampler that fails costs the step in flight and no more
            raise

    @property
    def _reader_has_left(self) -> bool:
        return isinstance(self.metrics.progress.failure, BrokenPipeError)

    def _report(self, report: Report, is_last: bool) -> None:
        now = time.perf_counter()
        if is_last or self.objective.is_remote or now - self._reported_at > _REPORT_SECONDS:
            self._reported_at = now
            report(self.progress, self.metrics.summary(self.objective))

    def trial(self, steps: int) -> Iterator[int]:
        """Take so many steps, and stop after each for whoever looks there: no checkpoint, look or end of an epoch.

        Yields the number of steps done. The trainer isn't for training any more.
        """
        end = self.step + steps
        while self.step < end:
            for rows in itertools.islice(self._batches(), end - self.step):
                self._train_step(rows)
                yield self.step

    def seconds_of_step(self) -> float:
        """How long a step takes on average, from three of each phase; the trainer isn't for training any more."""
        rows = self._taken(torch.arange(min(self.config.batch_size, len(self.rows)), device=self.rows.device))
        total = 0.0
        for start, end in itertools.pairwise((*self.objective.phases, 1.0)):
            seconds = []
            for _ in range(3):
                started = time.perf_counter()
                self.objective.step(rows, Clock(self.step, 1, start)).sum().item()
                seconds.append(time.perf_counter() - started)
            total += (end - start) * min(seconds)
        return total

    # Where it stands --------------------------------------------------------------------------------------------------

    @property
    def is_finished(self) -> bool:
        """Whether the epochs, the seconds or a sampler's budget are used up, or more of them wouldn't help."""
        limit = self.config.max_seconds
        if self._budget_is_spent or self.stopping.has_ended:
            return True
        return self.step >= self.total_steps or (limit is not None and self.seconds >= limit)

    @property
    def progress(self) -> float:
        """Part of the training that is done: in steps, in seconds or of a budget, whichever is furthest."""
        by_clock = self.seconds / self.config.max_seconds if self.config.max_seconds else 0.0
        by_budget = self.objective.budget_share if ranks.count() == 1 else self._budget_share
        return min(1.0, max(self.step / self.total_steps, by_clock, by_budget))

    @property
    def clock(self) -> Clock:
        """Step, epoch and progress."""
        return Clock(self.step, -(-self.step // self.steps_per_epoch), self.progress)

    # The end of an epoch ----------------------------------------------------------------------------------------------

    @property
    def _look_interval(self) -> int:
        looks = _LOOKS if self.config.early_stopping is None else _LOOKS_TO_STOP
        return max(1, min(_STEPS_BETWEEN_LOOKS, self.total_steps // looks))

    @property
    def num_looks(self) -> int:
        """How often a training takes a look, at most: with one more call of a sampler each time, at the end of an epoch."""
        return min(self.config.epochs, self.total_steps // self._look_interval + 1)

    def _end_epoch(self) -> None:
        clock = self.clock
        looks = self.step // self._look_interval
        before = max(0, self.step - self.steps_per_epoch) // self._look_interval
        # Not where an observer looks: a look moves the chains, and the film must not change the training.
        due = (looks > before or self.is_finished) and not self._budget_is_spent
        found = (self._guarded(lambda: self.objective.look(clock)) if due else None) or {}
        if found and len(self.held_out):
            found |= self.objective.validate(self.held_out.to(self.objective.device), found, clock)
        found = ranks.first_does(lambda: found)
        self.metrics.average()
        ranks.require_same_weights(self.objective.parameters().values(), type(self.objective).__name__)
        if "held_out" in found:
            self.stopping.look(found["held_out"], self.average.values, clock)
        observed = self.observer is not None and (self.is_finished or self.observer.is_due(clock.epoch))
        loss = self.metrics.end_epoch(self.objective, self.clock, self.seconds, found)
        if observed and self.observer is not None:
            if self.is_finished:
                self._save()  # before anything is drawn
            observer = self.observer
            trouble = f"the model couldn't be looked at in epoch {clock.epoch}"
            self._observe("observer", trouble, lambda: observer.observe(self.model, clock.epoch, loss))
        for function in self.observers:
            name = getattr(function, "__name__", type(function).__name__)
            trouble = f"the observer {name} failed in epoch {clock.epoch}"
            self._observe(f"observer {name}", trouble, partial(function, self.model, dict(self.metrics.row)))

    def _observe(self, kind: str, trouble: str, look: Callable[[], object]) -> None:
        """Have an observer look; whatever goes wrong there costs its view and a warning, and not the training."""
        if not ranks.is_first():
            return
        with self._clock_stopped(), ranks.apart():
            try:
                look()
            except Exception as error:
                self.metrics.warn(kind, f"{trouble} ({in_a_line(error)})")
                self.model.train()

    # Weights for evaluation -------------------------------------------------------------------------------------------

    def averaged_model(self) -> nn.Module:
        """A copy of the model for evaluation: averaged weights, and what the objective does to make them fit for use.

        With early stopping they are those of the best look, once there was one.
        """
        model = self.average.averaged(self.model, self.stopping.weights)
        # Any order but that of the file, where classes may stand together.
        chosen = epoch_permutation(len(self.rows), 0, 0)[:_SETTLING_ROWS].to(self.rows.device)
        with ranks.apart():
            self.objective.settle(model, self._taken(chosen), self.config.batch_size)
        return model

    # State ------------------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        self.metrics.check_finite(list(self.objective.parameters().values()), self.objective.diverged)
        with self._clock_stopped():
            self.save(self)
        self._saved_at = time.perf_counter()

    @contextmanager
    def _clock_stopped(self) -> Iterator[None]:
        """What happens in the block isn't training: ``max_seconds`` doesn't count it."""
        paused = time.perf_counter()
        yield
        self._resumed_at += time.perf_counter() - paused

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, as tensors and values that JSON can hold.

        Of several processes each must ask for it; what they don't have in common, such as chains, is among ``ranks``.
        """
        state = self._state_here()
        _, *others = ranks.gathered(own_state(state)) if ranks.count() > 1 else [None]
        return state | ({"ranks": others} if others else {})

    def _state_here(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "device": self.objective.device.type,
            **self.objective.state_dict(),
            "average": list(self.average.values),
            "early_stopping": self.stopping.state_dict(),
            "global_random": global_random_state(self.objective.device),
            "monitor": self.metrics.state_dict(),
            "observer": self.observer.state_dict() if self.observer is not None else {},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; of other processes or another device with fresh chains and random numbers, which is said."""
        state = fitting(state, self._state_here, self.objective.device.type, self.metrics.progress.say)
        self.step, self.seconds = state["step"], state["seconds"]
        self.objective.load_state_dict(state)
        self.average.load(state["average"])
        self.stopping.load_state_dict(state.get("early_stopping", {}), self.average.values)
        restore_global_random_state(state["global_random"], self.objective.device)
        totals = state["monitor"]["totals"]
        if totals is not None and totals.shape != (len(self.objective.figures),):
            raise ValueError(f"there are sums of {len(totals)} figures, not of {len(self.objective.figures)}")
        self.metrics.load_state_dict(state["monitor"])
        if self.observer is not None:
            self.observer.load_state_dict(state.get("observer", {}))
