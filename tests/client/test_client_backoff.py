"""The waits between attempts."""

import math

import pytest

from chatlab.backoff import Backoff


def constant(value):
    return Backoff(base=0.2, cap=5.0, random=lambda: value)


def test_the_longest_wait_doubles_until_the_cap():
    almost_one = constant(1.0)
    assert [almost_one.delay(attempt) for attempt in range(7)] == pytest.approx(
        [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    )


def test_jitter_is_full_and_may_be_no_wait_at_all():
    assert constant(0.0).delay(5) == 0.0
    assert constant(0.5).delay(2) == pytest.approx(0.4)


def test_the_server_s_own_wait_is_never_undercut():
    assert constant(0.0).delay(0, 3.0) == 3.0
    assert constant(1.0).delay(0, 3.0) == pytest.approx(3.2)


def test_a_wait_that_is_no_wait_is_ignored():
    for nonsense in (-4.0, math.nan, math.inf):
        assert constant(0.0).delay(0, nonsense) == 0.0


def test_a_thousandth_attempt_does_not_overflow():
    assert constant(1.0).delay(1000) == 5.0
