"""Is this file a video that the next stages can use, and if not: what is it?

Made for strangers' files: `probe` is run in a `media.sandbox.Sandbox`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from mssync.errors import ClipRejectedError
from mssync.media import decode

_HEAD_BYTES = 4096
_NEVER_IN_TEXT = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_BOM = b"\xef\xbb\xbf".decode("latin-1")

# Text, by how it begins.
_TEXTS = (
    (re.compile(r"<!doctype html|(<[?!].*?)?<(html|head|body|script)\b", re.DOTALL),
     "a web page (HTML)"),
    (re.compile(r"version https://git-lfs"), "a git-lfs pointer: the file itself was not fetched"),
    (re.compile(r"#extm3u"), "a playlist (HLS or M3U)"),
    (re.compile(r"ffconcat"), "a list of files (ffconcat)"),
    (re.compile(r"(<[?!].*?)?<mpd\b", re.DOTALL), "a playlist (DASH)"),
    (re.compile(r"v=0\s+o="), "a session description (SDP)"),
    (re.compile(r"<[?!\w]"), "XML"),
    (re.compile(r"[{\[]"), "JSON"),
)  # fmt: skip
# Binary, by its first bytes: no video.
_OTHERS = (
    (re.compile(rb"\xff\xd8\xff"), "a picture (JPEG)"),
    (re.compile(rb"\x89PNG"), "a picture (PNG)"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "a picture (WebP)"),
    (re.compile(rb"%PDF"), "a document (PDF)"),
    (re.compile(rb"PK\x03\x04|7z\xbc\xaf|Rar!|\xfd7zXZ"), "an archive"),
    (re.compile(rb"\x1f\x8b"), "compressed (gzip)"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "compressed (zstd)"),
)
_SOUND = re.compile(rb"ID3|\xff[\xe2-\xe7\xf0-\xfd]|ADIF|#!AMR|FORM.{4}AIF", re.DOTALL)
# Containers that `decode` opens: what begins so, and cannot be opened, is damaged.
_CONTAINERS = re.compile(
    rb".{4}(ftyp|moov|mdat|free|skip|wide|pnot|styp|moof)"
    rb"|\x1a\x45\xdf\xa3"  # Matroska, WebM
    rb"|RIFF.{4}(AVI |WAVE)"
    rb"|\x00\x00\x01[\xb3\xba]"  # MPEG
    rb"|\x47.{187}\x47|.{4}\x47.{191}\x47"  # MPEG-TS, M2TS
    rb"|GIF8|FLV\x01|OggS|DKIF|fLaC|\x30\x26\xb2\x75|\x06\x0e\x2b\x34",
    re.DOTALL,
)


@dataclass(frozen=True)
class Probe:
    """A video that can be decoded.

    Attributes:
        clock: Its timestamps.
        width_px: Width as displayed, so after rotation.
        height_px: Height as displayed.
        format: The container, as libavformat names it.
        video_codec: As libavcodec names it.
    """

    clock: decode.Clock
    width_px: int
    height_px: int
    format: str
    video_codec: str


def probe(path: Path, *, max_pixels: int) -> Probe:
    """Read the clock of a video and decode its first frame.

    Args:
        path: The file, of whatever kind.
        max_pixels: Largest picture, width times height, that is decoded.

    Raises:
        ClipRejectedError: `not_a_video`, `no_video`, `corrupt`, `bad_timestamps`, `too_costly`, or
            `unreadable`.
    """
    head = read_head(path)
    _refuse_other_kinds(head)
    try:
        picture = decode.read_picture(path, max_pixels=max_pixels)
        clock = decode.read_clock(path)
    except ClipRejectedError as error:
        if error.reason == "corrupt" and not _CONTAINERS.match(head):
            raise ClipRejectedError("not_a_video", "it is of no known kind") from error
        raise
    return Probe(clock, picture.width_px, picture.height_px, picture.format, picture.video_codec)


def read_head(path: Path) -> bytes:
    """The first bytes of a file, by which its kind is known.

    Raises:
        ClipRejectedError: `unreadable`.
    """
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise ClipRejectedError(
            "unreadable", f"the file cannot be read: {error.strerror}"
        ) from error


def _refuse_other_kinds(head: bytes) -> None:
    """Say what a file is that begins as no video does."""
    if not head:
        raise ClipRejectedError("not_a_video", "the file is empty")
    text = _text(head)
    if text is not None:
        start = text.lstrip().lower()
        kind = next((kind for begins, kind in _TEXTS if begins.match(start)), "text")
        raise ClipRejectedError("not_a_video", f"this is no video, it is {kind}")
    for begins, kind in _OTHERS:
        if begins.match(head):
            raise ClipRejectedError("not_a_video", f"this is no video, it is {kind}")
    if _SOUND.match(head):
        raise ClipRejectedError("no_video", "it is sound alone")


def _text(head: bytes) -> str | None:
    """A file's beginning as text, of whatever alphabet; None if it is none."""
    wide = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = head.decode("utf-16", errors="replace") if wide else head.decode("latin-1")
    return None if _NEVER_IN_TEXT.search(text) else text.removeprefix(_BOM)
