"""Has a generated clip failed, how, and from which frame on?

Five detectors, each a severity at every frame, higher being worse. A clip has failed where its
severity passes a limit, which real clips set: such a share of them as is asked for would be called
failures (split conformal prediction, Vovk et al. 2005: the share is kept on average for clips like
those of the calibration).

* `dynamics_collapse`: the head moves less, more, slower or faster than real heads do.
* `unrealistic_frames`: a face that real faces do not make.
* `drift`: head or face have wandered off, grown, shrunk or tilted.
* `frozen_lips`: the voice speaks and the lips stand still.
* `off_sync`: the delivered alignment of motion and sound is no better than others.

The first two are the failures that the authors of MS-Sync show (docs/ms-sync.md, section 7).

Axes: T frames, A = 4 T audio rows, P = 68 points, D = 2, F = 136 coordinates, K principal axes,
C = 6 coordinates of the pose, E = 4 energies, W windows, S shifts, V values.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mssync.landmarks import ibug
from mssync.metrics.coupling import loudness
from mssync.metrics.shape import Movement, movement
from mssync.metrics.sync import SEARCH_SAMPLES, Audio, Motion, check_rows
from mssync.timing import FRAME_RATE_HZ

COLLAPSE = "dynamics_collapse"
UNREALISTIC = "unrealistic_frames"
DRIFT = "drift"
FROZEN = "frozen_lips"
OFF_SYNC = "off_sync"
KINDS = (COLLAPSE, UNREALISTIC, DRIFT, FROZEN, OFF_SYNC)

_SLOW_HZ = 3.0  # nods and turns lie below, tremor above
_VOICED_NATS = 4.6  # 20 dB below a clip's loud frames is still the voice
_LOUD_PERCENTILE = 95
_MIN_SPEAKING = 0.5  # of a window: below it lips may rest
_FOLDS = 4  # of speakers: what is usual among three quarters of them judges the rest
_OPPOSITE = ((48, 54), (51, 57), (61, 67), (62, 66), (63, 65))  # width, outer and inner heights
_STILL = 1e-4  # inter-ocular distances: less than this a detector's own noise moves a still face


@dataclass(frozen=True)
class Take:
    """A sequence as the detectors see it.

    Attributes:
        motion_TPD: Landmarks at 25 Hz, the first frame being the source.
        audio_AM: Log mel energies.
        distance_WS: From `sync.window_distances`, of the evaluator of level 0; None: synchrony is
            not judged.
        speaker_id: Who speaks; only the calibration asks.
    """

    motion_TPD: Motion
    audio_AM: Audio
    distance_WS: NDArray[np.float64] | None = None
    speaker_id: str = ""


@dataclass(frozen=True)
class Limit:
    """What real clips allow of one kind.

    Attributes:
        severity: Above it a frame is bad; None where no real clip could be judged.
        false_alarm_rate: Share of real clips like those of the calibration that pass it, in
            expectation; above what was asked for where there were too few clips.
        n: Clips it rests on.
    """

    severity: float | None
    false_alarm_rate: float | None
    n: int


@dataclass(frozen=True)
class Verdict:
    """What one detector says of one sequence.

    Attributes:
        failed: None where it could not be judged: nobody speaks, or no limit is known.
        first_bad_frame: First frame above the limit, or that begins the first window above it;
            None without a failure.
        severity: The worst of all frames over the limit: 1 is the limit. None where it could not be
            judged, or is beyond all numbers.
        judged_frames: Frames, or beginnings of windows, that could be judged.
    """

    failed: bool | None
    first_bad_frame: int | None
    severity: float | None
    judged_frames: int


@dataclass(frozen=True)
class Usual:
    """What real clips are like.

    Attributes:
        mean_F: Mean of the face's own movement.
        axes_FK: Its principal axes, orthonormal columns.
        spread_K: Root mean square along each.
        outside: Root mean square outside them, a point.
        pose_C: Root mean square of each coordinate of the pose, over windows.
        energy_mean_E: Mean of the logarithm of the head's energies.
        energy_spread_E: Their standard deviation.
        lips: Median of how far lips move in a window while the voice speaks.
        window_frames: Length of the windows.
    """

    mean_F: NDArray[np.float64]
    axes_FK: NDArray[np.float64]
    spread_K: NDArray[np.float64]
    outside: float
    pose_C: NDArray[np.float64]
    energy_mean_E: NDArray[np.float64]
    energy_spread_E: NDArray[np.float64]
    lips: float
    window_frames: int

    def of(self, take: Take, moved: Movement) -> dict[str, NDArray[np.float64]]:
        """Severity of every kind at every frame (T,); nan where it is not judged."""
        frames, window = len(take.motion_TPD), self.window_frames
        speaking_T = speaking(take.audio_AM, window)
        energy_VE = head_energies(moved, window)
        apart_VE = np.abs(energy_VE - self.energy_mean_E) / self.energy_spread_E
        pose_VC = np.abs(_window_means(moved.pose_TC, window)) / self.pose_C
        stillness_V = self.lips / np.maximum(lip_movement(take.motion_TPD, window), _STILL)
        misaligned_T = _misalignment(take.distance_WS, window, frames)
        return {
            COLLAPSE: _spread_out(apart_VE.max(axis=1), frames),
            UNREALISTIC: self._strangeness(moved),
            DRIFT: _spread_out(pose_VC.max(axis=1), frames),
            FROZEN: np.where(speaking_T, _spread_out(stillness_V, frames), np.nan),
            OFF_SYNC: np.where(speaking_T, misaligned_T, np.nan),
        }

    def _strangeness(self, moved: Movement) -> NDArray[np.float64]:
        """How far each frame is from faces that are real: within the axes, or outside."""
        own_TF = moved.own_TPD.reshape(len(moved.own_TPD), -1)
        finite_T = np.isfinite(own_TF.sum(axis=1))
        centred_TF = np.where(finite_T[:, None], own_TF, 0) - self.mean_F
        along_TK = centred_TF @ self.axes_FK
        rest_TF = centred_TF - along_TK @ self.axes_FK.T
        within_T = np.sqrt(np.square(along_TK / self.spread_K).mean(axis=1))
        outside_T = _per_point(rest_TF) / self.outside
        return np.where(finite_T, np.maximum(within_T, outside_T), np.inf)


@dataclass(frozen=True)
class Detectors:
    """What real clips are like, and what they allow.

    Attributes:
        usual: What severities are measured against.
        limits: By kind.
    """

    usual: Usual
    limits: Mapping[str, Limit]

    def severities(self, take: Take) -> dict[str, NDArray[np.float64]]:
        """Severity of every kind at every frame (T,); nan where it is not judged.

        Those of windows stand at the window's first frame. All but that of `off_sync`, a ratio of
        distances, are in units of what is usual among real clips.
        """
        return self.usual.of(take, movement(take.motion_TPD))

    def verdicts(self, take: Take) -> dict[str, Verdict]:
        """What every detector says of a sequence.

        Raises:
            ValueError: If the audio has not four rows a frame.
        """
        check_rows(take.motion_TPD, take.audio_AM)
        found = self.severities(take)
        return {kind: _verdict(found[kind], self.limits[kind]) for kind in KINDS}


def calibrate(
    real: Sequence[Take], *, axes: int, window_frames: int, false_alarm_rate: float
) -> Detectors:
    """Learn from real clips what is usual, and where to draw the line.

    Args:
        real: Real sequences, as long as those that will be judged: in longer ones more can happen.
        axes: Principal axes of the face's own movement; at most as many as there are.
        window_frames: Length of the windows in which energies, lips, pose and synchrony are judged;
            a shorter sequence is one window.
        false_alarm_rate: Share of real clips that each detector may call a failure.

    Raises:
        ValueError: If there is no clip, or the rate is not in (0, 1).
    """
    if not real:
        raise ValueError("failure detectors are calibrated on one real clip or more, found none")
    if not 0 < false_alarm_rate < 1:
        raise ValueError(f"a false alarm rate lies between 0 and 1, found {false_alarm_rate}")
    for take in real:
        check_rows(take.motion_TPD, take.audio_AM)
    moves = [movement(take.motion_TPD) for take in real]
    worst: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for known, new in _folds(real):
        usual = _usual(
            [real[i] for i in known],
            [moves[i] for i in known],
            axes=axes,
            window_frames=window_frames,
        )
        for i in new:
            for kind, severity_T in usual.of(real[i], moves[i]).items():
                if np.isfinite(severity_T).any():
                    worst[kind].append(float(np.nanmax(severity_T)))
    return Detectors(
        usual=_usual(real, moves, axes=axes, window_frames=window_frames),
        limits={kind: _limit(found, false_alarm_rate) for kind, found in worst.items()},
    )


def _folds(real: Sequence[Take]) -> list[tuple[list[int], list[int]]]:
    """Takes that tell what is usual, and takes that are judged by it, of other people.

    Clips that were learnt from look more usual than a stranger's: limits drawn on them are too low.
    """
    speakers = sorted({take.speaker_id for take in real})
    everything = list(range(len(real)))
    if len(speakers) < 2:
        return [(everything, everything)]
    folds = min(_FOLDS, len(speakers))
    fold_of = {speaker: number % folds for number, speaker in enumerate(speakers)}
    fold_T = [fold_of[take.speaker_id] for take in real]
    return [
        ([i for i in everything if fold_T[i] != fold], [i for i in everything if fold_T[i] == fold])
        for fold in range(folds)
    ]


def speaking(audio_AM: Audio, window_frames: int) -> NDArray[np.bool_]:
    """At which frames a window begins in which, for half of it or more, the voice is heard: (T,).

    It is heard in a frame within 20 dB of the sequence's loud frames.
    """
    level_T = loudness(audio_AM)
    voiced_T = level_T > np.percentile(level_T, _LOUD_PERCENTILE) - _VOICED_NATS
    share_V = _window_means(voiced_T.astype(np.float64)[:, None], window_frames)[:, 0]
    return _spread_out(share_V, len(level_T)) >= _MIN_SPEAKING


def head_energies(moved: Movement, window_frames: int) -> NDArray[np.float64]:
    """Logarithm of how fast the head moves in every window, slowly and quickly: (V, 4).

    Root mean square speed, in inter-ocular distances a second, of the place (columns 0 and 1) and
    of the axes (2 and 3) of the pose, below and above 3 Hz.
    """
    frames = len(moved.pose_TC)
    window = min(window_frames, frames)
    step_TC = np.diff(moved.pose_TC, axis=0, prepend=moved.pose_TC[:1])
    speed_TC = np.nan_to_num(step_TC) * FRAME_RATE_HZ
    windows_VCW = np.lib.stride_tricks.sliding_window_view(speed_TC, window, axis=0)
    taper_W = np.hanning(window + 2)[1:-1]
    spectrum_VCE = np.square(np.abs(np.fft.rfft(windows_VCW * taper_W, axis=-1)))
    slow_E = np.fft.rfftfreq(window, 1 / FRAME_RATE_HZ) < _SLOW_HZ
    power_scale = 2 / (window * np.square(taper_W).sum())
    energies = [
        np.sqrt(spectrum_VCE[:, part][..., band].sum(axis=(1, 2)) * power_scale)
        for part in (slice(0, 2), slice(2, 6))
        for band in (slow_E, ~slow_E)
    ]
    return np.log(np.stack(energies, axis=1) + _STILL)


def lip_movement(motion_TPD: Motion, window_frames: int) -> NDArray[np.float64]:
    """How fast the lips move against each other in every window: (V,).

    Root mean square speed of the distances between opposite points of the lips, in inter-ocular
    distances a second: a head that moves without its lips changes none of them much.
    """
    scale = max(float(ibug.interocular_distance(motion_TPD[0])), _STILL)
    first_TLD, second_TLD = (motion_TPD[:, list(points)] for points in zip(*_OPPOSITE, strict=True))
    distance_TL = np.linalg.norm((first_TLD - second_TLD).astype(np.float64), axis=-1) / scale
    step_TL = np.diff(distance_TL, axis=0, prepend=distance_TL[:1]) * FRAME_RATE_HZ
    moved_V: NDArray[np.float64] = np.sqrt(
        _window_means(np.square(step_TL), window_frames).mean(axis=1)
    )
    return moved_V


def _usual(
    real: Sequence[Take], moves: Sequence[Movement], *, axes: int, window_frames: int
) -> Usual:
    own_NF = np.concatenate([moved.own_TPD.reshape(len(moved.own_TPD), -1) for moved in moves])
    mean_F = own_NF.mean(axis=0)
    centred_NF = own_NF - mean_F
    values_F, vectors_FF = np.linalg.eigh(centred_NF.T @ centred_NF / len(centred_NF))
    axes_FK = vectors_FF[:, ::-1][:, : min(axes, len(own_NF))]
    spread_K = np.sqrt(values_F[::-1][: axes_FK.shape[1]].clip(min=_STILL**2))
    rest_NF = centred_NF - centred_NF @ axes_FK @ axes_FK.T
    pose_NC = np.concatenate([_window_means(moved.pose_TC, window_frames) for moved in moves])
    energy_NE = np.concatenate([head_energies(moved, window_frames) for moved in moves])
    lips_N = np.concatenate(
        [
            lip_movement(take.motion_TPD, window_frames)[
                speaking(take.audio_AM, window_frames)[
                    : _windows(len(moved.pose_TC), window_frames)
                ]
            ]
            for take, moved in zip(real, moves, strict=True)
        ]
    )
    return Usual(
        mean_F=mean_F,
        axes_FK=axes_FK,
        spread_K=spread_K,
        outside=max(_STILL, float(np.sqrt(np.square(_per_point(rest_NF)).mean()))),
        pose_C=np.sqrt(np.square(pose_NC).mean(axis=0)).clip(min=_STILL),
        energy_mean_E=energy_NE.mean(axis=0),
        energy_spread_E=energy_NE.std(axis=0).clip(min=_STILL),
        lips=float(np.median(lips_N)) if len(lips_N) else 0.0,
        window_frames=window_frames,
    )


def _limit(worst_N: Sequence[float], rate: float) -> Limit:
    """The least severity that at most `rate` of clips like these pass, in expectation."""
    n = len(worst_N)
    if n == 0:
        return Limit(None, None, 0)
    below = min(n, math.ceil((n + 1) * (1 - rate)))
    return Limit(sorted(worst_N)[below - 1], (n + 1 - below) / (n + 1), n)


def _verdict(severity_T: NDArray[np.float64], limit: Limit) -> Verdict:
    judged = int((~np.isnan(severity_T)).sum())
    if limit.severity is None or not judged:
        return Verdict(None, None, None, judged)
    (bad,) = np.nonzero(severity_T > limit.severity)
    worst = float(np.nanmax(severity_T) / limit.severity)
    return Verdict(
        failed=bool(len(bad)),
        first_bad_frame=int(bad[0]) if len(bad) else None,
        severity=worst if math.isfinite(worst) else None,
        judged_frames=judged,
    )


def _misalignment(
    distance_WS: NDArray[np.float64] | None, window_frames: int, frames: int
) -> NDArray[np.float64]:
    """Distance as delivered over the median over shifts, by window: (T,); 1 is no alignment."""
    if distance_WS is None:
        return np.full(frames, np.nan)
    present_WS = np.isfinite(distance_WS)
    total_VS = _window_means(np.where(present_WS, distance_WS, 0), window_frames)
    share_VS = _window_means(present_WS.astype(np.float64), window_frames)
    mean_VS = np.where(share_VS >= 0.5, total_VS / np.maximum(share_VS, _STILL), np.nan)
    ratio_V = mean_VS[:, SEARCH_SAMPLES[0]] / np.nanmedian(mean_VS, axis=1)
    return _spread_out(ratio_V, frames)


def _per_point(rest_TF: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean square distance of a point: (T, 136) -> (T,)."""
    distance_T: NDArray[np.float64] = np.sqrt(2 * np.square(rest_TF).mean(axis=1))
    return distance_T


def _windows(frames: int, window_frames: int) -> int:
    return max(1, frames - window_frames + 1)


def _window_means(values_TC: NDArray[np.float64], window_frames: int) -> NDArray[np.float64]:
    """Mean over every window: (T, C) -> (V, C)."""
    window = min(window_frames, len(values_TC))
    windows_VCW = np.lib.stride_tricks.sliding_window_view(values_TC, window, axis=0)
    means_VC: NDArray[np.float64] = windows_VCW.mean(axis=-1)
    return means_VC


def _spread_out(values_V: NDArray[np.float64], frames: int) -> NDArray[np.float64]:
    """Values of windows at their first frames, nan where none begins: (V,) -> (T,)."""
    return np.concatenate([values_V, np.full(frames - len(values_V), np.nan)])
