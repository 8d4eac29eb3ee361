"""What is heard under a video: one audio stream as a mono waveform on the video's clock.

Samples go where their timestamps say, not where counting them leads: recorders lose sound, and
their clocks run fast or slow against that of the picture.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from mssync.errors import ClipRejectedError
from mssync.media.container import opened, packets
from mssync.media.decode import Clock
from mssync.timing import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME, nearest_sample

_SMALLEST_HOLE_S = 0.05  # less may be stagger: recorders stamp sound when it reaches them
_STEADY_S = 1.0  # over which stagger is averaged, by the median
_LARGEST_SHIFT_S = 0.01  # a quarter of a frame: from here on, drift is made good
_BEYOND_S = 1.0  # decoded before and after the picture
_BLOCK_S = 1.0  # worked on at a time
_RATES_HZ = (1_000, 1_000_000)  # other rates are damage
_PLANES = 7  # of more planar channels PyAV 18.1 reads on past the last
SILENT_DB = -80.0  # the noise of 16 bits is lower
_CANCELLED_DB = 20.0
_LOUDEST = 10.0  # 20 dB over full scale: more is damage, or no number


@dataclass(frozen=True)
class Sound:
    """Sound on the video's clock.

    Attributes:
        waveform_N: Mono float32 at 16 kHz, exactly 640 samples a frame; silence where there is
            none. Sample 0 is at the first frame.
        start_s: Where the sound begins, relative to the first frame; negative: before it.
        end_s: Where it ends.
        tracks: Number of audio streams.
        track: Which of them this is, from 0.
    """

    waveform_N: NDArray[np.float32]
    start_s: float
    end_s: float
    tracks: int
    track: int


def read_sound(path: Path, clock: Clock) -> Sound:
    """Read an audio stream on the video's clock.

    The first stream is taken; where that is silent (below -80 dB) or cannot be decoded, the first
    that is not. Channels are averaged, as speech may be on any of them or on all. Where they
    cancel each other (stereo with one side inverted: the mean is 20 dB below the loudest channel)
    the loudest channel is taken.

    Sound is decoded under the picture and a second around it.

    Raises:
        ClipRejectedError: `no_audio` if there is no stream, or none that can be decoded;
            `corrupt` if it is no media file.
    """
    with opened(path) as container:
        tracks = len(container.streams.audio)
    if not tracks:
        raise ClipRejectedError("no_audio", "there is no audio stream")
    silent: Sound | None = None
    for track in range(tracks):
        read = _read(path, clock, track)
        if read is None:
            continue
        sound = Sound(read.placed(clock), *read.span_s(clock), tracks, track)
        if read.loudness_db > SILENT_DB:
            return sound
        silent = silent or sound
    if silent is None:
        raise ClipRejectedError("no_audio", "not one sample of sound can be decoded")
    return silent


@dataclass(frozen=True)
class _Read:
    """A stream as decoded, without the holes.

    Attributes:
        waveform_N: Mono at 16 kHz.
        position_s: Where each frame begins in `waveform_N`, and where the last ends (F + 1,).
        shift_s: From there to its time in the container (F,).
        outside_s: First and last time of the packets that were not decoded.
        loudness_db: RMS level relative to full scale.
    """

    waveform_N: NDArray[np.float32]
    position_s: NDArray[np.float64]
    shift_s: NDArray[np.float64]
    outside_s: tuple[float, float]
    loudness_db: float

    def placed(self, clock: Clock) -> NDArray[np.float32]:
        """The waveform on the video's clock, silence where there is no sound."""
        placed = np.zeros(clock.frames * SAMPLES_PER_FRAME, np.float32)
        moved = np.flatnonzero(np.diff(self.shift_s)) + 1
        edges = [0, *moved, len(self.shift_s)] if len(self.shift_s) else []
        for first, last in pairwise(edges):
            start = nearest_sample(self.position_s[first])
            piece = self.waveform_N[start : nearest_sample(self.position_s[last])]
            time_s = self.position_s[first] + self.shift_s[first] - clock.start_s
            _place(placed, piece, nearest_sample(time_s))
        return placed

    def span_s(self, clock: Clock) -> tuple[float, float]:
        """Where the sound begins and ends, decoded or not, relative to the first frame."""
        starts, ends = [self.outside_s[0]], [self.outside_s[1]]
        if len(self.shift_s):
            starts.append(self.position_s[0] + self.shift_s[0])
            ends.append(self.position_s[-1] + self.shift_s[-1])
        return float(min(starts) - clock.start_s), float(max(ends) - clock.start_s)


def _place(target: NDArray[np.float32], piece: NDArray[np.float32], offset: int) -> None:
    start, end = max(0, offset), min(len(target), offset + len(piece))
    if end > start:
        target[start:end] = piece[start - offset : end - offset]


def _read(path: Path, clock: Clock, track: int) -> _Read | None:
    """One stream; None if nothing of it can be decoded."""
    mixer = _mixed(path, clock, track, Mixer())
    if mixer.cancelled:
        mixer = _mixed(path, clock, track, Mixer(channel=mixer.loudest))
    if not mixer.position_s and math.isinf(mixer.outside_s[0]):
        return None
    position_s = np.array([*mixer.position_s, mixer.length_s])
    shift_s = _shifts(np.array(mixer.time_s) - position_s[:-1], position_s, clock.start_s)
    return _Read(mixer.waveform(), position_s, shift_s, mixer.outside_s, mixer.loudness_db)


def _shifts(
    offset_s: NDArray[np.float64], position_s: NDArray[np.float64], unknown_s: float
) -> NDArray[np.float64]:
    """How far each frame is moved: constant where no sound is missing.

    Args:
        offset_s: From the place among the samples to the timestamp, NaN without one (F,).
        position_s: Place among the samples, with the end (F + 1,).
        unknown_s: The offset where not one frame has a timestamp.
    """
    known = np.isfinite(offset_s)
    if not known.any():
        return np.full_like(offset_s, unknown_s)
    latest = np.maximum.accumulate(np.where(known, np.arange(len(offset_s)), known.argmax()))
    offset_s = offset_s[np.maximum(latest, known.argmax())]
    holes = np.flatnonzero(np.abs(np.diff(offset_s)) > _SMALLEST_HOLE_S) + 1
    width = round(_STEADY_S * len(offset_s) / max(position_s[-1], 1e-3)) // 2 * 2 + 1
    shift_s = np.concatenate(
        [median_filter(run, min(width, len(run))) for run in np.split(offset_s, holes)]
    )
    for frame in range(1, len(shift_s)):
        if abs(shift_s[frame] - shift_s[frame - 1]) <= _LARGEST_SHIFT_S:
            shift_s[frame] = shift_s[frame - 1]
    return shift_s


def _mixed(path: Path, clock: Clock, track: int, mixer: "Mixer") -> "Mixer":
    """The mixer, with the sound under the picture in it."""
    first_s, last_s = clock.start_s - _BEYOND_S, clock.start_s + clock.duration_s + _BEYOND_S
    with opened(path) as container:
        stream = container.streams.audio[track]
        if stream.codec_context is None:
            return mixer
        stream.codec_context.thread_count = 1  # audio decoders gain nothing from more
        for packet in packets(container, stream):
            start_s, end_s = _span_s(packet)
            if end_s < first_s or start_s > last_s:
                mixer.leave_out(start_s, end_s)
                continue
            for frame in decoded(packet):
                mixer.add(frame)
            # Frames that all claim the same time could go on without end.
            if mixer.length_s > 2 * (last_s - first_s):
                break
    mixer.flush()
    return mixer


def _span_s(packet: av.Packet) -> tuple[float, float]:
    """When it is heard; NaN without a timestamp."""
    stamp = packet.pts if packet.pts is not None else packet.dts
    if stamp is None:
        return math.nan, math.nan
    unit_s = float(packet.time_base)
    return stamp * unit_s, (stamp + (packet.duration or 0)) * unit_s


def decoded(packet: av.Packet) -> list[av.AudioFrame]:
    """The frames of a packet; none if it is damaged: a hole, not the end of the clip."""
    try:
        return list(packet.decode())
    except MemoryError:
        raise
    except av.FFmpegError:
        return []


class Mixer:
    """Decoded frames in, one waveform at 16 kHz out; a block at a time, to bound memory.

    Attributes:
        position_s: Where each frame begins in the waveform.
        time_s: Its timestamp, NaN without one.
        length_s: Of all frames.
        outside_s: First and last time of what was left out.
    """

    def __init__(self, channel: int | None = None) -> None:
        """Mix all channels, or take one."""
        self.position_s = list[float]()
        self.time_s = list[float]()
        self.length_s = 0.0
        self.outside_s = (math.inf, -math.inf)
        self._channel = channel
        self._block = list[NDArray[np.float32]]()
        self._block_s = 0.0
        self._rate_hz = 0
        self._resampler: soxr.ResampleStream | None = None
        self._pieces = [np.zeros(0, np.float32)]
        self._energy_C = np.zeros(1)
        self._mixed_energy = 0.0
        self._samples = 0

    def waveform(self) -> NDArray[np.float32]:
        """What was mixed so far: mono at 16 kHz (N,)."""
        return np.concatenate(self._pieces)

    def take(self) -> NDArray[np.float32]:
        """What was mixed since the last call, (N,); it is forgotten, and when it was heard."""
        taken_N = self.waveform()
        self._pieces = [np.zeros(0, np.float32)]
        self.position_s, self.time_s = [], []
        return taken_N

    @property
    def loudness_db(self) -> float:
        """RMS level relative to full scale."""
        return _db(self._mixed_energy / max(self._samples, 1))

    @property
    def loudest(self) -> int:
        """The channel with the most energy."""
        return int(np.argmax(self._energy_C))

    @property
    def cancelled(self) -> bool:
        """Whether the channels were mixed, and little is left."""
        loudest_db = _db(self._energy_C.max() / max(self._samples, 1))
        audible = self._channel is None and loudest_db > SILENT_DB
        return audible and loudest_db - self.loudness_db > _CANCELLED_DB

    def leave_out(self, start_s: float, end_s: float) -> None:
        """Note when a packet is heard that is not decoded."""
        self.outside_s = min(self.outside_s[0], start_s), max(self.outside_s[1], end_s)

    def add(self, frame: av.AudioFrame) -> None:
        """Take a decoded frame."""
        rate_hz = frame.sample_rate
        if not frame.samples or not _RATES_HZ[0] <= rate_hz <= _RATES_HZ[1]:
            return
        try:
            piece_CN = _channels(frame)
        except (av.FFmpegError, ValueError, IndexError):
            return  # a damaged frame may claim a format or layout that nothing converts
        if rate_hz != self._rate_hz:
            self.flush()
            self._rate_hz = rate_hz
            self._resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32")
        elif self._block and len(piece_CN) != len(self._block[0]):
            self._mix()
        unit_s = float(frame.time_base or 0)
        self.position_s.append(self.length_s)
        self.time_s.append(frame.pts * unit_s if frame.pts is not None else math.nan)
        self.length_s += frame.samples / rate_hz
        self._block.append(piece_CN)
        self._block_s += frame.samples / rate_hz
        if self._block_s >= _BLOCK_S:
            self._mix()

    def flush(self) -> None:
        """Mix what is left."""
        if self._block:
            self._mix()
        if self._resampler:
            self._pieces.append(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
            self._resampler = None
            self._rate_hz = 0

    def _mix(self) -> None:
        assert self._resampler
        block_CN = np.concatenate(self._block, axis=1)
        self._block, self._block_s = [], 0.0
        energy_C = np.square(block_CN, dtype=np.float64).sum(axis=1)
        channels = max(len(energy_C), len(self._energy_C))
        self._energy_C = _padded(self._energy_C, channels) + _padded(energy_C, channels)
        if self._channel is None:
            mixed_N = block_CN.mean(axis=0)
        else:
            mixed_N = np.ascontiguousarray(block_CN[min(self._channel, len(block_CN) - 1)])
        self._mixed_energy += float(np.square(mixed_N, dtype=np.float64).sum())
        self._samples += len(mixed_N)
        self._pieces.append(self._resampler.resample_chunk(mixed_N))


def _channels(frame: av.AudioFrame) -> NDArray[np.float32]:
    """Samples (C, N), in [-1, 1] at full scale."""
    if frame.format.is_planar and frame.layout.nb_channels > _PLANES:
        frame = av.AudioResampler(format=frame.format.packed).resample(frame)[0]
    stored = frame.to_ndarray()
    samples_CN = stored if frame.format.is_planar else stored.reshape(frame.samples, -1).T
    values_CN: NDArray[np.float32] = samples_CN.astype(np.float32)
    match samples_CN.dtype.kind:
        case "u":
            values_CN = (values_CN - np.float32(128)) / np.float32(128)
        case "i":
            values_CN /= -float(np.iinfo(samples_CN.dtype).min)
        case _:
            np.clip(np.nan_to_num(values_CN), -_LOUDEST, _LOUDEST, out=values_CN)
    return values_CN


def _padded(values: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    return np.pad(values, (0, length - len(values)))


def _db(mean_square: float) -> float:
    return 10 * math.log10(max(mean_square, 1e-20))
