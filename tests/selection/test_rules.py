"""One clip against every threshold."""

import math

import numpy as np
import pytest

from mssync.ledger import Decision
from mssync.params import BuildDataset
from mssync.reasons import DATASET
from mssync.records import AUDIO_SCORES, LANDMARK_SCORES
from mssync.selection import rules
from mssync.selection.envelope import envelope
from mssync.selection.offset import Offset
from mssync.selection.rules import Face, Known, Sound
from mssync.selection.stretch import Stretch
from tests import handmade

SWITCHED_OFF = {"min_mouth_loudness_correlation": 0.3}

# What is wrong with a clip of 60 frames -> the reason. Shots of 44 frames are long enough.
BAD = [
    ({"frames": 20}, "too_short"),
    ({"cuts": [20, 40]}, "shot_changes"),
    ({"jumps": [30]}, "face_jumps"),
    ({"lost": range(25, 35)}, "face_lost"),
    ({"lost": range(60)}, "face_lost"),
    ({"tracked_ratio": 0.1}, "face_lost"),
    ({"audio_end_s": 1.2}, "length_mismatch"),
    ({"audio_start_s": 1.2}, "length_mismatch"),
    ({"source_fps_hz": 5}, "too_few_frames"),
    ({"mean_confidence": 0.6}, "low_confidence"),
    ({"interocular_px": 8}, "face_too_small"),
    ({"faces_ratio": 0.9}, "several_faces"),
    ({"yaw_p95_deg": 80}, "turned_away"),
    ({"blur": 0.1}, "blurred"),
    ({"jitter": 0.1}, "jitter"),
    ({"mouth_texture": 0.01}, "mouth_hidden"),
    ({"frozen_ratio": 0.9}, "frozen"),
    ({"mouth_energy": 0.001}, "mouth_still"),
    ({"loudness_db": -120}, "silent"),
    ({"speech_ratio": 0}, "no_speech"),
    ({"snr_db": -3}, "noisy"),
    ({"clipped_ratio": 0.4}, "clipped"),
    ({"heard": (0, 0)}, "mute_mouth"),
    ({"offset": Offset(240, 0.95, 0)}, "out_of_sync"),
    ({"offset": Offset(-240, 0.95, 0)}, "out_of_sync"),
    ({"offset": Offset(0, 0.95, -40)}, "drifting"),
]
IN_SYNC = Offset(0, 0.95, 0)


@pytest.fixture
def judge(tiny):
    """Decide on one clip: (decision, its stretch)."""

    def run(bad, **changes):
        params = BuildDataset(**{**tiny.build_dataset.model_dump(), **SWITCHED_OFF, **changes})
        given = handmade.SCORES | {"frames": handmade.FRAMES} | bad
        frames = given["frames"]
        layout = {name: given[name] for name in ("cuts", "lost", "jumps") if name in given}
        level = handmade.loudness(frames, lag_s=given.get("lag_s", 0), heard=given.get("heard"))
        sound = Sound(envelope(level), given["audio_start_s"], given["audio_end_s"])
        before = [
            Decision("a", scores={name: given[name] for name in names})
            for names in (LANDMARK_SCORES, AUDIO_SCORES)
        ]
        usable = rules.measure(Face(**handmade.landmark_columns(frames, **layout)), sound, params)
        known = Known(
            frames, usable, given.get("offset", IN_SYNC), given.get("listed_ms", math.nan)
        )
        return rules.decide("a", before, known, params), known.aligned(params).stretch

    return run


def test_a_good_clip_is_kept_whole(judge):
    decision, stretch = judge({})
    assert (decision.reason, decision.detail, stretch) == ("", "", Stretch(0, handmade.FRAMES))


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_every_threshold_rejects_with_its_own_reason(judge, bad, reason):
    decision, _ = judge(bad)
    assert decision.reason == reason
    assert "(build_dataset." in decision.detail


def test_every_reason_is_tried():
    assert {reason for _, reason in BAD} == set(DATASET) - {"leak_bridge"}  # about two clips


def test_the_gravest_reason_is_told(judge):
    everything = {name: value for bad, _ in BAD[1:] for name, value in bad.items()}
    assert judge(everything)[0].reason == "too_few_frames"
    del everything["source_fps_hz"]
    assert judge(everything)[0].reason == "shot_changes"
    assert judge({"snr_db": -3, "mean_confidence": 0.6})[0].reason == "low_confidence"


def test_what_could_not_be_measured_rejects_nothing(judge):
    unknown = dict.fromkeys(("jitter", "snr_db", "mouth_texture", "blur"), math.nan)
    assert judge(unknown)[0].kept


def test_a_clip_is_kept_for_its_longest_stretch(judge):
    decision, stretch = judge({"cuts": [5], "jumps": [10], "lost": [10, 11, 30, 59]})
    assert decision.kept
    assert stretch == Stretch(12, 47)


def test_a_jump_between_two_shots_is_a_cut_and_no_jump(judge):
    assert judge({"cuts": [10], "jumps": [10]})[1] == Stretch(10, 50)
    assert judge({"cuts": [30], "jumps": [30]})[0].reason == "shot_changes"


def test_gaps_up_to_the_bound_are_bridged(judge):
    lost = {"lost": range(20, 25)}
    assert judge(lost, max_gap_frames=5)[1] == Stretch(0, 60)
    assert judge(lost, max_gap_frames=4)[0].reason == "face_lost"


def test_a_clip_whose_sound_ends_early_ends_with_the_sound(judge):
    decision, stretch = judge({"audio_end_s": 2.01})
    assert decision.kept
    assert stretch == Stretch(0, 50)


def test_a_clip_whose_sound_begins_late_begins_with_the_sound(judge):
    assert judge({"audio_start_s": 0.45, "audio_end_s": 30})[1] == Stretch(12, 48)


def test_a_little_sound_may_be_missing_at_either_end(judge):
    assert judge({"audio_start_s": 0.19, "audio_end_s": 2.21})[1] == Stretch(0, 60)


def test_sound_that_goes_on_after_the_picture_is_no_fault(judge):
    decision, stretch = judge({"length_mismatch_s": 30, "audio_end_s": 32.4, "heard": (10, 60)})
    assert decision.kept
    assert stretch == Stretch(0, 60)


def test_digital_silence_within_a_whole_track_cuts_nothing(judge):
    assert judge({"heard": (10, 50)})[1] == Stretch(0, 60)


def test_sound_and_picture_of_different_length_share_what_they_have():
    face = Face(**handmade.landmark_columns(60))
    level = handmade.loudness(50)
    params = BuildDataset.model_construct(
        min_frames=44, max_jump=0.5, max_gap_frames=5, max_length_mismatch_s=0.2
    )
    usable = rules.measure(face, Sound(envelope(level), 0, 2.4), params)
    assert usable.stretch == Stretch(0, 50)


def test_a_rejection_by_an_extraction_stage_stands_with_the_scores_of_the_other(judge, tiny):
    before = [
        Decision("a", "no_face", "no face", dict.fromkeys(LANDMARK_SCORES, math.nan)),
        Decision("a", scores=dict.fromkeys(AUDIO_SCORES, 7.0)),
    ]
    decision = rules.decide("a", before, None, tiny.build_dataset)
    assert (decision.reason, decision.detail) == ("no_face", "no face")
    assert decision.scores["frames"] == decision.scores["snr_db"] == 7
    assert np.isnan([decision.scores["usable_frames"], decision.scores["interocular_px"]]).all()


@pytest.mark.parametrize("offset", [Offset(240, 0.5, 40), Offset(math.nan, 0, math.nan)])
def test_an_offset_that_is_not_believed_rejects_nothing(judge, offset):
    assert judge({"offset": offset})[0].kept


def test_a_late_sound_is_taken_later_and_ticks_without_sound_are_left_out(judge):
    late = {"offset": Offset(98, 0.95, 0)}
    decision, stretch = judge(late, correct_av_offset=True)
    assert decision.kept
    assert decision.scores["av_shift_rows"] == 10  # of 10 ms
    assert stretch == Stretch(0, 57)  # the last three have theirs beyond the end
    assert decision.scores["usable_frames"] == 57
    assert judge(late)[1] == Stretch(0, 60)


def test_an_early_sound_is_taken_earlier(judge):
    decision, stretch = judge({"offset": Offset(-80, 0.95, 0)}, correct_av_offset=True)
    assert decision.scores["av_shift_rows"] == -8
    assert stretch == Stretch(2, 58)


def test_what_is_corrected_is_in_sync_unless_too_little_is_left(judge):
    far = {"offset": Offset(480, 0.95, 0)}
    assert judge(far)[0].reason == "out_of_sync"
    decision, stretch = judge(far, correct_av_offset=True)
    assert (decision.kept, stretch) == (True, Stretch(0, 48))
    assert judge(far, correct_av_offset=True, min_frames=50)[0].reason == "length_mismatch"


@pytest.mark.parametrize("correct", [False, True])
def test_what_is_listed_is_taken_whatever_was_estimated(judge, correct):
    listed = {"offset": Offset(-40, 0.95, 0), "listed_ms": 98}
    decision, stretch = judge(listed, correct_av_offset=correct)
    assert decision.kept
    assert (decision.scores["av_shift_rows"], decision.scores["av_listed_ms"]) == (10, 98)
    assert stretch == Stretch(0, 57)
    # 0 is an offset too
    decision, _ = judge(listed | {"listed_ms": 0.0}, correct_av_offset=correct)
    assert decision.scores["av_shift_rows"] == 0


def test_a_listed_offset_that_the_estimate_contradicts_is_out_of_sync(judge):
    decision, _ = judge({"offset": Offset(0, 0.95, 0), "listed_ms": 400})
    assert decision.reason == "out_of_sync"


def test_a_correction_that_is_not_believed_is_not_made(judge):
    unsure = {"offset": Offset(98, 0.5, 0)}
    assert judge(unsure, correct_av_offset=True)[0].scores["av_shift_rows"] == 0
