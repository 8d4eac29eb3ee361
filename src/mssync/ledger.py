"""The ledger: what each stage decided about each clip, and what it tried.

`ledger/<stage>/decisions.parquet` has exactly one row per input clip, sorted, with verdict, reason
and every score; nothing in it depends on when or how often the stage ran. DVC versions it.
`ledger/<stage>/attempts.parquet` grows with every run: times, errors, versions. DVC never sees it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from mssync import records
from mssync.errors import StageFailedError

DECISIONS = "decisions.parquet"
ATTEMPTS = "attempts.parquet"
KEPT = "kept"
REJECTED = "rejected"


@dataclass(frozen=True)
class Decision:
    """A stage's verdict on a clip.

    Attributes:
        clip_id: The clip.
        reason: Code of the cause of a rejection; empty when the clip is kept.
        detail: One sentence for people; empty when the clip is kept.
        scores: What was measured, NaN where it could not be.
    """

    clip_id: str
    reason: str = ""
    detail: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        """Whether the clip goes on to the next stage."""
        return not self.reason


@dataclass(frozen=True)
class Attempt:
    """One try at one clip.

    Attributes:
        clip_id: The clip.
        started: Start in seconds since 1970.
        duration_s: How long it took.
        outcome: `done`, or the code of the cause of the failure.
        detail: The tool's own words.
    """

    clip_id: str
    started: float
    duration_s: float
    outcome: str
    detail: str = ""


_ATTEMPTS = pa.schema(
    [
        ("clip_id", pa.string()),
        ("started", pa.float64()),
        ("duration_s", pa.float64()),
        ("outcome", pa.string()),
        ("detail", pa.string()),
    ]
)


def write_decisions(path: Path, decisions: Iterable[Decision], score_names: Sequence[str]) -> None:
    """Write a stage's decisions, sorted by clip.

    Raises:
        ValueError: If a clip is decided twice.
    """
    ordered = sorted(decisions, key=lambda decision: decision.clip_id)
    clip_ids = [decision.clip_id for decision in ordered]
    if len(set(clip_ids)) != len(clip_ids):
        twice = [clip for clip, count in Counter(clip_ids).items() if count > 1]
        raise ValueError(f"clips decided more than once: {twice[:3]}")
    schema = pa.schema(
        [(name, pa.string()) for name in ("clip_id", "verdict", "reason", "detail")]
        + [(name, pa.float32()) for name in score_names]
    )
    rows = [
        {
            "clip_id": decision.clip_id,
            "verdict": KEPT if decision.kept else REJECTED,
            "reason": decision.reason,
            "detail": decision.detail,
        }
        | {name: float(decision.scores.get(name, float("nan"))) for name in score_names}
        for decision in ordered
    ]
    records.write(path, rows, schema)


def read_decisions(path: Path) -> list[Decision]:
    """Read a stage's decisions.

    Raises:
        InputError: If the file is missing or unreadable.
    """
    fixed = {"clip_id", "verdict", "reason", "detail"}
    return [
        Decision(
            clip_id=row["clip_id"],
            reason=row["reason"],
            detail=row["detail"],
            scores={name: value for name, value in row.items() if name not in fixed},
        )
        for row in records.read(path, None)
    ]


def append_attempts(path: Path, attempts: Sequence[Attempt]) -> None:
    """Add to a stage's attempts; an unreadable file is begun anew."""
    if not attempts:
        return
    rows = [vars(attempt) for attempt in [*read_attempts(path), *attempts]]
    records.write(path, rows, _ATTEMPTS, metadata={"content": "attempts"})


def read_attempts(path: Path) -> list[Attempt]:
    """Read a stage's attempts; none where the file is missing or unreadable."""
    return (
        [Attempt(**row) for row in records.read(path, None)] if records.read_metadata(path) else []
    )


def fail_below(
    min_success_ratio: float, kept: int, rejected: Sequence[Decision], ledger: Path, section: str
) -> None:
    """Stop a stage of which too little, or nothing, survives.

    Raises:
        StageFailedError: With the first reason and where the others are.
    """
    total = kept + len(rejected)
    if kept and kept >= min_success_ratio * total:
        return
    first = min(rejected, key=lambda decision: decision.clip_id, default=None)
    reason = f"{first.clip_id}: {first.reason}: {first.detail}" if first else "there is no clip"
    raise StageFailedError(
        f"{kept} of {total} clips survive, at least {min_success_ratio:.0%} must "
        f"({section}.min_success_ratio). First reason: {reason}. All: "
        f"{(ledger / DECISIONS).resolve()}"
    )


@dataclass(frozen=True)
class Step:
    """One stage of the funnel: clips in, clips out, rejections by reason."""

    stage: str
    clips_in: int
    clips_out: int
    reasons: Mapping[str, int]


def funnel(ledger: Path, stages: Sequence[str]) -> list[Step]:
    """N in -> N out by reason, for every stage that has decided."""
    steps = []
    for stage in stages:
        path = ledger / stage / DECISIONS
        if not path.exists():
            continue
        decisions = read_decisions(path)
        reasons = Counter(decision.reason for decision in decisions if not decision.kept)
        steps.append(
            Step(
                stage=stage,
                clips_in=len(decisions),
                clips_out=sum(decision.kept for decision in decisions),
                reasons=dict(reasons.most_common()),
            )
        )
    return steps
