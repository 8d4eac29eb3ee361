"""Stage 4: parts and decisions -> which clips are used, cut how, in which split; with a card.

No landmark and no sound is copied: the dataset is a list over the parts, cheap to make again.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from mssync import records
from mssync.data import dataset
from mssync.data.dataset import Dataset
from mssync.data.splits import split_speakers
from mssync.errors import InputError, StageFailedError
from mssync.ledger import DECISIONS, Decision, write_decisions
from mssync.params import BuildDataset
from mssync.records import Row
from mssync.selection.evidence import Evidence, gather
from mssync.selection.footage import Pair, pairs
from mssync.selection.leaks import settle
from mssync.selection.rules import SCORES
from mssync.selection.verdicts import verdicts
from mssync.stages._version import Places, write_version

logger = logging.getLogger(__name__)

LEAK = "leak_bridge"


def run(
    manifest: Path,
    landmarks: Path,
    audio: Path,
    ledger: Path,
    out: Path,
    card: Path,
    params: BuildDataset,
    *,
    workers: int = 1,
) -> dict[str, float]:
    """Decide on every clip, cut to what is usable, split by speaker, and name the version.

    Args:
        manifest: As `download_videos` writes it.
        landmarks: Parts of `extract_landmarks`.
        audio: Parts of `extract_audio`.
        ledger: Folder of all stages' ledgers; the decisions of the extraction stages are read
            from it, this stage's own are written to it.
        out: The dataset's folder; what was measured is kept beside it, in `<out>.evidence/`.
        card: Folder to write the version's card to.
        params: The stage's section; every threshold that only decides is in it.
        workers: Processes that measure new clips; they decide nothing.

    Returns:
        Clips per split and rejected.

    Raises:
        InputError: If an input is missing or of the wrong form.
        StageFailedError: If no clip is left, a split is left without a speaker, a speaker would
            change sides, or clips of the version before show the same footage in two splits.
    """
    clips = {row["clip_id"]: row for row in records.read(manifest, records.MANIFEST)}
    cache = evidence_folder(out)
    listed_ms = {clip: row["av_offset_ms"] for clip, row in clips.items()}
    evidence = gather(
        *(landmarks, audio, params),
        listed_ms=listed_ms,
        cache=cache,
        keep=True,
        workers=workers,
    )
    decisions = _decide(clips, ledger, evidence, params)
    kept = {decision.clip_id for decision in decisions if decision.kept}
    if not kept:
        write_decisions(ledger / "build_dataset" / DECISIONS, decisions, SCORES)
        raise _nothing_left(decisions, ledger)
    before = dataset.before(out)
    by_speaker = _split(clips.values(), kept, params, before)
    splits = {clip: by_speaker[clips[clip]["speaker_id"]] for clip in kept}
    found = pairs(evidence, cache=cache)
    decisions = _quarantine(decisions, found, splits, before)
    kept = {decision.clip_id for decision in decisions if decision.kept}
    rejected = len(decisions) - len(kept)
    rows = [_row(clips[clip], evidence[clip], splits[clip], params) for clip in sorted(kept)]
    _check_splits(rows, splits.values())
    write_version(
        Places(out, card, landmarks, audio, ledger),
        rows,
        decisions,
        params,
        speakers={clip: row["speaker_id"] for clip, row in clips.items()},
    )
    counts = {split: count["clips"] for split, count in dataset.counts(rows).items()}
    logger.info("build-dataset: %s, rejected %d", counts, rejected)
    return {f"clips_{split}": count for split, count in counts.items()} | {
        "clips_rejected": rejected
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


def _nothing_left(decisions: Sequence[Decision], ledger: Path) -> StageFailedError:
    first = decisions[0] if decisions else Decision("", "", "the manifest is empty")
    return StageFailedError(
        f"no clip is left of {len(decisions)}. First reason: {first.clip_id}: {first.detail}. "
        f"All: {(ledger / 'build_dataset' / DECISIONS).resolve()}"
    )


def _split(
    clips: Iterable[Row], kept: Collection[str], params: BuildDataset, before: Dataset | None
) -> dict[str, str]:
    """A split for every speaker of whom a clip is kept; nobody changes sides."""
    listed: Sequence[Row] = sorted(clips, key=lambda row: str(row["clip_id"]))
    pins = {row["speaker_id"]: row["split"] for row in listed if row["split"]}
    pinned = {
        row["speaker_id"]: pins.get(row["speaker_id"], "")
        for row in listed
        if row["clip_id"] in kept
    }
    try:
        splits = split_speakers(
            pinned, salt=params.salt, val_ratio=params.val_ratio, test_ratio=params.test_ratio
        )
    except ValueError as error:
        raise StageFailedError(
            f"{error}. Set another build_dataset.salt, pin speakers (column split of the list), "
            "give the list more speakers (column speaker_id), or set the split's ratio to 0"
        ) from error
    homes = {row["speaker_id"]: row["split"] for row in before.rows} if before else {}
    moved = sorted(name for name in splits if homes.get(name, splits[name]) != splits[name])
    if moved:
        raise StageFailedError(
            f"{moved[0]} was in {homes[moved[0]]} and would now be in {splits[moved[0]]} "
            f"({len(moved)} speakers would move): models have been trained on who would now be "
            "held out. Undo the change of build_dataset.salt, of a ratio or of the list's column "
            f"split; or begin a new line of versions: delete {before.folder if before else ''}"
        )
    return splits


def _quarantine(
    decisions: Sequence[Decision],
    found: Iterable[Pair],
    splits: Mapping[str, str],
    before: Dataset | None,
) -> list[Decision]:
    """The decisions, with newcomers left out that bring footage across splits."""
    known = {row["clip_id"] for row in before.rows} if before else set()
    leaks = settle(found, splits, known)
    if leaks.standing:
        told = "\n".join(
            f"  {pair}: {splits[pair.first]} and {splits[pair.second]}" for pair in leaks.standing
        )
        clips = {(pair.first, pair.second) for pair in leaks.standing}
        raise StageFailedError(
            f"{len(clips)} pairs of clips show the same footage in two splits, and were in the "
            f"version before:\n{told}\nTake one clip of each pair off the list, or begin a new "
            f"line of versions: delete {before.folder if before else ''}"
        )
    for clip, pair in leaks.quarantined.items():
        logger.warning("%s is left out: %s, in %s", clip, pair, splits[pair.other(clip)])
    return [_give_way(decision, leaks.quarantined, splits) for decision in decisions]


def _give_way(
    decision: Decision, quarantined: Mapping[str, Pair], splits: Mapping[str, str]
) -> Decision:
    pair = quarantined.get(decision.clip_id)
    if pair is None:
        return decision
    detail = f"{pair}; the other clip is in {splits[pair.other(decision.clip_id)]}"
    return Decision(decision.clip_id, LEAK, detail, decision.scores)


def _check_splits(rows: Iterable[Row], wanted: Iterable[str]) -> None:
    """Refuse a split of which the quarantine left nothing."""
    emptied = sorted(set(wanted) - {row["split"] for row in rows})
    if emptied:
        raise StageFailedError(
            f"every clip of {emptied[0]} shows footage of another split ({LEAK}): give clips of "
            "one video the same speaker_id, or add other speakers"
        )


def _row(clip: Row, evidence: Evidence, split: str, params: BuildDataset) -> Row:
    """The dataset's row of a clip."""
    aligned, crop, audio = evidence.known.aligned(params), evidence.crop, evidence.audio
    assert audio is not None, "a clip without sound is never kept"
    return {
        **{name: clip[name] for name in ("clip_id", "speaker_id", "language", "licence", "sha256")},
        "split": split,
        "first_frame": aligned.stretch.first_frame,
        "frames": aligned.stretch.frames,
        "audio_shift_rows": aligned.shift_rows,
        "crop_left_px": crop.left_px,
        "crop_top_px": crop.top_px,
        "crop_side_px": crop.side_px,
        "landmarks_part": evidence.landmarks.part,
        "landmarks_content": evidence.landmarks.content,
        "audio_part": audio.part,
        "audio_content": audio.content,
    }
