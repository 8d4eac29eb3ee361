"""Stage 1: source list -> media in the store, manifest, decisions."""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mssync import records
from mssync.errors import ClipRejectedError, ToolError
from mssync.ledger import (
    ATTEMPTS,
    DECISIONS,
    Attempt,
    Decision,
    append_attempts,
    fail_below,
    write_decisions,
)
from mssync.log import progress
from mssync.media import ffmpeg
from mssync.media.decode import read_clock
from mssync.media.fetch import fetch
from mssync.media.sources import Source, read_sources
from mssync.media.store import MediaStore, Origin
from mssync.params import DownloadVideos
from mssync.timing import milliseconds

logger = logging.getLogger(__name__)

SCORES = ("bytes", "duration_s", "fps_hz")


def run(
    sources: Path,
    manifest: Path,
    ledger: Path,
    params: DownloadVideos,
    *,
    store: MediaStore,
    workers: int,
    base: str = "",
    whole: bool = True,
) -> dict[str, float]:
    """Fetch every listed source into the media store and cut it.

    Args:
        sources: List, as `media.sources.read_sources` takes it.
        manifest: Parquet file to write.
        ledger: Folder for the stage's decisions and attempts.
        params: The stage's section.
        store: Where media go.
        workers: Connections at a time.
        base: Folder or URL that relative sources start from; default: the list's folder.
        whole: False for a shard of a list: it may be empty, and whether enough of its sources
            could be had is decided over all shards (`mssync.shards.gather`).

    Returns:
        Clips kept and rejected.

    Raises:
        InputError: If the list is missing or of the wrong form.
        StageFailedError: If too few sources could be had.
    """
    listed = read_sources(sources, base=base, may_be_empty=not whole)
    by_location = dict[str, list[Source]]()
    for source in listed:
        by_location.setdefault(source.location, []).append(source)
    rows, decisions, attempts = list[records.Row](), list[Decision](), list[Attempt]()
    with ThreadPoolExecutor(workers) as pool:
        results = pool.map(lambda group: _bring(group, store, params), by_location.values())
        for outcome in progress(results, total=len(by_location), what="sources"):
            for row, decision, attempt in outcome:
                decisions.append(decision)
                attempts.append(attempt)
                if row:
                    rows.append(row)
    append_attempts(ledger / ATTEMPTS, attempts)
    write_decisions(ledger / DECISIONS, decisions, SCORES)
    records.write(manifest, sorted(rows, key=lambda row: str(row["clip_id"])), records.MANIFEST)
    rejected = [decision for decision in decisions if not decision.kept]
    logger.info("download-videos: %d clips kept, %d rejected", len(rows), len(rejected))
    if whole:
        fail_below(params.min_success_ratio, len(rows), rejected, ledger, "download_videos")
    return {"clips_kept": len(rows), "clips_rejected": len(rejected)}


def _bring(
    group: Sequence[Source], store: MediaStore, params: DownloadVideos
) -> list[tuple[records.Row | None, Decision, Attempt]]:
    """Fetch one location once, and make its clips."""
    started = time.time()
    try:
        origin: Origin | ClipRejectedError = fetch(group[0].location, store, params)
    except ClipRejectedError as error:
        origin = error
    outcomes = []
    for source in group:
        row, decision = _make_clip(source, origin, store, params)
        attempt = Attempt(
            clip_id=source.clip_id,
            started=started,
            duration_s=time.time() - started,
            outcome=decision.reason or "done",
            detail=decision.detail,
        )
        outcomes.append((row, decision, attempt))
    return outcomes


def _make_clip(
    source: Source,
    origin: Origin | ClipRejectedError,
    store: MediaStore,
    params: DownloadVideos,
) -> tuple[records.Row | None, Decision]:
    try:
        if isinstance(origin, ClipRejectedError):
            raise origin
        content = _cut(source, origin, store) if source.is_cut else origin.sha256
        clock = read_clock(store.path(content))
        if clock.duration_s > params.max_duration_s:
            raise ClipRejectedError(
                "too_long",
                f"the clip has {clock.duration_s:.1f} s, at most {params.max_duration_s:g} s are "
                "kept (download_videos.max_duration_s): give start_s and end_s in the list",
            )
    except ClipRejectedError as error:
        return None, Decision(source.clip_id, error.reason, str(error))
    size = store.path(content).stat().st_size
    row = {
        "clip_id": source.clip_id,
        "speaker_id": source.speaker_id,
        "split": source.split,
        "language": source.language,
        "licence": source.licence,
        "sha256": content,
        "bytes": size,
    }
    scores = {"bytes": size, "duration_s": clock.duration_s, "fps_hz": clock.fps_hz}
    return row, Decision(source.clip_id, scores=scores)


def _cut(source: Source, origin: Origin, store: MediaStore) -> str:
    span = f"{milliseconds(source.start_s)}-{source.end_s and milliseconds(source.end_s)}"
    key = f"cut:{origin.sha256}:{span}:{sorted(ffmpeg.CUT_OPTIONS.items())}"
    known = store.recall(key)
    if known:
        return known.sha256
    length_s = read_clock(store.path(origin.sha256)).duration_s
    if source.start_s >= length_s:
        raise ClipRejectedError(
            "empty_cut",
            f"the cut starts at {source.start_s:g} s, the source ends at {length_s:g} s",
        )
    target = store.partial(f"{key}:{source.clip_id}")
    try:
        ffmpeg.cut(store.path(origin.sha256), target, start_s=source.start_s, end_s=source.end_s)
    except ToolError as error:
        raise ClipRejectedError("corrupt", f"cannot be cut at {span} ms: {error}") from error
    size = target.stat().st_size
    content = store.adopt(target)
    store.remember(key, Origin(content, size, origin.sha256))
    return content
