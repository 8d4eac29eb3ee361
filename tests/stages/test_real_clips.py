"""Extraction on real footage: talking heads from many sources, and files that go wrong."""

import csv

import pytest

from mssync.ledger import DECISIONS, read_decisions
from mssync.stages import build_dataset, download_videos, extract_audio, extract_landmarks


@pytest.fixture
def extract(tmp_path, store, tiny, real_clips):
    """Download, landmarks, audio and filters on listed files: stage -> clip -> decision."""
    lenient = {"min_success_ratio": 0.0}
    manifest, ledger = tmp_path / "manifest.parquet", tmp_path / "ledger"

    def run(sources):
        download_videos.run(
            sources,
            manifest,
            ledger / "download_videos",
            tiny.download_videos.model_copy(update=lenient),
            store=store,
            workers=2,
            base=str(real_clips),
        )
        for stage, section in (
            (extract_landmarks, tiny.extract_landmarks),
            (extract_audio, tiny.extract_audio),
        ):
            name = stage.__name__.rsplit(".", 1)[-1]
            stage.run(
                manifest,
                tmp_path / name,
                ledger / name,
                section.model_copy(update=lenient),
                store=store,
                workers=2,
            )
        build_dataset.run(
            manifest,
            tmp_path / "extract_landmarks",
            tmp_path / "extract_audio",
            ledger,
            tmp_path / "dataset",
            tiny.build_dataset,
            seed=0,
        )
        return {
            folder.name: {d.clip_id: d for d in read_decisions(folder / DECISIONS)}
            for folder in ledger.iterdir()
        }

    return run


def test_at_least_115_of_122_real_clips_survive_and_the_others_have_reasons(extract, real_clips):
    decided = extract(real_clips / "sources.csv")
    for stage in ("extract_landmarks", "extract_audio", "build_dataset"):
        decisions = decided[stage].values()
        assert sum(decision.kept for decision in decisions) >= 115, stage
        assert all(decision.kept or (decision.reason and decision.detail) for decision in decisions)
    assert len(decided["download_videos"]) == 122


EXPECTED = {
    # file: stage that rejects it, reason
    "zero_bytes.mp4": ("download_videos", "not_a_video"),
    "html_error_page.mp4": ("download_videos", "not_a_video"),
    "lfs_pointer.mp4": ("download_videos", "not_a_video"),
    "random_bytes.mp4": ("download_videos", "not_a_video"),
    "truncated_no_moov.mp4": ("download_videos", "corrupt"),
    "audio_only.mp4": ("download_videos", "no_video"),
    "audio_with_cover_art.m4a": ("download_videos", "no_video"),
    "multi_audio_tracks_real.mp4": ("extract_landmarks", "no_face"),
    "no_audio_real.mp4": ("extract_audio", "no_audio"),
    "gif_no_audio.gif": ("extract_audio", "no_audio"),
    "short_39frames.mp4": ("build_dataset", "too_short"),
    "short_8frames.mp4": ("build_dataset", "too_short"),
    "fps_5.mp4": ("build_dataset", "too_few_frames"),
    "truncated_faststart.mp4": ("build_dataset", "face_lost"),
    "face_leaves_frame.mp4": ("build_dataset", "face_lost"),
    "two_same_faces_side_by_side.mp4": ("build_dataset", "several_faces"),
    "audio_longer_than_video.mp4": ("build_dataset", "length_mismatch"),
    "silent_audio_real.mov": ("build_dataset", "silent"),
    # file: usable
    "fps_60.mp4": None,
    "vfr_real.mp4": None,
    "rotation_90_metadata.mp4": None,
    "odd_size_yuv444.mp4": None,
    "audio_51.mp4": None,
    "audio_mp3.avi": None,
    "vp9_opus.webm": None,
    "container_mpg.mpg": None,
    "name with spaces.mp4": ("download_videos", "duplicate"),
    "-dash-first.mp4": None,
    "UPPER.MP4": ("download_videos", "duplicate"),
    "id10283#u3s9xdUlmmk#002705.mp4": ("download_videos", "duplicate"),
}


def test_awkward_files_are_used_or_rejected_for_the_right_reason(extract, tmp_path):
    sources = tmp_path / "sources.csv"
    with sources.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["source"])
        writer.writerows([f"awkward/{name}"] for name in [*EXPECTED, "directory.mp4"])
    decided = extract(sources)

    def outcome(name):
        stages = ("download_videos", "extract_landmarks", "extract_audio", "build_dataset")
        for stage in stages:
            decision = decided[stage].get(f"awkward/{name}")
            if decision and not decision.kept:
                return stage, decision.reason
        return None

    assert {name: outcome(name) for name in EXPECTED} == EXPECTED
    assert outcome("directory.mp4") == ("download_videos", "not_found")
