"""What a video shows, and when: its clock, its first picture, its pictures by timestamp."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from mssync.errors import ClipRejectedError
from mssync.media.container import opened, packets, video_stream
from mssync.media.pictures import Converter, Shown, Turn, pixel_aspect, progressive
from mssync.timing import FRAME_RATE_HZ, frame_time_s, frames_within, nearest_frame

_LONGEST_S = 6 * 3600.0
_LONGEST_HOLE_S = 60.0  # a picture that stands still may be stored once; longer is a splice
_LARGEST_STEP_BACK_S = 0.5  # clumsy muxers step back by some frames; a splice by much more
_LONGEST_CUT_FRAME_S = 0.5  # an edit list may begin amid a frame; more is another edit
_PACKETS_TO_A_PICTURE = 600  # a stream may be cut anywhere; a key frame comes within seconds


@dataclass(frozen=True)
class Clock:
    """The clock of a video: its presentation timestamps.

    Attributes:
        start_s: When the first frame is shown that can be decoded, in the container's time.
        frames: Number of 25 Hz ticks between first and last timestamp, both included.
        source_frames: Number of frames with a timestamp of their own.
        fps_hz: Their mean rate; 0 for a single frame.
        has_audio: Whether there is sound beside it.
        by_dts: The file says when frames are decoded, not when they are shown, as AVI does: the
            n-th frame shown then takes the n-th time.
        shift_s: How much later frames are shown than libavformat says: where an edit list begins
            amid a frame, it moves the next frame there, and all others with it, but no sound.
    """

    start_s: float
    frames: int
    source_frames: int
    fps_hz: float
    has_audio: bool
    by_dts: bool = False
    shift_s: float = 0.0

    @property
    def duration_s(self) -> float:
        """Length: the time of `frames` ticks."""
        return frame_time_s(self.frames)


def read_clock(path: Path) -> Clock:
    """Read a video's timestamps; without decoding, unless some are missing.

    Raises:
        ClipRejectedError: `corrupt`, `no_video`, or `bad_timestamps`.
    """
    with opened(path) as container:
        stream = video_stream(container)
        stamps = _read_stamps(container, stream)
        unit_s = float(stream.time_base or 0)
        # AVI holds no presentation timestamps: libavformat makes them up.
        reordered = stream.codec_context.has_b_frames
        made_up = container.format.name == "avi" and reordered > 0
        if made_up:
            _check_first_step(stamps.decoded[: reordered + 2])
        has_audio = bool(container.streams.audio)
    by_dts = bool(stamps.decoded) and (made_up or not stamps.shown)
    if stamps.incomplete and not by_dts:
        times_s = [shown.time_s for shown in _decode(path, by_dts=False)]
    else:
        chosen = stamps.decoded if by_dts else stamps.shown
        times_s = [stamp * unit_s for stamp in sorted(set(chosen))]
    _check_times(times_s)
    span_s = times_s[-1] - times_s[0]
    fps_hz = (len(times_s) - 1) / span_s if span_s > 0 else 0.0
    shift_s = _edit_shift_s(path, stamps.cut) if stamps.cut else 0.0
    return Clock(
        start_s=times_s[0] + shift_s,
        frames=frames_within(span_s),
        source_frames=len(times_s),
        fps_hz=fps_hz,
        has_audio=has_audio,
        by_dts=by_dts,
        shift_s=shift_s,
    )


class _Stamps(NamedTuple):
    """Timestamps of the packets that can be decoded and are not hidden, in units of the stream.

    Attributes:
        shown: When they are to be shown.
        decoded: When they are to be decoded.
        incomplete: Whether one does not say when it is to be shown.
        cut: The first of them, where others are hidden before it.
    """

    shown: list[int]
    decoded: list[int]
    incomplete: bool
    cut: "_Packet | None"


class _Packet(NamedTuple):
    position: int | None
    pts: int | None
    dts: int | None
    key: bool
    hidden: bool


def _read_stamps(container: av.container.InputContainer, stream: av.VideoStream) -> _Stamps:
    found = list(_packets(container, stream))
    # Nothing before the first key frame can be decoded, nor what is shown before it.
    first = next((index for index, packet in enumerate(found) if packet.key), 0)
    seen = [packet for packet in found[first:] if not packet.hidden]
    if not seen:
        raise ClipRejectedError("no_video", "the video stream has no frame")
    earliest = -math.inf
    if seen[0].key and seen[0].pts is not None:
        earliest = seen[0].pts
    return _Stamps(
        [packet.pts for packet in seen if packet.pts is not None and packet.pts >= earliest],
        [packet.dts for packet in seen if packet.dts is not None],
        any(packet.pts is None for packet in seen),
        seen[0] if found[first].hidden else None,
    )


def _packets(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[_Packet]:
    latest = -math.inf
    for packet in packets(container, stream):
        if packet.size:
            latest = _check_order(packet, latest)
            yield _Packet(packet.pos, packet.pts, packet.dts, packet.is_keyframe, packet.is_discard)


def _check_order(packet: av.Packet, latest: float) -> float:
    """The latest decoding timestamp so far, in units of the stream."""
    if packet.dts is None:
        return latest
    back_s = float(latest - packet.dts) * float(packet.time_base)
    if back_s > _LARGEST_STEP_BACK_S:
        raise ClipRejectedError(
            "bad_timestamps",
            f"the timestamps go back by {back_s:.1f} s, as where two recordings were joined: "
            "list them as two sources",
        )
    return max(latest, float(packet.dts))


def _edit_shift_s(path: Path, cut: _Packet) -> float:
    """How much later a packet is shown than said, by the edit list as it stands in the file."""
    with opened(path, {"advanced_editlist": "0"}) as container:
        stream = video_stream(container)
        for packet in _packets(container, stream):
            if packet.position != cut.position or packet.pts is None or cut.pts is None:
                continue
            later_s = float((packet.pts - cut.pts) * stream.time_base)
            return later_s if 0 < later_s < _LONGEST_CUT_FRAME_S else 0.0
    return 0.0


def _check_first_step(numbers: Sequence[int]) -> None:
    """Refuse an AVI of which it cannot be known how long after its decoding a frame is shown."""
    if any(later - earlier > 1 for earlier, later in pairwise(numbers)):
        raise ClipRejectedError(
            "bad_timestamps",
            "this AVI shows frames in another order than it stores them and leaves out some at "
            "its start, so nothing says when they are shown: make it again from its source as "
            "MP4 or Matroska",
        )


def _check_times(times_s: list[float]) -> None:
    if not times_s:
        raise ClipRejectedError("bad_timestamps", "not one frame of the video has a timestamp")
    span_s = times_s[-1] - times_s[0]
    if span_s > _LONGEST_S:
        raise ClipRejectedError(
            "bad_timestamps", f"the timestamps span {span_s:.0f} s, at most {_LONGEST_S:.0f} s do"
        )
    hole_s = max((later - earlier for earlier, later in pairwise(times_s)), default=0.0)
    if hole_s > _LONGEST_HOLE_S:
        raise ClipRejectedError(
            "bad_timestamps",
            f"there is no picture for {hole_s:.0f} s, at most {_LONGEST_HOLE_S:.0f} s may lie "
            "between two: list the parts as two sources",
        )


@dataclass(frozen=True)
class Picture:
    """What the first frame shows.

    Attributes:
        width_px: Width as displayed, so after rotation.
        height_px: Height as displayed.
        format: The container, as libavformat names it.
        video_codec: As libavcodec names it.
    """

    width_px: int
    height_px: int
    format: str
    video_codec: str


def read_picture(path: Path, *, max_pixels: int | None = None) -> Picture:
    """Decode the first frame.

    Args:
        path: The media.
        max_pixels: Largest picture, width times height, that is decoded.

    Raises:
        ClipRejectedError: `corrupt`, `no_video`, or `too_costly` if the picture is larger.
    """
    limit = {"max_pixels": str(with_padding(max_pixels))} if max_pixels else {}
    with opened(path, limit) as container:
        stream = video_stream(container)
        codec = stream.codec_context
        _check_size(codec.width, codec.height, max_pixels)
        codec.options = limit
        # One thread: each of several holds pictures of its own, and one picture is wanted.
        stream.thread_type, codec.thread_count = "NONE", 1
        frame = _first_frame(container, stream, max_pixels)
        width_px, height_px = frame.width, frame.height
        _check_size(width_px, height_px, max_pixels)
        if Turn.of(frame).transposed:
            width_px, height_px = height_px, width_px
        return Picture(width_px, height_px, container.format.name, codec.name)


def with_padding(max_pixels: int) -> int:
    """The limit as libavcodec takes it, which counts rows with their padding."""
    return 2 * max_pixels


def _too_large(width_px: int, height_px: int, max_pixels: int | None) -> bool:
    return max_pixels is not None and width_px * height_px > max_pixels


def _check_size(width_px: int, height_px: int, max_pixels: int | None) -> None:
    if _too_large(width_px, height_px, max_pixels):
        raise ClipRejectedError(
            "too_costly",
            f"the picture has {width_px} x {height_px} px, at most {max_pixels} px in all are "
            "decoded",
        )


def _first_frame(
    container: av.container.InputContainer, stream: av.VideoStream, max_pixels: int | None
) -> av.VideoFrame:
    refused = False
    for packet in islice(packets(container, stream), _PACKETS_TO_A_PICTURE):
        try:
            decoded = packet.decode()
        except MemoryError:
            raise
        except av.FFmpegError as error:
            refused |= isinstance(error, av.ArgumentError)
            continue
        if decoded:
            return decoded[0]
    if refused and max_pixels:
        raise _refusal(max_pixels)
    raise ClipRejectedError("corrupt", "not one frame can be decoded")


def _refusal(max_pixels: int) -> ClipRejectedError:
    """What an invalid argument means: damage is invalid data, a size not allowed is that."""
    return ClipRejectedError(
        "too_costly", f"the decoder refuses the picture: more than {max_pixels} px, or no size"
    )


@dataclass(frozen=True)
class Frame:
    """One picture of a video.

    Attributes:
        time_s: Seconds since the clock's start.
        picture_HWC: RGB, uint8, contiguous, upright, of square pixels (H, W, 3).
        scale: Pixels of the picture displayed at full size for one of this one.
        interlaced: Whether it was stored in two fields, and is deinterlaced.
    """

    time_s: float
    picture_HWC: NDArray[np.uint8]
    scale: float
    interlaced: bool


def frames(
    path: Path,
    clock: Clock,
    *,
    max_fps_hz: float,
    max_side_px: int,
    max_pixels: int | None = None,
    threads: int = 0,
) -> Iterator[Frame]:
    """Decode a video, in the order in which it is shown.

    Args:
        path: The media.
        clock: Its clock.
        max_fps_hz: Above this rate only the frames nearest to the 25 Hz ticks are yielded.
        max_side_px: Larger pictures are made smaller.
        max_pixels: Largest picture, width times height, that is decoded.
        threads: Threads of the decoder and the scaler; 0: as many as there are cores.

    Raises:
        ClipRejectedError: `corrupt` if not one frame can be decoded, `too_costly` if a picture is
            larger than `max_pixels`.
    """
    decoding = _decode(path, by_dts=clock.by_dts, max_pixels=max_pixels, threads=threads)
    shown = progressive(_since(decoding, clock.start_s - clock.shift_s))
    if clock.fps_hz > max_fps_hz:
        shown = _nearest_to_ticks(shown, clock.frames)
    converter = Converter(max_side_px=max_side_px, threads=threads)
    count = 0
    for each in shown:
        try:
            picture, scale = converter.rgb(each)
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError):
            continue  # a damaged frame may claim a format that nothing converts
        yield Frame(each.time_s, picture, scale, each.interlaced)
        count += 1
    if not count:
        raise ClipRejectedError("corrupt", "not one frame can be decoded")


def _decode(
    path: Path, *, by_dts: bool, max_pixels: int | None = None, threads: int = 0
) -> Iterator[Shown]:
    """Frames in the order in which they are shown, each later than the one before."""
    limit = {"max_pixels": str(with_padding(max_pixels))} if max_pixels else {}
    with opened(path, limit) as container:
        stream = video_stream(container)
        codec = stream.codec_context
        codec.options = limit
        codec.thread_count = threads
        codec.copy_opaque = by_dts
        stream.thread_type = "NONE" if threads == 1 else "AUTO"
        timer = _Timer(stream, by_dts=by_dts)
        refused = False
        for packet in packets(container, stream):
            packet.opaque = packet.dts if by_dts else None
            try:
                found = packet.decode()
            except MemoryError:
                raise
            except av.FFmpegError as error:
                refused |= isinstance(error, av.ArgumentError)
                refused |= _too_large(codec.width, codec.height, max_pixels)
                continue
            for frame in found:
                refused = False
                _check_size(frame.width, frame.height, max_pixels)
                time_s = timer.time_s(frame)
                if time_s is not None:
                    yield Shown(time_s, frame, pixel_aspect(stream), frame.interlaced_frame)
        if refused and max_pixels:
            raise _refusal(max_pixels)


class _Timer:
    """When decoded frames are shown."""

    def __init__(self, stream: av.VideoStream, *, by_dts: bool) -> None:
        self._by_dts = by_dts
        self._unit_s = float(stream.time_base or 0)
        self._step_s = 1 / float(stream.average_rate or FRAME_RATE_HZ)
        self._latest_s = -math.inf
        self._lag: int | None = None

    def time_s(self, frame: av.VideoFrame) -> float | None:
        """The frame's time in the container; None if it is not after that of the frame before."""
        stamp = self._decoding_stamp(frame) if self._by_dts else frame.pts
        # At the end the decoder is fed no more timestamps while it hands out its last frames.
        time_s = self._latest_s + self._step_s if stamp is None else stamp * self._unit_s
        if time_s <= self._latest_s:
            return None
        self._latest_s = time_s
        return time_s

    def _decoding_stamp(self, frame: av.VideoFrame) -> int | None:
        """When the decoder was fed while it handed out the frame, less the time it holds frames.

        A key frame is held as long as frames are held at all: others may come in between.
        """
        if self._lag is None and frame.dts is not None and frame.opaque is not None:
            self._lag = frame.dts - int(frame.opaque)
        return None if frame.dts is None else frame.dts - (self._lag or 0)


def _since(shown: Iterator[Shown], start_s: float) -> Iterator[Shown]:
    """With times on the clock; frames before its start are those before the first key frame."""
    for each in shown:
        time_s = each.time_s - start_s
        if time_s > -1e-6:
            yield each._replace(time_s=max(0.0, time_s))


def _nearest_to_ticks(shown: Iterator[Shown], ticks: int) -> Iterator[Shown]:
    best: Shown | None = None
    for each in shown:
        if nearest_frame(each.time_s) >= ticks:
            break
        if best is None:
            best = each
            continue
        tick = nearest_frame(best.time_s)
        if nearest_frame(each.time_s) != tick:
            yield best
            best = each
        elif abs(each.time_s - frame_time_s(tick)) < abs(best.time_s - frame_time_s(tick)):
            best = each
    if best is not None:
        yield best
