"""Paid time: a budget that is never exceeded, a ledger that all samplers of a run folder share, and repeats after faults."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from qvae.errors import BudgetExhausted
from qvae.files import atomic_write_text, read_plain
from qvae.locks import held

T = TypeVar("T")

_AMOUNTS = ("qpu_seconds", "submissions", "max_qpu_seconds")


class Fault(Exception):
    """Why a paid call has no answer, in words.

    Attributes:
        helps_to_repeat: the next attempt may succeed.
        has_run: the hardware may have worked, and its time is spent.
        attempts: that were made, once there will be no more.
    """

    def __init__(self, words: str, helps_to_repeat: bool, has_run: bool = False) -> None:
        super().__init__(words)
        self.helps_to_repeat, self.has_run, self.attempts = helps_to_repeat, has_run, 1

    @property
    def in_words(self) -> str:
        """What became of the call, as the predicate of a sentence.

        >>> Fault("the queue is full", helps_to_repeat=True).in_words
        'gave no samples: the queue is full'
        """
        tried = f", after {self.attempts} attempts" if self.attempts > 1 else ""
        return f"gave no samples{tried}: {self}"


class Meter:
    """What calls cost, have cost and may cost, in seconds of paid time.

    A price is booked before it is spent, so that neither another process nor a kill makes a run exceed its budget, and set
    right when the answer says what it was. In a run folder the books are a file: whoever computes there sees and keeps them.

    Args:
        budget: seconds that all calls of a run folder may cost together; None for any number.
        option: what the user sets the budget with, for messages.
        ledger: name of the file in the run folder.
        retries: repeats of a call after a fault that may pass.
        retry_seconds: the pause before the first repeat; each further one is twice as long.

    Attributes:
        seconds: spent by the run folder so far.
        own_seconds: spent by this sampler.
        calls: answered so far, of the run folder.
        kept_back: seconds of the budget that are left for later.
        folder: of the run, which keeps the ledger; None keeps none.
        notes: what else the ledger keeps, sections of named values; those of other samplers stay.

    A ledger that can't be what a meter wrote counts as spent, until its user deletes it: nobody knows what it said.

    Raises:
        ValueError: the budget is no number of seconds.
    """

    def __init__(
        self,
        budget: float | None,
        option: str = "max_qpu_seconds",
        ledger: str = "ledger.json",
        retries: int = 3,
        retry_seconds: float = 1.0,
    ) -> None:
        if budget is not None and not budget >= 0:
            raise ValueError(f"{option} is {budget}; it must be 0 or more seconds")
        self.budget, self.option, self.ledger = budget, option, ledger
        self.retries, self.retry_seconds = retries, retry_seconds
        self.seconds = self.own_seconds = self.kept_back = 0.0
        self.calls = 0
        self.notes: dict[str, dict[str, Any]] = {}
        self.folder: Path | None = None

    @property
    def share(self) -> float:
        """Part of the budget, less what is kept back, that is spent, 0 to 1."""
        return 0.0 if self.allowance is None else min(1.0, self.seconds / self.allowance)

    @property
    def allowance(self) -> float | None:
        """The budget less what is kept back; None without one."""
        return None if self.budget is None else self.budget - self.kept_back

    def attach(self, folder: Path) -> None:
        """Take the run folder's books, its budget too unless there is one."""
        self.folder = folder
        found = self.read()
        self.seconds = max(self.seconds, found.get("qpu_seconds", 0.0))
        self.calls = max(self.calls, found.get("submissions", 0))
        if self.budget is None:
            self.budget = found.get("max_qpu_seconds")

    def read(self) -> dict[str, Any]:
        """The ledger; empty where there is none, or none that can be read."""
        try:
            return self._books()
        except BudgetExhausted:
            return {}

    def _books(self) -> dict[str, Any]:
        """The ledger; empty where there is none.

        Raises:
            BudgetExhausted: there is one that no meter can have written.
        """
        file = None if self.folder is None else self.folder / self.ledger
        if file is None or not (file.exists() or file.is_symlink()):
            return {}
        found = read_json(file)
        are_right = [is_amount(value) if key in _AMOUNTS else isinstance(value, dict) for key, value in found.items()]
        if "qpu_seconds" not in found or not all(are_right):
            raise BudgetExhausted(
                f"the ledger {file} is damaged, so nobody knows what is spent: see in your account what may be spent still, "
                f"then delete that file, and set sampler.options.{self.option} to so many seconds."
            )
        return found

    def keep_back(self, price: float) -> None:
        """Leave that much of the budget, but no more than half of it."""
        if self.budget is not None:
            self.kept_back = min(price, self.budget / 2)

    def require(self, price: float) -> None:
        """Refuse a call of several parts as a whole, or some of them would be paid and thrown away.

        Raises:
            BudgetExhausted: there is less left.
        """
        if self.budget is not None:
            self._book(0.0)  # and learn what others have spent
            self._require(price)

    def pay(self, price: float, work: Callable[[], tuple[T, float]]) -> T:
        """The answer of ``work``, which returns it with the seconds that it took; repeated after faults where that helps.

        Raises:
            BudgetExhausted: the budget doesn't cover ``price``; nothing was asked.
            Fault: the last one; its ``attempts`` are counted.
        """
        if not is_amount(price):
            raise Fault(f"its price is said to be {price} s", helps_to_repeat=False)
        price = nanoseconds(price)
        pause = self.retry_seconds
        for repeat in range(self.retries + 1):
            self._book(price, is_new=True)
            try:
                answer, seconds = work()
                if not is_amount(seconds):
                    raise Fault(f"the answer says that it took {seconds} s", helps_to_repeat=False, has_run=True)
            except Fault as fault:
                if not fault.has_run:
                    self._book(-price)
                if not fault.helps_to_repeat or repeat == self.retries:
                    fault.attempts = repeat + 1
                    raise
                time.sleep(pause)
                pause *= 2
            else:
                self.calls += 1
                self._book(nanoseconds(seconds) - price)
                return answer
        raise AssertionError("unreachable")

    def set_right(self, seconds: float) -> None:
        """Have the books say that so much is spent: of a replay, the time of the recording."""
        self._book(0.0)
        self._book(seconds - self.seconds)

    def _book(self, seconds: float, is_new: bool = False) -> None:
        """Add to what was spent, here and in the run folder; what ``is_new`` must be covered."""
        folder = self.folder if self.folder is not None and self.folder.is_dir() else None
        with contextlib.nullcontext() if folder is None else held(folder / f".{self.ledger}.lock", wait=True):
            found = self._books()
            self.seconds = float(found.get("qpu_seconds", self.seconds))
            if is_new:
                self._require(seconds)
            self.seconds = nanoseconds(self.seconds + seconds)
            self.own_seconds = nanoseconds(self.own_seconds + seconds)
            if folder is None:
                return
            found |= {"qpu_seconds": self.seconds, "submissions": self.calls}
            if self.budget is not None:
                found["max_qpu_seconds"] = self.budget
            for section, values in self.notes.items():
                found.setdefault(section, {}).update(values)
            write_json(folder / self.ledger, found, sync=is_new)  # what is about to be spent outlasts a power cut

    def _require(self, price: float) -> None:
        if self.budget is not None and self.seconds + price + self.kept_back > self.budget:
            kept = f", {self.kept_back:.3f} s are kept back for the samples at the end" if self.kept_back else ""
            raise BudgetExhausted(
                f"{self.seconds:.3f} of {self.budget:g} s of QPU time are spent{kept}, and the next call would take about "
                f"{price:.3f} s: raise sampler.options.{self.option} to go on."
            )


def nanoseconds(seconds: float) -> float:
    """Rounded, so that sums don't depend on the order: schedules follow the budget, and a replay must have the same bits."""
    return round(seconds, 9)


def is_amount(value: Any) -> bool:
    """Whether this is a number, finite and not negative."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def write_json(file: Path, content: dict[str, Any], sync: bool = False) -> None:
    """Whole or not at all; unlike checkpoints it isn't waited for until the disk has it, unless ``sync`` says so.

    Raises:
        RunError: it can't be written.
    """
    atomic_write_text(file, json.dumps(content) + "\n", sync)


def read_json(file: Path) -> dict[str, Any]:
    """A file that a sampler wrote into a run folder; empty where there is none, or it was damaged."""
    try:
        found = json.loads(read_plain(file))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
