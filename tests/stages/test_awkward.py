"""Files that a pipeline meets in the wild: every one ends with the outcome that is defended here.

What each file is, and what a careful person would expect, is told by `awkward.csv` beside them.
"""

import csv
import shutil

import numpy as np
import pytest

from mssync import records
from mssync.landmarks import ibug
from mssync.params import load
from mssync.parts import read_parts
from mssync.reasons import REASONS
from tests.stages.footage import outcome, through

KEPT = None
DOWNLOAD, LANDMARKS, AUDIO, DATASET = (
    "download_videos", "extract_landmarks", "extract_audio", "build_dataset",
)  # fmt: skip

EXPECTED = {
    # ---- no video
    "zero_bytes.mp4": (DOWNLOAD, "not_a_video"),
    "html_error_page.mp4": (DOWNLOAD, "not_a_video"),
    "lfs_pointer.mp4": (DOWNLOAD, "not_a_video"),
    "random_bytes.mp4": (DOWNLOAD, "not_a_video"),
    "truncated_no_moov.mp4": (DOWNLOAD, "corrupt"),
    "audio_only.mp4": (DOWNLOAD, "no_video"),
    "audio_with_cover_art.m4a": (DOWNLOAD, "no_video"),
    # ---- hostile names: the same bytes eight times over, so the first by name stands for all
    "-dash-first.mp4": KEPT,
    "UPPER.MP4": (DOWNLOAD, "duplicate"),
    "cafe\u0301_nfd.mp4": (DOWNLOAD, "duplicate"),
    "duplicate_a.mp4": (DOWNLOAD, "duplicate"),
    "duplicate_b.mp4": (DOWNLOAD, "duplicate"),
    "id10283#u3s9xdUlmmk#002705.mp4": (DOWNLOAD, "duplicate"),
    f"long_{200 * 'x'}.mp4": (DOWNLOAD, "duplicate"),
    "name with spaces.mp4": (DOWNLOAD, "duplicate"),
    "two.dots..in.name.mp4": (DOWNLOAD, "duplicate"),
    # ---- no face; where the detector takes a dog or a title card for one, it is rarely and unsure
    "audio_8k_stereo_real.mp4": (LANDMARKS, "no_face"),
    "multi_audio_tracks_real.mp4": (LANDMARKS, "no_face"),
    "noface_audiobook_88s.mp4": (DATASET, "face_lost"),
    "noface_dog.mp4": (DATASET, "face_lost"),
    "upside_down_no_metadata.mp4": (DATASET, "low_confidence"),
    # ---- several faces: who of them speaks is not known
    "crowd_outdoor_speech.mp4": (DATASET, "several_faces"),
    "four_faces_news.mp4": (DATASET, "several_faces"),
    "two_faces_interview.mp4": (DATASET, "several_faces"),
    "two_same_faces_side_by_side.mp4": (DATASET, "several_faces"),
    # ---- small faces: below 20 px between the eyes; the Spanish stage shows 40 px, so it is used
    "tiny_face_inset_70s.mp4": (DATASET, "face_too_small"),
    "tiny_face_stage.mp4": (DATASET, "face_too_small"),
    "tiny_face_stage_es.webm": KEPT,
    # ---- something before the face: the phone is at the ear and leaves the lips to be seen
    "mouth_covered.mp4": (DATASET, "mouth_hidden"),
    "occluded_by_phone.mp4": KEPT,
    "zoom_hand_2997fps.mp4": KEPT,
    # ---- a face that is not there to the end
    "face_leaves_frame.mp4": KEPT,
    "truncated_faststart.mp4": KEPT,
    # ---- cuts: one of six people is used; of the close-ups the camera moves, there is no cut
    "cuts_six_people_18s.mp4": KEPT,
    "cuts_close_up.mp4": KEPT,
    # ---- too little
    "short_8frames.mp4": (DATASET, "too_short"),
    "short_24frames.mp4": (DATASET, "too_short"),
    "short_29frames_lrw.mp4": (DATASET, "too_short"),
    "short_39frames.mp4": (DATASET, "too_short"),
    "fps_5.mp4": (DATASET, "too_few_frames"),
    # ---- not talking
    "head_tilting_no_speech.mp4": (DATASET, "no_speech"),
    "quiet_audio_pillarbox.mp4": (DATASET, "mouth_still"),
    "music_not_speech.mp4": (DATASET, "noisy"),
    # ---- no sound
    "no_audio_derived.mp4": (AUDIO, "no_audio"),
    "no_audio_real.mp4": (AUDIO, "no_audio"),
    "gif_no_audio.gif": (AUDIO, "no_audio"),
    "silent_audio_real.mov": (DATASET, "silent"),
    # ---- sound that needs care; clipping was lost in the AAC, and the speech is 10 dB above noise
    "audio_44k_pcm.mkv": KEPT,
    "audio_48k_stereo_one_side.mp4": KEPT,
    "audio_51.mp4": KEPT,
    "audio_longer_than_video.mp4": KEPT,
    "audio_mp3.avi": KEPT,
    "clipped_audio_derived.mp4": KEPT,
    "noisy_background_profile.mp4": KEPT,
    "stereo48k_captions.mp4": KEPT,
    "two_audio_tracks.mp4": KEPT,
    # ---- pictures that need care
    "anamorphic_sar.mp4": KEPT,
    "container_mpg.mpg": KEPT,
    "dark.mp4": KEPT,
    "fps_15.mp4": KEPT,
    "fps_60.mp4": KEPT,
    "gray.mp4": KEPT,
    "odd_size_yuv444.mp4": KEPT,
    "rotation_90_metadata.mp4": KEPT,
    "vfr_real.mp4": KEPT,
    "vp9_opus.webm": KEPT,
    # ---- generated people: nothing measured here tells them from real ones; the list has to
    "generated_avatar_tts.mp4": KEPT,
    "generated_photoreal_vasa.mp4": KEPT,
}


@pytest.fixture(scope="module")
def went(tmp_path_factory, real_clips, root):
    """The whole folder, and another folder that is named like a file, through all stages."""
    folder = tmp_path_factory.mktemp("awkward")
    media = folder / "media"
    shutil.copytree(real_clips / "awkward", media)
    (media / "directory.mp4").mkdir()
    (media / "directory.mp4" / "clip.mp4").touch()
    with (folder / "sources.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "speaker_id"])
        writer.writerows([path.name, path.name] for path in sorted(media.iterdir()))
    return through(folder, folder / "sources.csv", load(root / "params.yaml"), base=media)


def test_every_file_ends_as_it_should(went, real_clips):
    on_disk = {path.name for path in (real_clips / "awkward").iterdir()}
    assert on_disk == set(EXPECTED)
    found = {name: outcome(went.decided, name) for name in went.decided[DOWNLOAD]}
    assert found == EXPECTED | {"directory.mp4": (DOWNLOAD, "not_found")}


def test_rows_out_are_rows_in_at_every_stage(went):
    kept = set(went.decided[DOWNLOAD])
    assert len(kept) == len(EXPECTED) + 1
    for stage in (DOWNLOAD, LANDMARKS, AUDIO, DATASET):
        decisions = went.decided[stage]
        if stage == DOWNLOAD:
            assert set(decisions) == kept
            kept = {clip_id for clip_id, decision in decisions.items() if decision.kept}
        # later stages all decide on what was downloaded
        else:
            assert set(decisions) == kept
        for decision in decisions.values():
            assert decision.kept or (decision.reason in REASONS and decision.detail)
            assert decision.reason not in ("bug", "crashed", "too_costly")


def test_of_what_is_partly_good_the_good_part_is_used(went):
    scores = {name: decision.scores for name, decision in went.decided[DATASET].items()}
    # 3 s of each of six people; the other five seconds of sound; 4 s until the face slides out
    assert scores["cuts_six_people_18s.mp4"]["shots"] == 6
    assert scores["cuts_six_people_18s.mp4"]["usable_frames"] == pytest.approx(75, abs=1)
    assert scores["audio_longer_than_video.mp4"]["usable_frames"] == pytest.approx(125, abs=1)
    assert 95 <= scores["face_leaves_frame.mp4"]["usable_frames"] <= 130
    assert scores["face_leaves_frame.mp4"]["usable_start_frames"] == 0
    assert 100 <= scores["truncated_faststart.mp4"]["usable_frames"] <= 130
    assert scores["two_audio_tracks.mp4"]["loudness_db"] > -30
    assert scores["cuts_close_up.mp4"]["shots"] == 1


SAME = {
    # the same footage in other clothes: pixels of that file for one of the reference
    "audio_51.mp4": 1,
    "vp9_opus.webm": 1,
    "fps_60.mp4": 1,
    "anamorphic_sar.mp4": 1,
    "truncated_faststart.mp4": 1,
    "rotation_90_metadata.mp4": 1,
    "odd_size_yuv444.mp4": 331 / 512,
    "gray.mp4": 1,
}


def test_the_same_footage_has_the_same_points_whatever_it_is_wrapped_in(went):
    """And at the same time: a shift by one tick moves the points by 1 % of the eyes' distance."""
    points = {
        row["clip_id"]: records.shaped(row["landmarks_TPD"], -1, 68, 2)
        for row in read_parts(went.landmarks, records.LANDMARKS)
    }
    reference = points["audio_44k_pcm.mkv"]
    eyes_px = ibug.interocular_distance(reference).mean()
    for name, scale in SAME.items():
        found = points[name] / scale
        common = min(100, len(found))  # before the damage in what is truncated
        found, true = found[:common], reference[:common]
        offset = (found - true).mean(axis=(0, 1))  # what was cropped
        error = np.linalg.norm(found - true - offset, axis=-1).mean() / eyes_px
        assert error < 0.008, name
