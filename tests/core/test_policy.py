import math

import pytest

from askonce import InputError
from askonce.core import policy


@pytest.mark.parametrize("ttl", [0, -1, -0.5, math.nan, -math.inf])
def test_a_time_to_live_is_above_nothing(ttl):
    with pytest.raises(InputError, match="above 0, or None"):
        policy.check_ttl(ttl)


@pytest.mark.parametrize("ttl", [None, 1, 0.5, math.inf])
def test_a_time_to_live_is_given_back(ttl):
    assert policy.check_ttl(ttl) == ttl


def test_when_an_answer_stops_being_good():
    assert policy.expires_at(None, now=5.0) == math.inf
    assert policy.expires_at(2.0, now=5.0) == 7.0
    assert policy.is_fresh(7.0, now=6.9)
    assert not policy.is_fresh(7.0, now=7.0)
