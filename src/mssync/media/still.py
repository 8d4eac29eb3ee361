"""One picture to begin with: a photo, or what a video shows at some time.

Made for strangers' files: `read_still` is run in a `media.sandbox.Sandbox`.
"""

import re
from pathlib import Path

import cv2
import numpy as np

from mssync.errors import ClipRejectedError
from mssync.media import decode, probe
from mssync.media.decode import Frame
from mssync.timing import frame_time_s, nearest_frame

_PHOTO = re.compile(rb"\xff\xd8\xff|\x89PNG|RIFF.{4}WEBP|BM.{4}\0\0\0\0|II\*\0|MM\0\*", re.DOTALL)
_HEIF = re.compile(rb".{4}ftyp(heic|heix|hevc|mif1|msf1|avif)", re.DOTALL)


def is_photo(path: Path) -> bool:
    """Whether a file begins as PNG, JPEG, WebP, BMP or TIFF do.

    Raises:
        ClipRejectedError: `unreadable`; `not_a_video` if it is a photo that cannot be read.
    """
    head = probe.read_head(path)
    if _HEIF.match(head):
        raise ClipRejectedError("not_a_video", "it is HEIF or AVIF: save it as PNG or JPEG")
    return bool(_PHOTO.match(head))


def read_still(
    path: Path, at_s: float | None, *, max_side_px: int, max_pixels: int
) -> tuple[Frame, float]:
    """The picture, upright and of square pixels, and the time at which it is shown.

    Args:
        path: A photo, or a video.
        at_s: Seconds from the video's first frame: what is shown then is taken; None: the first
            frame, or the photo.
        max_side_px: A larger picture is made smaller.
        max_pixels: Largest picture of a video, width times height, that is decoded.

    Raises:
        ClipRejectedError: `not_a_video`, `no_video`, `corrupt`, `bad_timestamps`, `too_costly`,
            `unreadable`, or `empty_cut` if the video does not last as long, or a photo has no time.
    """
    if is_photo(path):
        if at_s is not None:
            raise ClipRejectedError("empty_cut", "--at names a time in a video, this is a photo")
        return _photo(path, max_side_px), 0.0
    clock = probe.probe(path, max_pixels=max_pixels).clock
    tick = nearest_frame(at_s or 0.0)
    if tick >= clock.frames:
        raise ClipRejectedError(
            "empty_cut",
            f"--at {at_s:g} is beyond its end: expected 0 to {frame_time_s(clock.frames - 1):g} s",
        )
    shown: Frame | None = None
    for frame in decode.frames(
        path,
        clock,
        max_fps_hz=np.inf,
        max_side_px=max_side_px,
        max_pixels=max_pixels,
        threads=1,
    ):
        if shown and frame.time_s > frame_time_s(tick) + 1e-6:
            break
        shown = frame
    assert shown is not None
    return shown, shown.time_s


def _photo(path: Path, max_side_px: int) -> Frame:
    try:
        # turned as its EXIF data say; of 8 bits, without transparency
        picture_HWC = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise ClipRejectedError(
            "too_costly", f"the photo cannot be decoded: {error.err}"
        ) from error
    if picture_HWC is None:
        raise ClipRejectedError("corrupt", "the photo is damaged")
    height, width = picture_HWC.shape[:2]
    shrink = min(1.0, max_side_px / max(height, width))
    if shrink < 1:
        size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        picture_HWC = cv2.resize(picture_HWC, size, interpolation=cv2.INTER_AREA)
    scale = max(height, width) / max(picture_HWC.shape[:2])
    return Frame(0.0, np.ascontiguousarray(picture_HWC, np.uint8), scale, interlaced=False)
