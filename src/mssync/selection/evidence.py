"""Deciding on every clip from the ledger and the light columns of the parts, with few in memory."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from mssync import records
from mssync.errors import InputError
from mssync.ledger import DECISIONS, Decision, merge_decisions
from mssync.params import BuildDataset
from mssync.parts import read_parts
from mssync.selection import rules
from mssync.selection.envelope import envelope
from mssync.selection.rules import Face, Sound, Usable
from mssync.selection.stretch import Stretch

EXTRACTION_STAGES = ("extract_landmarks", "extract_audio")


@dataclass(frozen=True)
class Verdict:
    """What becomes of a clip.

    Attributes:
        decision: Kept or not, why not, and every score.
        stretch: What is used of it.
    """

    decision: Decision
    stretch: Stretch


def verdicts(ledger: Path, landmarks: Path, audio: Path, params: BuildDataset) -> Iterator[Verdict]:
    """Decide on every clip that the extraction stages decided on, in the order of their ids.

    Nothing is written.

    Args:
        ledger: Folder of all stages' ledgers.
        landmarks: Parts of `extract_landmarks`.
        audio: Parts of `extract_audio`.
        params: Every threshold.

    Raises:
        InputError: If an input is missing or of the wrong form, or they are of different runs.
    """
    for folder, what, option in (
        (landmarks, "landmark parts", "--landmarks"),
        (audio, "audio-feature parts", "--audio"),
    ):
        if not folder.is_dir():
            raise InputError(f"there is no folder of {what} {folder}: name it with {option}")
    sounds = _sounds(audio)
    usable = _measure(landmarks, sounds, params)
    found = merge_decisions(ledger / stage / DECISIONS for stage in EXTRACTION_STAGES)
    for clip_id, group in groupby(found, key=lambda decision: decision.clip_id):
        before = list(group)
        kept = all(decision.kept for decision in before)
        extracted = clip_id in usable and clip_id in sounds
        if len(before) < len(EXTRACTION_STAGES) or (kept and not extracted):
            raise InputError(
                f"{clip_id} was not decided, or its parts not written, by both extraction stages: "
                "run extract-landmarks and extract-audio again"
            )
        known = usable.get(clip_id)
        decision = rules.decide(clip_id, before, known, params)
        yield Verdict(decision, known.stretch if known else Stretch(0, 0))


def _sounds(audio: Path) -> dict[str, Sound]:
    columns = ["clip_id", "loudness_A", "audio_start_s", "audio_end_s"]
    return {
        row["clip_id"]: Sound(envelope(row["loudness_A"]), row["audio_start_s"], row["audio_end_s"])
        for row in read_parts(audio, records.AUDIO, columns=columns)
    }


def _measure(
    landmarks: Path, sounds: Mapping[str, Sound], params: BuildDataset
) -> dict[str, Usable]:
    """What can be used of every clip in which a face was followed."""
    columns = ["interpolated_T", "shot_T", "move_T", "mouth_T"]
    return {
        row["clip_id"]: rules.measure(
            Face(**{name: row[name] for name in columns}), sounds.get(row["clip_id"]), params
        )
        for row in read_parts(landmarks, records.LANDMARKS, columns=["clip_id", *columns])
    }
