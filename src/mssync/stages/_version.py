"""A version of the dataset, written: decisions, list, card, and what is remembered of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mssync import versions
from mssync.data import dataset, history
from mssync.ledger import DECISIONS, Decision, write_decisions
from mssync.params import BuildDataset
from mssync.records import Row
from mssync.render.card import write as write_card
from mssync.selection.rules import SCORES
from mssync.stages import _card
from mssync.timing import frame_time_s


@dataclass(frozen=True)
class Places:
    """Where a version is, and what it is made of.

    Attributes:
        dataset: Folder of the list.
        card: Folder of the card.
        landmarks: Landmark parts.
        audio: Audio parts.
        ledger: Folder of all stages' ledgers.
    """

    dataset: Path
    card: Path
    landmarks: Path
    audio: Path
    ledger: Path


def write_version(
    places: Places,
    rows: Sequence[Row],
    decisions: Sequence[Decision],
    params: BuildDataset,
    *,
    speakers: Mapping[str, str],
) -> str:
    """Make a version the present one.

    Args:
        places: Where to.
        rows: Clips that are kept, of `records.CLIPS`, sorted.
        decisions: On every clip of the manifest, sorted.
        params: The section `build_dataset`.
        speakers: Who speaks in each clip of the manifest.

    Returns:
        The revision.
    """
    write_decisions(places.ledger / "build_dataset" / DECISIONS, decisions, SCORES)
    reasons = Counter(decision.reason for decision in decisions if not decision.kept)
    seen = {row["clip_id"]: versions.clip_digest(row) for row in rows}
    revision = versions.dataset_revision(
        seen.values(), decisions, smoothing_frames=params.smoothing_frames
    )
    dataset.write(
        places.dataset,
        rows,
        revision=revision,
        landmarks=places.landmarks,
        audio=places.audio,
        reasons=dict(sorted(reasons.items())),
        params=params.model_dump(mode="json"),
    )
    write_card(places.card, _card.card(revision, rows, decisions, places.ledger, params))
    facts = {
        "clips": len(rows),
        "left out": reasons.total(),
        "speakers": len({row["speaker_id"] for row in rows}),
        "minutes": round(sum(frame_time_s(row["frames"]) for row in rows) / 60, 2),
    }
    folder = history.folder_of(places.dataset)
    history.remember(folder, revision, rows, decisions, seen=seen, speakers=speakers, facts=facts)
    return revision
