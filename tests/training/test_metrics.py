"""What training shows and writes: means over an epoch, what is not finite, and warnings once a kind."""

import json

import pytest
import torch
from torch import nn

from qvae.progress import Progress
from qvae.training.metrics import Metrics, TrainingDiverged
from qvae.training.objective import Clock, Objective


class Two(Objective):
    """Two figures a step, and a third from a look."""

    figures = ("loss", "size")
    shown = {"loss": ("loss", ".1f"), "looked": ("looked", ".2f"), "spent": ("spent", ".0f")}  # noqa: RUF012
    headline = ("loss",)

    def __init__(self):
        super().__init__(nn.Linear(1, 1), torch.device("cpu"))

    def step(self, rows, clock):
        raise NotImplementedError

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class Listener(Progress):
    def __init__(self):
        self.heard = []

    def warn(self, text):
        self.heard.append(text)


def end(metrics, epoch, found=None):
    return metrics.end_epoch(Two(), Clock(2 * epoch, epoch, 0.1 * epoch), 0.25 * epoch, found or {})


def test_means_are_those_of_the_epoch(tmp_path):
    metrics = Metrics(tmp_path / "metrics.jsonl")
    metrics.record(torch.tensor([10.0, 1.0]))
    metrics.record(torch.tensor([20.0, 2.0]))
    assert end(metrics, 1) == "loss 15.0"
    metrics.record(torch.tensor([7.0, 3.0]))
    end(metrics, 2, {"looked": float("inf")})
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[0] == {"epoch": 1, "step": 2, "seconds": 0.25, "loss": 15.0, "size": 1.5}
    assert rows[1] == {"epoch": 2, "step": 4, "seconds": 0.5, "loss": 7.0, "size": 3.0, "looked": None}


def test_an_epoch_without_a_step_is_none(tmp_path):
    metrics = Metrics(tmp_path / "metrics.jsonl")
    assert end(metrics, 1) == ""
    assert not (tmp_path / "metrics.jsonl").exists()


def test_the_summary_holds_the_latest_of_each_figure():
    metrics, objective = Metrics(), Two()
    metrics.record(torch.tensor([10.0, 1.0]))
    end(metrics, 1, {"looked": 0.5})
    metrics.record(torch.tensor([7.0, 3.0]))
    end(metrics, 2)
    objective.live = {"spent": 12.0}
    assert metrics.summary(objective) == "epoch 2  loss 7.0  looked 0.50  spent 12"


def test_what_is_not_finite_is_an_error():
    metrics = Metrics()
    metrics.record(torch.tensor([float("nan"), 1.0]))
    with pytest.raises(TrainingDiverged):
        metrics.check_finite()
    with pytest.raises(TrainingDiverged):
        Metrics().check_finite([torch.tensor([1.0, float("inf")])])


def test_of_each_kind_of_trouble_the_first_is_said_also_after_a_resume():
    listener = Listener()
    metrics = Metrics(progress=listener)
    for kind, text in (("hot", "it is hot"), ("hot", "it is hotter"), ("slow", "it is slow")):
        metrics.warn(kind, text)
    assert listener.heard == ["it is hot", "it is slow"]
    resumed = Metrics(progress=listener)
    resumed.load_state_dict(metrics.state_dict())
    resumed.warn("slow", "it is slow again")
    assert listener.heard == ["it is hot", "it is slow"]


def test_an_open_epoch_goes_on_after_a_resume(tmp_path):
    first, second = Metrics(), Metrics(tmp_path / "metrics.jsonl")
    first.record(torch.tensor([10.0, 1.0]))
    second.load_state_dict(first.state_dict())
    second.record(torch.tensor([20.0, 2.0]))
    end(second, 1)
    assert '"loss": 15.0' in (tmp_path / "metrics.jsonl").read_text()


def test_warnings_from_before_anybody_listened_are_heard():
    objective, heard = Two(), []
    objective.warn("early", "it began badly")
    objective.warn("soon", "it became worse")
    objective.listen(lambda kind, text: heard.append((kind, text)))
    objective.warn("late", "it went on so")
    assert heard == [("early", "it began badly"), ("soon", "it became worse"), ("late", "it went on so")]


def test_tensorboard_gets_every_figure_that_is_known_at_its_step(tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, folder):
            written.append(folder)

        def add_scalar(self, *scalar):
            written.append(scalar)

        def flush(self):
            written.append("flushed")

    monkeypatch.setattr("qvae.training.metrics._tensorboard_writer", lambda: Writer)
    metrics = Metrics(tensorboard=tmp_path)
    metrics.flush()
    assert written == []
    for value in (8.0, 4.0):
        metrics.record(torch.tensor([value, 1.0]))
        end(metrics, 3, {"looked": float("nan")})
    metrics.flush()
    known = {"epoch": 3, "step": 6, "seconds": 0.75, "loss": 8.0, "size": 1.0}
    first = [(f"training/{key}", value, 6) for key, value in known.items()]
    second = [(f"training/{key}", value, 6) for key, value in (known | {"loss": 4.0}).items()]
    assert written == [tmp_path, *first, *second, "flushed"]


def test_the_first_known_figure_of_a_headline_stands_for_the_training():
    class Three(Two):
        headline = ("looked", "loss")

    metrics = Metrics()
    for found, expected in (({}, "loss 5.0"), ({"looked": 2.25}, "looked 2.2"), ({}, "looked 2.2")):
        metrics.record(torch.tensor([5.0, 1.0]))
        assert metrics.end_epoch(Three(), Clock(2, 1, 0.1), 0.0, found) == expected
    objective = Three()
    objective.live = {"spent": 41.0}
    assert metrics.summary(objective) == "epoch 1  loss 5.0  looked 2.25  spent 41"
