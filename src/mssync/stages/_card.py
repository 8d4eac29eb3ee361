"""What the card of a dataset tells: from its rows, its decisions and the funnel."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mssync.data import dataset
from mssync.ledger import Decision, funnel
from mssync.params import BuildDataset, stage_names
from mssync.records import Row
from mssync.render.card import Card, Distribution, Table
from mssync.timing import frame_time_s

# Scores that are drawn: name of the picture, score, title.
_SHOWN = (
    ("yaw", "yaw_p95_deg", "Turn of the head, degrees (95th percentile of a clip)"),
    ("face", "interocular_px", "Distance of the eyes, pixels"),
    ("snr", "snr_db", "Speech over noise, dB"),
    ("speech", "speech_ratio", "Share of speech"),
    ("mouth", "mouth_energy", "Movement of the mouth, inter-ocular distances"),
)


def card(
    revision: str,
    rows: Sequence[Row],
    decisions: Iterable[Decision],
    ledger: Path,
    params: BuildDataset,
) -> Card:
    """Put a card together.

    Args:
        revision: The version's name.
        rows: Its clips, of `records.CLIPS`.
        decisions: Of `build_dataset`, on every clip.
        ledger: Folder of all stages' ledgers.
        params: The section `build_dataset`.
    """
    scores = {decision.clip_id: decision.scores for decision in decisions if decision.kept}
    counts = dataset.counts(rows)
    minutes = sum(count["minutes"] for count in counts.values())
    speakers = len({row["speaker_id"] for row in rows})
    steps = funnel(ledger, stage_names()[:4])
    thresholds = params.model_dump(mode="json")
    languages, licences = _shares(rows, "language"), _shares(rows, "licence")
    return Card(
        revision=revision,
        summary=(
            f"{len(rows)} clips of {speakers} speakers, {_hours(minutes)} in all. No speaker is in "
            "two splits, and no footage is, as far as fingerprints tell."
        ),
        tables=[
            Table(
                "Splits",
                ("split", "clips", "speakers", "minutes"),
                [
                    (split, int(count["clips"]), int(count["speakers"]), f"{count['minutes']:.2f}")
                    for split, count in counts.items()
                ],
            ),
            Table(
                "Funnel",
                ("stage", "in", "out", "left out"),
                [
                    (
                        step.stage,
                        step.clips_in,
                        step.clips_out,
                        ", ".join(f"{reason} {count}" for reason, count in step.reasons.items())
                        or "nothing",
                    )
                    for step in steps
                ],
            ),
            _table("Languages", languages),
            _table("Licences", licences),
            Table("Thresholds", ("name", "value"), [(k, str(v)) for k, v in thresholds.items()]),
        ],
        distributions=[
            Distribution(
                "length", "Length of a clip, seconds", [frame_time_s(row["frames"]) for row in rows]
            ),
            Distribution(
                "offset",
                "Offset of the sound, ms (clips that tell it)",
                [
                    found["av_offset_ms"]
                    for found in scores.values()
                    if found["av_confidence"] >= params.min_av_confidence
                ],
            ),
            *(
                Distribution(name, title, [found[score] for found in scores.values()])
                for name, score, title in _SHOWN
            ),
        ],
        facts={
            "splits": counts,
            "speakers": speakers,
            "minutes": round(minutes, 2),
            "languages": languages,
            "licences": licences,
            "funnel": [vars(step) for step in steps],
            "params": thresholds,
        },
    )


def _hours(minutes: float) -> str:
    return f"{minutes / 60:.1f} hours" if minutes >= 60 else f"{minutes:.1f} minutes"


def _shares(rows: Iterable[Row], column: str) -> dict[str, dict[str, float]]:
    """Clips and minutes by what a column says."""
    clips, frames = Counter[str](), defaultdict[str, int](int)
    for row in rows:
        said = str(row[column]) or "not stated"
        clips[said] += 1
        frames[said] += row["frames"]
    return {
        said: {"clips": clips[said], "minutes": round(frame_time_s(frames[said]) / 60, 2)}
        for said in sorted(clips)
    }


def _table(title: str, shares: Mapping[str, Mapping[str, float]]) -> Table:
    rows = [
        (said, int(found["clips"]), f"{found['minutes']:.2f}") for said, found in shares.items()
    ]
    return Table(title, (title.lower()[:-1], "clips", "minutes"), rows)
