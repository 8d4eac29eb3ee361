"""How a face moves, beside how it should (docs/ms-sync.md, section 7: dynamics, diversity).

All in inter-ocular distances of the first frame, so that the size of the crop changes nothing.
Axes: T frames, P = 68 points, D = 2, H frequencies, S sequences.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mssync.landmarks import ibug
from mssync.metrics.shape import movement
from mssync.metrics.sync import Motion
from mssync.timing import FRAME_RATE_HZ

_NOISE = 1e-8  # power below which a spectrum is that of a detector's noise


def mouth_error(motion_TPD: Motion, truth_TPD: Motion) -> float:
    """Mean absolute error of the mouth's opening |p62 - p66|; 0 is best.

    Raises:
        ValueError: If the lengths differ.
    """
    return float(np.abs(_opening(motion_TPD) - _opening(truth_TPD)).mean())


def speed_spectrum_distance(motion_TPD: Motion, truth_TPD: Motion) -> float:
    """Root mean square difference of the spectra of speed, in dB; 0 is best."""
    return _apart_db(_spectrum(motion_TPD, 1), _spectrum(truth_TPD, 1))


def acceleration_spectrum_distance(motion_TPD: Motion, truth_TPD: Motion) -> float:
    """The same of acceleration."""
    return _apart_db(_spectrum(motion_TPD, 2), _spectrum(truth_TPD, 2))


def place_spread(motion_TPD: Motion) -> float:
    """Standard deviation of the head's place; nearest the ground truth is best."""
    return float(np.sqrt(movement(motion_TPD).pose_TC[:, :2].var(axis=0).sum()))


def axes_spread(motion_TPD: Motion) -> float:
    """Standard deviation of the head's axes: turns, nods, tilts, and distance to the camera."""
    return float(np.sqrt(movement(motion_TPD).pose_TC[:, 2:].var(axis=0).sum()))


def diversity(motions: Sequence[Motion]) -> float | None:
    """Mean root mean square distance of the movements of two sequences; None below two.

    Movements, not faces: the first frame is taken away from each. 0 is one movement for all.

    Raises:
        ValueError: If the lengths differ.
    """
    if len(motions) < 2:
        return None
    moves_SF = np.stack(
        [
            ((motion_TPD - motion_TPD[0]) / ibug.interocular_distance(motion_TPD[0])).ravel()
            for motion_TPD in motions
        ]
    ).astype(np.float64)
    distances = [
        np.sqrt(2 * np.square(moves_SF[i] - moves_SF[i + 1 :]).mean(axis=1))
        for i in range(len(moves_SF) - 1)
    ]
    return float(np.concatenate(distances).mean())


COMPARED = {
    "mouth_error": mouth_error,
    "speed_spectrum_db": speed_spectrum_distance,
    "acceleration_spectrum_db": acceleration_spectrum_distance,
}
MEASURED = {"place_spread": place_spread, "axes_spread": axes_spread}


def _opening(motion_TPD: Motion) -> NDArray[np.float32]:
    opening_T: NDArray[np.float32] = ibug.mouth_opening(motion_TPD) / ibug.interocular_distance(
        motion_TPD[0]
    )
    return opening_T


def _spectrum(motion_TPD: Motion, order: int) -> NDArray[np.float64]:
    """Power of a derivative at each frequency above 0, mean over points: (H,)."""
    scaled_TPD = motion_TPD.astype(np.float64) / ibug.interocular_distance(motion_TPD[0])
    change_TPD = np.diff(scaled_TPD, n=order, axis=0) * FRAME_RATE_HZ**order
    taper_T = np.hanning(len(change_TPD) + 2)[1:-1, None, None]
    power_HPD = np.square(np.abs(np.fft.rfft(change_TPD * taper_T, axis=0)))
    power_H = power_HPD.sum(axis=2).mean(axis=1)[1:]
    density_H: NDArray[np.float64] = power_H / np.square(taper_T).sum()
    return density_H


def _apart_db(own_H: NDArray[np.float64], truth_H: NDArray[np.float64]) -> float:
    ratio_H = 10 * np.log10((own_H + _NOISE) / (truth_H + _NOISE))
    return float(np.sqrt(np.square(ratio_H).mean()))
