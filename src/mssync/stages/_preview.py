"""What `mssync preview` shows: a clip of the manifest, or any media file, extracted on the spot."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from mssync import records
from mssync.errors import ClipRejectedError, InputError
from mssync.ledger import DECISIONS, Decision, stream_decisions
from mssync.media import probe
from mssync.media.sandbox import Sandbox
from mssync.media.store import MediaStore
from mssync.params import ExtractLandmarks, Params
from mssync.parts import PATTERN
from mssync.records import Row
from mssync.render.preview import Findings, write_preview
from mssync.stages import extract_audio, extract_landmarks
from mssync.stages._extract import allowed_s, clock_apart

_SHOWN_STAGES = ("extract_landmarks", "extract_audio", "build_dataset")
_LISTED = 8  # candidates in an error message
_LONGEST_NAME = 100


def run(
    clip: str,
    out: Path | None,
    *,
    manifest: Path,
    landmarks: Path,
    audio: Path,
    ledger: Path,
    params: Params,
    store: MediaStore,
) -> Path:
    """Write the preview of a clip.

    Args:
        clip: A clip id of the manifest, a path of a media file, or a part of one clip id; tried in
            this order.
        out: MP4 file to write; None: `previews/<clip>.mp4`.
        manifest: As `download_videos` writes it; need not be there for a media file.
        landmarks: Parts of `extract_landmarks`.
        audio: Parts of `extract_audio`.
        ledger: Folder of all stages' ledgers.
        params: Of the extraction of a media file.
        store: Where the media of the manifest are.

    Returns:
        The file that was written.

    Raises:
        InputError: If there is no such clip, more than one, or its media or landmarks do not fit.
        ClipRejectedError: If its media cannot be decoded.
    """
    listed = _find(clip, manifest, ledger)
    if listed:
        media, found = _gather(listed, landmarks, audio, ledger, store)
        target = _target(out, found.clip_id, media)
    else:
        media = Path(clip)
        target = _target(out, media.name, media)
        found = _extract(media, params)
    try:
        _draw(target, media, found, params.extract_landmarks)
    except ClipRejectedError as error:
        raise ClipRejectedError(error.reason, f"{found.clip_id}: {error}") from error
    return target


def _draw(target: Path, media: Path, found: Findings, params: ExtractLandmarks) -> None:
    """Draw in a sandbox: the media may be what killed the decoder of the extraction."""
    with Sandbox(memory_bytes=params.process_bytes) as sandbox:
        clock = clock_apart(media, sandbox)
        draw = partial(write_preview, max_pixels=params.max_pixels)
        sandbox.call(draw, target, media, found, wall_s=allowed_s(clock, params))


def _target(out: Path | None, clip_id: str, media: Path) -> Path:
    if out is None:
        name = (
            re.sub(r"[^\w.-]+", "_", clip_id.removesuffix(".mp4")).strip("._-")[-_LONGEST_NAME:]
            or "clip"
        )
        return Path("previews") / f"{name}.mp4"
    if out.is_dir():
        raise InputError(f"--out {out} is a folder: name a file in it that ends in .mp4")
    if out.suffix.lower() != ".mp4":
        raise InputError(f"--out {out}: expected a file that ends in .mp4")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--out {out}: the folder {out.parent} cannot be made: {error.strerror}"
        ) from error
    if out.exists() and media.exists() and out.samefile(media):
        raise InputError(f"--out {out} is the clip itself: name another file")
    return out


def _find(clip: str, manifest: Path, ledger: Path) -> Row | None:
    """The row of the manifest that is meant; None: a media file is."""
    candidates = list[Row]()
    if manifest.exists():
        for row in records.stream(manifest, records.MANIFEST):
            if row["clip_id"] == clip:
                return row
            if clip in row["clip_id"]:
                candidates.append(row)
    if Path(clip).is_file():
        return None
    if Path(clip).is_dir():
        raise InputError(f"{clip} is a folder: give one media file in it, or a clip id")
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        names = [row["clip_id"] for row in candidates]
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        raise InputError(
            f"{clip!r} is part of {len(names)} clip ids of {manifest}: "
            f"{', '.join(names[:_LISTED])}{more}. Give more of the one you mean"
        )
    raise InputError(_unknown(clip, manifest, ledger))


def _unknown(clip: str, manifest: Path, ledger: Path) -> str:
    if not manifest.exists():
        return (
            f"{clip!r} is no file, and {manifest}, which would list clips, does not exist: give "
            "the path of a media file, or name the manifest with --manifest"
        )
    lost = _decision(ledger / "download_videos", clip)
    if lost and not lost.kept:
        return f"{clip} has no media: download_videos rejected it: {lost.reason}: {lost.detail}"
    some = ", ".join(
        row["clip_id"]
        for row, _ in zip(records.stream(manifest, records.MANIFEST), range(3), strict=False)
    )
    return (
        f"{clip!r} is no file, and no part of a clip id of {manifest}, such as {some or '(none)'}: "
        "give the path of a media file, or a clip id of the manifest (--manifest)"
    )


def _gather(
    clip: Row, landmarks: Path, audio: Path, ledger: Path, store: MediaStore
) -> tuple[Path, Findings]:
    """What the stages have written about a clip, and its media."""
    clip_id = str(clip["clip_id"])
    if clip["sha256"] not in store:
        raise InputError(
            f"the media of {clip_id} are gone from the store {store.folder}: fetch them again "
            "with make retry"
        )
    decisions = {stage: _decision(ledger / stage, clip_id) for stage in _SHOWN_STAGES}
    found = Findings(
        clip_id,
        _part_row(landmarks, records.LANDMARKS, clip),
        _part_row(audio, records.AUDIO, clip),
        decisions,
    )
    return store.path(clip["sha256"]), found


def _decision(stage: Path, clip_id: str) -> Decision | None:
    path = stage / DECISIONS
    if not path.exists():
        return None
    return next(
        (decision for decision in stream_decisions(path) if decision.clip_id == clip_id), None
    )


def _part_row(folder: Path, schema: object, clip: Row) -> Row | None:
    """The clip's row in a folder of parts; None where there is none of its media."""
    for path in sorted(folder.glob(PATTERN)):
        names = pq.read_table(path, columns=["clip_id"])["clip_id"].to_pylist()
        if clip["clip_id"] not in names:
            continue
        row = records.read(path, schema)[names.index(clip["clip_id"])]
        return row if row["sha256"] == clip["sha256"] else None
    return None


def _extract(media: Path, params: Params) -> Findings:
    """Extract from a media file now; what the stages reject is shown as rejected."""
    memory_bytes = params.extract_landmarks.process_bytes
    with Sandbox(memory_bytes=memory_bytes, death="crashed") as sandbox:
        return _extract_in(sandbox, media, params)


def _extract_in(sandbox: Sandbox, media: Path, params: Params) -> Findings:
    try:
        read = partial(probe.probe, max_pixels=params.extract_landmarks.max_pixels)
        clock = sandbox.call(read, media, wall_s=params.download_videos.probe_s).clock
    except ClipRejectedError as error:
        raise ClipRejectedError(error.reason, f"{media}: {error}") from error
    clip_id = media.name
    extractions: dict[str, Callable[[], Row]] = {
        "extract_landmarks": partial(
            extract_landmarks.follow,
            media,
            params=params.extract_landmarks,
            device=params.run.device,
        ),
        "extract_audio": partial(extract_audio.listen, media, params=params.extract_audio),
    }
    rows, decisions = dict[str, Row](), dict[str, Decision | None]()
    for stage, extract in extractions.items():
        try:
            rows[stage] = sandbox.call(extract, wall_s=allowed_s(clock, params.extract_landmarks))
            decisions[stage] = Decision(clip_id)
        except ClipRejectedError as error:
            decisions[stage] = Decision(clip_id, error.reason, str(error))
    return Findings(clip_id, rows.get("extract_landmarks"), rows.get("extract_audio"), decisions)
