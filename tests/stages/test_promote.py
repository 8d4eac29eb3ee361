import json

import pytest

from mssync.errors import InputError
from mssync.stages import promote


@pytest.fixture
def decide(tmp_path, tiny):
    def run(value, champion=None, *, sequences=10, trained_on="r", **changes):
        def scored(number):
            return {
                "sha256": "s",
                "metrics": {"lse_d": {"all": {"level0": {"normalised": number}}}},
            }

        metrics = {
            "sequences": sequences,
            "dataset_revision": "r",
            "challenger": scored(value),
            "champion": None
            if champion is None
            else scored(champion[0]) | {"version": "3", "dataset_revision": trained_on},
        }
        (tmp_path / "metrics.json").write_text(json.dumps(metrics))
        told = {"metric": "lse_d.all.level0.normalised", "higher_is_better": True}
        params = tiny.promote.model_copy(update=told | changes)
        return promote.run(tmp_path / "metrics.json", tmp_path / "decision.json", params)

    return run


def test_the_first_model_that_can_be_scored_is_promoted(decide):
    assert decide(0.2)["decision"] == "promote"


def test_a_better_model_is_promoted_and_an_equal_or_worse_one_is_not(decide):
    assert decide(0.5, (0.4,))["decision"] == "promote"
    assert decide(0.4, (0.4,))["decision"] == "refuse"
    assert decide(0.3, (0.4,))["decision"] == "refuse"


def test_where_lower_is_better_the_lower_one_is_promoted(decide):
    assert decide(0.3, (0.4,), higher_is_better=False)["decision"] == "promote"
    assert decide(0.5, (0.4,), higher_is_better=False)["decision"] == "refuse"


def test_a_gain_below_the_bound_is_refused(decide):
    decision = decide(0.45, (0.4,), min_improvement=0.1)
    assert decision["decision"] == "refuse"
    assert "promote.min_improvement" in decision["reason"]


def test_a_score_that_is_not_available_is_refused(decide):
    assert "n/a" in decide(None)["reason"]
    assert decide(None)["decision"] == "refuse"


def test_too_few_sequences_decide_nothing(decide):
    decision = decide(0.9, (0.1,), sequences=1)
    assert decision["decision"] == "refuse"
    assert "1 sequences decide nothing" in decision["reason"]


def test_the_decision_is_written_with_what_it_rests_on(decide, tmp_path):
    decision = decide(0.5, (0.4,))
    assert json.loads((tmp_path / "decision.json").read_text()) == decision
    assert decision["champion"] == {"version": "3", "sha256": "s", "value": 0.4}


def test_a_champion_of_another_dataset_is_told(decide):
    reason = decide(0.5, (0.4,), trained_on="another")["reason"]
    assert "the champion was trained on another dataset" in reason


def test_an_unknown_metric_is_refused_by_name(decide):
    with pytest.raises(InputError, match=r"has no metric lse_d\.all\.level9 .* level9 is missing"):
        decide(0.5, metric="lse_d.all.level9")
