"""What an evaluation says in a sentence."""

import pytest

from mssync.stages import evaluate


@pytest.mark.parametrize(
    ("place", "told"),
    [(0.88, "is 88%."), (1.68, "is 168%: the judge likes them better"), (None, "cannot be told.")],
)
def test_a_place_beyond_the_truth_is_not_praised(place, told):
    lips = {"all": {"level0": {"normalised": place}}}
    challenger = {"metrics": {"lse_d": lips}}
    report = {"challenger": challenger, "sequences": 13, "speakers": 9}
    assert told in evaluate._summary(report)
