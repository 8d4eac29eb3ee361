"""Stage 4: parts and decisions -> filtered, normalised, split dataset with its card."""

import json
import logging
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mssync import records, versions
from mssync.data import dataset
from mssync.data.clips import statistics
from mssync.data.splits import split_speakers
from mssync.errors import InputError, StageFailedError
from mssync.landmarks import ibug, tracks
from mssync.ledger import DECISIONS, Decision, read_decisions, write_decisions
from mssync.params import BuildDataset
from mssync.parts import read_parts
from mssync.records import Row
from mssync.timing import ROWS_PER_FRAME

logger = logging.getLogger(__name__)

SCORES = (*records.LANDMARK_SCORES, *(set(records.AUDIO_SCORES) - set(records.LANDMARK_SCORES)))


def run(
    manifest: Path,
    landmarks: Path,
    audio: Path,
    ledger: Path,
    out: Path,
    params: BuildDataset,
    *,
    seed: int,
) -> dict[str, float]:
    """Join landmarks and audio, filter, normalise and split by speaker.

    Args:
        manifest: As `download_videos` writes it.
        landmarks: Parts of `extract_landmarks`.
        audio: Parts of `extract_audio`.
        ledger: Folder of all stages' ledgers; the decisions of the extraction stages are read
            from it, this stage's own are written to it.
        out: Folder to write: clips, metadata with revision and statistics, card.
        params: The stage's section; every threshold that only decides is in it.
        seed: Seed of the split.

    Returns:
        Clips per split and rejected.

    Raises:
        InputError: If an input is missing or of the wrong form.
        StageFailedError: If no clip is left, or too few speakers for disjoint splits.
    """
    clips = {row["clip_id"]: row for row in records.read(manifest, records.MANIFEST)}
    decisions = _decide(clips, ledger, params)
    kept = {decision.clip_id for decision in decisions if decision.kept}
    rejected = [decision for decision in decisions if not decision.kept]
    write_decisions(ledger / "build_dataset" / DECISIONS, decisions, sorted(SCORES))
    if not kept:
        first = rejected[0] if rejected else Decision("", "", "the manifest is empty")
        raise StageFailedError(
            f"no clip is left of {len(clips)}. First reason: {first.clip_id}: {first.detail}. "
            f"All: {(ledger / 'build_dataset' / DECISIONS).resolve()}"
        )
    splits = _split(clips.values(), kept, params, seed)
    sounds = {row["clip_id"]: row for row in read_parts(audio, records.AUDIO)}
    rows = [
        _join(clips[row["clip_id"]], row, sounds[row["clip_id"]], splits, params)
        for row in read_parts(landmarks, records.LANDMARKS)
        if row["clip_id"] in kept
    ]
    rows.sort(key=lambda row: str(row["clip_id"]))
    _write(out, rows, decisions, params)
    found = {split: count["clips"] for split, count in dataset.counts(rows).items()}
    logger.info("build-dataset: %s, rejected %d", found, len(rejected))
    return {f"clips_{split}": count for split, count in found.items()} | {
        "clips_rejected": len(rejected)
    }


def _decide(clips: Mapping[str, Row], ledger: Path, params: BuildDataset) -> list[Decision]:
    """One decision for each clip of the manifest, from the scores alone."""
    seen = [
        {decision.clip_id: decision for decision in read_decisions(ledger / stage / DECISIONS)}
        for stage in ("extract_landmarks", "extract_audio")
    ]
    decisions = []
    for clip_id in sorted(clips):
        before = [found.get(clip_id) for found in seen]
        if None in before:
            raise InputError(
                f"{clip_id} is in the manifest but was never decided by an extraction stage: "
                "run extract-landmarks and extract-audio again"
            )
        known = [decision for decision in before if decision is not None]
        scores = {
            name: value for decision in reversed(known) for name, value in decision.scores.items()
        }
        first = next((decision for decision in known if not decision.kept), None)
        if first:
            decisions.append(Decision(clip_id, first.reason, first.detail, scores))
            continue
        failed = next(_failures(scores, params), None)
        decisions.append(Decision(clip_id, *(failed or ("", "")), scores))
    return decisions


def _failures(scores: Mapping[str, float], params: BuildDataset) -> Iterator[tuple[str, str]]:
    """Thresholds that a clip misses: reason and sentence, the gravest first."""
    at_least = {
        "frames": ("too_short", "min_frames"),
        "source_fps_hz": ("too_few_frames", "min_source_fps_hz"),
        "tracked_ratio": ("face_lost", "min_tracked_ratio"),
        "mean_confidence": ("low_confidence", "min_confidence"),
        "interocular_px": ("face_too_small", "min_interocular_px"),
        "loudness_db": ("silent", "min_loudness_db"),
    }
    at_most = {
        "longest_gap_frames": ("face_lost", "max_gap_frames"),
        "max_jump": ("face_jumps", "max_jump"),
        "faces_ratio": ("several_faces", "max_faces_ratio"),
        "length_mismatch_s": ("length_mismatch", "max_length_mismatch_s"),
    }
    for bounds, word, sign in ((at_least, "at least", 1), (at_most, "at most", -1)):
        for score, (reason, field) in bounds.items():
            bound = getattr(params, field)
            if not sign * scores[score] >= sign * bound:
                yield (
                    reason,
                    f"{score} is {scores[score]:.4g}, {word} {bound:g} is kept "
                    f"(build_dataset.{field})",
                )


def _split(
    clips: Iterable[Row], kept: Container[str], params: BuildDataset, seed: int
) -> dict[str, str]:
    """A split for every speaker of whom a clip is kept."""
    listed = sorted(clips, key=lambda row: str(row["clip_id"]))
    pins = {row["speaker_id"]: row["split"] for row in listed if row["split"]}
    pinned = {
        row["speaker_id"]: pins.get(row["speaker_id"], "")
        for row in listed
        if row["clip_id"] in kept
    }
    try:
        return split_speakers(
            pinned, seed=seed, val_ratio=params.val_ratio, test_ratio=params.test_ratio
        )
    except ValueError as error:
        raise StageFailedError(
            f"{error}. Give the list more speakers (column speaker_id), or set "
            "build_dataset.val_ratio to 0"
        ) from error


def _join(
    clip: Row, landmarks: Row, audio: Row, splits: Mapping[str, str], params: BuildDataset
) -> Row:
    frames = int(landmarks["frames"])
    points = records.shaped(landmarks["landmarks_TPD"], frames, ibug.POINTS, 2)
    left, top, side = tracks.square_crop(points, params.crop_scale)
    smoothed = tracks.smooth(points, params.smoothing_frames)
    motion = (smoothed - np.array([left, top], np.float32)) / np.float32(side)
    log_mel = records.shaped(audio["log_mel_AM"], frames * ROWS_PER_FRAME, -1)
    return {
        **{name: clip[name] for name in ("clip_id", "speaker_id", "language", "licence", "sha256")},
        "split": splits[clip["speaker_id"]],
        "frames": frames,
        "crop_px": np.array([left, top, side], np.float32),
        "motion_TPD": motion.ravel(),
        "audio_AM": log_mel.ravel(),
        "confidence_T": landmarks["confidence_T"],
        "interpolated_T": landmarks["interpolated_T"],
    }


def _write(
    out: Path, rows: Sequence[Row], decisions: Sequence[Decision], params: BuildDataset
) -> None:
    revision = versions.dataset_revision(rows, decisions)
    reasons = Counter(decision.reason for decision in decisions if not decision.kept)
    training = [dataset.as_clip(row) for row in rows if row["split"] == "train"]
    metadata = {
        "revision": revision,
        "splits": dataset.counts(rows),
        "rejected": dict(sorted(reasons.items())),
        "params": params.model_dump(mode="json"),
        "statistics": dataset.statistics_to_json(statistics(training)),
    }
    records.write(out / dataset.CLIPS, rows, records.CLIPS, metadata={"revision": revision})
    card = dataset.card(revision, rows, reasons, params.model_dump(mode="json"))
    records.write_text(out / dataset.CARD, card)
    text = json.dumps(metadata, indent=1, sort_keys=True)
    records.write_text(out / dataset.METADATA, text + "\n")
