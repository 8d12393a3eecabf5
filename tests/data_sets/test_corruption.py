"""Damage by its statistics, and what can't have it."""

import pytest
import torch

from qvae.data.corruption import Corruption
from qvae.errors import ConfigError

SHAPE = (4, 6)
N = 4000


def damaged(damage, amount, rows, shape=SHAPE, kind="bits"):
    made = Corruption(damage, amount, kind, shape, torch.full((rows.shape[1],), 0.5))
    return made(rows, torch.Generator().manual_seed(0))


def near(share, expected):
    assert share == pytest.approx(expected, abs=5 * (0.25 / (24 * N)) ** 0.5)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_features_are_hit_at_the_rate(value):
    rows = torch.full((N, 24), value)
    near(float((damaged("salt-and-pepper", 0.3, rows) != rows).float().mean()), 0.15)
    near(float((damaged("dropped", 0.3, rows) != rows).float().mean()), 0.3 * value)
    near(float((damaged("hidden", 0.3, rows, (24,)) == 0.5).float().mean()), 0.3)  # of a table
    noise = damaged("gaussian", 0.3, rows) - rows
    assert float(noise.std()) == pytest.approx(0.3, rel=5 / (2 * 24 * N) ** 0.5)


def test_a_rectangle_is_hidden_in_each_row_at_a_place_of_its_own():
    rows = torch.rand(N, 48)
    hidden = (damaged("hidden", 0.25, rows, (2, *SHAPE), "reals") == 0.5).view(N, 2, *SHAPE)
    assert torch.equal(hidden[:, 0], hidden[:, 1])  # all channels alike
    assert (hidden[:, 0].sum((1, 2)) == 2 * 3).all()  # half of either side
    assert (hidden[:, 0].any(2).sum(1) == 2).all()
    assert (hidden[:, 0].any(1).sum(1) == 3).all()
    assert hidden[:, 0].any(0).all()


def test_squares_have_their_means():
    rows = torch.rand(5, 48)
    found = damaged("coarse", 2, rows, (2, *SHAPE), "reals").view(5, 2, *SHAPE)
    expected = torch.nn.functional.avg_pool2d(rows.view(5, 2, *SHAPE), 2)
    torch.testing.assert_close(found[..., ::2, ::2], expected)
    torch.testing.assert_close(found[..., 1::2, 1::2], expected)


@pytest.mark.parametrize(
    ("damage", "amount", "kind", "words"),
    [
        ("dropped", 1.0, "bits", "corruption_amount is 1; of dropped it must be below 1"),
        ("salt-and-pepper", 0.1, "reals", "salt-and-pepper, of bits, but the model's data are reals"),
        ("gaussian", 0.1, "counts", "of bits or reals"),
        ("coarse", 3, "bits", "no squares with sides of 3 pixels"),  # which divide the width alone
        ("coarse", 4, "bits", "no squares with sides of 4 pixels"),  # the height alone
        ("coarse", 1.5, "bits", "no squares with sides of 1.5 pixels"),
    ],
)
def test_what_can_t_be_damaged_so_is_told(damage, amount, kind, words):
    with pytest.raises(ConfigError) as told:
        damaged(damage, amount, torch.zeros(2, 24), kind=kind)
    assert words in str(told.value)
