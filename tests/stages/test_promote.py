"""Files in, files out; how a decision comes about is in `test_gate.py`."""

import json

import pytest
from markupsafe import escape

from mssync.errors import InputError
from mssync.metrics.version import METRIC_VERSION
from mssync.stages import promote

METRIC = "lse_d.all.level0.value"
BY = {"metric_version": METRIC_VERSION, "test_set": "t", "judges": "j"}


@pytest.fixture
def decide(tmp_path, tiny):
    def run(values, champion=None):
        def scored(found):
            entry = {"value": sum(found) / len(found)}
            return {
                "sha256": "s",
                "metrics": {"lse_d": {"all": {"level0": entry}}},
                "scored_by": BY,
            }

        metrics = {
            "dataset_revision": "r",
            "challenger": scored(values),
            "champion": champion and scored(champion) | {"version": "3", "dataset_revision": "r"},
            "paired": {
                "clip_id": ["a", "b", "c", "d"],
                "speaker_id": ["a", "b", "c", "d"],
                "start": [0, 0, 0, 0],
                "values": {
                    "lse_d.all.level0": {"challenger": values}
                    | ({"champion": champion} if champion else {})
                },
            },
        }
        (tmp_path / "metrics.json").write_text(json.dumps(metrics))
        only = {METRIC: tiny.promote.metrics[METRIC]}
        params = tiny.promote.model_copy(update={"metrics": only})
        return promote.run(tmp_path / "metrics.json", tmp_path / "decision.json", params)

    return run


def test_the_decision_is_written_with_what_it_rests_on(decide, tmp_path):
    decision = decide([1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 5.0])
    assert json.loads((tmp_path / "decision.json").read_text()) == decision
    assert decision["decision"] == "promote"
    assert decision["scored_by"] == BY
    assert decision["champion"] == {"version": "3", "sha256": "s", "value": 3.5}
    assert decision["metrics"][METRIC]["gain"] == 1


def test_a_page_beside_the_decision_shows_the_gallery_of_the_metrics(decide, tmp_path):
    decision = decide([1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 5.0])
    html = (tmp_path / "index.html").read_text()
    assert 'src="gallery/index.html"' in html
    assert ">Promoted<" in html
    assert str(escape(decision["reason"])) in html


def test_where_lower_is_better_a_higher_one_is_refused(decide):
    assert decide([2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0])["decision"] == "refuse"


def test_the_first_model_that_shows_what_is_asked_for_is_promoted(decide):
    assert decide([1.0, 2.0, 3.0, 4.0])["decision"] == "promote"


def test_deciding_twice_writes_the_same(decide, tmp_path):
    decide([1.0, 2.0, 3.0, 4.0], [2.0, 2.5, 4.0, 3.0])
    first = (tmp_path / "decision.json").read_bytes()
    decide([1.0, 2.0, 3.0, 4.0], [2.0, 2.5, 4.0, 3.0])
    assert (tmp_path / "decision.json").read_bytes() == first


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "does not exist"), ("{", "cannot be read"), ("{}", "not scores of evaluate")],
)
def test_metrics_that_are_none_are_refused(tmp_path, tiny, content, words):
    path = tmp_path / "metrics.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=words):
        promote.run(path, tmp_path / "decision.json", tiny.promote)
