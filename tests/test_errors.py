"""Sentences for a user: the nearest names, any error in a line, and how to install what is missing."""

import pytest

from qvae.errors import ConfigError, in_a_line, install_line, nearest, one_line


@pytest.mark.parametrize(
    ("name", "allowed", "words"),
    [
        ("gibs", ["gibbs", "exact"], "did you mean 'gibbs'? Allowed: exact, gibbs"),
        ("aab", ["aaa", "abb", "aac", "zzz"], "did you mean 'abb' or 'aac'? Allowed: aaa, aac, abb, zzz"),
        ("ab", ["ac", "xy"], "did you mean 'ac'? Allowed: ac, xy"),  # half of the letters
        ("abc", ["axy"], "Allowed: axy"),
        ("gibbs", [], "Allowed: nothing here"),
    ],
)
def test_the_nearest(name, allowed, words):
    assert nearest(name, allowed) == words


def test_any_error_in_a_line():
    class Mute(Exception):
        def __str__(self):
            raise ValueError

    assert one_line(" two\n\tlines \x00 here.. ") == "two lines here"
    assert one_line(Mute()) == ""
    assert in_a_line(Mute()) == "Mute"
    assert in_a_line(ConfigError("a key is wrong.")) == "a key is wrong"
    assert in_a_line(ConfigError()) == ""
    assert in_a_line(OSError(28, "No space left")) == "OSError: [Errno 28] No space left"
    assert install_line() == "pip install -e . in the clone of qvae"
