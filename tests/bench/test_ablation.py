import pytest

from bench import ablation
from mssync.errors import InputError


def shown(*experiments):
    """As `dvc exp show --json` prints them: (name, seed, sync weight, place) each."""

    def group(name, seed, weight, place):
        generated = {"fd_motion": 0.5, "place": {"level0": place}}
        scores = {"generated": {**generated}, "retrieval": {"fd_motion": 0.9}}
        params = {"run": {"seed": seed}, "train_generator": {"weights": {"sync": weight}}}
        data = {
            "params": {"params.yaml": {"data": params}},
            "metrics": {"evaluation/scores.json": {"data": scores}},
        }
        return {"revs": [{"rev": name * 9, "name": name, "data": data, "error": None}]}

    return [
        {"rev": "workspace", "name": None, "experiments": None, "data": {}},
        {"rev": "1" * 40, "experiments": [group(*experiment) for experiment in experiments]},
    ]


def lines(found, scores=("place.level0",), system="generated"):
    return ablation.table(ablation.settings(found), scores, system=system).splitlines()


def test_seeds_of_one_setting_make_one_row_with_their_interval():
    found, _ = ablation.experiments(
        shown(("a", 0, 1.0, 0.6), ("b", 1, 1, 0.8), ("c", 0, 0, 0.1), ("d", 1, 0, 0.1))
    )
    assert lines(found) == [
        "| train_generator.weights.sync | seeds | place.level0 |",
        "| --- | --- | --- |",
        "| 0 | 0 1 | 0.1 [0.1, 0.1] |",
        "| 1 | 0 1 | 0.7 [-0.571, 1.97] |",
    ]


def test_what_seeds_share_falls_out_of_the_differences():
    found, _ = ablation.experiments(
        shown(
            ("a", 0, 1, 0.6), ("b", 1, 1, 0.8), ("c", 0, 0, 0.1), ("d", 1, 0, 0.2), ("e", 2, 0, 9)
        )
    )
    told = ablation.differences(ablation.settings(found), ["place.level0"], system="generated")
    assert told.splitlines()[2:] == ["| 1 | 0 | 0 1 | 0.55 [-0.0853, 1.19] |"]


def test_one_seed_has_no_interval_and_one_that_is_missing_is_told():
    assert ablation.interval([0.25]) == "0.25"
    assert ablation.interval([0.25, None]) == "0.25 (1 of 2)"
    assert ablation.interval([None]) == "n/a"


def test_the_same_experiment_run_twice_counts_once():
    found, _ = ablation.experiments(shown(("a", 0, 1, 0.6), ("b", 0, 1, 0.6)))
    assert [experiment.name for experiment in found] == ["a"]


def test_experiments_that_wait_or_failed_are_named():
    waiting = shown(("a", 0, 1, 0.6))
    waiting[1]["experiments"].append(
        {"revs": [{"rev": "2" * 40, "name": None, "data": None, "error": None}]}
    )
    found, lacking = ablation.experiments(waiting)
    assert [experiment.name for experiment in found] == ["a"]
    assert lacking == ["2222222"]


def test_a_baseline_is_asked_for_by_name_and_a_score_that_nobody_has_is_refused():
    found, _ = ablation.experiments(shown(("a", 0, 1, 0.6)))
    assert lines(found, ["fd_motion"], "retrieval")[-1] == "| 0 | 0.9 |"
    with pytest.raises(InputError, match=r"no experiment has the score place\.level9; there are"):
        ablation.check(found, ["place.level9"])
