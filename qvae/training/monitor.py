"""What training shows and writes: the progress display, metrics in JSON lines, and early signs of trouble in words."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qvae.errors import QvaeError, install_line
from qvae.training.objective import Surrogate

if TYPE_CHECKING:
    from rich.console import Console

_REFRESH_SECONDS = 0.5
_SHOWN = {
    "epoch": ("epoch", "d"),
    "surrogate": ("surrogate", ".2f"),
    "reconstruction": ("reconstruction", ".2f"),
    "kl": ("kl", ".2f"),
    "effective_beta": ("beta", ".2f"),
    "qpu_seconds": ("QPU s", ".2f"),
}
_OF_CALLS = ("device_beta", "device_beta_stderr", "chain_break_fraction", "clipped")  # of a sampler's info, averaged
_COLD = 25.0  # inverse temperature of an annealer from which on couplings are submitted near its control errors
_CLIPPED = 0.02  # part of the fields and couplings beyond the hardware's ranges from which on a user is told


class TrainingDiverged(QvaeError):
    """The surrogate is NaN or infinite."""


class Monitor:
    """Collects the parts of the surrogate on the device and, once an epoch, shows and writes them.

    Args:
        folder: gets ``metrics.jsonl`` (and ``tensorboard/``); None writes nothing.
        console: where progress is shown; None shows nothing.
        tensorboard: write TensorBoard events, too (extra ``tensorboard``).
    """

    def __init__(self, folder: Path | None = None, console: Console | None = None, tensorboard: bool = False) -> None:
        self.folder, self.console = folder, console
        self.warnings: list[str] = []
        self._totals: Tensor | None = None
        self._steps = 0
        self._figures: dict[str, Any] = {}
        self._calls: dict[str, list[float]] = {}
        self._qpu_seconds = 0.0
        self._previous_spins: Tensor | None = None
        self._stuck = 0
        self._advance: Callable[[float, float], None] = lambda share, seconds: None
        self._describe: Callable[[str], None] = lambda text: None
        self._writer_class = _tensorboard_writer() if tensorboard and folder else None
        self._writer: Any = None

    # Collecting -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def record(self, terms: Surrogate) -> None:
        """Add a step's parts to the epoch's sums, without waiting for the device."""
        parts = torch.stack([terms.log_likelihood, terms.energy, terms.entropy]).mean(1)
        # A resumed run brings its sums from the CPU.
        self._totals = parts if self._totals is None else self._totals.to(parts) + parts
        self._steps += 1

    def record_call(self, info: Mapping[str, Any]) -> None:
        """Add what a sampler's call measured and cost."""
        for key in _OF_CALLS:
            if key in info:
                self._calls.setdefault(key, []).append(info[key])
        if "qpu_seconds" in info:
            self._calls.setdefault("qpu_seconds_per_call", []).append(info["qpu_seconds"])
            self._qpu_seconds += info["qpu_seconds"]
            self._figures["qpu_seconds"] = self._qpu_seconds
            self._describe(_summary(self._figures))

    @property
    def has_open_epoch(self) -> bool:
        """Whether steps were recorded since the last epoch's end."""
        return self._totals is not None

    def check_finite(self, parameters: Sequence[Tensor] = ()) -> None:
        """Raise :class:`TrainingDiverged` if a part, or one of ``parameters``, is no longer a finite number."""
        watched = [*parameters, *([] if self._totals is None else [self._totals])]
        if not all(bool(torch.isfinite(tensor).all()) for tensor in watched):
            raise TrainingDiverged(
                "the surrogate is no longer a finite number; lower training.learning_rate or training.prior_learning_rate."
            )

    def chain_memory(self, spins: Tensor) -> float:
        """Correlation of persistent chains with themselves at the last look, averaged over spins: 0 mixes, 1 is stuck."""
        now, before = spins.float(), self._previous_spins
        self._previous_spins = spins.clone()
        if before is None or before.shape != spins.shape:
            return math.nan
        past = before.to(now)
        covariance = (now * past).mean(0) - now.mean(0) * past.mean(0)
        variance = 0.5 * (now.var(0, correction=0) + past.var(0, correction=0))
        return float(covariance.sum() / variance.sum().clamp_min(1e-12))

    def end_epoch(self, epoch: int, step: int, seconds: float, extra: dict[str, float]) -> str:
        """Write the epoch's means, show them, and say what looks wrong; returns the last known loss in words, for a title.

        An epoch without a step, before which a budget ended, is none.
        """
        self.check_finite()
        if self._totals is None:
            return self._loss()
        log_likelihood, energy, entropy = (self._totals / self._steps).tolist()
        self._totals, self._steps = None, 0
        row: dict[str, float | None] = {"epoch": epoch, "step": step, "seconds": round(seconds, 3)}
        row |= {"reconstruction": -log_likelihood, "energy": energy, "entropy": entropy}
        if "log_z" in extra:
            row["kl"] = energy + extra["log_z"] - entropy
            row["surrogate"] = -log_likelihood + row["kl"]
        extra = extra | {key: sum(values) / len(values) for key, values in self._calls.items()}
        if "qpu_seconds_per_call" in extra:
            extra["qpu_seconds"] = self._qpu_seconds
        self._calls.clear()
        row |= {key: value if math.isfinite(value) else None for key, value in extra.items()}
        self._write(row)
        self._figures |= {key: row[key] for key in _SHOWN if key in row}
        self._describe(_summary(self._figures))
        self._look_for_trouble(epoch, extra)
        return self._loss()

    def _loss(self) -> str:
        name = "surrogate" if self._figures.get("surrogate") is not None else "reconstruction"
        return f"{name} {self._figures[name]:.1f}" if name in self._figures else ""

    def _write(self, row: dict[str, float | None]) -> None:
        if self.folder is not None:
            with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        if self._writer_class is not None and self.folder is not None:
            self._writer = self._writer or self._writer_class(self.folder / "tensorboard")
            for key, value in row.items():
                if value is not None:
                    self._writer.add_scalar(f"training/{key}", value, row["step"])

    # Trouble ----------------------------------------------------------------------------------------------------------

    def _look_for_trouble(self, epoch: int, found: dict[str, float]) -> None:
        beta, error = found.get("effective_beta", math.nan), found.get("effective_beta_stderr", math.nan)
        # Infinite where no spin ever opposes its field: the end state of an optimizer.
        if math.isinf(beta) or abs(beta - 1) > 0.1 + 4 * error:
            self.warn(
                "temperature",
                f"the sampler's effective inverse temperature is {beta:.2f} instead of 1 (epoch {epoch}): "
                "its samples belong to another prior; check the sampler's options",
            )
        clipped = found.get("clipped", 0.0)
        if clipped > _CLIPPED:
            self.warn(
                "clipped",
                f"{clipped:.0%} of the fields and couplings are beyond the hardware's ranges and were clipped (epoch {epoch}), "
                f"since its effective inverse temperature is only {found.get('device_beta', math.nan):.2f}: so hot a sampler "
                "can't be corrected; anneal more slowly (sampler.options.annealing_time), or take a smaller prior",
            )
        if found.get("device_beta", 0.0) > _COLD:
            self.warn(
                "cold",
                f"the annealer's effective inverse temperature is {found['device_beta']:.0f} (epoch {epoch}): what is "
                "submitted is so many times smaller, near its control errors; anneal faster (sampler.options.annealing_time or "
                "fast_anneal)",
            )
        memory = found.get("chain_memory")
        if memory is None:  # nobody looked in this epoch
            return
        self._stuck = self._stuck + 1 if memory > 0.5 else 0
        if self._stuck == 3:
            self.warn(
                "mixing",
                f"the sampler's chains have stopped mixing (correlation {memory:.2f} with themselves since the last look, "
                f"epoch {epoch}): raise sampler.options.sweeps, or lower training.prior_learning_rate, or, with gibbs, set "
                "sampler.options.annealing=5 and sampler.options.persistent=false",
            )

    def warn(self, kind: str, text: str) -> None:
        """Say something once per kind."""
        if any(warning.startswith(f"{kind}: ") for warning in self.warnings):
            return
        self.warnings.append(f"{kind}: {text}")
        if self.console is not None:
            self.console.print(f"[yellow]warning:[/yellow] {text}", highlight=False)

    def say(self, text: str) -> None:
        """Say something that isn't kept."""
        if self.console is not None:
            self.console.print(text, highlight=False)

    # Showing ----------------------------------------------------------------------------------------------------------

    @contextmanager
    def display(self) -> Iterator[None]:
        """Show progress while the block runs: a bar on a terminal, a line now and then elsewhere."""
        if self.console is None:
            yield
        elif self.console.is_terminal:
            with self._bar():
                yield
        else:
            self._lines()
            yield
        self._advance = lambda share, seconds: None
        self._describe = lambda text: None
        if self._writer is not None:
            self._writer.flush()

    def advance(self, share: float, seconds: float) -> None:
        """Tell the display what part of the training is done, after how many seconds."""
        self._advance(share, seconds)

    @contextmanager
    def _bar(self) -> Iterator[None]:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (
            SpinnerColumn(),
            TextColumn("[bold]training"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("eta {task.fields[eta]}"),
            TextColumn("{task.description}", style="cyan"),
        )
        with Progress(*columns, console=self.console, transient=False) as progress:
            task = progress.add_task("", total=1.0, eta="-:--")
            shown = 0.0
            started: float | None = None
            start_share = 0.0

            def advance(share: float, seconds: float) -> None:
                nonlocal shown, started, start_share
                now = time.perf_counter()
                if now - shown < _REFRESH_SECONDS and share < 1:
                    return
                shown = now
                if started is None:
                    started, start_share = now, share
                rate = (share - start_share) / (now - started) if now > started else 0.0
                eta = _clock((1 - share) / rate) if rate > 0 else "-:--"
                progress.update(task, completed=share, eta=eta)

            self._advance = advance
            self._describe = lambda text: progress.update(task, description=text)
            yield

    def _lines(self) -> None:
        console, tenth, text = self.console, -1, ""

        def describe(summary: str) -> None:
            nonlocal text
            text = summary

        def advance(share: float, seconds: float) -> None:
            nonlocal tenth
            if text and int(10 * share) > tenth:
                tenth = int(10 * share)
                assert console is not None
                console.print(f"{share:4.0%}  {_clock(seconds)}  {text}", highlight=False)

        self._advance, self._describe = advance, describe

    # State ------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The open epoch's sums and what the signs of trouble depend on."""
        return {
            "totals": self._totals,
            "steps": self._steps,
            "figures": dict(self._figures),
            "calls": {key: list(values) for key, values in self._calls.items()},
            "qpu_seconds": self._qpu_seconds,
            "previous_spins": self._previous_spins,
            "stuck": self._stuck,
            "warnings": list(self.warnings),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self._totals, self._steps, self._figures = state["totals"], state["steps"], dict(state["figures"])
        self._calls, self._qpu_seconds = state.get("calls", {}), state.get("qpu_seconds", 0.0)
        self._previous_spins, self._stuck = state["previous_spins"], state["stuck"]
        self.warnings = list(state["warnings"])


def _summary(figures: dict[str, Any]) -> str:
    """The latest figures: those that need a log Z or samples are not measured in every epoch."""
    shown = [f"{label} {figures[key]:{form}}" for key, (label, form) in _SHOWN.items() if figures.get(key) is not None]
    return "  ".join(shown)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _tensorboard_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise QvaeError(f"training.tensorboard needs an extra: {install_line('tensorboard')}.") from error
    return SummaryWriter
