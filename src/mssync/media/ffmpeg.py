"""ffmpeg, built with ffmpeg-python: cutting and encoding.

Run with the ffmpeg on PATH, else with the one that ships in imageio-ffmpeg's wheel.
"""

import math
import re
import shutil
import signal
import subprocess
import wave
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ffmpeg
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from mssync.errors import ClipRejectedError, ToolError
from mssync.media import decode
from mssync.media.container import FORMATS, SOUND_FORMATS

# Re-encoded nearly without loss, so that cuts fall on the frame; timestamps are kept. The number
# of threads is part of what x264 writes: fixed, so that equal cuts are equal bytes everywhere.
CUT_OPTIONS: dict[str, Any] = {
    "format": "mp4",
    "vcodec": "libx264",
    "crf": 15,
    "preset": "veryfast",
    "threads": 2,
    "pix_fmt": "yuv420p",
    "vf": "crop=trunc(iw/2)*2:trunc(ih/2)*2",
    "fps_mode": "passthrough",
    "enc_time_base": "1:90000",  # else times snap to the grid of the nominal rate
    "acodec": "aac",
    "audio_bitrate": "128k",
    "loglevel": "error",
}

# Whatever a file says, no host is asked and no playlist followed.
INPUT_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": FORMATS, "threads": 2}
_GLOBAL = ("-nostdin", "-filter_threads", "1", "-abort_on", "empty_output")
_SMALLEST_CROP_PX = 16
_PREFIX = re.compile(r"^(\[\S+ @ 0x\w+\] )+")  # differs from run to run
# ffmpeg catches SIGXCPU, tidies up and ends with 255 (which else is EPERM), at the fourth with 123.
_STOPPED = (123, 255, -signal.SIGXCPU, -signal.SIGKILL)
_OUT_OF_MEMORY = (b"Cannot allocate memory", b"malloc of size", b"std::bad_alloc")


@cache
def executable() -> str:
    """Path of the ffmpeg that is run.

    Raises:
        ToolError: If there is none.
    """
    try:
        found = shutil.which("ffmpeg") or shutil.which(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        found = None
    if not found:
        raise ToolError(
            "there is no ffmpeg: expected one on PATH, at $IMAGEIO_FFMPEG_EXE, or in the package "
            "imageio-ffmpeg. Install ffmpeg, or run make setup"
        )
    return found


@dataclass(frozen=True)
class Crop:
    """The part of the picture that a clip shows.

    Attributes:
        left: Edges, from the upper left corner of the picture as it is displayed.
        top: The same.
        right: The same.
        bottom: The same.
        height_px: Height of the picture that pixels count in; None: of the media as fetched. One
            scale, actual height over this, serves both directions.
        fractions: Edges are shares of the picture in [0, 1], not pixels.
    """

    left: float
    top: float
    right: float
    bottom: float
    height_px: int | None = None
    fractions: bool = True

    def box_px(self, width_px: int, height_px: int) -> tuple[int, int, int, int]:
        """The crop in a picture of this size.

        Returns:
            Left, top, width, height: the smallest even box around the crop, within the picture.

        Raises:
            ClipRejectedError: `bad_crop` if it is outside the picture, or less than 16 px is left.
        """
        across, down = self._scale(width_px, height_px)
        edges = [self.left * across, self.top * down, self.right * across, self.bottom * down]
        if not all(math.isfinite(edge) for edge in edges):
            raise ClipRejectedError("bad_crop", f"{self._named()} is no box")
        left, right = _even_span(edges[0], edges[2], width_px)
        top, bottom = _even_span(edges[1], edges[3], height_px)
        width, height = right - left, bottom - top
        if min(width, height) < _SMALLEST_CROP_PX:
            raise ClipRejectedError(
                "bad_crop",
                f"{self._named()} leaves {max(0, width)} x {max(0, height)} px of a picture of "
                f"{width_px} x {height_px} px, expected {_SMALLEST_CROP_PX} px or more on a side",
            )
        return left, top, width, height

    def _scale(self, width_px: int, height_px: int) -> tuple[float, float]:
        if self.fractions:
            return width_px, height_px
        scale = height_px / self.height_px if self.height_px else 1.0
        return scale, scale

    def _named(self) -> str:
        edges = f"({self.left:g}, {self.top:g}, {self.right:g}, {self.bottom:g})"
        reference = f" at height {self.height_px} px" if self.height_px else ""
        return f"the crop {edges}{'' if self.fractions else ' px' + reference}"


def _even_span(start: float, end: float, length: int) -> tuple[int, int]:
    """The smallest span between even numbers around [start, end], within [0, length]."""
    if end <= start:
        return 0, 0
    first = max(0, math.floor(round(start) / 2) * 2)
    return first, min(length // 2 * 2, math.ceil(round(end) / 2) * 2)


def cut(
    source: Path,
    target: Path,
    *,
    start_s: float,
    end_s: float | None,
    crop: Crop | None = None,
    max_pixels: int | None = None,
    max_bytes: int | None = None,
) -> None:
    """Write the part [start_s, end_s) of a video to `target`, re-encoded, so cut at the frame.

    Of strangers' media it is run in a `media.sandbox.Sandbox`, which limits its time and memory.

    Args:
        source: Media, of the formats that `media.container` opens.
        target: File to write.
        start_s: Start, after the first frame of the source.
        end_s: End; None: that of the source.
        crop: Part of the picture to keep; None: all of it.
        max_pixels: Larger pictures are not decoded.
        max_bytes: Largest file to write.

    Raises:
        ClipRejectedError: `bad_crop`; `empty_cut` if nothing lies in that span; `too_costly` if
            it takes more than it may; `disk` if that is full; what `decode.read_picture` finds
            wrong.
        ToolError: If ffmpeg fails in another way.
    """
    options = dict(CUT_OPTIONS)
    picture = decode.read_picture(source, max_pixels=max_pixels)
    if crop:
        left, top, width, height = crop.box_px(picture.width_px, picture.height_px)
        options["vf"] = f"crop={width}:{height}:{left}:{top}"
    if max_bytes:
        options["fs"] = max_bytes
    reading: dict[str, Any] = INPUT_OPTIONS | {"ss": start_s}
    if end_s is not None:
        reading["t"] = end_s - start_s
    if max_pixels:
        reading["max_pixels"] = decode.with_padding(max_pixels)
    media = ffmpeg.input(f"file:{source}", **reading)
    # The streams that `decode` reads; a cover picture is none of them.
    output = ffmpeg.output(media["V:0"], media["a:0?"], f"file:{target}", **options)
    _run(output, {str(source): "the source", str(target): "the cut"})
    if max_bytes and target.stat().st_size >= max_bytes:
        raise ClipRejectedError("too_costly", f"the cut takes more than {max_bytes} bytes")


def extract_sound(source: Path, target: Path, *, track: int = 0) -> None:
    """Write one audio stream of any media file as FLAC, without loss, at its own rate.

    Run in a `media.sandbox.Sandbox`, as `cut` is.

    Args:
        source: Sound or video, of the `container.SOUND_FORMATS`.
        target: File to write.
        track: Number of the audio stream, from 0.

    Raises:
        ClipRejectedError: `no_audio` if there is no such stream, or nothing in it; `too_costly` if
            it takes more than it may; `disk` if that is full.
        ToolError: If it cannot be read, or ffmpeg is missing.
    """
    reading = INPUT_OPTIONS | {"format_whitelist": SOUND_FORMATS}
    media = ffmpeg.input(f"file:{source}", **reading)
    output = ffmpeg.output(
        media[f"a:{track}"], f"file:{target}", format="flac", acodec="flac", loglevel="error"
    )
    try:
        _run(output, {str(source): "the source", str(target): "the sound"})
    except ToolError as error:
        if "matches no streams" in str(error):
            raise ClipRejectedError("no_audio", "there is no audio stream") from error
        raise
    except ClipRejectedError as error:
        if error.reason == "empty_cut":
            raise ClipRejectedError("no_audio", "not one sample can be decoded") from error
        raise


@dataclass(frozen=True)
class SoundTrack:
    """The sound of a video that is encoded, from a file; silence follows where it ends early.

    Attributes:
        path: FLAC or WAV.
        duration_s: Length of the video.
    """

    path: Path
    duration_s: float


def encode(
    frames: Iterable[NDArray[np.uint8]],
    target: Path,
    *,
    fps_hz: float,
    waveform: NDArray[np.float32] | None = None,
    sample_rate_hz: int = 16_000,
    sound: SoundTrack | None = None,
    crf: int = 18,
    comment: str = "",
) -> None:
    """Write RGB frames, and sound where given, as an H.264/AAC MP4 that browsers play.

    Frames are taken one by one: memory does not grow with their number.

    Args:
        frames: Arrays (H, W, 3), RGB, all of one even size.
        target: File to write.
        fps_hz: Frame rate.
        waveform: Mono samples (N,) in [-1, 1].
        sample_rate_hz: Rate of `waveform`.
        sound: A file in place of `waveform`.
        crf: Quality of libx264, lower is better.
        comment: Kept in the file, for whoever asks where it comes from.

    Raises:
        ValueError: If there is no frame.
        ToolError: If ffmpeg fails.
    """
    remaining = iter(frames)
    first = next(remaining, None)
    if first is None:
        raise ValueError("there is no frame to encode")
    height, width = first.shape[:2]
    with TemporaryDirectory() as folder:
        streams = [
            ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}",
                         framerate=fps_hz)
        ]  # fmt: skip
        options: dict[str, Any] = {
            "format": "mp4", "vcodec": "libx264", "pix_fmt": "yuv420p", "crf": crf,
            "preset": "veryfast", "movflags": "+faststart", "loglevel": "error",
        }  # fmt: skip
        if waveform is not None:
            file = Path(folder) / "sound.wav"
            write_wav(file, waveform, sample_rate_hz)
            streams.append(ffmpeg.input(str(file)))
            options |= {"acodec": "aac", "audio_bitrate": "96k"}
        if sound is not None:
            streams.append(ffmpeg.input(f"file:{sound.path}"))
            options |= {
                "acodec": "aac", "audio_bitrate": "128k", "ar": 48_000, "ac": 2,
                "af": f"apad=whole_dur={sound.duration_s}", "t": sound.duration_s,
            }  # fmt: skip
        if comment:
            options["metadata"] = f"comment={comment}"
        command = ffmpeg.output(*streams, str(target), **options).overwrite_output()
        process = subprocess.Popen(
            command.compile(cmd=executable()),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stdin is not None
        try:
            for frame in chain([first], remaining):
                process.stdin.write(np.ascontiguousarray(frame).tobytes())
        except BrokenPipeError:
            pass  # ffmpeg has died: its own words follow
        _, stderr = process.communicate()
        if process.returncode:
            raise ToolError(f"ffmpeg could not write {target}: {_cause(stderr)}")


def write_wav(target: Path, waveform: NDArray[np.float32], sample_rate_hz: int) -> None:
    """Write mono samples (N,) in [-1, 1] as 16-bit PCM."""
    pcm = (np.clip(waveform, -1, 1) * 32767).astype("<i2")
    with wave.open(str(target), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(pcm.tobytes())


def _run(  # a node of ffmpeg-python's untyped graph
    output: Any,  # noqa: ANN401
    names: Mapping[str, str],
) -> None:
    command = output.global_args(*_GLOBAL).overwrite_output()
    done = subprocess.run(
        command.compile(cmd=executable()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if not done.returncode:
        return
    if done.returncode in _STOPPED and b"Operation not permitted" not in done.stderr:
        raise ClipRejectedError("too_costly", "ffmpeg took more time or memory than it may")
    if any(words in done.stderr for words in _OUT_OF_MEMORY):
        raise ClipRejectedError("too_costly", "ffmpeg took more memory than it may")
    if b"No space left on device" in done.stderr:
        raise ClipRejectedError("disk", "the disk is full where the cut is written")
    if b"Output file is empty" in done.stderr:
        raise ClipRejectedError("empty_cut", "there is no frame in the span that is cut")
    cause = _cause(done.stderr)
    for path, name in names.items():
        cause = cause.replace(f"file:{path}", name).replace(path, name)
    raise ToolError(f"ffmpeg: {cause}")


def _cause(stderr: bytes | None) -> str:
    """The first of ffmpeg's words: what follows are consequences."""
    lines = (stderr or b"").decode(errors="replace").strip().splitlines()
    return _PREFIX.sub("", lines[0]) if lines else "no message"
