"""Connections are released, unless they are the user's own, and one that fails costs a word."""

import pytest

from qvae.sampling.closing import close


class Held:
    """Counts how often it is closed, and may fail."""

    def __init__(self, fault=None):
        self.fault, self.closed = fault, 0

    def close(self):
        self.closed += 1
        if self.fault is not None:
            raise self.fault


def test_what_is_lent_stays_open():
    mine, lent = Held(), Held()
    lent.is_lent = True
    for each in (mine, lent):
        close(each, pytest.fail)
    assert (mine.closed, lent.closed) == (1, 0)


def test_what_fails_is_told_by_its_label_or_its_class_but_an_interrupt_stays_one(caplog):
    told = []
    close(Held(OSError("gone")), told.append)
    named = Held(SystemExit(3))
    named.label = "dwave"
    close(named, told.append)
    assert told == [
        "Held couldn't be closed (OSError: gone); its work is done all the same",
        "dwave couldn't be closed (SystemExit: 3); its work is done all the same",
    ]
    close(Held(OSError("gone")))
    assert "Held couldn't be closed" in caplog.text
    with pytest.raises(KeyboardInterrupt):
        close(Held(KeyboardInterrupt()), told.append)
