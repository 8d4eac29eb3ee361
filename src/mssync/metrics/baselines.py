"""A system without a model: motion cut out of the training set by its sound.

What a generator must beat to have learned more than its training clips by heart. It is unit
selection (Hunt and Black, ICASSP 1996), as Video Rewrite (Bregler, Covell and Slaney, SIGGRAPH
1997) used it on faces: every piece of the sound looks for the places of the training set that sound
most alike, and of those the sequence is taken that fits the sound and hangs together (Viterbi).

Only movements are taken over, not faces: a training clip's way from the frame that resembles the
source face most, through the linear map between their rigid points, moves the source face.

Axes: N frames of all training clips, T frames of a sequence, L of a piece, K candidates of a piece,
A = 4 T audio rows, P = 68 points, D = 2, M mel bands, F = 4 M features of a frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mssync.landmarks import ibug
from mssync.metrics.sync import Audio, Motion, Pair, check_rows
from mssync.timing import ROWS_PER_FRAME

RETRIEVAL = "retrieval"

_BLOCK_FRAMES = 8192  # bounds memory: training frames that a piece is compared with at once


@dataclass(frozen=True)
class Bank:
    """Training clips, one after another, ready to be searched.

    Attributes:
        motion_NPD: Landmarks.
        sound_NF: The four audio rows of each frame; of every band the clip's mean, which voice and
            microphone make, is taken away, and the rest is divided by its spread over the set.
        starts: First frame of each clip, ascending.
        ends: Frame after the last of each clip.
        spread_M: Standard deviation of each band about the clips' means.
        variance: Mean squared distance of a point from its mean in its clip, in crop sides.
    """

    motion_NPD: Motion
    sound_NF: NDArray[np.float32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    spread_M: NDArray[np.float32]
    variance: float

    def features(self, audio_AM: Audio) -> NDArray[np.float32]:
        """Sound of each frame, standardised as the bank's: (4 T, M) -> (T, F)."""
        standard_AM: Audio = (audio_AM - audio_AM.mean(axis=0)) / self.spread_M
        return standard_AM.reshape(len(audio_AM) // ROWS_PER_FRAME, -1)

    def clip_of(self, frame: int) -> tuple[int, int]:
        """First frame, and frame after the last, of the clip that a frame belongs to."""
        index = int(np.searchsorted(self.starts, frame, side="right")) - 1
        return int(self.starts[index]), int(self.ends[index])


@dataclass(frozen=True)
class Anchor:
    """Where a training clip and a source face meet.

    Attributes:
        frame_PD: The clip's frame that resembles the source most.
        to_source_DD: Linear part of the affine map of the rigid points from it to the source.
    """

    frame_PD: NDArray[np.float64]
    to_source_DD: NDArray[np.float64]


def bank(training: Sequence[Pair]) -> Bank:
    """Put training clips, each a motion (T, 68, 2) and an audio (4 T, M), into a bank.

    Raises:
        ValueError: If there is no clip, or an audio has not four rows a frame.
    """
    if not training:
        raise ValueError("retrieval takes one training clip or more, found none")
    for motion_TPD, audio_AM in training:
        check_rows(motion_TPD, audio_AM)
    frames = np.array([len(motion_TPD) for motion_TPD, _ in training])
    audio_AM = np.concatenate([audio_AM - audio_AM.mean(axis=0) for _, audio_AM in training])
    spread_M = audio_AM.std(axis=0)
    spread_M = np.where(spread_M > 0, spread_M, 1).astype(np.float32)
    squares = [
        float(np.square(motion_TPD - motion_TPD.mean(axis=0)).sum(axis=-1).mean())
        for motion_TPD, _ in training
    ]
    return Bank(
        motion_NPD=np.concatenate([motion_TPD for motion_TPD, _ in training]),
        sound_NF=(audio_AM / spread_M).reshape(int(frames.sum()), -1),
        starts=np.cumsum(frames) - frames,
        ends=np.cumsum(frames),
        spread_M=spread_M,
        variance=float(np.average(squares, weights=frames)),
    )


def retrieve(
    source_PD: NDArray[np.float32],
    audio_AM: Audio,
    searched: Bank,
    *,
    piece_frames: int,
    candidates: int,
    continuity: float,
    blend_frames: int,
) -> Motion:
    """Move a face as training clips did where they sounded most alike.

    The sequence is cut into pieces of nearly one length. A piece's candidates are the places whose
    sound is nearest, local minima only. A path costs, for each piece, the mean squared distance of
    its standardised sound (2 for sounds that have nothing in common), and `continuity` times the
    mean squared gap between where the face would have moved on to and where the piece begins, in
    variances of training motion (2 for faces that have nothing in common). What gap remains at a
    join fades within `blend_frames`: no frame moves more than pi / 2 of its share for it.

    Args:
        source_PD: The first frame, (68, 2), which the result begins with.
        audio_AM: The sound, (4 T, M).
        searched: Training clips.
        piece_frames: Greatest length of a piece.
        candidates: Most places looked at for each piece.
        continuity: Weight of the gaps.
        blend_frames: Frames in which a gap fades.

    Returns:
        Landmarks (T, 68, 2) in the source's crop; the same for the same input.

    Raises:
        ValueError: If no training clip is as long as a piece.
    """
    sound_TF = searched.features(audio_AM)
    lengths = _lengths(len(sound_TF), piece_frames)
    longest = int((searched.ends - searched.starts).max())
    if longest < max(lengths):
        raise ValueError(
            f"no training clip is as long as a piece of {max(lengths)} frames, the longest has "
            f"{longest}"
        )
    found = [
        _nearest(distance_N, candidates) for distance_N in _distances(sound_TF, lengths, searched)
    ]
    clips = {searched.clip_of(start) for starts, _ in found for start in starts}
    anchors = {
        (start, end): _anchor(searched.motion_NPD[start:end], source_PD) for start, end in clips
    }
    moves = [
        np.stack([_moves(start, length, searched, anchors) for start in starts])
        for length, (starts, _) in zip(lengths, found, strict=True)
    ]
    chosen = _path(
        moves, [cost_K for _, cost_K in found], weight=continuity / (searched.variance or 1.0)
    )
    moved_TPD = _join(
        [moves_KLPD[index] for moves_KLPD, index in zip(moves, chosen, strict=True)], blend_frames
    )
    return (source_PD + moved_TPD).astype(np.float32)


def _lengths(frames: int, piece_frames: int) -> list[int]:
    """Lengths of the fewest pieces of at most `piece_frames` frames, as equal as they can be."""
    pieces = -(-frames // piece_frames)
    return [frames // pieces + (index < frames % pieces) for index in range(pieces)]


def _nearest(
    distance_N: NDArray[np.float32], candidates: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """First frames of the places that sound like a piece, nearest first, and their distances."""
    before = np.concatenate([[np.inf], distance_N[:-1]])
    after = np.concatenate([distance_N[1:], [np.inf]])
    (lowest,) = np.nonzero((distance_N < before) & (distance_N <= after))
    chosen = lowest[np.argsort(distance_N[lowest], kind="stable")[:candidates]]
    return chosen, distance_N[chosen]


def _distances(
    sound_TF: NDArray[np.float32], lengths: Sequence[int], searched: Bank
) -> NDArray[np.float32]:
    """Mean squared distance of each piece's sound to that from each frame on: (pieces, N).

    It is infinite where the clip ends before the piece.
    """
    frames = len(searched.sound_NF)
    found = np.full((len(lengths), frames), np.inf, np.float32)
    squares_T = np.square(sound_TF).sum(axis=1)
    for start in range(0, frames, _BLOCK_FRAMES):
        block_BF = searched.sound_NF[start : start + _BLOCK_FRAMES + max(lengths) - 1]
        apart_TB = squares_T[:, None] - 2 * sound_TF @ block_BF.T + np.square(block_BF).sum(axis=1)
        pieces = np.split(apart_TB, np.cumsum(lengths)[:-1])
        for own_N, apart_LB, length in zip(found, pieces, lengths, strict=True):
            places = min(_BLOCK_FRAMES, len(block_BF) - length + 1)
            if places > 0:
                own_N[start : start + places] = _diagonal_means(apart_LB, places)
    for own_N, length in zip(found, lengths, strict=True):
        for begin, end in zip(searched.starts, searched.ends, strict=True):
            own_N[max(begin, end - length + 1) : end] = np.inf
    found /= sound_TF.shape[1]
    return found


def _diagonal_means(apart_LB: NDArray[np.float32], places: int) -> NDArray[np.float32]:
    """Mean of each diagonal: place b has the piece's frame l at frame b + l."""
    total = np.zeros(places, np.float32)
    for frame, apart_B in enumerate(apart_LB):
        total += apart_B[frame : frame + places]
    total /= len(apart_LB)
    return total


def _moves(
    start: int, frames: int, searched: Bank, anchors: Mapping[tuple[int, int], Anchor]
) -> NDArray[np.float64]:
    """Where the source has moved to in a piece, and in the frame after: (L + 1, 68, 2)."""
    first, end = searched.clip_of(start)
    anchor = anchors[first, end]
    taken_LPD = searched.motion_NPD[start : min(start + frames + 1, end)].astype(np.float64)
    if start + frames == end:  # nothing comes after: the last move goes on
        before_PD = searched.motion_NPD[max(first, end - 2)]
        taken_LPD = np.concatenate([taken_LPD, 2 * taken_LPD[-1:] - before_PD])
    moved_LPD: NDArray[np.float64] = (taken_LPD - anchor.frame_PD) @ anchor.to_source_DD
    return moved_LPD


def _anchor(motion_TPD: Motion, source_PD: NDArray[np.float32]) -> Anchor:
    """The frame of a clip that an affine image of the source resembles most, and the map back."""
    motion = motion_TPD.astype(np.float64)
    rigid = list(ibug.RIGID)
    source_P3 = np.concatenate([source_PD, np.ones((len(source_PD), 1))], axis=1)
    affine_T3D = np.linalg.pinv(source_P3[rigid]) @ motion[:, rigid]
    left_T = np.square(motion - source_P3 @ affine_T3D).sum(axis=(1, 2))
    nearest = int(left_T.argmin())
    return Anchor(motion[nearest], np.linalg.pinv(affine_T3D[nearest, :2]).astype(np.float64))


def _path(
    moves: Sequence[NDArray[np.float64]], costs: Sequence[NDArray[np.float32]], *, weight: float
) -> list[int]:
    """Which candidate of each piece: the path of least cost."""
    at_rest_KPD = np.zeros_like(moves[0][:1, 0])
    total_K = costs[0] + weight * _gaps(at_rest_KPD, moves[0][:, 0])[0]
    arrivals = []
    for before, here, cost_K in zip(moves, moves[1:], costs[1:], strict=False):
        reached_KK = total_K[:, None] + weight * _gaps(before[:, -1], here[:, 0])
        arrivals.append(reached_KK.argmin(axis=0))
        total_K = reached_KK.min(axis=0) + cost_K
    path = [int(total_K.argmin())]
    for arrival_K in reversed(arrivals):
        path.append(int(arrival_K[path[-1]]))
    return path[::-1]


def _gaps(from_KPD: NDArray[np.float64], to_KPD: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean squared distance over points of every pair of faces: (from, to)."""
    points = from_KPD.shape[1]
    start, end = from_KPD.reshape(len(from_KPD), -1), to_KPD.reshape(len(to_KPD), -1)
    gaps_KK: NDArray[np.float64] = (
        np.square(start).sum(axis=1)[:, None] - 2 * start @ end.T + np.square(end).sum(axis=1)
    ) / points
    return gaps_KK


def _join(moves: Sequence[NDArray[np.float64]], blend_frames: int) -> NDArray[np.float64]:
    """Put pieces of (L + 1, 68, 2) after one another without a jump: (T, 68, 2)."""
    here_PD = np.zeros_like(moves[0][0])
    joined = []
    for moves_LPD in moves:
        gone_L = np.minimum(np.arange(len(moves_LPD)) / blend_frames, 1)
        fade_L = (1 + np.cos(np.pi * gone_L)) / 2
        placed_LPD = moves_LPD + fade_L[:, None, None] * (here_PD - moves_LPD[0])
        joined.append(placed_LPD[:-1])
        here_PD = placed_LPD[-1]
    return np.concatenate(joined)
