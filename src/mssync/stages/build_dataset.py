"""Stage 4: parts and decisions -> which clips are used, cut how, in which split; with a card.

No landmark and no sound is copied: the dataset is a list over the parts, cheap to make again.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mssync import records, versions
from mssync.data import dataset
from mssync.data.splits import split_speakers
from mssync.errors import InputError, StageFailedError
from mssync.ledger import DECISIONS, Decision, write_decisions
from mssync.params import BuildDataset
from mssync.records import Row
from mssync.selection.evidence import Evidence, gather
from mssync.selection.rules import SCORES
from mssync.selection.verdicts import verdicts

logger = logging.getLogger(__name__)


def run(
    manifest: Path,
    landmarks: Path,
    audio: Path,
    ledger: Path,
    out: Path,
    params: BuildDataset,
) -> dict[str, float]:
    """Decide on every clip, cut to what is usable, split by speaker, and name the version.

    Args:
        manifest: As `download_videos` writes it.
        landmarks: Parts of `extract_landmarks`.
        audio: Parts of `extract_audio`.
        ledger: Folder of all stages' ledgers; the decisions of the extraction stages are read
            from it, this stage's own are written to it.
        out: The dataset's folder; what was measured is kept beside it, in `<out>.evidence/`.
        params: The stage's section; every threshold that only decides is in it.

    Returns:
        Clips per split and rejected.

    Raises:
        InputError: If an input is missing or of the wrong form.
        StageFailedError: If no clip is left, or a split is left without a speaker.
    """
    clips = {row["clip_id"]: row for row in records.read(manifest, records.MANIFEST)}
    evidence = gather(landmarks, audio, params, cache=evidence_folder(out), keep=True)
    decisions = _decide(clips, ledger, evidence, params)
    kept = [decision.clip_id for decision in decisions if decision.kept]
    reasons = Counter(decision.reason for decision in decisions if not decision.kept)
    write_decisions(ledger / "build_dataset" / DECISIONS, decisions, SCORES)
    if not kept:
        first = decisions[0] if decisions else Decision("", "", "the manifest is empty")
        raise StageFailedError(
            f"no clip is left of {len(clips)}. First reason: {first.clip_id}: {first.detail}. "
            f"All: {(ledger / 'build_dataset' / DECISIONS).resolve()}"
        )
    splits = _split(clips.values(), set(kept), params)
    rows = [_row(clips[clip], evidence[clip], splits) for clip in sorted(kept)]
    dataset.write(
        out,
        rows,
        revision=versions.dataset_revision(
            rows, decisions, smoothing_frames=params.smoothing_frames
        ),
        landmarks=landmarks,
        audio=audio,
        reasons=dict(sorted(reasons.items())),
        params=params.model_dump(mode="json"),
    )
    found = {split: count["clips"] for split, count in dataset.counts(rows).items()}
    logger.info("build-dataset: %s, rejected %d", found, reasons.total())
    return {f"clips_{split}": count for split, count in found.items()} | {
        "clips_rejected": reasons.total()
    }


def evidence_folder(dataset: Path) -> Path:
    """Where what was measured for a dataset is kept."""
    return dataset.with_name(f"{dataset.name}.evidence")


def _decide(
    clips: Mapping[str, Row],
    ledger: Path,
    evidence: Mapping[str, Evidence],
    params: BuildDataset,
) -> list[Decision]:
    """The decision on every clip of the manifest, sorted."""
    found = [
        decision for decision in verdicts(ledger, evidence, params) if decision.clip_id in clips
    ]
    undecided = clips.keys() - {decision.clip_id for decision in found}
    if undecided:
        raise InputError(
            f"{min(undecided)} is in the manifest but was never decided by an extraction stage: "
            "run extract-landmarks and extract-audio again"
        )
    return found


def _split(clips: Iterable[Row], kept: set[str], params: BuildDataset) -> dict[str, str]:
    """A split for every speaker of whom a clip is kept."""
    listed: Sequence[Row] = sorted(clips, key=lambda row: str(row["clip_id"]))
    pins = {row["speaker_id"]: row["split"] for row in listed if row["split"]}
    pinned = {
        row["speaker_id"]: pins.get(row["speaker_id"], "")
        for row in listed
        if row["clip_id"] in kept
    }
    try:
        return split_speakers(
            pinned, salt=params.salt, val_ratio=params.val_ratio, test_ratio=params.test_ratio
        )
    except ValueError as error:
        raise StageFailedError(
            f"{error}. Set another build_dataset.salt, pin speakers (column split of the list), "
            "give the list more speakers (column speaker_id), or set the split's ratio to 0"
        ) from error


def _row(clip: Row, evidence: Evidence, splits: Mapping[str, str]) -> Row:
    """The dataset's row of a clip."""
    usable, crop, audio = evidence.usable, evidence.crop, evidence.audio
    assert audio is not None, "a clip without sound is never kept"
    return {
        **{name: clip[name] for name in ("clip_id", "speaker_id", "language", "licence", "sha256")},
        "split": splits[clip["speaker_id"]],
        "first_frame": usable.stretch.first_frame,
        "frames": usable.stretch.frames,
        "crop_left_px": crop.left_px,
        "crop_top_px": crop.top_px,
        "crop_side_px": crop.side_px,
        "landmarks_part": evidence.landmarks.part,
        "landmarks_content": evidence.landmarks.content,
        "audio_part": audio.part,
        "audio_content": audio.content,
    }
