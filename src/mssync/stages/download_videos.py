"""Stage 1: source list -> media in the store, manifest, provenance, decisions."""

import logging
import math
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from mssync import records
from mssync.download import sites
from mssync.download.access import Access
from mssync.download.addresses import make_client
from mssync.download.budget import Budget
from mssync.download.crew import Crew
from mssync.download.fetcher import Fetcher
from mssync.download.governor import Governor
from mssync.download.state import Result, State
from mssync.download.takedown import Tombstones
from mssync.errors import ToolError
from mssync.ledger import (
    ATTEMPTS,
    DECISIONS,
    Decision,
    Tally,
    append_attempts,
    write_sorted_decisions,
)
from mssync.lists.sources import Source, default_speaker, read_sources
from mssync.media import ffmpeg
from mssync.media.sandbox import SandboxPool
from mssync.media.store import MediaStore, Provenance
from mssync.params import DownloadVideos

logger = logging.getLogger(__name__)

SCORES = ("bytes", "duration_s", "fps_hz", "width_px", "height_px")
STATE = "state.sqlite"
PROVENANCE = "provenance.parquet"
# What may change a decision that is taken for good; how a source is asked for does not.
_DECIDING = (
    "honour_opt_out", "max_bytes", "max_duration_s", "max_pixels", "max_redirects", "probe_bytes",
    "probe_s", "site_format",
)  # fmt: skip


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
    takedown: Path | None = None,
    again: Iterable[str] = (),
    access: Access | None = None,
) -> dict[str, float]:
    """Fetch every listed source into the media store and cut it.

    What an earlier run decided for good is not asked for again: clips that were kept while their
    media are in the store, and failures that time does not heal.

    Args:
        sources: List, as `lists.sources.read_sources` takes it.
        manifest: Parquet file to write; `provenance.parquet` is written beside it.
        ledger: Folder for the stage's decisions, attempts and state.
        params: The stage's section.
        store: Where media go.
        workers: Processes that look at what came.
        base: Folder or URL that relative sources start from; default: the list's folder.
        whole: False for a shard of a list: it may be empty, and whether enough of its sources
            could be had is decided over all shards (`mssync.shards.gather`).
        takedown: List of what must not come back (`mssync.download.takedown`).
        again: Reason codes that are tried again, though asking again seldom helps.
        access: Where connections may go, and with what; default: public addresses, no secrets.

    Returns:
        Clips kept and rejected.

    Raises:
        InputError: If the list is missing or of the wrong form, or another run is at work here.
        StageFailedError: If too few sources could be had.
    """
    tombstones = Tombstones.read(takedown)
    key = records.digest(
        repr(params.model_dump(include=set(_DECIDING))), repr(sorted(ffmpeg.CUT_OPTIONS.items()))
    )
    with (
        _explained(ledger / STATE),
        closing(
            State(
                ledger / STATE,
                key=key,
                again=again,
                present=store.__contains__,
                banned=tombstones.match_origin,
                revalidate=params.revalidate,
            )
        ) as state,
    ):
        rows = read_sources(sources, base=base, may_be_empty=not whole)
        _work(state, rows, params, store, tombstones, access or Access(), workers)
        tally = _write(state, manifest, ledger)
    logger.info("download-videos: %d clips kept, %d rejected", tally.kept, tally.rejected)
    if whole:
        tally.check(params.min_success_ratio, ledger, "download_videos")
    return {"clips_kept": tally.kept, "clips_rejected": tally.rejected}


@contextmanager
def _explained(state: Path) -> Iterator[None]:
    """What SQLite says, in the words of whoever has to help."""
    try:
        yield
    except sqlite3.Error as error:
        raise ToolError(
            f"{state}: {error}. Make room and see that the folder can be written; the file itself "
            "may be deleted, then what failed is asked for once more"
        ) from error


def _work(
    state: State,
    rows: Iterable[Source],
    params: DownloadVideos,
    store: MediaStore,
    tombstones: Tombstones,
    access: Access,
    workers: int,
) -> None:
    store.folder.mkdir(parents=True, exist_ok=True)
    governor = Governor(params)
    budget = Budget(params, store.folder)
    with ExitStack() as stack:
        fetcher = Fetcher(
            store,
            params,
            access=access,
            governor=governor,
            budget=budget,
            tombstones=tombstones,
            client=stack.enter_context(
                make_client(
                    access.policy,
                    timeout_s=params.timeout_s,
                    connections=params.connections,
                    proxy=access.secrets.proxy,
                )
            ),
            sandboxes=stack.enter_context(SandboxPool(workers, memory_bytes=params.probe_bytes)),
            browsers=stack.enter_context(
                SandboxPool(params.connections, memory_bytes=sites.MEMORY_BYTES)
            ),
        )

        def refuse(source: Source) -> Result | None:
            reason = tombstones.match(source.written, source.speaker_id, source.clip_id)
            if reason is None:  # a relative source may be taken down by its whole address
                reason = tombstones.match(source.location, source.speaker_id)
            return None if reason is None else Result("taken_down", f"taken down: {reason}")

        crew = Crew(
            state,
            governor,
            budget,
            bring=fetcher.bring,
            refuse=refuse,
            connections=params.connections,
            attempts=params.attempts,
            run=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        crew.work(rows)


def _write(state: State, manifest: Path, ledger: Path) -> Tally:
    """Write down what became of the list; the order and the bytes depend on it alone."""
    tally = Tally()
    decisions = tally.count(_decision(source, result) for source, result in state.outcomes())
    write_sorted_decisions(ledger / DECISIONS, decisions, SCORES)
    kept = ((source, result) for source, result in state.outcomes() if result.kept)
    records.write(manifest, (_row(*clip) for clip in kept), records.MANIFEST)
    kept = ((source, result) for source, result in state.outcomes() if result.kept)
    records.write(
        manifest.with_name(PROVENANCE), (_provenance(*clip) for clip in kept), records.PROVENANCE
    )
    append_attempts(ledger / ATTEMPTS, state.attempts())
    state.end()
    return tally


def _decision(source: Source, result: Result) -> Decision:
    return Decision(source.clip_id, result.reason, result.detail, result.scores)


def _row(source: Source, result: Result) -> records.Row:
    came_from = result.origin.provenance if result.origin else Provenance()
    speaker_id = source.speaker_id
    if came_from.uploader and not source.split and speaker_id == default_speaker(source.written):
        speaker_id = came_from.uploader  # one channel, one speaker, where the list does not say
    return {
        "clip_id": source.clip_id,
        "speaker_id": speaker_id,
        "split": source.split,
        "language": source.language,
        "licence": source.licence or came_from.licence,
        "tags": source.tags,
        "av_offset_ms": math.nan if source.av_offset_ms is None else source.av_offset_ms,
        "sha256": result.sha256,
        "bytes": int(result.scores["bytes"]),
    }


def _provenance(source: Source, result: Result) -> records.Row:
    assert result.origin is not None
    return {
        "clip_id": source.clip_id,
        "source_sha256": result.origin.sha256,
        "source_bytes": result.origin.bytes,
        **vars(result.origin.provenance),
    }
