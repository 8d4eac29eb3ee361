"""Samples, rows and frames: the only place that rounds.

The video's clock rules. Frame k of a clip is at k / 25 s; row r of the audio features starts at
r / 100 s; sample n of the waveform is at n / 16000 s. Hence 4 rows and 640 samples a frame, always.
"""

import math

FRAME_RATE_HZ = 25
ROWS_PER_FRAME = 4
ROW_RATE_HZ = FRAME_RATE_HZ * ROWS_PER_FRAME
ROW_MS = 1000 / ROW_RATE_HZ
SAMPLE_RATE_HZ = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FRAME_RATE_HZ
SAMPLES_PER_ROW = SAMPLE_RATE_HZ // ROW_RATE_HZ

_SLACK = 1e-6  # a frame: timestamps are decimal fractions and miss the tick by rounding


def frame_time_s(frame: int) -> float:
    """Time of frame `frame`, in seconds from the clip's start."""
    return frame / FRAME_RATE_HZ


def frames_within(duration_s: float) -> int:
    """Number of 25 Hz ticks in the closed span [0, duration_s], the tick at 0 included."""
    if duration_s < 0:
        raise ValueError(f"a duration cannot be negative, found {duration_s} s")
    return math.floor(duration_s * FRAME_RATE_HZ + _SLACK) + 1


def nearest_frame(time_s: float) -> int:
    """The 25 Hz tick nearest to `time_s`; the later one when exactly between two."""
    return math.floor(time_s * FRAME_RATE_HZ + 0.5)


def nearest_sample(time_s: float) -> int:
    """The 16 kHz sample nearest to `time_s`; the later one when exactly between two."""
    return math.floor(time_s * SAMPLE_RATE_HZ + 0.5)


def nearest_rows(time_ms: float) -> int:
    """The whole number of audio rows nearest to `time_ms`; the later when exactly between two."""
    return math.floor(time_ms / ROW_MS + 0.5)


def milliseconds(time_s: float) -> int:
    """`time_s` in whole milliseconds, as clip ids write it."""
    return round(time_s * 1000)
