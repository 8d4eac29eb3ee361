"""Does a generator hold far beyond the length it was trained on (docs/ms-sync.md, section 7)?

A long sequence is cut into blocks, and every block is scored as if it stood alone: synchrony in
blocks of 40 frames at level 0, of 120 at levels 1 and 2, and of 240, a new one every 40 frames, at
level 3; movement in blocks of 40. What real clips score in blocks of the same length, wherever in
the clip they lie, is the variability that a roll-out is held against.

Axes: T frames, P = 68 points, D = 2, N sequences, B blocks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mssync.landmarks import ibug
from mssync.metrics import bootstrap
from mssync.metrics.bootstrap import Estimate
from mssync.metrics.shape import movement
from mssync.metrics.sync import Evaluator, Motion, Pair, SyncCurve, distance_curves
from mssync.timing import FRAME_RATE_HZ, ROWS_PER_FRAME

# Level -> length of a block and from one block to the next, in frames.
BLOCKS = {0: (40, 40), 1: (120, 120), 2: (120, 120), 3: (240, 40)}
MOVEMENT_BLOCK = 40
SYNC = ("lse_d", "distance_at_0")
MOVEMENT = ("shape", "place", "head_speed", "mouth")
BAND_PERCENT = (5, 95)


@dataclass(frozen=True)
class DriftCurve:
    """One measure, block after block.

    Attributes:
        starts: First frame of every block.
        block_frames: Length of a block.
        values_NB: Every sequence's score; nan where it has ended.
        real: Every block of the real clips.
    """

    starts: NDArray[np.int64]
    block_frames: int
    values_NB: NDArray[np.float64]
    real: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean over the sequences that are so long."""
        counts = self.counts
        total_B = np.nansum(self.values_NB, axis=0)
        return np.where(counts > 0, total_B / np.maximum(counts, 1), np.nan)

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many sequences are so long."""
        counts: NDArray[np.int64] = np.isfinite(self.values_NB).sum(axis=0)
        return counts

    @property
    def band(self) -> tuple[float, float] | None:
        """Between what nine of ten blocks of real clips lie; None without one."""
        if not len(self.real):
            return None
        low, high = np.percentile(self.real, BAND_PERCENT)
        return float(low), float(high)

    @property
    def outside(self) -> float | None:
        """Share of the blocks outside the band; a tenth is what real clips have."""
        if self.band is None or not self.counts.any():
            return None
        found = self.values_NB[np.isfinite(self.values_NB)]
        low, high = self.band
        return float(((found < low) | (found > high)).mean())

    def change(self, *, rng: np.random.Generator, resamples: int) -> Estimate:
        """Mean of each sequence's last quarter of blocks less that of its first quarter."""
        changes = []
        for values_B in self.values_NB:
            found = values_B[np.isfinite(values_B)]
            quarter = max(1, len(found) // 4)
            if len(found) > 1:
                changes.append(float(found[-quarter:].mean() - found[:quarter].mean()))
        return bootstrap.mean(changes, rng=rng, resamples=resamples)


def sync_drift(
    generated: Sequence[Pair],
    real: Sequence[Pair],
    evaluator: Evaluator,
    *,
    kernel: int,
    device: str = "cpu",
) -> dict[str, DriftCurve]:
    """Synchrony block by block at the evaluator's level: each of `SYNC`.

    Args:
        generated: Long sequences, motion (T, 68, 2) and audio (4 T, M).
        real: Real clips of any length; those shorter than a block tell nothing.
        evaluator: The judge.
        kernel: Width of the pyramid's box mean.
        device: Where the evaluator lives.

    Raises:
        ValueError: If no generated sequence is as long as a block.
    """
    frames, hop = BLOCKS[evaluator.level]

    def scored(pairs: Sequence[Pair]) -> list[list[SyncCurve]]:
        cut = [
            [_block(pair, start, frames) for start in _starts(len(pair[0]), frames, hop)]
            for pair in pairs
        ]
        flat = [block for blocks in cut for block in blocks]
        curves = iter(
            distance_curves(flat, evaluator, kernel=kernel, device=device) if flat else []
        )
        return [[next(curves) for _ in blocks] for blocks in cut]

    own, others = scored(generated), scored(real)
    return {
        score: _curve(
            [[getattr(block, score) for block in blocks] for blocks in own],
            [getattr(block, score) for blocks in others for block in blocks],
            frames,
            hop,
        )
        for score in SYNC
    }


def movement_drift(generated: Sequence[Motion], real: Sequence[Motion]) -> dict[str, DriftCurve]:
    """How the face moves, block by block, in inter-ocular distances of its first frame.

    * `shape`: what the best affine map of the first frame leaves over at the points that speech
      does not move, root mean square;
    * `place`: how far the head's centre is from where it began, mean;
    * `head_speed`: of that centre, mean, a second;
    * `mouth`: standard deviation of the mouth's opening.

    Raises:
        ValueError: If no generated motion is as long as a block.
    """
    own = [_movement_blocks(motion_TPD) for motion_TPD in generated]
    others = [_movement_blocks(motion_TPD) for motion_TPD in real]
    return {
        measure: _curve(
            [[block[measure] for block in blocks] for blocks in own],
            [block[measure] for blocks in others for block in blocks],
            MOVEMENT_BLOCK,
            MOVEMENT_BLOCK,
        )
        for measure in MOVEMENT
    }


def _movement_blocks(motion_TPD: Motion) -> list[Mapping[str, float]]:
    moved = movement(motion_TPD)
    scale = ibug.interocular_distance(motion_TPD[0])
    place_TD = moved.pose_TC[:, :2]
    speed_T = np.linalg.norm(np.diff(place_TD, axis=0, prepend=place_TD[:1]), axis=1)
    mouth_T = ibug.mouth_opening(motion_TPD) / scale
    blocks = list[Mapping[str, float]]()
    for start in _starts(len(motion_TPD), MOVEMENT_BLOCK, MOVEMENT_BLOCK):
        own = slice(start, start + MOVEMENT_BLOCK)
        blocks.append(
            {
                "shape": float(np.sqrt(np.square(moved.rigid[own]).sum(axis=-1).mean())),
                "place": float(np.linalg.norm(place_TD[own], axis=1).mean()),
                "head_speed": float(speed_T[own].mean() * FRAME_RATE_HZ),
                "mouth": float(mouth_T[own].std()),
            }
        )
    return blocks


def _starts(length: int, frames: int, hop: int) -> range:
    return range(0, length - frames + 1, hop)


def _block(pair: Pair, start: int, frames: int) -> Pair:
    motion_TPD, audio_AM = pair
    rows = slice(start * ROWS_PER_FRAME, (start + frames) * ROWS_PER_FRAME)
    return motion_TPD[start : start + frames], audio_AM[rows]


def _curve(
    own: Sequence[Sequence[float]], others: Sequence[float], frames: int, hop: int
) -> DriftCurve:
    longest = max((len(blocks) for blocks in own), default=0)
    if longest == 0:
        raise ValueError(f"no generated sequence is as long as a block of {frames} frames")
    values_NB = np.full((len(own), longest), np.nan)
    for values_B, blocks in zip(values_NB, own, strict=True):
        values_B[: len(blocks)] = blocks
    return DriftCurve(
        np.arange(longest) * hop, frames, values_NB, np.array(others, dtype=np.float64)
    )
