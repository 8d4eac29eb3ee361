import numpy as np
import pytest

from bench.failures import PLANTS
from mssync.landmarks import crop
from mssync.metrics import failures, sync
from mssync.metrics.failures import KINDS, Take
from tests.talkers import talkers

FRAMES, WINDOW, AT = 120, 40, 40


class Lipreader:
    """Judge of level 0: the mouth's opening against the loudness, both less their window's mean."""

    from_mean = False

    level = 0

    def embed_motion(self, motion_N5PD):
        opening = (motion_N5PD[:, :, 66] - motion_N5PD[:, :, 62]).norm(dim=-1)
        return opening / 0.03

    def embed_audio(self, audio_N20M):
        return (audio_N20M.mean(dim=2).reshape(-1, 5, 4).mean(dim=2) + 16) / 6


def take(motion, audio, speaker):
    distances = sync.window_distances([(motion, audio)], Lipreader(), kernel=7)
    return Take(motion, audio, distances[0], speaker)


@pytest.fixture(scope="module")
def real():
    """Forty sequences of ten synthetic people."""
    found = []
    for clip_id, (points, audio) in talkers(10, clips=2, frames=2 * FRAMES).items():
        left, top, side = crop.square_crop(points.astype(np.float32), 1.3)
        motion = crop.smooth(((points - [left, top]) / side).astype(np.float32), 3)
        for start in (0, FRAMES):
            rows = slice(4 * start, 4 * (start + FRAMES))
            found.append(take(motion[start : start + FRAMES], audio[rows], clip_id.split("/")[0]))
    return found


@pytest.fixture(scope="module")
def detectors(real):
    known = [one for one in real if one.speaker_id < "s07"]
    return failures.calibrate(known, axes=16, window_frames=WINDOW, false_alarm_rate=0.05)


@pytest.fixture(scope="module")
def strangers(real):
    return [one for one in real if one.speaker_id >= "s07"]


def test_few_real_clips_of_people_never_seen_are_called_failures(detectors, strangers):
    for kind in KINDS:
        failed = [detectors.verdicts(one)[kind].failed for one in strangers]
        assert sum(failed) <= 2, kind


@pytest.mark.parametrize("name", [name for name in PLANTS if name != "the motion is late"])
def test_a_planted_failure_is_found_where_it_begins(detectors, strangers, name):
    kind, plant = PLANTS[name]
    verdicts = []
    for one in strangers:
        verdicts.append(
            detectors.verdicts(take(*plant(one.motion_TPD, one.audio_AM, AT), one.speaker_id))[kind]
        )
    failed = [verdict for verdict in verdicts if verdict.failed]
    assert len(failed) >= 0.8 * len(verdicts)
    assert all(verdict.severity > 1 for verdict in failed)
    first = np.median([verdict.first_bad_frame for verdict in failed])
    assert AT - WINDOW < first < AT + WINDOW


def test_motion_that_comes_late_is_out_of_sync(detectors, strangers):
    kind, plant = PLANTS["the motion is late"]
    late = [take(*plant(one.motion_TPD, one.audio_AM, AT), one.speaker_id) for one in strangers]
    before = np.mean([detectors.verdicts(one)[kind].severity for one in strangers])
    after = np.mean([detectors.verdicts(one)[kind].severity for one in late])
    assert after > before
    assert np.mean([detectors.verdicts(one)[kind].failed for one in late]) >= 0.8


def test_a_larger_crop_changes_no_verdict(detectors, strangers):
    one = strangers[0]
    larger = Take((one.motion_TPD * 0.5 + 0.2).astype(np.float32), one.audio_AM, one.distance_WS)
    for kind, verdict in detectors.verdicts(one).items():
        other = detectors.verdicts(larger)[kind]
        assert other.failed == verdict.failed
        assert other.severity == pytest.approx(verdict.severity, rel=1e-3)


def test_a_frame_that_is_no_number_is_unrealistic(detectors, strangers):
    motion = strangers[0].motion_TPD.copy()
    motion[70:] = np.nan
    verdict = detectors.verdicts(Take(motion, strangers[0].audio_AM))[failures.UNREALISTIC]
    assert verdict.failed
    assert verdict.first_bad_frame == 70
    assert verdict.severity is None


def test_lips_may_rest_while_nobody_speaks(detectors, strangers):
    one = strangers[0]
    still = np.repeat(one.motion_TPD[:1], FRAMES, axis=0)
    pause = np.full_like(one.audio_AM, -18)
    pause[: 4 * 10] = -5  # a word in the beginning
    verdict = detectors.verdicts(Take(still, pause))[failures.FROZEN]
    assert verdict == failures.Verdict(None, None, None, 0)
    assert detectors.verdicts(Take(still, one.audio_AM))[failures.FROZEN].failed


def test_without_distances_synchrony_is_not_judged(detectors, strangers):
    verdict = detectors.verdicts(Take(strangers[0].motion_TPD, strangers[0].audio_AM))
    assert verdict[failures.OFF_SYNC].failed is None


def test_the_stated_rate_is_what_so_few_clips_allow(real):
    found = failures.calibrate(real[:4], axes=4, window_frames=WINDOW, false_alarm_rate=0.01)
    assert found.limits[failures.DRIFT].n == 4
    assert found.limits[failures.DRIFT].false_alarm_rate == pytest.approx(0.2)
    enough = failures.calibrate(real, axes=4, window_frames=WINDOW, false_alarm_rate=0.1)
    assert 0 < enough.limits[failures.DRIFT].false_alarm_rate <= 0.1


def test_nothing_to_calibrate_on_is_refused():
    with pytest.raises(ValueError, match="one real clip or more"):
        failures.calibrate([], axes=4, window_frames=WINDOW, false_alarm_rate=0.01)
    with pytest.raises(ValueError, match="between 0 and 1"):
        failures.calibrate([None], axes=4, window_frames=WINDOW, false_alarm_rate=0)
