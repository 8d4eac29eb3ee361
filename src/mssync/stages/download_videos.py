"""Stage 1: source list -> media in the store, manifest, decisions."""

import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from mssync import records
from mssync.errors import ClipRejectedError, InputError, ToolError
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
from mssync.media.fetch import fetch, is_url, locate
from mssync.media.store import MediaStore, Origin
from mssync.params import DownloadVideos
from mssync.timing import milliseconds

logger = logging.getLogger(__name__)

COLUMNS = {"source", "speaker_id", "split", "start_s", "end_s", "language", "licence"}
SCORES = ("bytes", "duration_s", "fps_hz")
BASE = "MSSYNC_SOURCE_BASE"


@dataclass(frozen=True)
class _Source:
    """One row of the list."""

    clip_id: str
    location: str
    speaker_id: str
    split: str
    start_s: float
    end_s: float | None
    language: str
    licence: str

    @property
    def is_cut(self) -> bool:
        return self.start_s > 0 or self.end_s is not None


def run(
    sources: Path,
    manifest: Path,
    ledger: Path,
    params: DownloadVideos,
    *,
    store: MediaStore,
    workers: int,
) -> dict[str, float]:
    """Fetch every listed source into the media store and cut it.

    Args:
        sources: List, comma-separated, with a header. `source` is a path, relative to the list or
            to `$MSSYNC_SOURCE_BASE`, or an http(s) URL. Optional: `speaker_id` (default: the
            source itself), `start_s`, `end_s`, `split`, `language`, `licence`.
        manifest: Parquet file to write.
        ledger: Folder for the stage's decisions and attempts.
        params: The stage's section.
        store: Where media go.
        workers: Connections at a time.

    Returns:
        Clips kept and rejected.

    Raises:
        InputError: If the list is missing or of the wrong form.
        StageFailedError: If too few sources could be had.
    """
    listed = _read_list(sources)
    by_location = dict[str, list[_Source]]()
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
    fail_below(params.min_success_ratio, len(rows), rejected, ledger, "download_videos")
    return {"clips_kept": len(rows), "clips_rejected": len(rejected)}


def _bring(
    group: Sequence[_Source], store: MediaStore, params: DownloadVideos
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
    source: _Source,
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


def _cut(source: _Source, origin: Origin, store: MediaStore) -> str:
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


def _read_list(path: Path) -> list[_Source]:
    rows = records.read_csv(path)
    header = set(rows[0]) if rows else set()
    if "source" not in header:
        raise InputError(
            f"{path} lists no source: expected a comma-separated header with the column `source` "
            f"(known columns: {', '.join(sorted(COLUMNS))}) and at least one row, found "
            f"{', '.join(sorted(header)) or 'no row'}"
        )
    _warn_of_columns(header, path)
    base = os.environ.get(BASE, "")
    listed = dict[str, _Source]()
    for line, row in enumerate(rows, start=2):
        source = _read_row(row, where=f"{path}, row {line}", base=base, folder=path.parent)
        if source.clip_id in listed:
            logger.warning("%s, row %d: %s is listed before", path, line, source.clip_id)
        listed.setdefault(source.clip_id, source)
    pinned = _pinned(listed.values(), path)
    return [replace(source, split=pinned.get(source.speaker_id, "")) for source in listed.values()]


def _warn_of_columns(header: set[str], path: Path) -> None:
    ignored = sorted(header - COLUMNS)
    if ignored:
        logger.warning("%s: columns %s are not known and ignored", path, ", ".join(ignored))
    if "speaker_id" not in header:
        logger.warning(
            "%s has no column speaker_id: every source counts as a speaker of its own, so one "
            "person may be trained on and tested on",
            path,
        )


def _read_row(row: Mapping[str, str], *, where: str, base: str, folder: Path) -> _Source:
    written = row["source"]
    if not written:
        raise InputError(f"{where}: `source` is empty")
    if base:
        written = written.removeprefix(f"{base.rstrip('/')}/")
    start_s = _seconds(row, "start_s", where) or 0.0
    end_s = _seconds(row, "end_s", where)
    if end_s is not None and end_s <= start_s:
        raise InputError(f"{where}: end_s ({end_s:g}) must come after start_s ({start_s:g})")
    split = row.get("split", "")
    if split not in ("", "train", "val", "test"):
        raise InputError(f"{where}: split must be train, val, test or empty, found {split!r}")
    end = "end" if end_s is None else milliseconds(end_s)
    cut = f"#{milliseconds(start_s)}-{end}" if start_s > 0 or end_s is not None else ""
    return _Source(
        clip_id=written + cut,
        location=locate(written, base=base, folder=folder),
        speaker_id=row.get("speaker_id", "") or _speaker(written),
        split=split,
        start_s=start_s,
        end_s=end_s,
        language=row.get("language", ""),
        licence=row.get("licence", ""),
    )


def _speaker(source: str) -> str:
    """Who speaks where the list does not say: the file itself, so that nobody is mixed up."""
    return source.split("?")[0].split("://")[-1] if is_url(source) else Path(source).as_posix()


def _seconds(row: Mapping[str, str], column: str, where: str) -> float | None:
    text = row.get(column, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InputError(f"{where}: {column} must be seconds, 0 or more, found {text!r}")
    return value


def _pinned(listed: Iterable[_Source], path: Path) -> dict[str, str]:
    """Split of every speaker whom the list pins to one, in any of their rows."""
    pinned = dict[str, str]()
    for source in listed:
        if source.split and pinned.setdefault(source.speaker_id, source.split) != source.split:
            raise InputError(
                f"{path}: speaker {source.speaker_id} is pinned to {pinned[source.speaker_id]} "
                f"and to {source.split}; a speaker belongs to one split"
            )
    return pinned
