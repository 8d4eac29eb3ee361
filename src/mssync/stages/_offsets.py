"""How late is the sound of each clip, as a trained syncer hears it?

Motion windows are compared with the audio windows around them, which begin at every half frame. The
lag at which they agree best is the offset; it is told relative to what the syncer was taught to
take for being in sync.

Axes: T frames, A = 4 T audio rows, P = 68 points, D = 2, M mel bands, W motion windows, H audio
windows, E embedding, K places of an audio window around that of a motion window, L lags.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mssync import pyramid
from mssync.data import dataset
from mssync.data.clips import Clip
from mssync.errors import InputError
from mssync.ledger import DECISIONS, stream_decisions
from mssync.log import progress
from mssync.metrics.sync import embed_audio, embed_motion, seen
from mssync.models.syncer import Syncer
from mssync.params import BuildDataset
from mssync.selection.offset import FEWEST_TICKS, MAX_REACH_FRAMES, UNKNOWN, Offset, find
from mssync.timing import ROW_MS, ROWS_PER_FRAME
from mssync.trained.checkpoint import METADATA
from mssync.trained.networks import load_syncer

_STEP_ROWS = 2  # audio windows begin at every half frame
_STEPS = ROWS_PER_FRAME // _STEP_ROWS
_REACH = _STEPS * MAX_REACH_FRAMES
_BLOCK_WINDOWS = 1024  # bounds memory: all distances of an hour would take gigabytes


@dataclass(frozen=True)
class Told:
    """The offset of a clip's sound.

    Attributes:
        clip_id: The clip.
        split: Its split.
        offset_ms: How late the sound is, in the clip as it was fetched; NaN: not told.
        left_ms: The same in the dataset, which may have made up for some of it.
        confidence: In [0, 1) (`mssync.selection.offset.Offset`).
        drift_ms_per_s: How the offset grows along the clip; NaN: too short to tell.
    """

    clip_id: str
    split: str
    offset_ms: float
    left_ms: float
    confidence: float
    drift_ms_per_s: float


def by_syncer(folder: Path, syncer: Path, *, device: torch.device) -> list[Told]:
    """Ask a syncer about every clip of a dataset.

    Args:
        folder: The dataset's.
        syncer: A checkpoint of level 0; or a pyramid of them, or what `train_syncers` writes, of
            which the guide of level 0 is taken.
        device: Where to compute.

    Returns:
        Sorted by clip.

    Raises:
        InputError: If there is no dataset, no syncer, or one of another level.
    """
    judge = _load(syncer, device)
    version = dataset.load(folder)
    shift_ms = {row["clip_id"]: ROW_MS * row["audio_shift_rows"] for row in version.rows}
    clips = progress(version.clips(), total=len(version.rows), what="clips")
    told = (
        _told(clip.clip_id, clip.split, shift_ms[clip.clip_id], offset_of(clip, judge, device))
        for clip in clips
    )
    return sorted(told, key=lambda found: found.clip_id)


def by_estimate(folder: Path, ledger: Path) -> list[Told]:
    """What `build_dataset` estimated without a model, of every clip of a dataset.

    Args:
        folder: The dataset's.
        ledger: Folder of all stages' ledgers.

    Raises:
        InputError: If there is no dataset, or no ledger of it.
    """
    scores = {
        decision.clip_id: decision.scores
        for decision in stream_decisions(ledger / "build_dataset" / DECISIONS)
    }
    return list(_estimated(dataset.load(folder), scores))


def believed(found: Iterable[Told], params: BuildDataset) -> list[Told]:
    """Those that are sure enough, and whose offset stays the same along the clip."""
    return [
        each
        for each in found
        if each.confidence >= params.min_av_confidence
        # NaN: too short to tell
        and not abs(each.drift_ms_per_s) > params.max_av_drift_ms_per_s
    ]


def to_correct(found: Iterable[Told], params: BuildDataset, *, least_ms: float) -> list[Told]:
    """Those that are believed and still off by so much, the farthest first."""
    wrong = [each for each in believed(found, params) if abs(each.left_ms) >= least_ms]
    return sorted(wrong, key=lambda each: (-abs(each.left_ms), each.clip_id))


def offset_of(clip: Clip, syncer: Syncer, device: torch.device) -> Offset:
    """The offset of a clip's sound, as a syncer of level 0 hears it."""
    if clip.frames < FEWEST_TICKS:
        return UNKNOWN
    motion_BTC = torch.from_numpy(seen(clip.motion_TPD, syncer)).flatten(1)[None]
    motion_W5C = pyramid.motion_windows(motion_BTC)[0]
    motion_W5PD = motion_W5C.reshape(*motion_W5C.shape[:2], *clip.motion_TPD.shape[1:])
    audio_H20M = (
        torch.from_numpy(clip.audio_AM)
        .unfold(0, pyramid.AUDIO_WINDOW, _STEP_ROWS)
        .transpose(1, 2)
        .contiguous()
    )
    agreement = Agreement(
        embed_motion(motion_W5PD, syncer, device=str(device)),
        embed_audio(audio_H20M, syncer, device=str(device)),
        cosine=syncer.normalise,
    )
    return find(agreement, clip.frames)


class Agreement:
    """How well the motion of a clip agrees with its sound at any lag (`selection.offset.find`).

    Args:
        motion_WE: Embeddings of motion windows, one a frame.
        audio_HE: Embeddings of audio windows, `_STEPS` a frame.
        cosine: Compare by the cosine of unit embeddings, in [-1, 1]; else by minus the Euclidean
            distance.
    """

    def __init__(self, motion_WE: Tensor, audio_HE: Tensor, *, cosine: bool) -> None:
        blocks = [
            _around(motion_WE[start : start + _BLOCK_WINDOWS], audio_HE, start, cosine=cosine)
            for start in range(0, len(motion_WE), _BLOCK_WINDOWS)
        ]
        self._agreement_WK = np.concatenate(blocks)
        self._place_W = np.arange(len(motion_WE)) / max(1, len(motion_WE) - 1) - 0.5

    def __call__(self, lags_L: NDArray[np.float64], spread_frames: float) -> NDArray[np.float64]:
        """Mean agreement at each lag; NaN where fewer than half the windows have a partner."""
        at_LW = _REACH + _STEPS * (lags_L[:, None] + spread_frames * self._place_W)
        low_LW = np.floor(at_LW).astype(np.int64)
        part_LW = at_LW - low_LW
        window_W = np.arange(len(self._place_W))
        high_LW = low_LW + (part_LW > 0)
        agreement_LW = (1 - part_LW) * self._agreement_WK[window_W, low_LW]
        agreement_LW += part_LW * self._agreement_WK[window_W, high_LW]
        paired_LW = np.isfinite(agreement_LW)
        pairs_L = paired_LW.sum(axis=1)
        score_L: NDArray[np.float64] = np.where(paired_LW, agreement_LW, 0).sum(axis=1)
        score_L /= np.maximum(1, pairs_L)
        score_L[pairs_L < len(window_W) / 2] = np.nan
        return score_L


def _around(
    motion_WE: Tensor, audio_HE: Tensor, start: int, *, cosine: bool
) -> NDArray[np.float64]:
    """Agreement of windows with the audio windows around them: (W, K), NaN beyond the clip.

    Args:
        motion_WE: Embeddings of motion windows.
        audio_HE: Embeddings of all audio windows.
        start: Number of the first motion window.
        cosine: As in `Agreement`.
    """
    first = _STEPS * start - _REACH
    width = _STEPS * (len(motion_WE) - 1) + 2 * _REACH + 1
    there = slice(max(0, first), min(len(audio_HE), first + width))
    agreement_WV = np.full((len(motion_WE), width), np.nan)
    found_WH = motion_WE @ audio_HE[there].T if cosine else -torch.cdist(motion_WE, audio_HE[there])
    agreement_WV[:, there.start - first : there.stop - first] = found_WH.numpy()
    row, step = agreement_WV.strides
    return np.lib.stride_tricks.as_strided(
        agreement_WV, (len(motion_WE), 2 * _REACH + 1), (row + _STEPS * step, step)
    ).copy()


def _load(folder: Path, device: torch.device) -> Syncer:
    tried = (folder, folder / "level0", folder / "guides" / "level0")
    found = next((path for path in tried if (path / METADATA).exists()), None)
    if found is None:
        raise InputError(
            f"{folder} holds no syncer of level 0 ({METADATA}): name what train-syncers wrote"
        )
    syncer = load_syncer(found, device)
    if syncer.level != 0:
        raise InputError(
            f"{found} is a syncer of level {syncer.level}, expected level 0, which hears every "
            "frame"
        )
    return syncer


def _estimated(
    version: dataset.Dataset, scores: Mapping[str, Mapping[str, float]]
) -> Iterator[Told]:
    for row in version.rows:
        found = scores.get(row["clip_id"])
        if found is None:
            raise InputError(
                f"{row['clip_id']} is in {version.folder} and the ledger has no decision on it: "
                "run build-dataset again"
            )
        shift_ms = ROW_MS * row["audio_shift_rows"]
        left = Offset(
            found["av_offset_ms"] - shift_ms, found["av_confidence"], found["av_drift_ms_per_s"]
        )
        yield _told(row["clip_id"], row["split"], shift_ms, left)


def _told(clip_id: str, split: str, shift_ms: float, left: Offset) -> Told:
    return Told(
        clip_id,
        split,
        left.offset_ms + shift_ms,
        left.offset_ms,
        left.confidence,
        left.drift_ms_per_s,
    )
