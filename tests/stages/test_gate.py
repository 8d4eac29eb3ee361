"""The gate on scores of the real evaluation: twelve sequences of six speakers, motion is planted.

The judges read one hidden curve off motion and sound, as `tests/metrics/test_sync.py` has them.
"""

import numpy as np
import pytest
import torch

from mssync.data.clips import Clip
from mssync.errors import InputError
from mssync.landmarks import ibug
from mssync.metrics.version import METRIC_VERSION
from mssync.params import Promote, load
from mssync.render import gate as text
from mssync.stages import _gate, _scores, evaluate
from tests.judges import CurveJudge

FRAMES = 160
LEVELS = range(4)
PLACES = [f"lse_d.all.level{level}.normalised" for level in LEVELS]


@pytest.fixture(scope="module")
def pieces():
    face_PD = np.random.default_rng(0).normal(size=(68, 2))
    face_PD -= face_PD.mean()
    found = []
    for number in range(12):
        white = np.random.default_rng(number).normal(size=FRAMES + 8)
        curve = np.convolve(white.cumsum(), np.ones(9) / 9, mode="valid")
        found.append(
            _scores.Excerpt(
                clip_id=f"s{number // 2}/c{number}",
                speaker_id=f"s{number // 2}",
                start=0,
                motion_TPD=(face_PD + curve[:, None, None]).astype(np.float32),
                audio_AM=np.broadcast_to(np.repeat(curve, 4)[:, None], (4 * FRAMES, 26)).astype(
                    np.float32
                ),
            )
        )
    return found


def moved(pieces, *, noise, seed, over_frames=1, drift=0.0, jitter=0.0):
    """The pieces' motion with noise, a swing of the whole face in 3.2 s, and a trembling."""
    rng = np.random.default_rng(seed)
    ticks, kernel = np.arange(FRAMES), np.ones(over_frames) / np.sqrt(over_frames)
    found = []
    for piece in pieces:
        white = np.convolve(rng.normal(size=FRAMES + over_frames - 1), kernel, mode="valid")
        added = noise * rng.uniform(0.8, 1.2) * white
        added += drift * np.sin(2 * np.pi * ticks / 80 + rng.uniform(0, 6))
        added += jitter * (-1) ** ticks
        found.append((piece.motion_TPD + added[:, None, None]).astype(np.float32))
    return found


@pytest.fixture(scope="module")
def score(pieces, tiny):
    def run(challenger, champion=None):
        models = {"generated": challenger} | ({"champion": champion} if champion else {})
        judges = {"all": [CurveJudge(level) for level in LEVELS]}
        training = [
            Clip(piece.clip_id, piece.speaker_id, "train", piece.motion_TPD, piece.audio_AM)
            for piece in pieces
        ]
        scores = _scores.score(
            models,
            pieces,
            training,
            judges,
            tiny.evaluate,
            kernel=7,
            seed=0,
            device=torch.device("cpu"),
        )
        by = {
            "metric_version": METRIC_VERSION,
            "test_set": _scores.test_set(pieces),
            "judges": "j" * 64,
        }

        def told(system, sha256):
            return {"sha256": sha256, "metrics": scores.metrics(system), "scored_by": by}

        return {
            "dataset_revision": "r" * 64,
            "challenger": told("generated", "a" * 64),
            "champion": told("champion", "b" * 64) | {"version": "3", "dataset_revision": "r" * 64}
            if champion
            else None,
            "paired": evaluate._paired(scores, pieces),
        }

    return run


@pytest.fixture(scope="module")
def champion(pieces):
    return moved(pieces, noise=0.5, seed=100)


def params(**changes):
    given = {
        "metric": PLACES[0],
        "min_improvement": 0.0,
        "metrics": {name: {"better": "higher", "tolerance": 0.02} for name in PLACES}
        | {
            "rigidity.value": {"better": "lower", "tolerance": 0.002},
            "mouth_opening_loudness.value": {"better": "truth", "tolerance": 0.1},
        },
        "first": {PLACES[0]: 0.0},
        "untold": "refuse",
        "confidence": 0.95,
        "resamples": 500,
        "seed": 0,
        "min_sequences": 8,
        "min_speakers": 5,
    }
    return Promote.model_validate(given | changes)


@pytest.fixture(scope="module")
def improved(score, pieces, champion):
    return score(moved(pieces, noise=0.1, seed=200), champion)


def verdicts(decision):
    return {name: row["verdict"] for name, row in decision["metrics"].items()}


def test_the_same_model_is_not_promoted(score, champion):
    decision = _gate.decide(score(champion, champion), params())
    assert decision["decision"] == "refuse"
    assert set(verdicts(decision).values()) == {"held"}
    assert all(row["gain"] == row["low"] == 0 for row in decision["metrics"].values())
    assert "a gain surely above 0 is asked for (promote.min_improvement)" in decision["reason"]


@pytest.mark.parametrize("seed", range(300, 305))
def test_a_model_that_differs_by_chance_is_not_promoted(score, pieces, champion, seed):
    decision = _gate.decide(score(moved(pieces, noise=0.5, seed=seed), champion), params())
    assert decision["decision"] == "refuse"
    assert decision["metrics"][PLACES[0]]["low"] < 0 < decision["metrics"][PLACES[0]]["high"]


def test_an_improvement_is_promoted(improved):
    decision = _gate.decide(improved, params())
    assert decision["decision"] == "promote"
    assert verdicts(decision)[PLACES[0]] == "better"
    assert "5 other metrics lost no more than they may" in decision["reason"]
    row = decision["metrics"][PLACES[0]]
    assert row["gain"] == pytest.approx(row["challenger"] - row["champion"])


def test_a_regression_at_one_scale_only_is_refused(score, pieces):
    """A trembling from frame to frame, which the mean of seven frames hides from the levels above.

    The deciding level gains, and those above it lose nothing.
    """
    champion = moved(pieces, noise=1.0, over_frames=9, seed=100)
    trembling = score(moved(pieces, noise=0.1, jitter=2.0, seed=200), champion)
    given = {"metric": PLACES[1], "first": {PLACES[1]: 0.0}}
    decision = _gate.decide(trembling, params(**given))
    assert decision["decision"] == "refuse"
    found = verdicts(decision)
    assert [found[name] for name in PLACES[:3]] == ["worse", "better", "better"]
    assert found[PLACES[3]] in ("better", "held")
    assert f"{PLACES[0]} loses" in decision["reason"]
    assert f"promote.metrics.{PLACES[0]}.tolerance" in decision["reason"]

    blind = {name: {"better": "higher", "tolerance": 0.02} for name in PLACES[1:]}
    assert _gate.decide(trembling, params(**given, metrics=blind))["decision"] == "promote"


def test_a_swing_that_lips_hardly_notice_is_refused(score, pieces):
    champion = moved(pieces, noise=4.0, seed=100)
    decision = _gate.decide(
        score(moved(pieces, noise=0.2, drift=4.0, seed=200), champion), params()
    )
    assert decision["decision"] == "refuse"
    found = verdicts(decision)
    assert found[PLACES[0]] == "better"
    assert found[PLACES[3]] == "worse"


def test_a_face_that_loses_its_shape_is_refused(score, pieces, champion):
    better = moved(pieces, noise=0.1, seed=200)
    torn = np.zeros((68, 2), np.float32)
    torn[list(ibug.RIGID)[::2]] = 0.1
    torn -= torn.mean()
    swell = np.linspace(0, 1, FRAMES, dtype=np.float32)[:, None, None]
    decision = _gate.decide(score([face + swell * torn for face in better], champion), params())
    assert decision["decision"] == "refuse"
    assert verdicts(decision)["rigidity.value"] == "worse"


def test_the_same_scores_give_the_same_decision(improved):
    assert _gate.decide(improved, params()) == _gate.decide(improved, params())


def test_a_gain_that_is_surely_smaller_than_asked_for_is_refused(improved):
    gain = _gate.decide(improved, params())["metrics"][PLACES[0]]["gain"]
    decision = _gate.decide(improved, params(min_improvement=gain))
    assert decision["decision"] == "refuse"
    assert "promote.min_improvement" in decision["reason"]


def test_a_loss_that_is_neither_shown_nor_excluded_is_refused_in_other_words(
    score, pieces, champion
):
    metrics = {name: {"better": "higher", "tolerance": 0} for name in PLACES[:2]}
    decision = _gate.decide(
        score(moved(pieces, noise=0.5, seed=300), champion), params(metrics=metrics)
    )
    assert verdicts(decision)[PLACES[1]] == "unsure"
    assert f"{PLACES[1]} may lose more than 0" in decision["reason"]
    assert "more held-out speakers would tell" in decision["reason"]


def test_the_first_champion_must_show_what_is_asked_for(score, pieces):
    scored = score(moved(pieces, noise=0.1, seed=200))
    decision = _gate.decide(scored, params())
    assert decision["decision"] == "promote"
    assert set(decision["metrics"]) == {PLACES[0]}
    assert "must be above 0 (promote.first)" in decision["reason"]

    decision = _gate.decide(scored, params(first={PLACES[0]: 0.0, "rigidity.value": -1.0}))
    assert decision["decision"] == "refuse"
    assert "rigidity.value is" in decision["reason"]


@pytest.mark.parametrize("file", ["params.yaml", "params.cluster.yaml"])
def test_a_first_model_must_also_please_what_no_network_judges(root, file):
    asked = load(root / file).promote.first
    judged = {name for name in asked if name.startswith(("lse_", "abs_offset_s."))}
    assert judged, "nothing of synchrony is asked for"
    assert asked.keys() - judged, "only networks decide"


def test_a_first_model_that_moves_at_random_is_refused(score, pieces):
    others = [piece.motion_TPD for piece in pieces[6:] + pieces[:6]]
    decision = _gate.decide(score(others), params())
    assert decision["decision"] == "refuse"
    assert decision["champion"] is None


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        ({"min_sequences": 13}, "12 sequences decide nothing, at least 13"),
        ({"min_speakers": 7}, "6 speakers decide nothing, at least 7"),
    ],
)
def test_too_little_decides_nothing(improved, bound, words):
    decision = _gate.decide(improved, params(**bound))
    assert decision["decision"] == "refuse"
    assert words in decision["reason"]


@pytest.mark.parametrize(("untold", "verdict"), [("allow", "promote"), ("refuse", "refuse")])
def test_what_cannot_be_told_counts_as_the_parameter_says(improved, untold, verdict):
    values = dict(improved["paired"]["values"])
    for name in list(values):
        if name.endswith("level3"):
            del values[name]
    without = improved | {"paired": improved["paired"] | {"values": values}}
    decision = _gate.decide(without, params(untold=untold))
    assert decision["decision"] == verdict
    assert decision["metrics"][PLACES[3]]["verdict"] == "untold"
    assert PLACES[3] in decision["reason"]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("metric_version", r"the champion was scored by version other of the metrics"),
        ("test_set", r"scored on different test sets \(.*other\)"),
        ("judges", r"scored on different evaluators \(j+ and other\)"),
    ],
)
def test_scores_that_do_not_mean_the_same_are_not_compared(improved, what, words):
    champion = improved["champion"]
    other = champion | {"scored_by": champion["scored_by"] | {what: "other"}}
    with pytest.raises(InputError, match=f"{words}.*evaluate again"):
        _gate.decide(improved | {"champion": other}, params())


def test_scores_of_an_older_evaluation_are_not_compared(improved):
    older = {name: value for name, value in improved.items() if name != "paired"}
    with pytest.raises(InputError, match="an older version wrote them; evaluate again"):
        _gate.decide(older, params())


@pytest.mark.parametrize("name", ["lse_d.all.level9.value", "rigidity.normalised", "lse.value"])
def test_a_metric_that_there_is_not_is_refused_by_name(improved, name):
    metrics = {PLACES[0]: {"better": "higher", "tolerance": 0}}
    metrics[name] = {"better": "higher", "tolerance": 0}
    with pytest.raises(InputError, match=f"no metric {name} by sequence"):
        _gate.decide(improved, params(metrics=metrics))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric": "rigidity.max"}, "metric names rigidity.max, which metrics lacks"),
        ({"first": {"rigidity.max": 1}}, "first names rigidity.max, which metrics lacks"),
        ({"first": {}}, "first asks for nothing"),
        (
            {"metrics": {PLACES[0]: {"better": "lower", "tolerance": 0}}},
            "better must be higher, found lower",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        params(**changes)


def test_a_truth_that_was_not_scored_is_asked_for_in_vain(improved):
    name = "mouth_opening_loudness"
    roles = dict(improved["paired"]["values"][name])
    del roles["ceiling"]
    values = improved["paired"]["values"] | {name: roles}
    without = improved | {"paired": improved["paired"] | {"values": values}}
    with pytest.raises(InputError, match="which the scores do not have"):
        _gate.decide(without, params())


def test_a_first_model_may_have_to_come_near_the_truth(score, pieces):
    scored = score(moved(pieces, noise=0.1, seed=200))
    name = "mouth_opening_loudness.value"
    near, far = (params(first={name: bound}) for bound in (2.0, 0.0))
    assert _gate.decide(scored, near)["decision"] == "promote"
    refused = _gate.decide(scored, far)
    assert refused["decision"] == "refuse"
    assert "as near the ground truth as 0" in refused["reason"]


def test_a_champion_of_another_dataset_is_told(improved):
    champion = improved["champion"] | {"dataset_revision": "another"}
    reason = _gate.decide(improved | {"champion": champion}, params())["reason"]
    assert "the champion was trained on another dataset" in reason


def test_the_explanation_has_a_row_for_each_metric_the_deciding_one_first(improved):
    decision = _gate.decide(improved, params(metric=PLACES[1], first={PLACES[1]: 0.0}))
    header, first, *others = text.table(decision).splitlines()
    assert header.split()[:4] == ["metric", "better", "champion", "challenger"]
    assert first.startswith(PLACES[1])
    assert len([row for row in others if row.startswith(("lse_d", "rigidity", "mouth"))]) == 5
    assert "12 sequences of 6 speakers; intervals of 95%" in others[-1]
    assert text.line(decision) == f"{decision['decision']}: {decision['reason']}"
