"""Times of a step's parts: of every fiftieth step, in milliseconds, the median of those since they were asked for."""

import torch

from qvae.training import laps as module
from qvae.training.laps import Laps


def test_every_fiftieth_step_is_timed_part_by_part(monkeypatch):
    readings = iter([1.0, 1.25, 1.75, 5.0, 5.5, 5.625, 9.0, 9.125, 9.25])
    monkeypatch.setattr(module, "now", lambda device: next(readings))
    laps = Laps(torch.device("cpu"))
    for step in (0, 1, 49, 50, 99, 100):
        laps.start(step)
        laps.lap("forward")
        laps.lap("backward")
    assert laps.medians() == {"forward": 250.0, "backward": 125.0}  # of 250, 500 and 125, and of 500, 125 and 125
    assert laps.medians() == {}
