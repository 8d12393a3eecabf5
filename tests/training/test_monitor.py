"""What training shows: a bar on a terminal, lines elsewhere, and the same figures in both."""

import io
import math

import pytest
import torch
from rich.console import Console

from qvae.training.monitor import Monitor, TrainingDiverged
from qvae.training.objective import Surrogate


def console(terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=140)


def terms(value=1.0):
    return Surrogate(torch.full((4,), -value), torch.zeros(4), torch.ones(4))


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_with_its_figures(terminal):
    screen = console(terminal)
    monitor = Monitor(console=screen)
    with monitor.display():
        for epoch in range(1, 11):
            monitor.record(terms(20.0))
            monitor.end_epoch(epoch, epoch, 0.5 * epoch, {"log_z": 3.0, "effective_beta": 0.98})
            monitor.advance(epoch / 10, 0.5 * epoch)
    shown = screen.file.getvalue()
    assert "100%" in shown
    assert "surrogate 22.00" in shown  # 20 + 0 + 3 - 1
    assert "reconstruction 20.00" in shown
    assert "beta 0.98" in shown


def test_lines_come_once_every_tenth():
    screen = console(terminal=False)
    monitor = Monitor(console=screen)
    with monitor.display():
        monitor.record(terms())
        monitor.end_epoch(1, 1, 0.1, {})
        for step in range(1, 1001):
            monitor.advance(step / 1000, step / 100)
    assert len(screen.file.getvalue().splitlines()) == 11


def test_means_are_those_of_the_epoch(tmp_path):
    monitor = Monitor(tmp_path)
    for value in (10.0, 20.0):
        monitor.record(terms(value))
    monitor.end_epoch(1, 2, 0.1, {})
    monitor.record(terms(7.0))
    monitor.end_epoch(2, 3, 0.2, {})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert '"reconstruction": 15.0' in lines[0]
    assert '"reconstruction": 7.0' in lines[1]


def test_what_is_not_finite_is_an_error():
    monitor = Monitor()
    monitor.record(terms(float("nan")))
    with pytest.raises(TrainingDiverged):
        monitor.check_finite()


def test_the_end_state_of_an_optimizer_raises_the_alarm():
    monitor = Monitor()
    monitor.record(terms())
    monitor.end_epoch(1, 1, 0.1, {"effective_beta": math.inf, "effective_beta_stderr": math.nan})
    assert "effective inverse temperature is inf" in monitor.warnings[0]


def test_chain_memory_tells_mixing_from_stuck_chains():
    monitor = Monitor()
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randint(0, 2, (500, 40), generator=generator) * 2 - 1 for _ in range(2))
    assert torch.isnan(torch.tensor(monitor.chain_memory(first)))
    assert abs(monitor.chain_memory(second)) < 5 / (500 * 40) ** 0.5
    assert monitor.chain_memory(second) == pytest.approx(1.0)
