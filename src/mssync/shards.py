"""Shards of a list: cut before the data stages, gathered after them.

A shard's folder is a workspace of its own, laid out as the whole one. Which shard a source belongs
to depends on the source and on the number of shards alone, so that a list that grows moves no clip
and what was extracted of it stays.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from mssync import records
from mssync.ledger import (
    ATTEMPTS,
    DECISIONS,
    Decision,
    append_attempts,
    fail_below,
    read_attempts,
    read_decisions,
    write_decisions,
)
from mssync.media.sources import read_sources, write_sources
from mssync.params import DownloadVideos, ExtractAudio, ExtractLandmarks
from mssync.steps import Shard

logger = logging.getLogger(__name__)

SOURCES = Path("data/sources.csv")
MANIFEST = Path("data/manifest.parquet")
PARTS = {"extract_landmarks": Path("data/landmarks"), "extract_audio": Path("data/audio")}
STAGES = ("download_videos", *PARTS)


def cut(sources: Path, workspace: Path, count: int, *, base: str) -> list[int]:
    """Check a list and write each shard's part of it.

    Args:
        sources: The list.
        workspace: Where the shards' folders are.
        count: Number of shards.
        base: Folder or URL that relative sources start from; empty: the list's folder.

    Returns:
        Clips of each shard; some may be 0.

    Raises:
        InputError: If the list is missing or of the wrong form.
    """
    listed = read_sources(sources, base=base)
    parts: list[list[int]] = [[] for _ in range(count)]
    for number, source in enumerate(listed):
        # by the source, not the clip: what is cut from one video is fetched once
        parts[_shard(source.written, count)].append(number)
    for index, part in enumerate(parts):
        folder = Shard(index, count).folder(workspace)
        write_sources(folder / SOURCES, [listed[number] for number in part])
    logger.info("%d clips in shards of %s", len(listed), [len(part) for part in parts])
    return [len(part) for part in parts]


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
    rows = [row for folder in folders for row in records.read(folder / MANIFEST, records.MANIFEST)]
    rows.sort(key=lambda row: str(row["clip_id"]))
    records.write(workspace / MANIFEST, rows, records.MANIFEST)
    for parts in PARTS.values():
        _link_parts([folder / parts for folder in folders], workspace / parts)
    ratios = {
        "download_videos": download_videos.min_success_ratio,
        "extract_landmarks": extract_landmarks.min_success_ratio,
        "extract_audio": extract_audio.min_success_ratio,
    }
    gathered = {
        stage: _gather_ledger(
            [folder / "ledger" / stage for folder in folders], workspace / "ledger" / stage
        )
        for stage in STAGES
    }
    counts = dict[str, float]()
    for stage, decisions in gathered.items():
        rejected = [decision for decision in decisions if not decision.kept]
        kept = len(decisions) - len(rejected)
        counts |= {f"{stage}.clips_kept": kept, f"{stage}.clips_rejected": len(rejected)}
        fail_below(ratios[stage], kept, rejected, workspace / "ledger" / stage, stage)
    return counts


def _shard(source: str, count: int) -> int:
    return int.from_bytes(hashlib.sha256(source.encode()).digest()[:8]) % count


def _gather_ledger(shards: Sequence[Path], ledger: Path) -> list[Decision]:
    decisions = [row for shard in shards for row in read_decisions(shard / DECISIONS)]
    scores = next((list(decision.scores) for decision in decisions), [])
    write_decisions(ledger / DECISIONS, decisions, scores)
    known = {(attempt.clip_id, attempt.started) for attempt in read_attempts(ledger / ATTEMPTS)}
    attempts = [
        attempt
        for shard in shards
        for attempt in read_attempts(shard / ATTEMPTS)
        if (attempt.clip_id, attempt.started) not in known
    ]
    append_attempts(ledger / ATTEMPTS, sorted(attempts, key=lambda attempt: attempt.started))
    return decisions


def _link_parts(shards: Sequence[Path], out: Path) -> None:
    """Make `out` hold the parts of all shards and no other; names tell parts apart."""
    out.mkdir(parents=True, exist_ok=True)
    wanted = {part.name: part for shard in shards for part in shard.glob("part-*.parquet")}
    for stale in {part.name for part in out.glob("part-*.parquet")} - set(wanted):
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
