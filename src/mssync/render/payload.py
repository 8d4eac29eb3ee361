"""Clips as the gallery holds them: compact enough for hundreds of them in one file, and read back.

A clip is a block of JSON in the page. Landmarks are whole numbers of 1 / 8192 crop sides, sound is
FLAC, which every browser plays and which neither delays nor cuts it. The other half of the code is
`page/data.js`.

Axes: T frames, P = 68 points, D = 2, N values.
"""

import base64
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssync.errors import InputError
from mssync.landmarks import ibug
from mssync.render.flac import from_flac, to_flac
from mssync.timing import SAMPLES_PER_FRAME

QUANTUM = 8192
FORMAT = 1
_LIMIT = 2**15 - 1
_BINS_PER_FRAME = 8
_SOUND = "data:audio/flac;base64,"
_SILENCE_DB = -100.0
_BLOCK = re.compile(
    r'<script type="application/json" id="(page-data|clip-data-\d+)">(.*?)</script>', re.DOTALL
)


@dataclass(frozen=True)
class Failure:
    """What is wrong with a motion.

    Attributes:
        kind: A short name.
        frame: First frame that is bad, from 0.
    """

    kind: str
    frame: int


@dataclass(frozen=True)
class Trace:
    """Distance of motion and sound over time at one level.

    Attributes:
        level: Level of the pyramid.
        start_s: Time of the first value.
        step_s: From one value to the next.
        systems: System -> distances (N,); nan where there is none.
    """

    level: int
    start_s: float
    step_s: float
    systems: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class GalleryEntry:
    """One clip.

    Attributes:
        clip_id: Its name.
        speaker: Who speaks.
        motions: System -> motion (T, 68, 2) in crop sides, in the order shown, all of one length.
        waveform: Sound, float32 at 16 kHz; cut to the length of the motion.
        scores: Score -> system -> value; None or nan is shown as n/a.
        warnings: What is wrong with the clip, one short phrase each.
        failures: System -> what is wrong with its motion.
        head_speeds: System -> speed of the head at each frame (T,).
        traces: Synchrony over time, one a level.
    """

    clip_id: str
    speaker: str
    motions: Mapping[str, NDArray[np.float32]]
    waveform: NDArray[np.float32]
    scores: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    failures: Mapping[str, Sequence[Failure]] = field(default_factory=dict)
    head_speeds: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    traces: Sequence[Trace] = ()

    @property
    def frames(self) -> int:
        """Length of its motions."""
        return len(next(iter(self.motions.values()), ()))


def told(entry: GalleryEntry) -> dict[str, Any]:
    """What the page knows of a clip before it is looked at."""
    return {
        "id": entry.clip_id,
        "speaker": entry.speaker,
        "frames": entry.frames,
        "systems": list(entry.motions),
        "scores": {
            score: {system: _finite(value) for system, value in values.items()}
            for score, values in entry.scores.items()
        },
        "warnings": list(entry.warnings),
        "failures": {
            system: [[failure.kind, failure.frame] for failure in failures]
            for system, failures in entry.failures.items()
            if failures
        },
    }


def block(entry: GalleryEntry) -> dict[str, Any]:
    """The rest of a clip.

    Raises:
        ValueError: If a motion is not finite or not (T, 68, 2), or they differ in length.
    """
    shapes = {name: motion.shape for name, motion in entry.motions.items()}
    if set(shapes.values()) != {(entry.frames, ibug.POINTS, 2)} or not entry.frames:
        raise ValueError(f"{entry.clip_id}: expected motions (T, 68, 2) of one T, found {shapes}")
    waveform = entry.waveform[: entry.frames * SAMPLES_PER_FRAME]
    return {
        "sound": _SOUND + base64.b64encode(to_flac(waveform)).decode(),
        "envelope": _base64(_envelope(waveform, entry.frames * _BINS_PER_FRAME)),
        "loudness_db": _floats(_loudness_db(waveform, entry.frames)),
        "motions": {name: pack(motion) for name, motion in entry.motions.items()},
        "head": {name: _floats(speed) for name, speed in entry.head_speeds.items()},
        "sync": [
            {
                "level": trace.level,
                "start_s": trace.start_s,
                "step_s": trace.step_s,
                "systems": {name: _floats(values) for name, values in trace.systems.items()},
            }
            for trace in entry.traces
        ],
    }


def pack(motion_TPD: NDArray[np.float32]) -> str:
    """A motion as text: differences from frame to frame, point by point, deflated.

    Coordinates beyond 4 crop sides are cut off there: they are far outside the picture.

    Raises:
        ValueError: If a coordinate is not finite.
    """
    if not np.isfinite(motion_TPD).all():
        raise ValueError("a motion that is drawn must be finite")
    whole_TC = np.round(motion_TPD.reshape(len(motion_TPD), -1).astype(np.float64) * QUANTUM)
    steps_TC = np.diff(whole_TC.clip(-_LIMIT, _LIMIT).astype(np.int32), axis=0, prepend=0)
    flat = np.ascontiguousarray(steps_TC.T.astype("<i2")).view(np.uint8).reshape(-1, 2)
    return base64.b64encode(zlib.compress(flat.T.tobytes(), 9)).decode()


def unpack(text: str, frames: int) -> NDArray[np.float32]:
    """The motion (T, 68, 2) that `pack` wrote.

    Raises:
        ValueError: If the text is none of that length.
    """
    flat = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(2, -1)
    steps_CT = np.ascontiguousarray(flat.T).view("<i2").reshape(ibug.POINTS * 2, frames)
    whole_TC = np.cumsum(steps_CT, axis=1, dtype=np.int16).T
    return (whole_TC.reshape(frames, ibug.POINTS, 2) / np.float32(QUANTUM)).astype(np.float32)


def read(path: Path) -> list[GalleryEntry]:
    """The clips of a page that `gallery.write_gallery` wrote.

    Args:
        path: The HTML file.

    Returns:
        Its clips, none for a page without clips or one of before this format.

    Raises:
        InputError: If the page cannot be read, or is damaged.
    """
    try:
        blocks = dict(_BLOCK.findall(path.read_text(encoding="utf-8")))
        if "page-data" not in blocks:
            return []
        page = json.loads(blocks["page-data"])
        if page["format"] != FORMAT:
            raise InputError(
                f"{path} is a gallery of format {page['format']}, expected {FORMAT}: evaluate again"
            )
        return [
            _entry(clip, json.loads(blocks[f"clip-data-{index}"]))
            for index, clip in enumerate(page["clips"])
        ]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise InputError(
            f"{path} is no gallery, or a damaged one ({error}): evaluate again"
        ) from error


def script_json(content: object) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _entry(clip: Mapping[str, Any], rest: Mapping[str, Any]) -> GalleryEntry:
    frames = int(clip["frames"])
    return GalleryEntry(
        clip_id=clip["id"],
        speaker=clip["speaker"],
        motions={name: unpack(rest["motions"][name], frames) for name in clip["systems"]},
        waveform=from_flac(base64.b64decode(rest["sound"].removeprefix(_SOUND))),
        scores=clip["scores"],
        warnings=clip["warnings"],
        failures={
            system: [Failure(kind, frame) for kind, frame in failures]
            for system, failures in clip["failures"].items()
        },
        head_speeds={name: _array(text) for name, text in rest["head"].items()},
        traces=[
            Trace(
                trace["level"],
                trace["start_s"],
                trace["step_s"],
                {name: _array(text) for name, text in trace["systems"].items()},
            )
            for trace in rest["sync"]
        ],
    )


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _floats(values_N: NDArray[Any]) -> str:
    return _base64(np.asarray(values_N, "<f4"))


def _array(text: str) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _envelope(waveform_N: NDArray[np.float32], bins: int) -> NDArray[np.uint8]:
    """Loudest sample of each bin, the loudest of all as 255; zeros for no sound."""
    peaks = np.array(
        [np.abs(part).max(initial=0.0) for part in np.array_split(waveform_N, bins)], np.float32
    )
    scaled: NDArray[np.uint8] = np.round(255 * peaks / max(float(peaks.max()), 1e-6)).astype("u1")
    return scaled


def _loudness_db(waveform_N: NDArray[np.float32], frames: int) -> NDArray[np.float64]:
    """Root mean square of each frame's sound, in dB below full scale: (T,)."""
    padded = np.zeros(frames * SAMPLES_PER_FRAME)
    padded[: len(waveform_N)] = waveform_N
    power_T = (padded.reshape(frames, SAMPLES_PER_FRAME) ** 2).mean(axis=1)
    loudness: NDArray[np.float64] = 10 * np.log10(np.maximum(power_T, 10 ** (_SILENCE_DB / 10)))
    return loudness
