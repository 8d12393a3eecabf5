"""Where and when something is recorded."""

import itertools

import torch

from qvae.ising.recorded import CALLS_BEFORE, CALLS_BETWEEN, Recorder, records


def test_on_cuda_unless_it_is_switched_off(monkeypatch):
    assert records(torch.device("cuda"))
    assert not records(torch.device("cpu"))
    monkeypatch.setenv("QVAE_KERNELS", "torch")
    assert not records(torch.device("cuda"))


def test_calls_that_often_change_are_seldom_recorded():
    recorder, made = Recorder(), []
    for call in range(200):
        recorder.recorded((call // (CALLS_BEFORE + 1),), lambda call=call: made.append(call))
    assert made[0] == CALLS_BEFORE
    assert len(made) >= 5
    assert all(later - earlier > CALLS_BETWEEN for earlier, later in itertools.pairwise(made))


def test_what_cannot_be_recorded_is_tried_once():
    recorder, made = Recorder(), []
    for _ in range(200):
        assert recorder.recorded((1,), lambda: made.append(1)) is None
    assert made == [1]


def test_a_recording_that_is_interrupted_is_made_later():
    recorder, made = Recorder(), []

    def make():
        made.append(1)
        if len(made) == 1:
            raise KeyboardInterrupt
        return "recorded"

    found = []
    for _ in range(60):
        try:
            found.append(recorder.recorded((1,), make))
        except KeyboardInterrupt:
            found.append("interrupted")
    assert found.index("interrupted") == CALLS_BEFORE
    assert found[-1] == "recorded"
    assert len(made) == 2


def test_what_was_recorded_is_forgotten_when_something_changes():
    recorder = Recorder()
    found = [recorder.recorded((call >= 10,), lambda call=call: call) for call in range(60)]
    assert found[:10] == [None] * CALLS_BEFORE + [CALLS_BEFORE] * (10 - CALLS_BEFORE)
    again = CALLS_BEFORE + CALLS_BETWEEN + 1
    assert found[10:] == [None] * (again - 10) + [again] * (60 - again)
