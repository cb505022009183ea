"""Digits drawn with a brush."""

import numpy as np
import pytest

from xdomain.engines.digits import HANDS
from xdomain.engines.strokes import FORMS, _distance, draw_hand

HEIGHT = 24


@pytest.mark.parametrize("hand", range(HANDS))
def test_a_hand_draws_ten_digits_of_one_height(hand):
    digits = draw_hand(hand, HEIGHT)
    assert len(digits) == 10
    for ink in digits:
        assert ink.shape[0] == HEIGHT
        assert ink.min() >= 0
        assert ink.max() <= 1
        assert ink.max() > 0.9  # a stroke, not a haze
        assert 0.03 < ink.mean() < 0.95
        used = np.flatnonzero(ink.max(1) > 0)
        assert used[0] <= 1
        assert used[-1] >= HEIGHT - 2
        assert ink[:, 0].max() + ink[:, 1].max() > 0
        assert ink[:, -1].max() + ink[:, -2].max() > 0


def test_a_hand_is_always_the_same_and_hands_differ():
    first, again, other = draw_hand(2, HEIGHT), draw_hand(2, HEIGHT), draw_hand(3, HEIGHT)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_forms_of_ten_digits():
    assert len(FORMS) == 10
    assert all(len(forms) >= 2 for forms in FORMS)


def test_distance_to_a_chain_of_segments():
    chain = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 3.0]])
    points = {(1.0, 1.0): 1.0, (-3.0, 4.0): 5.0, (4.0, 2.0): 2.0, (2.0, 5.0): 2.0, (2.0, 1.5): 0.0}
    grid = np.array(list(points))[None]
    assert _distance(grid, chain)[0] == pytest.approx(list(points.values()))
