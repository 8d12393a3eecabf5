"""When the loop does what: an objective whose steps take a second each, by a clock of the test's own, and times by hand."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from qvae.config.schema import TrainingConfig
from qvae.data.arrays import dataset_from_arrays
from qvae.training import trainer as module
from qvae.training.metrics import Metrics
from qvae.training.objective import Clock, Objective
from qvae.training.trainer import Trainer


class Told(Objective):
    """Has nothing to learn, and notes what it is asked; a step takes as many seconds as its part of the training says."""

    figures = ("loss",)

    def __init__(self, now, seconds=(1.0,), phases=(0.0,), spent=0.0):
        super().__init__(nn.Linear(2, 1), torch.device("cpu"))
        self.now, self.seconds, self._phases, self.spent = now, list(seconds), phases, spent
        self.steps, self.looked, self.validated = [], [], []

    phases = property(lambda self: self._phases)
    budget_share = property(lambda self: self.spent)

    def step(self, rows, clock):
        self.now[0] += self.seconds[len(self.steps) % len(self.seconds)]
        self.steps.append((len(rows), clock))
        return torch.tensor([float(len(self.steps))])

    def look(self, clock):
        self.looked.append(clock)
        return {"seen": 0.5}

    def validate(self, rows, found, clock):
        self.validated.append((len(rows), dict(found), clock))
        return {"held_out": 10.0 - clock.epoch if clock.epoch < 3 else 12.0}

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        """Nothing."""


@pytest.fixture
def now(monkeypatch):
    """The clock of the trainer, in seconds, in a list of one."""
    found = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: found[0]))
    return found


def trainer_of(objective, save=lambda trainer: None, observer=None, **settings):
    """On 10 rows in batches of 3: three steps an epoch, one row left out."""
    rows = torch.rand(10, 2, generator=torch.Generator().manual_seed(0)).numpy()
    data = dataset_from_arrays(rows, rows[:1], binarize="threshold")
    config = TrainingConfig(**{"epochs": 4, "batch_size": 3, "device": "cpu", **settings})
    found = Trainer(objective, data, config, Metrics(), save, observer)
    found.table = []
    found.observers.append(lambda model, row: found.table.append(row))
    return found


def test_steps_know_where_the_training_stands(now):
    trainer = trainer_of(Told(now))
    trainer.fit()
    assert trainer.objective.steps == [(3, Clock(step, -(-step // 3), step / 12)) for step in range(12)]
    assert [(row["epoch"], row["step"], row["seconds"], row["loss"]) for row in trainer.table] == [
        (1, 3, 3.0, 2.0), (2, 6, 6.0, 5.0), (3, 9, 9.0, 8.0), (4, 12, 12.0, 11.0),
    ]  # fmt: skip
    assert trainer.is_finished
    assert trainer.progress == 1.0


def test_progress_is_that_of_steps_seconds_or_budget_whichever_is_furthest(now):
    trainer = trainer_of(Told(now, spent=0.3), max_seconds=5.0)
    trainer.fit()
    assert [clock.progress for _, clock in trainer.objective.steps] == [0.3, 0.3, 2 / 5, 3 / 5, 4 / 5]
    assert [row["step"] for row in trainer.table] == [3, 5]
    assert trainer.objective.looked[-1] == Clock(5, 2, 1.0)


def test_what_is_saved_and_when_and_that_saving_is_no_training(now):
    saved = []

    def save(trainer):
        saved.append((trainer.step, trainer.seconds))
        now[0] += 50.0

    trainer = trainer_of(Told(now), save, checkpoint_seconds=2.5)
    trainer.fit()
    assert saved == [(3, 3.0), (6, 6.0), (9, 9.0), (12, 12.0), (12, 12.0)]
    assert trainer.seconds == 12.0


def test_a_checkpoint_is_due_after_its_seconds_and_not_at_them(now):
    saved = []
    trainer = trainer_of(Told(now), lambda trainer: saved.append(trainer.step), checkpoint_seconds=4.0)
    trainer.fit()
    assert saved == [5, 10, 12]


@pytest.mark.parametrize(
    ("looks", "between", "epochs"), [(3, 99, [2, 3, 4]), (3, 2, [1, 2, 3, 4]), (2, 99, [2, 4]), (1, 99, [4])]
)
def test_looks_are_a_few_a_training_and_one_at_its_end(now, monkeypatch, looks, between, epochs):
    monkeypatch.setattr(module, "_LOOKS", looks)
    monkeypatch.setattr(module, "_STEPS_BETWEEN_LOOKS", between)
    trainer = trainer_of(Told(now))
    trainer.fit()
    assert [clock.epoch for clock in trainer.objective.looked] == epochs
    assert ["seen" in row for row in trainer.table] == [epoch in epochs for epoch in (1, 2, 3, 4)]
    assert trainer.num_looks >= len(epochs)
    assert trainer.num_looks == {3: 4, 2: 3, 1: 2}[looks]


@pytest.mark.parametrize(
    ("settings", "looks"),
    [
        ({"epochs": 100}, 300 // 37 + 1),  # an eighth of 300 steps is 37
        ({"epochs": 100, "validation": 0.1, "early_stopping": 3}, 300 // 7 + 1),  # a fortieth is 7
        ({"epochs": 10_000}, 30_000 // 2000 + 1),
        ({"epochs": 2}, 2),
    ],
)
def test_a_training_has_eight_looks_or_one_each_two_thousand_steps_and_forty_where_they_may_end_it(now, settings, looks):
    assert trainer_of(Told(now), **settings).num_looks == looks


def test_figures_of_another_objective_are_not_gone_on_with(now):
    trainer = trainer_of(Told(now))
    state = trainer.state_dict()
    trainer.load_state_dict(state | {"monitor": state["monitor"] | {"totals": torch.zeros(1)}})
    with pytest.raises(ValueError, match="there are sums of 2 figures, not of 1"):
        trainer.load_state_dict(state | {"monitor": state["monitor"] | {"totals": torch.zeros(2)}})


def test_rows_are_held_out_and_a_training_that_gains_nothing_there_ends_early(now):
    """Of 10 rows 4 are held out; two steps an epoch. Epoch 2 is the best, and two looks after it find none better."""
    trainer = trainer_of(Told(now), epochs=9, validation=0.4, early_stopping=2, kl_warmup=0.1)
    trainer.fit()
    objective = trainer.objective
    assert len(trainer.rows) == 6
    rows, whole = torch.cat([trainer.rows, trainer.held_out]).tolist(), trainer_of(Told(now)).rows.tolist()
    assert sorted(rows) == sorted(whole)
    assert rows != whole
    assert objective.validated == [(4, {"seen": 0.5}, Clock(2 * epoch, epoch, 2 * epoch / 18)) for epoch in (1, 2, 3, 4)]
    assert trainer.is_finished
    assert [row["held_out"] for row in trainer.table] == [9.0, 8.0, 12.0, 12.0]
    assert "the weights of epoch 2 are kept" in trainer.metrics.warnings[0]
    assert trainer.total_steps == 18


def test_observers_look_when_they_are_due_and_at_the_end_after_a_save(now):
    told = []

    class Film:
        def is_due(self, epoch):
            return epoch == 2

        def observe(self, model, epoch, loss):
            now[0] += 20.0
            told.append(("observed", epoch))
            model.eval()
            if epoch == 4:
                raise OSError("the disk is full")

        def state_dict(self):
            return {}

    trainer = trainer_of(Told(now), lambda trainer: told.append(("saved", trainer.step)), Film())
    trainer.fit()
    assert told == [("observed", 2), ("saved", 12), ("observed", 4), ("saved", 12)]
    assert trainer.metrics.warnings == ["observer: the model couldn't be looked at in epoch 4 (OSError: the disk is full)"]
    assert trainer.model.training
    assert trainer.seconds == 12.0


def test_seconds_of_a_step_are_a_mean_over_the_phases_of_the_best_of_three(now):
    trainer = trainer_of(Told(now, [3.0, 2.0, 4.0, 7.0, 6.0, 5.0], (0.0, 0.4)), batch_size=20)
    assert trainer.seconds_of_step() == pytest.approx(0.4 * 2 + 0.6 * 5)
    assert trainer.objective.steps == [(10, Clock(0, 1, 0.0))] * 3 + [(10, Clock(0, 1, 0.4))] * 3


def test_the_display_is_told_ten_times_a_second_at_most_and_at_the_end(now):
    trainer, shares = trainer_of(Told(now, [0.04])), []
    trainer.metrics.progress.work = lambda what: _Entered(lambda share, figures: shares.append(share))
    trainer.fit()
    assert shares == [step / 12 for step in (1, 4, 7, 10, 12)]


class _Entered:
    def __init__(self, found):
        self.found = found

    def __enter__(self):
        return self.found

    def __exit__(self, *error):
        """Nothing."""
