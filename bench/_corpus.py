"""A corpus without videos: parts, ledgers and manifest of any number of clips, for `bench.dataset`.

Landmarks and log mel energies have the size, the range and the noise of extracted ones: a mean face
that turns, nods and talks, points with noise of a tenth of a pixel, bands that follow the mouth.
Clip `n` is the same in every corpus.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from mssync import records
from mssync.ledger import DECISIONS, Decision, write_sorted_decisions
from mssync.parts import PATTERN
from mssync.records import AUDIO, AUDIO_SCORES, LANDMARK_SCORES, LANDMARKS, MANIFEST, Row

FRAMES = 125
BANDS, COEFFICIENTS = 26, 13
CLIPS_PER_SPEAKER = 20
CLIPS_PER_PART = 256
_SCORES = {
    "source_fps_hz": 25, "tracked_ratio": 1, "interpolated_ratio": 0, "longest_gap_frames": 0,
    "mean_confidence": 0.95, "faces_ratio": 0, "max_faces": 1, "rival_mouth_energy": 0,
    "interocular_px": 80, "blur": 120, "yaw_p95_deg": 15, "pitch_p95_deg": 10, "roll_p95_deg": 5,
    "jitter": 0.004, "mouth_energy": 0.05, "mouth_texture": 1, "frozen_ratio": 0, "shots": 1,
    "max_jump": 0.05, "interlaced_ratio": 0, "audio_start_s": 0, "audio_end_s": FRAMES / 25,
    "length_mismatch_s": 0.01, "loudness_db": -20, "clipped_ratio": 0, "speech_ratio": 0.9,
    "snr_db": 20, "audio_tracks": 1, "frames": FRAMES,
}  # fmt: skip


def name(number: int) -> tuple[str, str]:
    """Clip id and speaker id of a clip."""
    return f"clip{number:07d}.mp4", f"speaker{number // CLIPS_PER_SPEAKER:06d}"


def write(folder: Path, numbers: range, *, workers: int) -> None:
    """Add clips to a corpus, as the extraction stages would: new parts, new tables."""
    pieces = [
        numbers[start : start + CLIPS_PER_PART] for start in range(0, len(numbers), CLIPS_PER_PART)
    ]
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(_write_parts, [folder] * len(pieces), pieces))
    tables(folder, range(numbers.stop))


def tables(folder: Path, numbers: Sequence[int]) -> None:
    """Write manifest and ledgers of clips."""
    records.write(folder / "data" / "manifest.parquet", _manifest(numbers), MANIFEST)
    for stage, names in (("extract_landmarks", LANDMARK_SCORES), ("extract_audio", AUDIO_SCORES)):
        scores = {score: float(_SCORES[score]) for score in names}
        write_sorted_decisions(
            folder / "ledger" / stage / DECISIONS,
            (Decision(name(number)[0], scores=scores) for number in numbers),
            list(names),
        )


def _manifest(numbers: Sequence[int]) -> Iterator[Row]:
    for number in numbers:
        clip, speaker = name(number)
        yield {
            "clip_id": clip, "speaker_id": speaker, "split": "", "language": "en",
            "licence": "none", "tags": "", "av_offset_ms": math.nan,
            "sha256": records.digest(clip), "bytes": 1_000_000,
        }  # fmt: skip


def _write_parts(folder: Path, numbers: range) -> None:
    rows = [_rows(number) for number in numbers]
    for kind, schema, which in (("landmarks", LANDMARKS, 0), ("audio", AUDIO, 1)):
        mine = [row[which] | {"content": records.row_digest(row[which], schema)} for row in rows]
        digest = records.digest(*(row["content"] for row in mine))[:16]
        path = folder / "data" / kind / PATTERN.replace("*", digest)
        records.write(path, mine, schema, metadata={"key": "bench"})


def _rows(number: int) -> tuple[Row, Row]:
    """Landmark row and audio row of a clip."""
    rng = np.random.default_rng(number)
    talk_A = _talk(rng)
    identity = {"clip_id": name(number)[0], "sha256": records.digest(name(number)[0])}
    mouth_T = 0.1 + 0.05 * talk_A[:: len(talk_A) // FRAMES]
    points = _face(rng, mouth_T)
    ticks = np.arange(FRAMES)
    landmarks = {
        "landmarks_TPD": points.ravel(),
        "confidence_T": rng.uniform(0.9, 1, FRAMES).astype(np.float32),
        "interpolated_T": ticks < 0,
        "pose_TA": rng.normal(0, 5, FRAMES * 3).astype(np.float32),
        "mouth_T": mouth_T.astype(np.float32),
        "move_T": rng.uniform(0, 0.05, FRAMES).astype(np.float32),
        "shot_T": np.zeros(FRAMES, np.int16),
    }
    tilt_M = np.linspace(1.5, 0.5, BANDS)
    log_mel = -6 + 3 * talk_A[:, None] * tilt_M + rng.normal(0, 1, (4 * FRAMES, BANDS))
    audio = {
        "log_mel_AM": np.maximum(log_mel, np.log(1e-8)).astype(np.float32).ravel(),
        "mfcc_AC": rng.normal(0, 10, 4 * FRAMES * COEFFICIENTS).astype(np.float32),
        "wide_mel_AM": np.zeros(0, np.float32),
        "loudness_A": (-35 + 10 * talk_A).astype(np.float32),
        "speech_A": (talk_A > 0).astype(np.float32),
    }
    return (
        identity | landmarks | {score: _SCORES[score] for score in LANDMARK_SCORES},
        identity | audio | {score: _SCORES[score] for score in AUDIO_SCORES},
    )


def _talk(rng: np.random.Generator) -> NDArray[np.float64]:
    """How open the mouth and how loud the voice is at each audio row."""
    talk_A = gaussian_filter1d(rng.standard_normal(4 * FRAMES), 6)
    clipped: NDArray[np.float64] = np.clip(talk_A / talk_A.std(), -1, 2)
    return clipped


def _face(rng: np.random.Generator, mouth_T: NDArray[np.float64]) -> NDArray[np.float32]:
    """A face of random shape that wanders, turns and talks: (T, 68, 2) in pixels."""
    shape_PD = np.random.default_rng(0).uniform(-100, 100, (68, 2)) + rng.normal(0, 5, (68, 2))
    drift_TD = np.cumsum(gaussian_filter1d(rng.standard_normal((FRAMES, 2)), 5, axis=0), axis=0)
    turn_T = 0.05 * np.cumsum(gaussian_filter1d(rng.standard_normal(FRAMES), 8))
    points = 256 + shape_PD + drift_TD[:, None]
    points[:, :, 0] += 0.1 * turn_T[:, None] * shape_PD[:, 1]
    points[:, 55:60, 1] += 80 * mouth_T[:, None]
    points[:, 65:68, 1] += 80 * mouth_T[:, None]
    noisy: NDArray[np.float32] = (points + rng.normal(0, 0.1, points.shape)).astype(np.float32)
    return noisy
