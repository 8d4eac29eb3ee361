"""Shards of a list: cut before the data stages, gathered after them.

A shard's folder is a workspace of its own, laid out as the whole one. Which shard a source belongs
to depends on the source and on the number of shards alone, so that a list that grows moves no clip
and what was extracted of it stays.
"""

import hashlib
import heapq
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from mssync import records
from mssync.download.takedown import EMPTY
from mssync.ledger import (
    ATTEMPTS,
    DECISIONS,
    SAME_BYTES,
    Decision,
    Tally,
    append_attempts,
    merge_decisions,
    stream_attempts,
    write_sorted_decisions,
)
from mssync.lists.sources import Pins, read_sources
from mssync.lists.writing import sources_writer
from mssync.params import DownloadVideos, ExtractAudio, ExtractLandmarks
from mssync.parts import PATTERN
from mssync.steps import Shard

logger = logging.getLogger(__name__)

SOURCES = Path("data/sources.csv")
MANIFEST = Path("data/manifest.parquet")
PROVENANCE = Path("data/provenance.parquet")
TAKEDOWN = Path("data/takedown.csv")
PARTS = {"extract_landmarks": Path("data/landmarks"), "extract_audio": Path("data/audio")}
STAGES = ("download_videos", *PARTS)


def cut(sources: Path, workspace: Path, count: int, *, base: str) -> list[int]:
    """Check a list and write each shard's part of it, row by row.

    Args:
        sources: The list.
        workspace: Where the shards' folders are.
        count: Number of shards.
        base: Folder or address that relative sources start from; empty: the list's folder.

    Returns:
        Rows of each shard; some may be 0.

    Raises:
        InputError: If the list is missing or of the wrong form.
    """
    pins, counts = Pins(sources), [0] * count
    # a wrong list is refused, and every pin known, before anything is written
    for source in read_sources(sources, base=base):
        pins.add(source)
    with ExitStack() as stack:
        folders = [Shard(index, count).folder(workspace) for index in range(count)]
        writers = [stack.enter_context(sources_writer(folder / SOURCES)) for folder in folders]
        for source in read_sources(sources, base=base, quiet=True):
            # by the source, not the clip: what is cut from one video is fetched once
            shard = _shard(source.written, count)
            pinned = pins.splits.get(source.speaker_id, "")
            writers[shard](replace(source, split=pinned))
            counts[shard] += 1
    for folder in folders:
        _hand_on_takedown(workspace / TAKEDOWN, folder / TAKEDOWN)
    logger.info("%d rows in shards of %s", sum(counts), counts)
    return counts


def gather(
    workspace: Path,
    count: int,
    *,
    download_videos: DownloadVideos,
    extract_landmarks: ExtractLandmarks,
    extract_audio: ExtractAudio,
) -> dict[str, float]:
    """Put together what the data stages made of the shards, and decide whether it is enough.

    Parts are linked, not copied, where the file system can.

    Args:
        workspace: Receives what the stages would have written for the whole list.
        count: Number of shards.
        download_videos: The stage's section, for its least share of usable sources.
        extract_landmarks: The same.
        extract_audio: The same.

    Returns:
        Clips kept and rejected, by stage.

    Raises:
        InputError: If a shard lacks an output.
        StageFailedError: If too few clips of all shards survive a stage.
    """
    folders = [Shard(index, count).folder(workspace) for index in range(count)]
    duplicates = _gather_manifest(folders, workspace)
    for parts in PARTS.values():
        _link_parts([folder / parts for folder in folders], workspace / parts)
    sections: dict[str, DownloadVideos | ExtractLandmarks | ExtractAudio] = {
        "download_videos": download_videos,
        "extract_landmarks": extract_landmarks,
        "extract_audio": extract_audio,
    }
    tallies = {
        stage: _gather_ledger(
            [folder / "ledger" / stage for folder in folders],
            workspace / "ledger" / stage,
            duplicates,
        )
        for stage in STAGES
    }
    counts = dict[str, float]()
    for stage, tally in tallies.items():
        counts |= {f"{stage}.clips_kept": tally.kept, f"{stage}.clips_rejected": tally.rejected}
        tally.check(sections[stage].min_success_ratio, workspace / "ledger" / stage, stage)
    return counts


def _hand_on_takedown(source: Path, target: Path) -> None:
    """Give a shard the list of what must not come back, an empty one where there is none."""
    if source.exists():
        shutil.copyfile(source, target)
    else:
        records.write_text(target, EMPTY)


def _gather_manifest(folders: Sequence[Path], workspace: Path) -> dict[str, str]:
    """Put manifests and provenance together; clips with the content of another, and of which."""
    first, duplicates = dict[str, str](), dict[str, str]()

    def rows(file: Path, schema: Any) -> Iterator[records.Row]:  # noqa: ANN401 - pyarrow
        streams = [records.stream(folder / file, schema) for folder in folders]
        return heapq.merge(*streams, key=lambda row: str(row["clip_id"]))

    def kept() -> Iterator[records.Row]:
        for row in rows(MANIFEST, records.MANIFEST):
            keeper = first.setdefault(row["sha256"], row["clip_id"])
            if keeper == row["clip_id"]:
                yield row
            else:
                duplicates[row["clip_id"]] = keeper

    records.write(workspace / MANIFEST, kept(), records.MANIFEST)
    provenance = (
        row for row in rows(PROVENANCE, records.PROVENANCE) if row["clip_id"] not in duplicates
    )
    records.write(workspace / PROVENANCE, provenance, records.PROVENANCE)
    return duplicates


def _shard(source: str, count: int) -> int:
    return int.from_bytes(hashlib.sha256(source.encode()).digest()[:8]) % count


def _gather_ledger(shards: Sequence[Path], ledger: Path, duplicates: Mapping[str, str]) -> Tally:
    """Put decisions and attempts together.

    The first stage says of a duplicate which clip it repeats; later ones, which saw it in another
    shard than the first, were not given it.
    """
    is_first = ledger.name == STAGES[0]

    def decisions() -> Iterator[Decision]:
        for decision in merge_decisions(shard / DECISIONS for shard in shards):
            keeper = duplicates.get(decision.clip_id)
            if is_first and decision.reason == "duplicate":
                said = decision.detail.removeprefix(SAME_BYTES)
                keeper = duplicates.get(said, said)
            if keeper is None:
                yield decision
            elif is_first:
                yield Decision(decision.clip_id, "duplicate", SAME_BYTES + keeper)

    tally = Tally()
    scores = next((list(decision.scores) for decision in decisions()), [])
    write_sorted_decisions(ledger / DECISIONS, tally.count(decisions()), scores)
    known = {(attempt.clip_id, attempt.started) for attempt in stream_attempts(ledger / ATTEMPTS)}
    attempts = [
        attempt
        for shard in shards
        for attempt in stream_attempts(shard / ATTEMPTS)
        if (attempt.clip_id, attempt.started) not in known
    ]
    append_attempts(ledger / ATTEMPTS, sorted(attempts, key=lambda attempt: attempt.started))
    return tally


def _link_parts(shards: Sequence[Path], out: Path) -> None:
    """Make `out` hold the parts of all shards and no other; names tell parts apart."""
    out.mkdir(parents=True, exist_ok=True)
    wanted = {part.name: part for shard in shards for part in shard.glob(PATTERN)}
    for stale in {part.name for part in out.glob(PATTERN)} - set(wanted):
        (out / stale).unlink()
    for name, part in wanted.items():
        target = out / name
        if target.exists() and target.samefile(part):
            continue
        temporary = target.with_name(f".{name}.writing")
        temporary.unlink(missing_ok=True)
        try:
            os.link(part, temporary)
        except OSError:
            shutil.copyfile(part, temporary)
        temporary.replace(target)
