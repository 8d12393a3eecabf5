"""Threads of a training: one for a small model, unless the user says how many."""

import contextlib

import pytest
import torch
from torch import nn

from qvae.training.threads import threads_for

CPU = torch.device("cpu")
SMALL, LARGE, CONVOLUTION = nn.Linear(100, 100), nn.Linear(1000, 1000), nn.Conv2d(1, 1, 3)


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("model", "inside"), [(SMALL, 1), (LARGE, 2), (CONVOLUTION, 2)])
def test_a_small_model_takes_one_thread_and_gives_the_others_back(model, inside):
    said = []
    with contextlib.suppress(KeyboardInterrupt), threads_for(model, CPU, 256, said.append):
        assert torch.get_num_threads() == inside
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 2
    assert [text.partition(";")[2] for text in said] == [" OMP_NUM_THREADS=2 takes them all"] * (inside == 1)


@pytest.mark.parametrize(("batch_size", "inside"), [(19_801, 1), (19_802, 2)])
def test_a_small_model_has_less_than_two_hundred_million_products_a_step(batch_size, inside):
    with threads_for(SMALL, CPU, batch_size, lambda text: None):  # of 100 x 101 weights
        assert torch.get_num_threads() == inside
    with threads_for(SMALL, torch.device("cuda"), 1, pytest.fail):
        assert torch.get_num_threads() == 2


def test_the_user_s_number_wins(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with threads_for(SMALL, CPU, 256, pytest.fail):
        assert torch.get_num_threads() == 2


def test_a_number_that_torch_has_not_taken_is_nobody_s(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as dask leaves it, which starts processes with it
    with threads_for(SMALL, CPU, 256, lambda text: None):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
