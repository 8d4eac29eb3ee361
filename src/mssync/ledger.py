"""The ledger: what each stage decided about each clip, and what it tried.

`ledger/<stage>/decisions.parquet` has exactly one row per input clip, sorted, with verdict, reason
and every score; nothing in it depends on when or how often the stage ran. DVC versions it.
`ledger/<stage>/attempts.parquet` grows with every run: times, errors, versions. DVC never sees it.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import pyarrow as pa

from mssync import records
from mssync.errors import StageFailedError

DECISIONS = "decisions.parquet"
ATTEMPTS = "attempts.parquet"
KEPT = "kept"
REJECTED = "rejected"
# What the detail of a duplicate begins with; the id of the clip that is kept follows.
SAME_BYTES = "the same bytes as "
_NOT_LOST = frozenset({"duplicate", "opt_out", "taken_down"})


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
        run: Start of the stage's run, ISO 8601 in UTC.
        tries: How often it was asked for in this run.
        bytes: What came over the wire.
        tool: What fetched it, with its version.
    """

    clip_id: str
    started: float
    duration_s: float
    outcome: str
    detail: str = ""
    run: str = ""
    tries: int = 1
    bytes: int = 0
    tool: str = ""


_ATTEMPTS = pa.schema(
    [
        ("clip_id", pa.string()),
        ("started", pa.float64()),
        ("duration_s", pa.float64()),
        ("outcome", pa.string()),
        ("detail", pa.string()),
        ("run", pa.string()),
        ("tries", pa.int32()),
        ("bytes", pa.int64()),
        ("tool", pa.string()),
    ]
)


def write_decisions(path: Path, decisions: Iterable[Decision], score_names: Sequence[str]) -> None:
    """Write a stage's decisions, sorted by clip.

    Raises:
        ValueError: If a clip is decided twice.
    """
    ordered = sorted(decisions, key=lambda decision: decision.clip_id)
    write_sorted_decisions(path, ordered, score_names)


def write_sorted_decisions(
    path: Path, decisions: Iterable[Decision], score_names: Sequence[str]
) -> None:
    """Write decisions that come sorted by clip, with few of them in memory.

    Raises:
        ValueError: If a clip is decided twice, or they are not sorted.
    """
    schema = pa.schema(
        [(name, pa.string()) for name in ("clip_id", "verdict", "reason", "detail")]
        + [(name, pa.float32()) for name in score_names]
    )
    rows = (
        {
            "clip_id": decision.clip_id,
            "verdict": KEPT if decision.kept else REJECTED,
            "reason": decision.reason,
            "detail": decision.detail,
        }
        | {name: float(decision.scores.get(name, float("nan"))) for name in score_names}
        for decision in _ascending(decisions)
    )
    records.write(path, rows, schema)


def _ascending(decisions: Iterable[Decision]) -> Iterator[Decision]:
    before: str | None = None
    for decision in decisions:
        if before is not None and decision.clip_id <= before:
            what = "decided more than once" if decision.clip_id == before else "not sorted"
            raise ValueError(f"clips {what}: {decision.clip_id}")
        before = decision.clip_id
        yield decision


def read_decisions(path: Path) -> list[Decision]:
    """Read a stage's decisions.

    Raises:
        InputError: If the file is missing or unreadable.
    """
    return list(stream_decisions(path))


def stream_decisions(path: Path, *, scores: bool = True) -> Iterator[Decision]:
    """The decisions of `read_decisions`, one after the other; without their scores on request."""
    columns = None if scores else ["clip_id", "verdict", "reason", "detail"]
    for row in records.stream(path, None, columns=columns):
        clip_id, reason, detail = row.pop("clip_id"), row.pop("reason"), row.pop("detail")
        del row["verdict"]
        yield Decision(clip_id, reason, detail, scores=row)


def merge_decisions(paths: Iterable[Path]) -> Iterator[Decision]:
    """The decisions of several files, in one order."""
    return heapq.merge(*map(stream_decisions, paths), key=lambda decision: decision.clip_id)


def append_attempts(path: Path, attempts: Iterable[Attempt]) -> None:
    """Add to a stage's attempts; an unreadable file is begun anew."""
    new = iter(attempts)
    first = next(new, None)
    if first is None:
        return
    rows = (vars(attempt) for attempt in chain(stream_attempts(path), [first], new))
    records.write(path, rows, _ATTEMPTS, metadata={"content": "attempts"})


def read_attempts(path: Path) -> list[Attempt]:
    """Read a stage's attempts; none where the file is missing or unreadable."""
    return list(stream_attempts(path))


def stream_attempts(path: Path) -> Iterator[Attempt]:
    """The attempts of `read_attempts`, one after the other."""
    if records.read_metadata(path):
        yield from (Attempt(**row) for row in records.stream(path, None))


@dataclass
class Tally:
    """How many clips a stage kept, and why not the others.

    A duplicate is neither kept nor lost: its content goes on under another name. Nor is a clip lost
    that somebody asked to leave out.
    """

    kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first: Decision | None = None

    def count(self, decisions: Iterable[Decision]) -> Iterator[Decision]:
        """Pass decisions on, and count them."""
        for decision in decisions:
            if decision.kept:
                self.kept += 1
            else:
                self.reasons[decision.reason] += 1
                if decision.reason not in _NOT_LOST and (
                    self.first is None or decision.clip_id < self.first.clip_id
                ):
                    self.first = decision
            yield decision

    @property
    def rejected(self) -> int:
        """Clips that do not go on."""
        return self.reasons.total()

    def check(self, min_success_ratio: float, ledger: Path, section: str) -> None:
        """Stop a stage of which too little, or nothing, survives.

        Raises:
            StageFailedError: With the first reason and where the others are.
        """
        lost = Counter({why: n for why, n in self.reasons.items() if why not in _NOT_LOST})
        total = self.kept + lost.total()
        if self.kept and self.kept >= min_success_ratio * total:
            return
        first = self.first
        reason = f"{first.clip_id}: {first.reason}: {first.detail}" if first else "there is no clip"
        besides = [f"{self.reasons[why]} {why}" for why in sorted(_NOT_LOST) if self.reasons[why]]
        raise StageFailedError(
            f"{self.kept} of {total} clips survive{_in_brackets(besides)}, at least "
            f"{min_success_ratio:.0%} must ({section}.min_success_ratio). Lost: "
            f"{', '.join(f'{why} {n}' for why, n in lost.most_common()) or 'none'}. "
            f"First reason: {reason}. All: {(ledger / DECISIONS).resolve()}"
        )


def _in_brackets(besides: Sequence[str]) -> str:
    return f" (besides {', '.join(besides)})" if besides else ""


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
        steps.append(step(stage, stream_decisions(path, scores=False)))
    return steps


def step(stage: str, decisions: Iterable[Decision]) -> Step:
    """One stage of the funnel, of its decisions."""
    tally = Tally()
    clips = sum(1 for _ in tally.count(decisions))
    return Step(stage, clips, tally.kept, dict(tally.reasons.most_common()))


@dataclass(frozen=True)
class Change:
    """A clip that is decided otherwise than before.

    Attributes:
        clip_id: The clip.
        before: Reason of its rejection; empty where it was kept.
        after: The same now.
        detail: One sentence about `after`.
    """

    clip_id: str
    before: str
    after: str
    detail: str


def changes(before: Iterable[Decision], after: Iterable[Decision]) -> list[Change]:
    """What became of the clips that both name and that are decided otherwise."""
    reasons = {decision.clip_id: decision.reason for decision in before}
    return [
        Change(now.clip_id, reasons[now.clip_id], now.reason, now.detail)
        for now in after
        if reasons.get(now.clip_id, now.reason) != now.reason
    ]
