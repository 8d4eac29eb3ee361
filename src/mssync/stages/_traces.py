"""How far motion and sound are apart at each moment, and scores of each sequence.

Axes: T frames, A = 4 T audio rows, P = 68 points, D = 2, M mel bands, W windows, E embedding.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mssync import pyramid
from mssync.losses.rigidity import rigidity
from mssync.metrics import sync
from mssync.metrics.sync import Evaluator
from mssync.render.payload import Trace
from mssync.stages._scores import Excerpt, Motion
from mssync.timing import FRAME_RATE_HZ


def distances(
    motion_TPD: Motion,
    audio_AM: NDArray[np.float32],
    judge: Evaluator,
    *,
    kernel: int,
    device: str = "cpu",
) -> NDArray[np.float32]:
    """Distance of each window of motion to the sound of the same time, unshifted: (W,).

    Windows begin at each sample of the judge's level; nan for those that touch the padding of the
    pyramid. A clip without a window has no distance.
    """
    level, frames = judge.level, len(motion_TPD)
    windows = pyramid.window_count(pyramid.length(frames, level))
    if not windows:
        return np.empty(0, np.float32)
    motion_W5PD = sync.windows_of_motion(motion_TPD, judge, kernel=kernel)
    audio_W20M = sync.windows_of_audio(audio_AM, level, kernel=kernel)
    motion_WE = sync.embed_motion(motion_W5PD, judge, device=device)
    audio_WE = sync.embed_audio(audio_W20M, judge, device=device)
    found_W: NDArray[np.float32] = torch.linalg.vector_norm(motion_WE - audio_WE, dim=-1).numpy()
    valid = pyramid.valid_windows(frames, level, kernel=kernel)
    outside = np.ones(windows, bool)
    outside[valid.start : valid.stop] = False
    found_W[outside] = np.nan
    return found_W


def traces(
    motions: Mapping[str, Motion],
    audio_AM: NDArray[np.float32],
    judges: Sequence[Evaluator],
    *,
    kernel: int,
    device: str = "cpu",
) -> list[Trace]:
    """Distances over time of several motions to one sound, a trace a level.

    The time of a value is that of its window's middle.

    Args:
        motions: System -> motion (T, 68, 2).
        audio_AM: The sound, (4 T, 26).
        judges: One a level.
        kernel: Width of the pyramid's box mean.
        device: Where the judges live.
    """
    found = []
    for judge in judges:
        step_s = 2**judge.level / FRAME_RATE_HZ
        middle = pyramid.MOTION_WINDOW // 2
        found.append(
            Trace(
                judge.level,
                middle * step_s + 0.5 / FRAME_RATE_HZ,
                step_s,
                {
                    name: distances(motion, audio_AM, judge, kernel=kernel, device=device)
                    for name, motion in motions.items()
                },
            )
        )
    return found


def of_sequences(
    values: Mapping[str, Mapping[str, Sequence[float]]], pieces: Sequence[Excerpt]
) -> dict[str, Any]:
    """Scores of each sequence as JSON, by which two runs on the same sequences are paired.

    Args:
        values: Metric -> system -> its value on each piece.
        pieces: The sequences.

    Returns:
        `sequences`: their clips, starts and speakers; `scores`: system -> metric -> values, in that
        order, None where there is none.
    """
    systems = {system: None for found in values.values() for system in found}
    return {
        "sequences": [
            {"clip_id": piece.clip_id, "start": piece.start, "speaker_id": piece.speaker_id}
            for piece in pieces
        ],
        "scores": {
            system: {
                metric: _known(found[system]) for metric, found in values.items() if system in found
            }
            for system in systems
        },
    }


def rigidities(motion_TPD: Motion) -> float:
    """How much the points that speech does not move leave an affine motion, in crop sides."""
    motion_BTPD = torch.from_numpy(np.ascontiguousarray(motion_TPD))[None]
    return float(rigidity(motion_BTPD, motion_BTPD[:, 0]).mean())


def _known(values: Sequence[float]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
