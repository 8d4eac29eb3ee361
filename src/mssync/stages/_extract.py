"""What both extraction stages share: every clip of a manifest through one function, into parts.

The function works on strangers' files, so it runs in a process of its own with bounded memory and
time (`mssync.media.sandbox`): a clip that kills it is known, and costs no other one.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mssync import log, records
from mssync.errors import ClipRejectedError, InputError, MsSyncError
from mssync.ledger import (
    ATTEMPTS,
    DECISIONS,
    Attempt,
    Decision,
    Tally,
    append_attempts,
    write_decisions,
)
from mssync.media import decode
from mssync.media.decode import Clock
from mssync.media.sandbox import Sandbox, SandboxPool
from mssync.media.store import MediaStore
from mssync.params import ExtractAudio, ExtractLandmarks
from mssync.parts import PATTERN, Parts
from mssync.records import Row

logger = logging.getLogger(__name__)

_NOT_DECIDING = {
    "clips_per_part",
    "min_success_ratio",
    "process_bytes",
    "max_s_per_s",
    "fan_batch",
}
_FIRST_S = 60.0  # for imports, and for what a short clip costs whatever its length
_AHEAD = 8  # clips a worker that may be done before the oldest one is


def apart(
    one: Callable[[Path], Row], params: ExtractLandmarks | ExtractAudio
) -> Callable[[Path, Sandbox], Row]:
    """A function of a media file, run in a sandbox within the time that its length allows."""

    def in_sandbox(media: Path, sandbox: Sandbox) -> Row:
        clock = clock_apart(media, sandbox)
        return sandbox.call(one, media, wall_s=allowed_s(clock, params))

    return in_sandbox


def clock_apart(media: Path, sandbox: Sandbox) -> Clock:
    """Read a video's clock in a sandbox."""
    return sandbox.call(decode.read_clock, media, wall_s=_FIRST_S)


def allowed_s(clock: Clock, params: ExtractLandmarks | ExtractAudio) -> float:
    """Seconds that a clip may take."""
    return _FIRST_S + params.max_s_per_s * clock.duration_s


@dataclass(frozen=True)
class Extraction:
    """How one stage extracts.

    Attributes:
        name: The stage's name.
        one: Media file, and a process to read it in -> the part's columns but `clip_id` and
            `sha256`; raises `ClipRejectedError`. Runs in one thread for each worker.
        schema: Columns of the parts.
        scores: Which of them are scores, for the ledger.
        version: Of the code; raised when the same media would give other rows.
        params: The stage's section.
        identity: Of what else decides the rows: a backend with its weights.
    """

    name: str
    one: Callable[[Path, Sandbox], Row]
    schema: Any
    scores: Sequence[str]
    version: int
    params: ExtractLandmarks | ExtractAudio
    identity: str = ""

    @property
    def key(self) -> str:
        """What makes a finished clip worthless when it changes."""
        deciding = self.params.model_dump(exclude=_NOT_DECIDING)
        if deciding.get("backend") != "face_alignment":
            deciding = {name: deciding[name] for name in deciding if not name.startswith("fan_")}
        return records.digest(self.name, str(self.version), repr(deciding), self.identity)


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
    for path in sorted(folder.glob(PATTERN)):
        yield from pq.read_table(path, columns=["clip_id", *scores]).to_pylist()


def _outcomes(
    extraction: Extraction, clips: Sequence[Row], store: MediaStore, workers: int
) -> Iterator[_Outcome]:
    """In the order of the clips, so that parts do not depend on which worker was faster."""
    workers = max(1, min(workers, len(clips)))
    memory_bytes = extraction.params.process_bytes
    sandboxes = SandboxPool(workers, memory_bytes=memory_bytes, death="crashed")
    with sandboxes, ThreadPoolExecutor(workers) as threads:
        waiting = deque[Future[_Outcome]]()
        try:
            for clip in clips:
                waiting.append(threads.submit(_one, extraction, clip, store, sandboxes))
                if len(waiting) == _AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            for future in waiting:
                future.cancel()
            sandboxes.kill()  # a clip under way may take hours yet
            raise


def _one(extraction: Extraction, clip: Row, store: MediaStore, sandboxes: SandboxPool) -> _Outcome:
    started = time.time()
    try:
        with sandboxes.lend() as sandbox:
            row = extraction.one(store.path(clip["sha256"]), sandbox)
    except ClipRejectedError as error:
        return _rejection(clip, error, started)
    except MsSyncError:
        raise
    except Exception as error:  # one clip must not stop the others
        logger.exception("%s: this program failed on %s", extraction.name, clip["clip_id"])
        return _rejection(clip, ClipRejectedError("bug", f"{type(error).__name__}"), started)
    attempt = Attempt(clip["clip_id"], started, time.time() - started, "done")
    return _Outcome(clip, row, None, attempt)


def _rejection(clip: Row, error: ClipRejectedError, started: float) -> _Outcome:
    attempt = Attempt(
        clip["clip_id"], started, time.time() - started, error.reason, detail=str(error)
    )
    return _Outcome(clip, None, Decision(clip["clip_id"], error.reason, str(error)), attempt)
