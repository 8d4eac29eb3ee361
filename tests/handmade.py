"""Parts, ledgers and a manifest made by hand: what `build_dataset` starts from, without a video."""

import numpy as np

from mssync import records
from mssync.ledger import DECISIONS, Decision, write_decisions
from mssync.parts import Parts
from mssync.records import AUDIO, AUDIO_SCORES, LANDMARK_SCORES, LANDMARKS, MANIFEST
from mssync.stages import build_dataset

FRAMES = 60
BANDS = 26
SCORES = {
    "source_fps_hz": 25,
    "tracked_ratio": 1,
    "interpolated_ratio": 0,
    "longest_gap_frames": 0,
    "mean_confidence": 0.9,
    "faces_ratio": 0,
    "max_faces": 1,
    "rival_mouth_energy": 0,
    "interocular_px": 60,
    "blur": 300,
    "yaw_p95_deg": 10,
    "pitch_p95_deg": 10,
    "roll_p95_deg": 5,
    "jitter": 0.004,
    "mouth_energy": 0.05,
    "mouth_texture": 1,
    "frozen_ratio": 0,
    "shots": 1,
    "max_jump": 0.02,
    "interlaced_ratio": 0,
    "audio_start_s": 0,
    "audio_end_s": 60,
    "length_mismatch_s": 0.01,
    "loudness_db": -20,
    "clipped_ratio": 0,
    "speech_ratio": 0.9,
    "snr_db": 20,
    "audio_tracks": 1,
}


def opening(time_s):
    """A mouth that talks: its opening at any time, in inter-ocular distances."""
    return 0.1 + 0.03 * sum(np.sin(2 * np.pi * hz * time_s + 3 * hz) for hz in (1.3, 2.2, 3.7))


def loudness(frames, *, lag_s=0.0, heard=None):
    """Level in dB of each row of the sound that goes with `opening`, later by `lag_s`.

    Args:
        frames: Length.
        lag_s: Positive: the sound is late.
        heard: First tick with sound and the tick after the last; None: all.
    """
    rows = np.arange(4 * frames)
    amplitude = opening((rows + 0.5) / 100 - lag_s)
    start, end = heard or (0, frames)
    level = 20 * np.log10(amplitude)
    return np.where((rows >= 4 * start) & (rows < 4 * end), level, -120).astype(np.float32)


def landmark_columns(frames=FRAMES, *, cuts=(), lost=(), jumps=()):
    """Columns per frame of a part: where shots begin, faces are lost and jump."""
    ticks = np.arange(frames)
    move = np.full(frames, 0.02, np.float32)
    move[list(jumps)] = 3
    return {
        "interpolated_T": np.isin(ticks, list(lost)),
        "shot_T": np.searchsorted(sorted(cuts), ticks, side="right").astype(np.int16),
        "move_T": move,
        "mouth_T": opening(ticks / 25).astype(np.float32),
    }


def write_inputs(folder, clips, *, pinned=None):
    """Write manifest, parts and ledgers of clips.

    Args:
        folder: Laid out as a workspace.
        clips: What is special about each: scores; `cuts`, `lost`, `jumps` (ticks), `heard` (first
            tick with sound, and the one after the last), `lag_s`, `listed_ms`; `extraction`: the
            reason for which `extract_audio` rejected it; `footage`: the clip whose picture and
            sound it has; `points` (T, 68, 2) and `log_mel` (4 T, 26).
        pinned: Split of a speaker.
    """
    landmarks = Parts(folder / "data" / "landmarks", LANDMARKS, key="k", clips_per_part=2)
    audio = Parts(folder / "data" / "audio", AUDIO, key="k", clips_per_part=3)
    for parts in (landmarks, audio):
        parts.keep_only({})
    manifest, found_faces, found_sounds = [], [], []
    for clip, special in sorted(clips.items()):
        given = SCORES | {"frames": FRAMES} | special
        rng = np.random.default_rng(list(given.get("footage", clip).encode()))
        frames, identity = int(given["frames"]), {"clip_id": clip, "sha256": clip}
        speaker = clip.split("/")[0]
        texts = dict.fromkeys(("language", "licence", "tags"), "")
        split = (pinned or {}).get(speaker, "")
        listed = {"av_offset_ms": special.get("listed_ms", float("nan"))}
        manifest.append(
            identity | texts | listed | {"speaker_id": speaker, "bytes": 1, "split": split}
        )
        layout = {name: given[name] for name in ("cuts", "lost", "jumps") if name in given}
        face_scores = {name: given[name] for name in LANDMARK_SCORES}
        columns = landmark_columns(frames, **layout)
        landmarks.add(
            identity
            | columns
            | {
                "landmarks_TPD": given.get(
                    "points", 100 + 50 * rng.random((frames, 68, 2))
                ).ravel(),
                "confidence_T": rng.uniform(0.8, 1, frames).astype(np.float32),
                "pose_TA": np.zeros(frames * 3, np.float32),
            }
            | face_scores
        )
        found_faces.append(Decision(clip, scores=face_scores))
        reason = given.get("extraction", "")
        if reason:
            found_sounds.append(Decision(clip, reason, "there is no audio stream"))
            continue
        sound_scores = {name: given[name] for name in AUDIO_SCORES}
        lag_s, heard = given.get("lag_s", 0.0), given.get("heard")
        audio.add(
            identity
            | {
                "log_mel_AM": given.get("log_mel", rng.random((frames * 4, BANDS)))
                .astype(np.float32)
                .ravel(),
                "mfcc_AC": rng.random(frames * 4 * 13).astype(np.float32),
                "wide_mel_AM": np.zeros(0, np.float32),
                "loudness_A": loudness(frames, lag_s=lag_s, heard=heard),
                "speech_A": np.ones(frames * 4, np.float32),
            }
            | sound_scores
        )
        found_sounds.append(Decision(clip, scores=sound_scores))
    landmarks.close()
    audio.close()
    records.write(folder / "manifest.parquet", manifest, MANIFEST)
    ledger = folder / "ledger"
    write_decisions(ledger / "extract_landmarks" / DECISIONS, found_faces, list(LANDMARK_SCORES))
    write_decisions(ledger / "extract_audio" / DECISIONS, found_sounds, list(AUDIO_SCORES))


def inputs(folder):
    """What `write_inputs` left: manifest, landmarks, audio and ledgers."""
    data = folder / "data"
    return folder / "manifest.parquet", data / "landmarks", data / "audio", folder / "ledger"


def build(folder, section):
    """Build the dataset of it, by a section `build_dataset`."""
    build_dataset.run(
        *inputs(folder), folder / "data" / "dataset", folder / "data" / "card", section
    )
