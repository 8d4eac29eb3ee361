"""What both extraction stages share: every clip of a manifest through one function, into parts."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mssync import log, records
from mssync.errors import ClipRejectedError, InputError
from mssync.ledger import (
    ATTEMPTS,
    DECISIONS,
    Attempt,
    Decision,
    Tally,
    append_attempts,
    write_decisions,
)
from mssync.media.store import MediaStore
from mssync.params import ExtractAudio, ExtractLandmarks
from mssync.parts import Parts
from mssync.records import Row

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extraction:
    """How one stage extracts.

    Attributes:
        name: The stage's name.
        one: Media file -> the part's columns but `clip_id` and `sha256`; raises
            `ClipRejectedError`. Runs in worker processes.
        schema: Columns of the parts.
        scores: Which of them are scores, for the ledger.
        version: Of the code; raised when the same media would give other rows.
        params: The stage's section.
    """

    name: str
    one: Callable[[Path], Row]
    schema: Any
    scores: Sequence[str]
    version: int
    params: ExtractLandmarks | ExtractAudio

    @property
    def key(self) -> str:
        """What makes a finished clip worthless when it changes."""
        deciding = self.params.model_dump(exclude={"clips_per_part", "min_success_ratio"})
        return records.digest(self.name, str(self.version), repr(deciding))


@dataclass(frozen=True)
class _Outcome:
    clip: Row
    row: Row | None
    decision: Decision | None
    attempt: Attempt


def extract(
    extraction: Extraction,
    manifest: Path,
    out: Path,
    ledger: Path,
    *,
    store: MediaStore,
    workers: int,
    whole: bool,
) -> dict[str, float]:
    """Run the extraction over every clip of the manifest that is not done yet.

    Raises:
        InputError: If the manifest is missing or of the wrong form.
        StageFailedError: If too few clips survive.
    """
    clips = records.read(manifest, records.MANIFEST)
    params = extraction.params
    parts = Parts(out, extraction.schema, key=extraction.key, clips_per_part=params.clips_per_part)
    done = parts.keep_only({clip["clip_id"]: clip["sha256"] for clip in clips})
    pending = [clip for clip in clips if clip["clip_id"] not in done]
    _check_media(pending, store)
    if done:
        logger.info("%s: %d clips are done already", extraction.name, len(done))
    rejected, attempts = list[Decision](), list[Attempt]()
    try:
        outcomes = _outcomes(extraction, pending, store, workers)
        for outcome in log.progress(outcomes, total=len(pending), what="clips"):
            attempts.append(outcome.attempt)
            if outcome.decision:
                rejected.append(outcome.decision)
            elif outcome.row:
                identity = {name: outcome.clip[name] for name in ("clip_id", "sha256")}
                parts.add(identity | outcome.row)
    finally:
        append_attempts(ledger / ATTEMPTS, attempts)
    parts.close()
    kept = [
        Decision(row["clip_id"], scores={name: row[name] for name in extraction.scores})
        for row in _read_scores(out, extraction.scores)
    ]
    tally = Tally()
    write_decisions(ledger / DECISIONS, tally.count([*kept, *rejected]), extraction.scores)
    logger.info("%s: %d clips kept, %d rejected", extraction.name, tally.kept, tally.rejected)
    if whole:
        tally.check(params.min_success_ratio, ledger, extraction.name)
    return {"clips_kept": tally.kept, "clips_rejected": tally.rejected}


def _check_media(clips: Sequence[Row], store: MediaStore) -> None:
    """Refuse to begin without the media: that they are gone says nothing about the clips."""
    gone = [clip["clip_id"] for clip in clips if clip["sha256"] not in store]
    if gone:
        raise InputError(
            f"the media of {len(gone)} clips, {gone[0]} among them, are gone from the store "
            f"{store.folder}: fetch them again with make retry"
        )


def _read_scores(folder: Path, scores: Sequence[str]) -> Iterator[Row]:
    for path in sorted(folder.glob("part-*.parquet")):
        yield from pq.read_table(path, columns=["clip_id", *scores]).to_pylist()


def _outcomes(
    extraction: Extraction, clips: Sequence[Row], store: MediaStore, workers: int
) -> Iterator[_Outcome]:
    if min(workers, len(clips)) <= 1:
        for clip in clips:
            yield _one(extraction, clip, store)
        return
    remaining = {clip["clip_id"]: clip for clip in clips}
    try:
        with _pool(workers) as pool:
            for outcome in pool.map(
                _one, [extraction] * len(clips), clips, [store] * len(clips), chunksize=1
            ):
                del remaining[outcome.clip["clip_id"]]
                yield outcome
    except BrokenProcessPool:
        logger.warning("%s: a worker died; the clips left go one by one", extraction.name)
        yield from _one_by_one(extraction, remaining, store)


def _one_by_one(
    extraction: Extraction, clips: Mapping[str, Row], store: MediaStore
) -> Iterator[_Outcome]:
    """Every clip in a process of its own, so that the one that kills it is known."""
    for clip in clips.values():
        started = time.time()
        try:
            with _pool(1) as pool:
                yield pool.submit(_one, extraction, clip, store).result()
        except BrokenProcessPool:
            error = ClipRejectedError("crashed", "the decoder or detector died on this clip")
            yield _rejection(clip, error, started)


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=log.set_up, max_tasks_per_child=None
    )


def _one(extraction: Extraction, clip: Row, store: MediaStore) -> _Outcome:
    started = time.time()
    media = store.path(clip["sha256"])
    try:
        row = extraction.one(media)
    except ClipRejectedError as error:
        return _rejection(clip, error, started)
    attempt = Attempt(clip["clip_id"], started, time.time() - started, "done")
    return _Outcome(clip, row, None, attempt)


def _rejection(clip: Row, error: ClipRejectedError, started: float) -> _Outcome:
    attempt = Attempt(
        clip["clip_id"], started, time.time() - started, error.reason, detail=str(error)
    )
    return _Outcome(clip, None, Decision(clip["clip_id"], error.reason, str(error)), attempt)
