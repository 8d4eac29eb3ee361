"""Fréchet distances native to landmarks (docs/ms-sync.md, section 7).

* FD-frame: single frames, the 136 coordinates as they stand in the clip's crop (size, place and
  pose of the head are part of the likeness).
* FD-motion: the mean level-0 evaluator embedding of the 36 five-frame windows of 40 frames.
* t-FD: the mean shape of 40 frames, later frames weighing more, as the t-FID of the authors'
  earlier work (arXiv 2211.00987) sums its images.

Windows of 40 frames follow one another without overlap; a shorter rest is left out.
Axes: N samples, F features, K axes, T frames, P = 68 points, D = 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mssync.metrics.sync import Evaluator, embed_motion, seen
from mssync.pyramid import motion_windows

WINDOW_FRAMES = 40
_WIDE_FEATURES = 1024  # from here on few samples are compared by their products, which is faster
ENOUGH_SAMPLES = 1024  # below this the covariance of 136 or more features is mostly noise


@dataclass(frozen=True)
class Basis:
    """Principal axes of the training set's features.

    Attributes:
        mean_F: Their mean.
        axes_FK: Orthonormal columns, largest spread first.
    """

    mean_F: NDArray[np.float64]
    axes_FK: NDArray[np.float64]


@dataclass(frozen=True)
class FrechetDistance:
    """A squared Fréchet distance; lower is better, 0 is the same distribution.

    Attributes:
        distance: In all features.
        distance_in_axes: In the principal axes of the training set; None at
            `ENOUGH_SAMPLES` or more, or without a basis.
        n: Samples on each side.
    """

    distance: float
    distance_in_axes: float | None
    n: int


def principal_axes(features_NF: NDArray[np.float64], axes: int) -> Basis:
    """The first `axes` principal axes of training features; fewer when there are not so many.

    Raises:
        ValueError: If there are fewer than two samples.
    """
    _check_samples(features_NF)
    mean_F = features_NF.mean(axis=0)
    _, _, rows_KF = np.linalg.svd(features_NF - mean_F, full_matrices=False)
    return Basis(mean_F=mean_F, axes_FK=rows_KF[:axes].T)


def frechet(
    real_NF: NDArray[np.float64], fake_NF: NDArray[np.float64], *, basis: Basis | None = None
) -> FrechetDistance:
    """Distance between two sets of features of one size.

    The distance depends on N, so it only compares with distances at the same N.

    Args:
        real_NF: Features of the ground truth.
        fake_NF: Features of a system, on the same clips.
        basis: Principal axes of the training set, for fewer than `ENOUGH_SAMPLES` samples.

    Raises:
        ValueError: If the shapes differ, there are fewer than two samples, or the basis does
            not fit the features.
    """
    if real_NF.shape != fake_NF.shape:
        raise ValueError(
            f"both sides need the same samples and features, found {real_NF.shape} "
            f"and {fake_NF.shape}"
        )
    _check_samples(real_NF)
    in_axes = None
    if basis is not None and len(real_NF) < ENOUGH_SAMPLES:
        in_axes = _distance(_project(real_NF, basis), _project(fake_NF, basis))
    return FrechetDistance(_distance(real_NF, fake_NF), in_axes, len(real_NF))


def frame_features(motions: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Features of FD-frame: every frame of every motion (T, 68, 2) -> (N, 136)."""
    return np.concatenate(
        [motion_TPD.reshape(len(motion_TPD), -1) for motion_TPD in motions]
    ).astype(np.float64)


def time_features(motions: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Features of t-FD: the weighted mean shape of every 40-frame window -> (N, 136)."""
    weights_T = time_weights()
    return np.array(
        [
            weights_T @ window_TPD.reshape(WINDOW_FRAMES, -1).astype(np.float64)
            for window_TPD in windows(motions)
        ]
    )


def time_weights() -> NDArray[np.float64]:
    """How much each frame of a window weighs in its mean, as t-FID has it: (40,), of sum 1."""
    weights_T: NDArray[np.float64] = np.linspace(0.2, 0.8, WINDOW_FRAMES)
    weights_T /= weights_T.sum()
    return weights_T


def motion_features(
    motions: Sequence[NDArray[np.float32]], evaluator: Evaluator, *, device: str = "cpu"
) -> NDArray[np.float64]:
    """Features of FD-motion: the mean embedding of every 40-frame window -> (N, E).

    Args:
        motions: Sequences (T, 68, 2) at 25 Hz.
        evaluator: The evaluator of level 0.
        device: Where the evaluator lives.

    Raises:
        ValueError: If the evaluator is not of level 0, or no motion has 40 frames.
    """
    if evaluator.level != 0:
        raise ValueError(f"FD-motion takes the evaluator of level 0, found level {evaluator.level}")
    judged = [seen(motion_TPD, evaluator) for motion_TPD in motions]
    pieces = torch.from_numpy(np.stack(windows(judged)))
    samples, frames, points, axes = pieces.shape
    fives = motion_windows(pieces.reshape(samples, frames, points * axes))
    count, five = fives.shape[1:3]
    embedding_NE = embed_motion(
        fives.reshape(samples * count, five, points, axes), evaluator, device=device
    )
    return embedding_NE.reshape(samples, count, -1).double().mean(dim=1).numpy()


def windows(motions: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Every 40-frame window of motions (T, 68, 2), one after the other.

    Raises:
        ValueError: If no motion has 40 frames.
    """
    found = [
        motion_TPD[start : start + WINDOW_FRAMES]
        for motion_TPD in motions
        for start in range(0, len(motion_TPD) - WINDOW_FRAMES + 1, WINDOW_FRAMES)
    ]
    if not found:
        raise ValueError(f"no motion has {WINDOW_FRAMES} frames")
    return found


def _check_samples(features_NF: NDArray[np.float64]) -> None:
    if len(features_NF) < 2:
        raise ValueError(f"a covariance takes two samples or more, found {len(features_NF)}")


def _project(features_NF: NDArray[np.float64], basis: Basis) -> NDArray[np.float64]:
    if features_NF.shape[1] != len(basis.mean_F):
        raise ValueError(
            f"the basis is of {len(basis.mean_F)} features, found {features_NF.shape[1]}"
        )
    projected_NK: NDArray[np.float64] = (features_NF - basis.mean_F) @ basis.axes_FK
    return projected_NK


def _distance(real_NF: NDArray[np.float64], fake_NF: NDArray[np.float64]) -> float:
    """|mean difference|^2 + tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2."""
    samples, features = real_NF.shape
    means_F = real_NF.mean(axis=0), fake_NF.mean(axis=0)
    shift_F = means_F[0] - means_F[1]
    real_NF, fake_NF = (
        (given - mean) for given, mean in zip((real_NF, fake_NF), means_F, strict=True)
    )
    spread = ((real_NF**2).sum() + (fake_NF**2).sum()) / (samples - 1)

    if samples < features and features >= _WIDE_FEATURES:
        # With A = X'X and B = Y'Y, what is asked for is the nuclear norm of XY', which is smaller.
        shared = np.linalg.svd(real_NF @ fake_NF.T, compute_uv=False).sum() / (samples - 1)
    else:
        # The product is similar to a symmetric positive one, so its root needs only eigenvalues.
        values, vectors = np.linalg.eigh(real_NF.T @ real_NF / (samples - 1))
        root_FF = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
        inner = np.linalg.eigvalsh(root_FF @ (fake_NF.T @ fake_NF / (samples - 1)) @ root_FF)
        shared = np.sqrt(inner.clip(min=0)).sum()
    return max(0.0, float(shift_F @ shift_F + spread - 2 * shared))
