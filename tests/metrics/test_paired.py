import numpy as np
import pytest

from mssync.metrics import paired
from mssync.metrics.paired import Better

CONFIDENCE = 0.95


def people(speakers, clips, sequences):
    """Names of speakers and clips, sequence by sequence."""
    who = [f"s{s}" for s in range(speakers) for _ in range(clips * sequences)]
    what = [f"c{c}" for c in range(speakers * clips) for _ in range(sequences)]
    return who, what


def drawn(speakers, clips, sequences, *, resamples=400, seed=0):
    rng = np.random.default_rng(seed)
    return paired.draw(*people(speakers, clips, sequences), rng=rng, resamples=resamples)


@pytest.fixture
def scores():
    return np.random.default_rng(0).normal(size=5 * 3 * 2)


def test_a_drawn_clip_counts_with_all_its_sequences():
    draws = drawn(5, 3, 2)
    assert draws.units == 5
    assert draws.counts_RN.shape == (400, 30)
    assert (draws.counts_RN.sum(axis=1) == 30).all()
    assert (draws.counts_RN[:, 0::2] == draws.counts_RN[:, 1::2]).all()


def test_each_draw_takes_as_many_speakers_as_there_are():
    counts_RS = drawn(5, 3, 2).counts_RN.reshape(400, 5, 6).sum(axis=2)
    assert set(np.unique(counts_RS)) <= {6.0 * times for times in range(6)}
    assert (counts_RS == 0).any()


def test_clips_are_what_is_drawn_where_there_is_one_speaker():
    assert drawn(1, 4, 2).units == 4


def test_a_system_gains_nothing_on_itself(scores):
    found = paired.gain(scores, scores, drawn(5, 3, 2), better=Better.HIGHER, confidence=CONFIDENCE)
    assert (found.value, found.low, found.high, found.n) == (0, 0, 0, 30)


@pytest.mark.parametrize(("better", "sign"), [(Better.HIGHER, 1), (Better.LOWER, -1)])
def test_a_gain_is_positive_where_the_first_system_is_better(scores, better, sign):
    found = paired.gain(scores + 1, scores, drawn(5, 3, 2), better=better, confidence=CONFIDENCE)
    assert found.value == pytest.approx(sign)
    assert found.low == pytest.approx(sign)


def test_a_gain_towards_the_truth_may_come_from_either_side(scores):
    given = {"better": Better.TRUTH, "confidence": CONFIDENCE, "truth_N": scores}
    draws = drawn(5, 3, 2)
    assert paired.gain(scores + 0.1, scores - 1, draws, **given).value == pytest.approx(0.9)
    assert paired.gain(scores - 0.1, scores + 1, draws, **given).low == pytest.approx(0.9)
    assert paired.gain(scores + 1, scores - 0.1, draws, **given).high == pytest.approx(-0.9)


def test_what_makes_a_sequence_hard_falls_out_of_the_difference(scores):
    hard = 100 * scores
    found = paired.gain(
        hard + 0.1, hard, drawn(5, 3, 2), better=Better.HIGHER, confidence=CONFIDENCE
    )
    assert found.low == pytest.approx(0.1)


def test_a_gain_of_place_is_measured_between_floor_and_ceiling(scores):
    given = {"ceiling_N": scores, "floor_N": scores + 10, "confidence": CONFIDENCE}
    found = paired.gain_of_place(scores + 2, scores + 4, drawn(5, 3, 2), **given)
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == (pytest.approx(0.2), pytest.approx(0.2))


def test_nothing_has_a_place_where_truth_and_floor_cannot_be_told_apart(scores):
    noise = np.random.default_rng(1).normal(size=30)
    found = paired.gain_of_place(
        scores,
        scores + 1,
        drawn(5, 3, 2),
        ceiling_N=scores,
        floor_N=noise,
        confidence=CONFIDENCE,
    )
    assert (found.value, found.n) == (None, 30)


def test_sequences_that_one_system_has_no_score_for_are_left_out_of_both(scores):
    holed = scores.copy()
    holed[0] = np.nan
    found = paired.gain(
        scores + 1, holed, drawn(5, 3, 2), better=Better.HIGHER, confidence=CONFIDENCE
    )
    assert (found.value, found.n) == (pytest.approx(1), 29)
    none = np.full(30, np.nan)
    found = paired.gain(none, holed, drawn(5, 3, 2), better=Better.HIGHER, confidence=CONFIDENCE)
    assert (found.value, found.low, found.n) == (None, None, 0)


def test_a_single_clip_has_no_interval():
    found = paired.gain(
        [1.0, 2.0], [0.0, 0.0], drawn(1, 1, 2), better=Better.HIGHER, confidence=CONFIDENCE
    )
    assert (found.value, found.low, found.high) == (1.5, None, None)


def test_two_speakers_who_disagree_show_nothing():
    who, _ = people(2, 4, 2)
    theirs = np.zeros(16)
    ours = np.where(np.array(who) == "s0", 5.0, -0.1)
    found = paired.gain(ours, theirs, drawn(2, 4, 2), better=Better.HIGHER, confidence=CONFIDENCE)
    assert found.value > 2
    assert found.low < 0


def test_rows_of_another_length_are_refused(scores):
    with pytest.raises(ValueError, match=r"paired by sequence, found lengths \[29, 30\]"):
        paired.gain(scores[1:], scores, drawn(5, 3, 2), better=Better.HIGHER, confidence=CONFIDENCE)


@pytest.mark.parametrize("spread_of_speakers", [0.0, 1.0])
@pytest.mark.parametrize(("speakers", "clips"), [(5, 4), (20, 2)])
def test_equal_systems_pass_for_better_no_oftener_than_is_said(speakers, clips, spread_of_speakers):
    """Of 400 pairs that differ by chance, 2.5 % may; a binomial would reach 4.3 % once in 100."""
    rng = np.random.default_rng(0)
    trials, passed = 400, 0
    who = np.repeat(np.arange(speakers), clips * 2)
    what = np.repeat(np.arange(speakers * clips), 2)
    for _ in range(trials):
        hard = rng.normal(size=len(who))
        difference = (
            spread_of_speakers * rng.normal(size=speakers)[who]
            + 0.5 * rng.normal(size=speakers * clips)[what]
            + rng.normal(size=len(who))
        )
        draws = paired.draw(list(map(str, who)), list(map(str, what)), rng=rng, resamples=300)
        found = paired.gain(
            hard + difference, hard, draws, better=Better.HIGHER, confidence=CONFIDENCE
        )
        passed += found.low > 0
    assert passed / trials <= 0.0425
