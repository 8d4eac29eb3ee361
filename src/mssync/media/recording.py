"""What is heard in a sound file of any length: mono at 16 kHz, a block at a time.

Channels are mixed and rates converted as `media.sound` does it under a video. There is no clock but
the sound's own: samples follow each other.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mssync.errors import ClipRejectedError, InputError, MsSyncError
from mssync.media import ffmpeg
from mssync.media.container import opened, packets
from mssync.media.sandbox import Sandbox
from mssync.media.sound import SILENT_DB, Mixer, decoded
from mssync.timing import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

_LONGEST_READ_S = 3600.0  # ffmpeg reads sound some hundred times as fast as it plays


@dataclass(frozen=True)
class Recording:
    """A sound that was read once.

    Attributes:
        path: FLAC.
        samples: Its length, at 16 kHz.
        mean: Of the samples, with silence up to a whole frame.
        peak: Largest distance from the mean.
        loudness_db: RMS level relative to full scale.
        channel: The one that is taken; None: their mean.
    """

    path: Path
    samples: int
    mean: float
    peak: float
    loudness_db: float
    channel: int | None = None

    @property
    def frames(self) -> int:
        """Frames of 25 Hz that hold all of it."""
        return -(-self.samples // SAMPLES_PER_FRAME)

    @property
    def duration_s(self) -> float:
        """Its own length."""
        return self.samples / SAMPLE_RATE_HZ

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Mono at 16 kHz, in pieces of about a second; silence up to a whole frame at the end."""
        yield from _mixed(self.path, Mixer(self.channel))
        yield np.zeros(self.frames * SAMPLES_PER_FRAME - self.samples, np.float32)


def record(source: Path, folder: Path, *, memory_bytes: int) -> Recording:
    """Read the first audio stream of a file that is not silent (-80 dB).

    A stranger's file is opened in a sandbox only; what comes of it is kept as FLAC.

    Args:
        source: Sound or video, of any length.
        folder: For the FLAC.
        memory_bytes: Address space that reading it may take.

    Raises:
        InputError: If it cannot be read, has no audio stream, or is silent.
        ToolError: If there is no ffmpeg.
    """
    if not source.is_file():
        found = "is a folder" if source.is_dir() else "does not exist"
        raise InputError(f"--audio {source} {found}: name a file with sound")
    ffmpeg.executable()
    target = folder / "sound.flac"
    loudest_db = -math.inf
    with Sandbox(memory_bytes=memory_bytes) as sandbox:
        track = 0
        while True:
            try:
                sandbox.call(_extract, source, target, track, wall_s=_LONGEST_READ_S)
            except MsSyncError as error:
                if track and isinstance(error, ClipRejectedError) and error.reason == "no_audio":
                    break  # the streams before were silent
                raise InputError(
                    f"--audio {source}: {error}. Expected a file with sound that ffmpeg reads"
                ) from error
            recording = measure(target)
            if recording.loudness_db > SILENT_DB:
                return recording
            loudest_db = max(loudest_db, recording.loudness_db)
            track += 1
    raise InputError(
        f"--audio {source} is silent: its level is {loudest_db:.0f} dB, sound has more than "
        f"{SILENT_DB:.0f} dB. Name a recording of speech"
    )


def _extract(source: Path, target: Path, track: int) -> None:
    ffmpeg.extract_sound(source, target, track=track)


def measure(path: Path) -> Recording:
    """Read a FLAC or WAV file once.

    Where channels cancel each other, the loudest one is taken.

    Raises:
        ClipRejectedError: `corrupt` if it cannot be read, `no_audio` if it holds no sample.
    """
    mixer = Mixer()
    found = _measured(path, mixer)
    if mixer.cancelled:
        channel = mixer.loudest
        found = _measured(path, Mixer(channel), channel)
    return found


def _measured(path: Path, mixer: Mixer, channel: int | None = None) -> Recording:
    samples, total, lowest, highest = 0, 0.0, math.inf, -math.inf
    for block_N in _mixed(path, mixer):
        samples += len(block_N)
        total += float(block_N.sum(dtype=np.float64))
        lowest, highest = min(lowest, float(block_N.min())), max(highest, float(block_N.max()))
    if not samples:
        raise ClipRejectedError("no_audio", "not one sample can be decoded")
    padded = -(-samples // SAMPLES_PER_FRAME) * SAMPLES_PER_FRAME
    if padded > samples:
        lowest, highest = min(lowest, 0.0), max(highest, 0.0)
    mean = total / padded
    peak = max(highest - mean, mean - lowest)
    return Recording(path, samples, mean, peak, mixer.loudness_db, channel)


def _mixed(path: Path, mixer: Mixer) -> Iterator[NDArray[np.float32]]:
    """Blocks that are not empty."""
    with opened(path) as container:
        if not container.streams.audio:
            raise ClipRejectedError("no_audio", "there is no audio stream")
        for packet in packets(container, container.streams.audio[0]):
            for frame in decoded(packet):
                mixer.add(frame)
            if len(block_N := mixer.take()):
                yield block_N
    mixer.flush()
    if len(block_N := mixer.take()):
        yield block_N
