"""Reading media with PyAV: the clock, frames by timestamp, the waveform on the video's clock."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import av
import librosa
import numpy as np
from numpy.typing import NDArray

from mssync.errors import ClipRejectedError
from mssync.timing import (
    SAMPLE_RATE_HZ,
    SAMPLES_PER_FRAME,
    frame_time_s,
    frames_within,
    nearest_frame,
    nearest_sample,
)

_LARGEST_SILENT_GAP_S = 0.05  # timestamps of sound may stagger by less without a hole
_LONGEST_S = 6 * 3600.0
_PACKETS_TO_A_PICTURE = 600  # a stream may be cut anywhere; a key frame comes within seconds

# What is opened at all, as libavformat names it. None of these leads to other files or hosts, as
# playlists (hls, dash, concat, sdp, image2) do; none is guessed from bytes that are no media, as
# MP3 is.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,gif,flv,asf,ogg,mxf,ivf,wav,"
    "flac"
)


@dataclass(frozen=True)
class Clock:
    """The clock of a video: its presentation timestamps.

    Attributes:
        start_s: First timestamp, in the container's time.
        frames: Number of 25 Hz ticks between first and last timestamp, both included.
        source_frames: Number of frames in the file.
        fps_hz: Their mean rate; 0 for a single frame.
        has_audio: Whether there is sound beside it.
    """

    start_s: float
    frames: int
    source_frames: int
    fps_hz: float
    has_audio: bool

    @property
    def duration_s(self) -> float:
        """Length: the time of `frames` ticks."""
        return frame_time_s(self.frames)


def read_clock(path: Path) -> Clock:
    """Read a video's timestamps, without decoding.

    Raises:
        ClipRejectedError: `corrupt`, `no_video`, or `bad_timestamps`.
    """
    with _opened(path) as container:
        stream = _video(container)
        try:
            times = sorted(
                float(packet.pts * stream.time_base)
                for packet in container.demux(stream)
                if packet.pts is not None and packet.size and not packet.is_discard
            )
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError) as error:
            raise ClipRejectedError("corrupt", "the packets cannot be read") from error
        has_audio = bool(container.streams.audio)
    if not times:
        raise ClipRejectedError("no_video", "the video stream has no timestamped frame")
    span_s = times[-1] - times[0]
    if span_s > _LONGEST_S:
        raise ClipRejectedError("bad_timestamps", f"the timestamps span {span_s:.0f} s")
    fps_hz = (len(times) - 1) / span_s if span_s > 0 else 0.0
    return Clock(times[0], frames_within(span_s), len(times), fps_hz, has_audio)


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
    with _opened(path, limit) as container:
        stream = _video(container)
        codec = stream.codec_context
        _check_size(codec.width, codec.height, max_pixels)
        codec.options = limit
        # One thread: each of several holds pictures of its own, and one picture is wanted.
        stream.thread_type, codec.thread_count = "NONE", 1
        frame = _first_frame(container, stream, max_pixels)
        width_px, height_px = frame.width, frame.height
        _check_size(width_px, height_px, max_pixels)
        if _quarter_turns(frame) % 2:
            width_px, height_px = height_px, width_px
        return Picture(width_px, height_px, container.format.name, codec.name)


def with_padding(max_pixels: int) -> int:
    """The limit as libavcodec takes it, which counts rows with their padding."""
    return 2 * max_pixels


def _check_size(width_px: int, height_px: int, max_pixels: int | None) -> None:
    if max_pixels and width_px * height_px > max_pixels:
        raise ClipRejectedError(
            "too_costly",
            f"the picture has {width_px} x {height_px} px, at most {max_pixels} px in all are "
            "decoded",
        )


def _first_frame(
    container: av.container.InputContainer, stream: av.VideoStream, max_pixels: int | None
) -> av.VideoFrame:
    refused = False
    for packet in islice(container.demux(stream), _PACKETS_TO_A_PICTURE):
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
        # Damage is invalid data; a size that is not allowed is an invalid argument.
        raise ClipRejectedError(
            "too_costly", f"the decoder refuses the picture: more than {max_pixels} px, or no size"
        )
    raise ClipRejectedError("corrupt", "not one frame can be decoded")


def _quarter_turns(frame: av.VideoFrame) -> int:
    return int(round(frame.rotation / 90) % 4)


def frames(
    path: Path, clock: Clock, *, max_fps_hz: float
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Decode a video: (seconds since the clock's start, RGB frame (H, W, 3)), upright, in order.

    Args:
        path: The media.
        clock: Its clock.
        max_fps_hz: Above this rate only the frames nearest to the 25 Hz ticks are yielded.

    Raises:
        ClipRejectedError: `corrupt` if not one frame can be decoded.
    """
    decoded = _decode(path, clock)
    if clock.fps_hz > max_fps_hz:
        decoded = _nearest_to_ticks(decoded, clock.frames)
    count = 0
    for time_s, frame in decoded:
        picture = frame.to_ndarray(format="rgb24")
        yield time_s, np.ascontiguousarray(np.rot90(picture, _quarter_turns(frame)))
        count += 1
    if not count:
        raise ClipRejectedError("corrupt", "not one frame can be decoded")


def _decode(path: Path, clock: Clock) -> Iterator[tuple[float, av.VideoFrame]]:
    latest_s = -math.inf
    with _opened(path) as container:
        stream = _video(container)
        stream.thread_type = "AUTO"
        for packet in container.demux(stream):
            for frame in _decoded(packet):
                if frame.pts is None:
                    continue
                time_s = float(frame.pts * stream.time_base) - clock.start_s
                if time_s > latest_s:
                    latest_s = time_s
                    yield time_s, frame


def _decoded(packet: av.Packet) -> list[Any]:
    """Its frames; none if it is damaged: a gap in the track, not the end of the clip."""
    try:
        return list(packet.decode())
    except MemoryError:
        raise
    except av.FFmpegError:
        return []


def _nearest_to_ticks(
    decoded: Iterator[tuple[float, av.VideoFrame]], ticks: int
) -> Iterator[tuple[float, av.VideoFrame]]:
    best: tuple[float, av.VideoFrame] | None = None
    for time_s, frame in decoded:
        if nearest_frame(time_s) >= ticks:
            break
        if best is None:
            best = (time_s, frame)
            continue
        tick = nearest_frame(best[0])
        if nearest_frame(time_s) != tick:
            yield best
            best = (time_s, frame)
        elif abs(time_s - frame_time_s(tick)) < abs(best[0] - frame_time_s(tick)):
            best = (time_s, frame)
    if best is not None:
        yield best


@dataclass(frozen=True)
class Sound:
    """Sound on the video's clock.

    Attributes:
        waveform_N: Mono float32 at 16 kHz, exactly 640 samples a frame; silence where there is
            none. Sample 0 is at the first frame.
        start_s: Where the sound begins, relative to the first frame; negative: before it.
        end_s: Where it ends.
    """

    waveform_N: NDArray[np.float32]
    start_s: float
    end_s: float


def read_sound(path: Path, clock: Clock) -> Sound:
    """Read the first audio stream on the video's clock.

    Raises:
        ClipRejectedError: `no_audio`, or `corrupt` if it cannot be decoded.
    """
    with _opened(path) as container:
        if not container.streams.audio:
            raise ClipRejectedError("no_audio", "there is no audio stream")
        stream = container.streams.audio[0]
        rate_hz, first_s, pieces = 0, 0.0, list[NDArray[np.float32]]()
        samples = 0
        for frame in _audio_frames(container, stream):
            piece = _mono(frame)
            time_s = float(frame.pts * frame.time_base) if frame.pts is not None else None
            if not pieces:
                rate_hz, first_s = frame.sample_rate, time_s or 0.0
            elif time_s is not None:
                hole_s = time_s - (first_s + samples / rate_hz)
                if hole_s > _LARGEST_SILENT_GAP_S:
                    silence = np.zeros(round(min(hole_s, _LONGEST_S) * rate_hz), np.float32)
                    pieces.append(silence)
                    samples += len(silence)
            pieces.append(piece)
            samples += len(piece)
    if not samples:
        raise ClipRejectedError("no_audio", "not one sample of sound can be decoded")
    waveform = librosa.resample(
        np.concatenate(pieces), orig_sr=rate_hz, target_sr=SAMPLE_RATE_HZ, res_type="soxr_hq"
    )
    start_s = first_s - clock.start_s
    return Sound(
        _place(waveform, nearest_sample(start_s), clock.frames * SAMPLES_PER_FRAME),
        start_s,
        start_s + samples / rate_hz,
    )


def _audio_frames(
    container: av.container.InputContainer, stream: av.AudioStream
) -> Iterator[av.AudioFrame]:
    for packet in container.demux(stream):
        yield from _decoded(packet)


def _mono(frame: av.AudioFrame) -> NDArray[np.float32]:
    """The mean of all channels, in [-1, 1]."""
    samples = frame.to_ndarray()
    channels = frame.layout.nb_channels
    if not frame.format.is_planar:
        samples = samples.reshape(-1, channels).T
    if samples.dtype.kind == "i":
        samples = samples / -float(np.iinfo(samples.dtype).min)
    elif samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    mono: NDArray[np.float32] = samples.astype(np.float32).mean(axis=0)
    return np.nan_to_num(mono)


def _place(waveform: NDArray[np.float32], offset: int, length: int) -> NDArray[np.float32]:
    """`waveform` moved by `offset` samples within `length` samples of silence."""
    placed = np.zeros(length, np.float32)
    start, end = max(0, offset), min(length, offset + len(waveform))
    if end > start:
        placed[start:end] = waveform[start - offset : end - offset]
    return placed


def _opened(path: Path, limits: Mapping[str, str] | None = None) -> av.container.InputContainer:
    try:
        with path.open("rb") as file:
            # By descriptor, not by name: whatever a file says, no other one can be opened.
            options = dict(limits or {}) | {
                "fd": str(file.fileno()),
                "protocol_whitelist": "fd",
                "format_whitelist": FORMATS,
            }
            return av.open("fd:", mode="r", metadata_errors="ignore", options=options)
    except MemoryError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ClipRejectedError("corrupt", f"not a readable media file: {reason}") from error


def _video(container: av.container.InputContainer) -> av.VideoStream:
    moving = [
        stream
        for stream in container.streams.video
        if not stream.disposition & av.stream.Disposition.attached_pic
    ]
    if not moving:
        raise ClipRejectedError("no_video", "there is no video stream")
    return moving[0]
