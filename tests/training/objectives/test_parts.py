"""What a loss is made with: whose it is, and whether it has changed."""

import functools

import numpy as np
import pytest
import torch

import qvae
from qvae.models.relaxation import Gumbel
from qvae.training.objectives.parts import Parts


class Own:
    """A user's."""

    def __init__(self, *held):
        self.held = held

    def method(self):
        return self.held


class OwnLinear(torch.nn.Linear):
    pass


def own(x):
    return x


class Holder(Gumbel):
    """What a class of the package holds."""


Holder.__module__ = "qvae.models.relaxation"


def holding(value):
    holder = Holder(0.5)
    holder.value = value
    return holder


OTHERS = {
    "object": Own(),
    "module": OwnLinear(2, 2),
    "function": own,
    "lambda": lambda x: x,
    "method": Own().method,
    "partial": functools.partial(own, 1),
    "argument of a partial": functools.partial(torch.add, alpha=Own()),
    "first argument of a partial": functools.partial(torch.add, Own()),
    "in a list": [1, [Own()]],
    "in a tuple": (Own(),),
    "in a dictionary": {"a": {"b": Own()}},
    "in a set": {Own()},
    "module in a module": torch.nn.Sequential(torch.nn.Sequential(OwnLinear(2, 2))),
}
KNOWN = {
    "relaxation": Gumbel(0.5),
    "module": torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.SiLU()),
    "executor": qvae.load_executor("statevector"),
    "function": qvae.load_config,
    "method": Gumbel(0.5).sample,
    "partial": functools.partial(torch.add, alpha=2),
    "numbers": (1, 2.0, True, None, "text", torch.ones(2), np.ones(2), torch.float32),
}


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("name", OTHERS)
def test_what_others_have_written_is_found(name, held):
    parts = Parts()
    assert parts.are_known
    parts.look(holding(OTHERS[name]) if held else OTHERS[name])
    assert not parts.are_known


@pytest.mark.parametrize("name", KNOWN)
def test_the_package_s_and_torch_s_own_is_known(name):
    parts = Parts()
    parts.look(holding(KNOWN[name]), KNOWN[name])
    assert parts.are_known


def test_what_holds_itself_is_looked_at_once():
    holder = holding(None)
    holder.value = [holder]
    parts = Parts()
    parts.look(holder)
    assert parts.are_known


def changes():
    """A root, and what changes it."""
    holder = holding([1.0, {"a": torch.ones(2)}])
    yield holder, lambda: setattr(holder, "temperature", 0.4)
    yield holder, lambda: setattr(holder, "new", 1)
    yield holder, lambda: holder.value.append(2.0)
    yield holder, lambda: holder.value[1].update(a=torch.ones(2))
    yield holder, lambda: holder.value[1].update(a=np.ones(2))
    yield holder, lambda: holder.value[1].update(a=np.zeros(2))
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    yield model, lambda: model.append(torch.nn.SiLU())
    yield model, lambda: model.__setitem__(0, torch.nn.Linear(2, 2))
    yield model, lambda: model[1].eval()
    yield model, lambda: setattr(model[0], "bias", None)


def test_changes_are_noticed_once():
    for number, (root, change) in enumerate(changes()):
        parts = Parts()
        parts.look(root)
        before = parts.version
        parts.look(root)
        assert parts.version == before, number
        change()
        parts.look(root)
        assert parts.version == before + 1, number
        parts.look(root)
        assert parts.version == before + 1, number


def test_other_roots_are_a_change():
    parts = Parts()
    parts.look(1, "a")
    before = parts.version
    parts.look(1, "b")
    assert parts.version == before + 1


def test_numbers_of_tensors_are_no_change():
    model = torch.nn.Linear(2, 2)
    parts = Parts()
    parts.look(model)
    before = parts.version
    with torch.no_grad():
        model.weight.add_(1.0)
    parts.look(model)
    assert parts.version == before
    assert [id(x) for x in parts.tensors] == [id(model.weight), id(model.bias)]
