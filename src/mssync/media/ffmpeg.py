"""ffmpeg, built with ffmpeg-python: cutting and encoding.

Run with the ffmpeg on PATH, else with the one that ships in imageio-ffmpeg's wheel.
"""

import shutil
import subprocess
import wave
from collections.abc import Iterable
from functools import cache
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ffmpeg
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from mssync.errors import ToolError

# Re-encoded nearly without loss, so that cuts fall on the frame; timestamps are kept.
CUT_OPTIONS: dict[str, Any] = {
    "format": "mp4",
    "vcodec": "libx264",
    "crf": 15,
    "preset": "veryfast",
    "pix_fmt": "yuv420p",
    "vf": "crop=trunc(iw/2)*2:trunc(ih/2)*2",
    "fps_mode": "passthrough",
    "acodec": "aac",
    "audio_bitrate": "128k",
    "loglevel": "error",
}


@cache
def executable() -> str:
    """Path of the ffmpeg that is run."""
    return shutil.which("ffmpeg") or str(imageio_ffmpeg.get_ffmpeg_exe())


def cut(source: Path, target: Path, *, start_s: float, end_s: float | None) -> None:
    """Write the part [start_s, end_s) of a video to `target`, re-encoded, so cut at the frame.

    Raises:
        ToolError: If ffmpeg cannot read the source or finds nothing in that span.
    """
    span = {"ss": start_s} | ({} if end_s is None else {"t": end_s - start_s})
    _run(ffmpeg.input(str(source), **span).output(str(target), **CUT_OPTIONS))


def encode(
    frames: Iterable[NDArray[np.uint8]],
    target: Path,
    *,
    fps_hz: float,
    waveform: NDArray[np.float32] | None = None,
    sample_rate_hz: int = 16_000,
    crf: int = 18,
) -> None:
    """Write RGB frames, and sound where given, as an H.264/AAC MP4 that browsers play.

    Args:
        frames: Arrays (H, W, 3), RGB, all of one even size.
        target: File to write.
        fps_hz: Frame rate.
        waveform: Mono samples (N,) in [-1, 1].
        sample_rate_hz: Rate of `waveform`.
        crf: Quality of libx264, lower is better.

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
            sound = Path(folder) / "sound.wav"
            write_wav(sound, waveform, sample_rate_hz)
            streams.append(ffmpeg.input(str(sound)))
            options |= {"acodec": "aac", "audio_bitrate": "96k"}
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
            raise ToolError(f"ffmpeg could not write {target}: {_last_line(stderr)}")


def write_wav(target: Path, waveform: NDArray[np.float32], sample_rate_hz: int) -> None:
    """Write mono samples (N,) in [-1, 1] as 16-bit PCM."""
    pcm = (np.clip(waveform, -1, 1) * 32767).astype("<i2")
    with wave.open(str(target), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(pcm.tobytes())


def _run(output: Any) -> None:  # noqa: ANN401 - a node of ffmpeg-python's untyped graph
    try:
        output.run(cmd=executable(), overwrite_output=True, capture_stderr=True)
    except ffmpeg.Error as error:
        raise ToolError(f"ffmpeg: {_last_line(error.stderr)}") from error


def _last_line(stderr: bytes | None) -> str:
    lines = (stderr or b"").decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"
