"""A speaker's face, and where its knots go while it speaks.

The mouth follows the sound within a frame; the head follows its slow part (loudness and pitch
below about 2 Hz), so that the deep levels of the pyramid have something to learn.

Coordinates: fractions of the image's side (see portrait.py). Axes: T frames (25 Hz), K = 75
knots, X = 3, D = 2, R rows (100 Hz).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from mssync.demo.portrait import Portrait
from mssync.demo.speech import FLOOR_DB, Speech, Voice
from mssync.landmarks import ibug
from mssync.timing import FRAME_RATE_HZ, ROW_RATE_HZ, ROWS_PER_FRAME

Array = NDArray[np.float64]

_JAW = list(ibug.JAW)
_LIPS = list(ibug.LIPS)
_UPPER_INNER = (61, 62, 63)
_LOWER_INNER = (67, 66, 65)
_UPPER_LIP = [49, 50, 51, 52, 53, *_UPPER_INNER]
_LOWER_LIP = [55, 56, 57, 58, 59, 65, 66, 67]
_CORNERS = [48, 60, 54, 64]
_LIDS = ((37, 41), (38, 40), (43, 47), (44, 46))
_CLOSED_GAP = 0.045  # of the eyes' distance; below it the detector does not see the lips close
_SOBER = 0.7  # of the way from a smile to a straight mouth
_WIDEST = 0.29  # of the eyes' distance: the mouth wide open
_CLOSED_LID = 0.7  # of the way: eyes squeezed wholly tear the picture


@dataclass(frozen=True)
class Speaker:
    """Shape, light, manners and voice of one speaker; lengths are factors of the portrait's."""

    mirrored: bool
    face_width: float
    jaw_width: float
    chin_length: float
    eye_distance: float
    brow_lift: float
    nose_length: float
    mouth_width: float
    scale: float
    shift_D: tuple[float, float]
    gains_C: tuple[float, float, float]
    mouth_gain: float
    head_gain: float
    voice: Voice


def draw_speaker(rng: np.random.Generator) -> Speaker:
    """A random speaker."""
    light = rng.uniform(0.82, 1.05)
    red, green, blue = light * rng.uniform(0.94, 1.06, size=3)
    high = rng.random() < 0.5
    return Speaker(
        mirrored=bool(rng.random() < 0.5),
        face_width=rng.uniform(0.92, 1.1),
        jaw_width=rng.uniform(0.9, 1.1),
        chin_length=rng.uniform(0.9, 1.15),
        eye_distance=rng.uniform(0.94, 1.08),
        brow_lift=rng.uniform(-0.03, 0.05),
        nose_length=rng.uniform(0.88, 1.14),
        mouth_width=rng.uniform(0.8, 0.98),
        scale=rng.uniform(0.92, 1.06),
        shift_D=(rng.uniform(-0.025, 0.025), rng.uniform(-0.01, 0.03)),
        gains_C=(red, green, blue),
        mouth_gain=rng.uniform(0.85, 1.15),
        head_gain=rng.uniform(0.8, 1.2),
        voice=Voice(
            pitch_hz=rng.uniform(170, 225) if high else rng.uniform(90, 140),
            rate=rng.uniform(0.85, 1.15),
            formant_scale=rng.uniform(1.03, 1.15) if high else rng.uniform(0.92, 1.03),
        ),
    )


def dress(portrait: Portrait, speaker: Speaker) -> Portrait:
    """The portrait as this speaker, at rest with the mouth closed."""
    own = portrait.mirrored() if speaker.mirrored else portrait
    return own.reshaped(_shape(own.knots_KX, speaker)).tinted(np.array(speaker.gains_C))


def _shape(knots_KX: Array, speaker: Speaker) -> Array:
    """The speaker's proportions: (75, 3) -> (75, 3)."""
    origin_X = (knots_KX[36] + knots_KX[45]) / 2
    unit = float(np.linalg.norm(knots_KX[45] - knots_KX[36]))
    face = (knots_KX - origin_X) / unit
    face[:, 0] *= speaker.face_width
    below = np.clip((face[_JAW, 1] - face[2, 1]) / (face[8, 1] - face[2, 1]), 0, 1)
    face[_JAW, 0] *= 1 + (speaker.jaw_width - 1) * below

    for side, eye in (
        (-1, [*range(17, 22), *range(36, 42)]),
        (1, [*range(22, 27), *range(42, 48)]),
    ):
        face[eye, 0] += side * (speaker.eye_distance - 1) / 2
    face[17:27, 1] -= speaker.brow_lift

    nose = list(range(27, 36))
    longer = (face[nose, 1] - face[27, 1]) * (speaker.nose_length - 1)
    face[nose, 1] += longer
    face[_LIPS, 1] += longer[-3] / 2
    face[_JAW, 1] += below * longer[-3] / 2
    face[_JAW, 1] += below * (face[8, 1] - face[57, 1]) * (speaker.chin_length - 1)

    middle = (face[48, 0] + face[54, 0]) / 2
    face[_LIPS, 0] = middle + (face[_LIPS, 0] - middle) * speaker.mouth_width
    _close_lips(face)
    shift_X = np.array([*speaker.shift_D, 0.0])
    shaped_KX: Array = origin_X + shift_X + unit * speaker.scale * face
    return shaped_KX


def _close_lips(face: Array) -> None:
    """Bring the portrait's smile to rest, in place: lips all but touch, as thick as they were."""
    for upper, lower, above, under in zip(
        _UPPER_INNER, _LOWER_INNER, (50, 51, 52), (58, 57, 56), strict=True
    ):
        # the lower lip rises more than the upper one sinks
        line = face[upper, 1] + 0.4 * (face[lower, 1] - face[upper, 1])
        down, up = line - _CLOSED_GAP / 2 - face[upper, 1], face[lower, 1] - line - _CLOSED_GAP / 2
        face[[upper, above], 1] += down
        face[[lower, under], 1] -= up
    sink = _SOBER * (face[[61, 63], 1].mean() - face[[60, 64], 1].mean())
    face[[48, 60, 54, 64], 1] += sink
    face[[49, 53, 59, 55], 1] += sink / 2


def targets(
    rest_KX: Array, speech: Speech, speaker: Speaker, rng: np.random.Generator, *, frames: int
) -> Array:
    """Where the knots are in each frame: (T, 75, 2).

    Args:
        rest_KX: The speaker's knots at rest.
        speech: Sound and gestures, at least 4 rows a frame.
        speaker: Manners.
        rng: Blinks and the drift of the head.
        frames: T.

    Raises:
        ValueError: If the speech is shorter than the frames.
    """
    if len(speech.openness_R) < frames * ROWS_PER_FRAME:
        raise ValueError(
            f"{frames} frames need {frames * ROWS_PER_FRAME} rows of speech, "
            f"found {len(speech.openness_R)}"
        )
    unit = float(np.linalg.norm(rest_KX[45] - rest_KX[36]))
    face_TKX = np.repeat(rest_KX[None], frames, axis=0)
    opening_T = speaker.mouth_gain * _at_frames(speech.openness_R, frames)
    _open_mouth(face_TKX, unit * _WIDEST * opening_T)
    _stretch_lips(face_TKX, 0.07 * _at_frames(speech.spread_R, frames))
    _blink(face_TKX, _blinks(frames, rng))
    accent_T = np.clip(_slow(speech.pitch_R, 0.12, frames), 0, 6) / 6
    face_TKX[:, 17:27, 1] -= 0.07 * unit * accent_T[:, None]
    return _move_head(face_TKX, rest_KX, speech, speaker, rng, unit=unit)


def _open_mouth(face_TKX: Array, opening_T: Array) -> None:
    """Part the lips by `opening_T`, most in the middle; the jaw goes down with the lower lip."""
    rest_KX = face_TKX[0].copy()
    middle, half = (rest_KX[60, 0] + rest_KX[64, 0]) / 2, (rest_KX[64, 0] - rest_KX[60, 0]) / 2
    arch_K = np.clip(1 - (np.abs(rest_KX[:, 0] - middle) / (1.15 * half)) ** 2, 0, 1)
    share_K = np.zeros(len(rest_KX))
    share_K[_UPPER_LIP] = -0.18 * arch_K[_UPPER_LIP]
    share_K[_LOWER_LIP] = 0.25 + 0.57 * arch_K[_LOWER_LIP]
    share_K[_CORNERS] = 0.2
    share_K[_JAW] = 0.62 * np.sin(np.pi * np.arange(17) / 16) ** 2
    face_TKX[..., 1] += opening_T[:, None] * share_K
    # an open mouth is a narrower one
    face_TKX[:, _LIPS, 0] -= (rest_KX[_LIPS, 0] - middle) * 0.35 * opening_T[:, None] / half


def _stretch_lips(face_TKX: Array, spread_T: Array) -> None:
    """Widen the mouth by a share of itself; negative values round it."""
    middle_T1 = (face_TKX[:, [48], 0] + face_TKX[:, [54], 0]) / 2
    gain_T1 = np.where(spread_T < 0, 2.2, 1.4)[:, None] * spread_T[:, None]
    face_TKX[:, _LIPS, 0] += gain_T1 * (face_TKX[:, _LIPS, 0] - middle_T1)


def _blinks(frames: int, rng: np.random.Generator) -> Array:
    """How far the lids are closed, (T,): a blink every two to five seconds."""
    times = np.arange(frames) / FRAME_RATE_HZ
    closed_T = np.zeros(frames)
    at_s = rng.uniform(0.5, 3.0)
    while at_s < frames / FRAME_RATE_HZ:
        closed_T = np.maximum(closed_T, np.exp(-(((times - at_s) / 0.07) ** 2)))
        at_s += rng.uniform(2.0, 5.0)
    return closed_T


def _blink(face_TKX: Array, closed_T: Array) -> None:
    for upper, lower in _LIDS:
        gap_T = face_TKX[:, lower, 1] - face_TKX[:, upper, 1]
        face_TKX[:, upper, 1] += 0.8 * _CLOSED_LID * closed_T * gap_T
        face_TKX[:, lower, 1] -= 0.2 * _CLOSED_LID * closed_T * gap_T


def _move_head(
    face_TKX: Array,
    rest_KX: Array,
    speech: Speech,
    speaker: Speaker,
    rng: np.random.Generator,
    *,
    unit: float,
) -> Array:
    """Turn and shift the head with the prosody, and a little by chance: (T, 75, 2)."""
    frames = len(face_TKX)
    # of the amplitude, so that stress counts: in decibels only the pauses would
    amplitude_R = 10 ** (-FLOOR_DB / 20 * (speech.loudness_R - 1))
    beat_T = _slow(amplitude_R, 0.11, frames) - 0.3
    phrase_T = _slow(amplitude_R, 0.35, frames) - 0.25
    pitch_T = _slow(speech.pitch_R, 0.18, frames) / 4
    drift_TX = _drift(frames, rng)
    gain = speaker.head_gain
    # degrees
    nod_T = gain * 12.0 * beat_T + 0.7 * drift_TX[:, 0]
    turn_T = gain * 7.0 * pitch_T + 1.0 * drift_TX[:, 1]
    roll_T = gain * (2.5 * pitch_T + 9.0 * phrase_T) + 0.7 * drift_TX[:, 2]
    sway_T = gain * 0.16 * unit * phrase_T
    sink_T = gain * 0.11 * unit * beat_T

    pivot_X = rest_KX[[2, 14]].mean(axis=0)  # between the ears
    turned_TKX = (face_TKX - pivot_X) @ _rotations(nod_T, turn_T, roll_T).transpose(0, 2, 1)
    shift_TD = np.stack([sway_T, sink_T], axis=1)
    moved_TKD: Array = turned_TKX[..., :2] + pivot_X[:2] + shift_TD[:, None]
    return moved_TKD


def _rotations(nod_T: Array, turn_T: Array, roll_T: Array) -> Array:
    """Matrices (T, 3, 3) of degrees about the x, y and z axes."""
    angles = np.deg2rad(np.stack([nod_T, turn_T, roll_T]))
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    zero, one = np.zeros_like(cx), np.ones_like(cx)
    about_x = np.array([[one, zero, zero], [zero, cx, -sx], [zero, sx, cx]])
    about_y = np.array([[cy, zero, sy], [zero, one, zero], [-sy, zero, cy]])
    about_z = np.array([[cz, -sz, zero], [sz, cz, zero], [zero, zero, one]])
    x, y, z = (np.moveaxis(matrix, -1, 0) for matrix in (about_x, about_y, about_z))
    rotations: Array = z @ y @ x
    return rotations


def _drift(frames: int, rng: np.random.Generator) -> Array:
    """Slow unit noise that follows nothing: (T, 3)."""
    width = 0.5 * FRAME_RATE_HZ
    margin = round(4 * width)
    noise = rng.standard_normal((frames + 2 * margin, 3))
    smooth = gaussian_filter1d(noise, width, axis=0)[margin : margin + frames]
    drift: Array = smooth * np.sqrt(2 * np.sqrt(np.pi) * width)
    return drift


def _at_frames(track_R: Array, frames: int) -> Array:
    return track_R[: frames * ROWS_PER_FRAME : ROWS_PER_FRAME]


def _slow(track_R: Array, width_s: float, frames: int) -> Array:
    """A track at 25 Hz without what is faster than about `width_s`: (T,)."""
    return _at_frames(gaussian_filter1d(track_R, width_s * ROW_RATE_HZ, mode="nearest"), frames)
