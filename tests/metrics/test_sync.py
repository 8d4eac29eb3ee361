import numpy as np
import pytest
import torch

from mssync.metrics import sync
from mssync.pyramid import array_at_level
from tests.models.small import syncer

FRAMES = 120


class ScribeEvaluator:
    """A perfect judge: reads one hidden curve off both streams.

    Motion carries the curve in every coordinate, audio in every band, so windows that belong
    together embed alike at every level.
    """

    from_mean = False

    def __init__(self, level=0):
        self.level = level
        self.motion_windows = 0
        self.audio_windows = 0

    def embed_motion(self, motion_N5PD):
        self.motion_windows += len(motion_N5PD)
        return motion_N5PD.mean(dim=(2, 3))

    def embed_audio(self, audio_N20M):
        self.audio_windows += len(audio_N20M)
        return audio_N20M.mean(dim=2)[:, ::4]


def hidden_curve(seed, frames):
    """A wandering curve, slow enough to survive level 3."""
    white = np.random.default_rng(seed).normal(size=frames + 8)
    return np.convolve(white.cumsum(), np.ones(9) / 9, mode="valid").astype(np.float32)


def clip(curve, *, audio_late_frames=0):
    """Motion and audio of a curve, the audio later by some frames."""
    frames = len(curve) - 60
    motion = curve[30 : 30 + frames]
    audio = np.repeat(curve, 4)[4 * (30 - audio_late_frames) :][: 4 * frames]
    motion_TPD = np.broadcast_to(motion[:, None, None], (frames, 68, 2))
    return motion_TPD, np.broadcast_to(audio[:, None], (4 * frames, 26))


@pytest.fixture
def clips():
    return [clip(hidden_curve(seed, FRAMES + 60)) for seed in range(6)]


def curve_of(pair, level=0, kernel=7):
    (curve,) = sync.distance_curves([pair], ScribeEvaluator(level), kernel=kernel)
    return curve


@pytest.mark.parametrize(("level", "late_frames"), [(0, 7), (0, -12), (1, 8), (2, -8), (3, 8)])
def test_a_planted_delay_is_found_with_its_sign(level, late_frames):
    pair = clip(hidden_curve(5, FRAMES + 60), audio_late_frames=late_frames)
    found = curve_of(pair, level)
    assert found.offset_samples == late_frames / 2**level
    assert found.offset_s == pytest.approx(late_frames / 25)


def test_a_judge_of_displacements_does_not_care_where_a_face_is(clips):
    judge = syncer(0, normalise=False, inputs="displacement")
    moved = [(motion + np.float32([0.2, -0.1]), audio) for motion, audio in clips]
    here, there = (sync.distance_curves(pairs, judge, kernel=7) for pairs in (clips, moved))
    for one, other in zip(here, there, strict=True):
        np.testing.assert_allclose(one.distances, other.distances, rtol=1e-3)
    still = [(np.repeat(motion[:1], len(motion), axis=0), audio) for motion, audio in clips]
    assert sync.distance_curves(still, judge, kernel=7)[0].lse_d != here[0].lse_d


def test_a_clip_in_sync_has_its_least_distance_at_zero(clips):
    for pair in clips:
        found = curve_of(pair)
        assert found.offset_samples == 0
        assert found.lse_d == found.distance_at_0
        assert found.lse_c > 0


def test_the_curve_is_the_mean_over_pairs_that_exist(clips):
    motion, audio = clips[0]
    found = curve_of(clips[0])
    shift = 4
    means = [
        np.linalg.norm(motion[i : i + 5, 0, 0] - audio[4 * (i + shift) :: 4, 0][:5])
        for i in range(116 - shift)
    ]
    at = found.shifts == shift
    assert found.distances[at] == pytest.approx(np.mean(means), rel=1e-5)
    assert found.pairs[at] == 116 - shift


@pytest.mark.parametrize(
    ("level", "search_s", "valid"), [(0, 0.6, 116), (1, 0.56, 53), (2, 0.48, 21), (3, 0.32, 6)]
)
def test_windows_that_touch_padding_are_left_out(clips, level, search_s, valid):
    found = curve_of(clips[0], level)
    assert found.shifts_s[-1] == pytest.approx(search_s)
    assert found.pairs.max() == valid
    assert not found.padded


def test_a_clip_without_a_clean_window_is_scored_on_padded_ones_and_says_so(clips):
    motion, audio = clips[0]
    found = curve_of((motion[:45], audio[:180]), level=3)
    assert found.padded
    assert found.pairs.tolist() == [1, 2, 1]


def test_shifts_that_no_window_has_are_nan(clips):
    motion, audio = clips[0]
    found = curve_of((motion[:9], audio[:36]))
    assert np.isfinite(found.distances[np.abs(found.shifts) < 5]).all()
    assert np.isnan(found.distances[np.abs(found.shifts) >= 5]).all()
    assert np.isfinite([found.lse_d, found.lse_c]).all()


def test_the_kernel_of_the_pyramid_matters(clips):
    assert not np.allclose(
        curve_of(clips[0], 1, kernel=3).distances, curve_of(clips[0], 1, kernel=7).distances
    )


def test_audio_of_another_length_is_refused(clips):
    motion, audio = clips[0]
    with pytest.raises(ValueError, match="120 frames need 480 audio rows, found 476"):
        curve_of((motion, audio[4:]))


def test_a_clip_shorter_than_a_window_is_refused(clips):
    motion, audio = clips[0]
    with pytest.raises(ValueError, match="30 frames have no whole window at level 3"):
        curve_of((motion[:30], audio[:120]), level=3)


# --- reference systems ---------------------------------------------------------------------------


@pytest.mark.parametrize("speakers", ["ab", "aabb", "abab", "aaabbc", "abcabcabc", "aabbccdd"])
def test_the_other_clip_is_of_another_speaker_where_there_are_enough(speakers):
    donors = sync.other_clips(speakers)
    assert sorted(donors) == list(range(len(speakers)))
    assert all(speakers[donor] != speakers[clip] for clip, donor in enumerate(donors))


@pytest.mark.parametrize("speakers", ["aa", "aaab", "aaaaa"])
def test_the_other_clip_is_never_the_clip_itself(speakers):
    donors = sync.other_clips(speakers)
    assert sorted(donors) == list(range(len(speakers)))
    assert all(donor != clip for clip, donor in enumerate(donors))


def test_one_clip_has_no_other():
    with pytest.raises(ValueError, match="two clips or more, found 1"):
        sync.other_clips(["a"])


def test_shifted_audio_is_late_by_one_second(clips):
    motion, audio = sync.reference_systems(clips, "ababab")[sync.SHIFTED_AUDIO][0]
    assert len(motion) == FRAMES - 25
    assert motion[0, 0, 0] == clips[0][0][25, 0, 0]
    assert audio[0, 0] == clips[0][1][0, 0]


def test_floors_score_below_the_ceiling_at_level_0(clips):
    scored = score(clips)
    ceiling = scored[sync.CEILING].scores["lse_d"]
    for floor in sync.FLOORS:
        assert scored[floor].scores["lse_d"].low > ceiling.high, floor


# --- score_systems -------------------------------------------------------------------------------


def score(clips, level=0, **more):
    systems = sync.reference_systems(clips, "ababab") | more
    return sync.score_systems(
        systems,
        ScribeEvaluator(level),
        kernel=7,
        rng=np.random.default_rng(0),
        resamples=200,
    )


def test_ground_truth_is_one_and_another_audio_is_zero(clips):
    scored = score(clips)
    for name in sync.NORMALISED:
        assert scored[sync.CEILING].normalised[name].value == 1
        assert scored[sync.OTHER_AUDIO].normalised[name].value == 0


def test_equal_systems_have_equal_scores_and_intervals(clips):
    scored = score(clips, one=list(clips), two=list(clips))
    assert scored["one"].scores == scored["two"].scores
    assert scored["one"].normalised == scored["two"].normalised


def test_a_noisier_system_scores_lower(clips):
    noise = np.random.default_rng(0).normal(size=(FRAMES, 68, 2)).astype(np.float32)
    scored = score(
        clips,
        good=[(motion + noise, audio) for motion, audio in clips],
        bad=[(motion + 20 * noise, audio) for motion, audio in clips],
    )
    good, bad = (scored[name].normalised["lse_d"] for name in ("good", "bad"))
    assert bad.value < good.value < 1
    assert good.low <= good.value <= good.high
    assert good.n == 6


def test_nothing_is_placed_by_a_judge_who_cannot_tell(clips):
    class Blind(ScribeEvaluator):
        def embed_audio(self, audio_N20M):
            return torch.zeros(len(audio_N20M), 5)

    scored = sync.score_systems(
        sync.reference_systems(clips, "ababab"),
        Blind(),
        kernel=7,
        rng=np.random.default_rng(0),
        resamples=200,
    )
    assert scored[sync.CEILING].normalised["lse_d"].value is None


def test_scores_are_the_same_from_the_same_generator(clips):
    first, second = score(clips), score(clips)
    assert all(first[name].scores == second[name].scores for name in first)


def test_windows_that_systems_share_are_embedded_once(clips):
    judge = ScribeEvaluator()
    systems = sync.reference_systems(clips, "ababab") | {"again": clips}
    sync.score_systems(systems, judge, kernel=7, rng=np.random.default_rng(0), resamples=100)
    static_windows = 6
    assert judge.motion_windows == 6 * 116 + static_windows
    assert judge.audio_windows == 6 * 116


def test_scores_do_not_depend_on_what_else_is_scored(clips):
    alone = curve_of(clips[3], level=2)
    among = score(clips, level=2)[sync.CEILING].curves[3]
    assert among.distances == pytest.approx(alone.distances, rel=1e-6)


def test_the_mean_curve_is_the_mean_of_the_clips(clips):
    ceiling = score(clips)[sync.CEILING]
    expected = np.mean([curve.distances for curve in ceiling.curves], axis=0)
    assert ceiling.mean_curve == pytest.approx(expected)


def test_a_missing_floor_is_refused(clips):
    with pytest.raises(ValueError, match="other_audio"):
        sync.score_systems(
            {sync.CEILING: clips},
            ScribeEvaluator(),
            kernel=7,
            rng=np.random.default_rng(0),
            resamples=100,
        )


def test_systems_of_other_clips_are_refused(clips):
    with pytest.raises(ValueError, match="same clips"):
        score(clips, short=clips[1:])


def test_a_stream_at_a_level_is_what_the_models_see(clips):
    """The judge must be fed from the same pyramid that trained it."""
    seen = []

    class Recorder(ScribeEvaluator):
        def embed_motion(self, motion_N5PD):
            seen.append(motion_N5PD)
            return super().embed_motion(motion_N5PD)

    sync.distance_curves([clips[0]], Recorder(2), kernel=7)
    at_level = array_at_level(clips[0][0], 2)
    assert seen[0].shape == (26, 5, 68, 2)
    assert torch.equal(seen[0][3], torch.from_numpy(at_level[3:8]))
