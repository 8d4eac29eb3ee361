"""Stage 4: parts and decisions -> filtered, cut, normalised, split dataset with its card."""

import json
import logging
from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mssync import records, versions
from mssync.data import dataset
from mssync.data.clips import statistics
from mssync.data.splits import split_speakers
from mssync.errors import InputError, StageFailedError
from mssync.landmarks import ibug, tracks
from mssync.ledger import DECISIONS, Decision, write_decisions
from mssync.params import BuildDataset
from mssync.parts import read_parts
from mssync.records import Row
from mssync.selection.evidence import Verdict, verdicts
from mssync.selection.rules import SCORES
from mssync.selection.stretch import Stretch
from mssync.timing import ROWS_PER_FRAME

logger = logging.getLogger(__name__)

_JOINED = ("clip_id", "landmarks_TPD", "confidence_T", "interpolated_T")


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
    """Join landmarks and audio, filter, cut to what is usable, normalise, split by speaker.

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
    decided = _decide(clips, ledger, landmarks, audio, params)
    decisions = [verdict.decision for verdict in decided]
    kept = {
        verdict.decision.clip_id: verdict.stretch for verdict in decided if verdict.decision.kept
    }
    rejected = [decision for decision in decisions if not decision.kept]
    write_decisions(ledger / "build_dataset" / DECISIONS, decisions, SCORES)
    if not kept:
        first = rejected[0] if rejected else Decision("", "", "the manifest is empty")
        raise StageFailedError(
            f"no clip is left of {len(clips)}. First reason: {first.clip_id}: {first.detail}. "
            f"All: {(ledger / 'build_dataset' / DECISIONS).resolve()}"
        )
    splits = _split(clips.values(), kept, params, seed)
    sounds = _sounds(audio, kept)
    rows = [
        _join(
            clip := clips[row["clip_id"]],
            row,
            sounds[row["clip_id"]],
            kept[row["clip_id"]],
            splits[clip["speaker_id"]],
            params,
        )
        for row in read_parts(landmarks, records.LANDMARKS, columns=_JOINED)
        if row["clip_id"] in kept
    ]
    rows.sort(key=lambda row: str(row["clip_id"]))
    _write(out, rows, decisions, params)
    found = {split: count["clips"] for split, count in dataset.counts(rows).items()}
    logger.info("build-dataset: %s, rejected %d", found, len(rejected))
    return {f"clips_{split}": count for split, count in found.items()} | {
        "clips_rejected": len(rejected)
    }


def _decide(
    clips: Collection[str], ledger: Path, landmarks: Path, audio: Path, params: BuildDataset
) -> list[Verdict]:
    """The verdict on every clip of the manifest, sorted."""
    found = [
        verdict
        for verdict in verdicts(ledger, landmarks, audio, params)
        if verdict.decision.clip_id in clips
    ]
    undecided = set(clips) - {verdict.decision.clip_id for verdict in found}
    if undecided:
        raise InputError(
            f"{min(undecided)} is in the manifest but was never decided by an extraction stage: "
            "run extract-landmarks and extract-audio again"
        )
    return found


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
    clip: Row,
    landmarks: Row,
    log_mel_AM: NDArray[np.float32],
    stretch: Stretch,
    split: str,
    params: BuildDataset,
) -> Row:
    """The dataset's row of a clip; nothing outside its stretch has a part in it."""
    cut = stretch.ticks()
    points = records.shaped(landmarks["landmarks_TPD"], -1, ibug.POINTS, 2)[cut]
    left, top, side = tracks.square_crop(points, params.crop_scale)
    smoothed = tracks.smooth(points, params.smoothing_frames)
    motion = (smoothed - np.array([left, top], np.float32)) / np.float32(side)
    return {
        **{name: clip[name] for name in ("clip_id", "speaker_id", "language", "licence", "sha256")},
        "split": split,
        "first_frame": stretch.first_frame,
        "frames": stretch.frames,
        "crop_px": np.array([left, top, side], np.float32),
        "motion_TPD": motion.ravel(),
        "audio_AM": log_mel_AM.ravel(),
        "confidence_T": landmarks["confidence_T"][cut],
        "interpolated_T": landmarks["interpolated_T"][cut],
    }


def _sounds(folder: Path, kept: Mapping[str, Stretch]) -> dict[str, NDArray[np.float32]]:
    """Log mel energies of every kept clip's stretch."""
    return {
        row["clip_id"]: _rows(row["log_mel_AM"], kept[row["clip_id"]], int(row["frames"]))
        for row in read_parts(folder, records.AUDIO, columns=["clip_id", "frames", "log_mel_AM"])
        if row["clip_id"] in kept
    }


def _rows(values: NDArray[np.float32], stretch: Stretch, frames: int) -> NDArray[np.float32]:
    rows = records.shaped(values, frames * ROWS_PER_FRAME, -1)
    return rows[stretch.ticks(ROWS_PER_FRAME)].copy()


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
