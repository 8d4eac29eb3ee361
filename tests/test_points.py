from typing import get_args

from mssync.landmarks import ibug
from mssync.points import POINT_SETS, PointSetName, title_of


def test_sets_are_those_that_parameters_may_name():
    assert tuple(POINT_SETS) == get_args(PointSetName)


def test_lips_and_the_rest_are_all_points_of_the_scheme():
    indices = {name: list(found.indices) for name, found in POINT_SETS.items()}
    assert indices["all"] == list(range(ibug.POINTS))
    assert indices["lips"] == list(ibug.LIPS)
    assert indices["no_lips"] + indices["lips"] == indices["all"]


def test_a_set_of_another_version_keeps_its_name():
    assert title_of("no_lips") == "without lips"
    assert title_of("eyes") == "eyes"
