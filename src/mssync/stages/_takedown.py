"""Take people, sources or clips out of everything derived, and see that they never come back.

A journal is written first and deleted last, so that a takedown that was killed is finished by the
next one. At every moment one whole version of the dataset can be read: parts without the clips are
written beside the old ones, which go when the new version stands.
"""

import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mssync import records, tracking
from mssync.data import dataset, history
from mssync.download.takedown import append, same_source
from mssync.errors import InputError
from mssync.ledger import DECISIONS, Decision, read_decisions, stream_decisions, write_decisions
from mssync.params import BuildDataset, validate
from mssync.parts import replace_without
from mssync.records import Row
from mssync.selection.evidence import forget
from mssync.selection.rules import SCORES
from mssync.selection.verdicts import EXTRACTION_STAGES
from mssync.stages._version import Places, write_version
from mssync.stages.build_dataset import evidence_folder
from mssync.tracking import Trained

logger = logging.getLogger(__name__)

MANIFEST, PROVENANCE = Path("data/manifest.parquet"), Path("data/provenance.parquet")
LANDMARKS, AUDIO = Path("data/landmarks"), Path("data/audio")
DATASET, CARD = Path("data/dataset"), Path("data/card")
LEDGER, TOMBSTONES = Path("ledger"), Path("data/takedown.csv")
JOURNAL = Path("data/takedown.under-way.json")
TAKEN_DOWN = "taken_down"

# A clip id is its source, then a cut, then a crop (docs/sources.md).
_DIGEST = re.compile("[0-9a-f]{64}")
_CLIP_ID = re.compile(r"(?P<source>.*?)(?:#\d+-(?:\d+|end))?(?:@[\d.,]+)?", re.DOTALL)


@dataclass(frozen=True)
class Request:
    """What has to go; every entry stands for itself.

    Attributes:
        speakers: As in the manifest.
        sources: In any spelling.
        clips: As in the manifest.
        reason: Said to whoever asks why they are not there.
    """

    speakers: Sequence[str] = ()
    sources: Sequence[str] = ()
    clips: Sequence[str] = ()
    reason: str = ""

    def __post_init__(self) -> None:
        if not (self.speakers or self.sources or self.clips):
            raise InputError("nothing is named: give --speaker, --source or --clip")


@dataclass(frozen=True)
class Removed:
    """What a takedown did.

    Attributes:
        clips: That were removed, sorted.
        before: Revision before; None where there was no dataset.
        after: Revision now; None where there is none, or no clip is left.
        parts: Parts that were written anew or dropped.
        trained: Runs and registered models that were trained on the clips.
    """

    clips: Sequence[str]
    before: str | None
    after: str | None
    parts: int
    trained: Sequence[Trained] = field(default_factory=list)


def run(workspace: Path, request: Request, *, tracking_uri: str) -> Removed:
    """Remove clips from parts, tables, ledgers and dataset, and leave a tombstone.

    Args:
        workspace: Folder the chain runs in.
        request: What has to go.
        tracking_uri: Store of the runs; relative ones are looked for in the working folder.

    Raises:
        InputError: If a table is missing or of the wrong form.
        ToolError: If the store of the runs cannot be used.
    """
    people = {row["clip_id"]: row["speaker_id"] for row in _manifest(workspace)}
    clips = {clip for clip, speaker in people.items() if _concerns(request, clip, speaker)}
    clips |= set(_read_journal(workspace))
    for tombstone in _tombstones(workspace, request, people, clips):
        append(workspace / TOMBSTONES, tombstone)
    if not clips:
        logger.warning("nothing of it is in %s: only the tombstone is left", workspace / MANIFEST)
        return Removed([], None, None, 0)
    records.write_text(workspace / JOURNAL, json.dumps(sorted(clips), indent=1) + "\n")
    concerned = _versions_with(workspace, clips)
    landmarks = replace_without(workspace / LANDMARKS, clips, records.LANDMARKS)
    audio = replace_without(workspace / AUDIO, clips, records.AUDIO)
    _rewrite_tables(workspace, clips, request.reason)
    before, after = _new_version(workspace, clips, {**landmarks, **audio})
    for folder, replaced in ((LANDMARKS, landmarks), (AUDIO, audio)):
        for old in replaced:
            (workspace / folder / old).unlink()
    forget(evidence_folder(workspace / DATASET), clips)
    trained = tracking.trained_on(tracking_uri, concerned)
    (workspace / JOURNAL).unlink()
    return Removed(sorted(clips), before, after, len(landmarks) + len(audio), trained)


def _concerns(request: Request, clip: str, speaker: str) -> bool:
    if speaker in request.speakers or clip in request.clips:
        return True
    match = _CLIP_ID.fullmatch(clip)
    source = match["source"] if match else clip
    return any(same_source(source) == same_source(named) for named in request.sources)


def clips_ever(workspace: Path, request: Request) -> set[str]:
    """Clips of a request, of the present version and of all before."""
    return {
        row["clip_id"]
        for version in history.known(history.folder_of(workspace / DATASET))
        for row in version.rows()
        if _concerns(request, row["clip_id"], row["speaker_id"])
    }


def _tombstones(
    workspace: Path, request: Request, people: Mapping[str, str], clips: Collection[str]
) -> Iterator[dict[str, str]]:
    reason = {"reason": request.reason or "on request"}
    origins = list(_stream(workspace / PROVENANCE, records.PROVENANCE))
    uploaders = {
        row["uploader"]
        for row in origins
        if row["uploader"] and row["uploader"] == people.get(row["clip_id"])
    }
    for speaker in request.speakers:
        # a channel that stands for its speaker is known by its own name when it is fetched
        channel = {"uploader": speaker} if speaker in uploaders else {}
        yield {"speaker_id": speaker, **channel, **reason}
    yield from ({"source": source, **reason} for source in request.sources)
    yield from ({"clip_id": clip, **reason} for clip in request.clips)
    # their very bytes, under whatever name; but not a source of which other clips stay
    digests = [(row["clip_id"], row["source_sha256"]) for row in origins]
    digests += [(row["clip_id"], row["sha256"]) for row in _manifest(workspace)]
    staying = {sha256 for clip, sha256 in digests if clip not in clips}
    going = {sha256 for clip, sha256 in digests if clip in clips} - staying
    yield from ({"sha256": each, **reason} for each in sorted(going) if _DIGEST.fullmatch(each))


def _manifest(workspace: Path) -> list[Row]:
    return records.read(workspace / MANIFEST, records.MANIFEST)


def _stream(path: Path, schema: object) -> Iterable[Row]:
    return records.stream(path, schema) if path.exists() else ()


def _read_journal(workspace: Path) -> list[str]:
    path = workspace / JOURNAL
    if not path.exists():
        return []
    logger.warning("a takedown was not finished: it is now")
    clips: list[str] = json.loads(path.read_text())
    return clips


def _versions_with(workspace: Path, clips: Collection[str]) -> set[str]:
    """Revisions in which one of the clips is used."""
    return {
        version.revision
        for version in history.known(history.folder_of(workspace / DATASET))
        if any(row["split"] and row["clip_id"] in clips for row in version.rows())
    }


def _rewrite_tables(workspace: Path, clips: Collection[str], reason: str) -> None:
    """Manifest, provenance and ledgers as the stages would write them with the tombstone."""
    for path, schema in ((MANIFEST, records.MANIFEST), (PROVENANCE, records.PROVENANCE)):
        if (workspace / path).exists():
            rows = records.read(workspace / path, schema)
            others = (row for row in rows if row["clip_id"] not in clips)
            records.write(workspace / path, others, schema)
    for stage in ("download_videos", *EXTRACTION_STAGES):
        path = workspace / LEDGER / stage / DECISIONS
        if not path.exists():
            continue
        decisions = read_decisions(path)
        names = list(decisions[0].scores) if decisions else []
        told = f"taken down: {reason or 'on request'}"
        if stage == "download_videos":
            left = [
                Decision(each.clip_id, TAKEN_DOWN, told) if each.clip_id in clips else each
                for each in decisions
            ]
        else:
            left = [each for each in decisions if each.clip_id not in clips]
        write_decisions(path, left, names)


def _new_version(
    workspace: Path, clips: Collection[str], parts: Mapping[str, str]
) -> tuple[str | None, str | None]:
    """Make the dataset's next version without the clips: revision before and after."""
    folder = workspace / DATASET
    if not (folder / dataset.METADATA).exists():
        return None, None
    version = dataset.load(folder)
    path = workspace / LEDGER / "build_dataset" / DECISIONS
    decisions = [each for each in stream_decisions(path) if each.clip_id not in clips]
    rows = [
        row | {name: parts.get(row[name]) or row[name] for name in ("landmarks_part", "audio_part")}
        for row in version.rows
        if row["clip_id"] not in clips
    ]
    if not rows:
        logger.warning("no clip of the dataset is left: it is gone")
        write_decisions(path, decisions, SCORES)
        dataset.drop_packs(folder)
        (folder / dataset.METADATA).unlink()
        return version.revision, None
    revision = write_version(
        Places(
            *(folder, workspace / CARD, workspace / LANDMARKS, workspace / AUDIO),
            ledger=workspace / LEDGER,
        ),
        rows,
        decisions,
        validate(BuildDataset, version.metadata["params"], name="build_dataset"),
        speakers={row["clip_id"]: row["speaker_id"] for row in _manifest(workspace)},
    )
    return (None if version.revision == revision else version.revision), revision
