"""How files are changed at random, and what may come of it; QVAE_FUZZ=20 takes 20 times as many examples, new in each run."""

import contextlib
import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from qvae.errors import QvaeError

TIMES = int(os.environ.get("QVAE_FUZZ", "1"))
quick = settings(
    max_examples=60 * TIMES,
    deadline=5000,
    derandomize=TIMES == 1,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
few = settings(quick, max_examples=20 * TIMES)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([10**400, "9" * 5000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutated(draw, tree):
    """The tree with one of its values replaced or left out."""
    place = draw(st.sampled_from(list(places(tree))))
    value = draw(st.just(...) | JSON)
    return replaced(tree, place, value)


def places(tree, above=()):
    yield above
    for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list | tuple) else ():
        yield from places(tree[key], (*above, key))


def replaced(tree, place, value):
    if not place:
        return None if value is ... else value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    if len(place) == 1 and value is ...:
        del copy[place[0]]
    else:
        copy[place[0]] = replaced(tree[place[0]], place[1:], value)
    return copy


def told(work):
    """Do it; the user's own errors are well, and nothing else is."""
    with contextlib.suppress(QvaeError):
        work()
