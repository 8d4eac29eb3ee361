"""A split packed for training: its clips end to end in one array, memory-mapped, level by level.

A row holds all of one sample: the coordinates of its landmarks, then its four rows of audio. So a
window or a sequence is one run of bytes, however many clips there are. Packs are a cache beside
the dataset, `<dataset>.pack/<revision>/<split>/`: they can be deleted, and are then made again. Of
processes that make one at the same time, all use that of the first.

Axes: S samples of all clips end to end, X = 136 + 4 M numbers of a row, C clips, N runs of rows,
P = 68 points, D = 2, M mel bands.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mssync import pyramid
from mssync.data.clips import Clip
from mssync.data.dataset import Dataset, pack_folder
from mssync.data.statistics import COORDINATES, Statistics, statistics
from mssync.landmarks import ibug
from mssync.timing import ROWS_PER_FRAME

logger = logging.getLogger(__name__)

_FACTS = "facts.npz"
ALL = slice(None)  # of a batch that nobody shares


@dataclass(frozen=True)
class Level:
    """All samples of one level of the pyramid.

    Attributes:
        rows_SX: Row of every sample; on the GPU where it fits, else memory-mapped.
        samples_C: Samples of each clip; 0 where it is too short to come down to this level.
        first_C: Row of its first one.
        device: Where runs of rows are wanted.
    """

    rows_SX: Tensor
    samples_C: NDArray[np.int64]
    first_C: NDArray[np.int64]
    device: torch.device

    def take(self, start_N: NDArray[np.int64], samples: int) -> tuple[Tensor, Tensor]:
        """Runs of `samples` rows: motion (N, samples, 68, 2) and audio (N, 4 samples, M).

        Args:
            start_N: First row of each.
            samples: Length of every one.
        """
        count, width = self.rows_SX.shape
        # Overlapping runs as a view: taking one copies one piece of memory.
        runs = self.rows_SX.as_strided((max(count - samples + 1, 0), samples * width), (width, 1))
        index_N = torch.from_numpy(start_N).to(self.rows_SX.device)
        taken = runs[index_N]
        if taken.device != self.device:
            taken = taken.pin_memory().to(self.device, non_blocking=True)
        rows = taken.view(-1, samples, width)
        motion = rows[..., :COORDINATES].reshape(-1, samples, ibug.POINTS, 2)
        bands = (width - COORDINATES) // pyramid.ROWS_PER_SAMPLE
        return motion, rows[..., COORDINATES:].reshape(-1, samples * pyramid.ROWS_PER_SAMPLE, bands)


class Pack:
    """The clips of a split, packed.

    Args:
        rows_SX: Rows of all clips at 25 Hz, in the order of `frames_C`.
        frames_C: Length of each clip.
        low_CD: Least coordinates of each clip, in crop sides.
        high_CD: Largest ones.
        folder: Where higher levels are kept; None: in memory.
        known: Statistics of the rows, where they were measured before.
    """

    def __init__(
        self,
        rows_SX: NDArray[np.float32],
        frames_C: NDArray[np.int64],
        low_CD: NDArray[np.float32],
        high_CD: NDArray[np.float32],
        *,
        folder: Path | None = None,
        known: Statistics | None = None,
    ) -> None:
        self.frames_C, self.low_CD, self.high_CD = frames_C, low_CD, high_CD
        self._rows_SX = rows_SX
        self._folder = folder
        self._known = known

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.frames_C)

    @cached_property
    def statistics(self) -> Statistics:
        """Means and spreads over all samples.

        Raises:
            ValueError: If there is no clip.
        """
        return self._known or statistics(self._rows_SX, self.frames_C)

    @cached_property
    def mean_faces(self) -> NDArray[np.float32]:
        """The mean face of each clip, (C, 68, 2), in crop sides."""

        def fill(means_CX: NDArray[np.float32]) -> None:
            ends_C = np.cumsum(self.frames_C)
            for clip, (frames, end) in enumerate(zip(self.frames_C, ends_C, strict=True)):
                motion_TX = self._rows_SX[end - frames : end, :COORDINATES]
                means_CX[clip] = motion_TX.mean(axis=0, dtype=np.float64)

        path = self._folder and self._folder / "means.npy"
        means_CX = _array(path, (len(self), COORDINATES), fill)
        return means_CX.reshape(-1, ibug.POINTS, 2)

    def level(self, level: int, *, kernel: int, device: torch.device) -> Level:
        """A level of the pyramid.

        Args:
            level: 0: as it is.
            kernel: Odd width of the pyramid's box mean, in samples.
            device: Where samples are wanted.
        """
        samples_C = _samples(self.frames_C, level, kernel)
        first_C = np.cumsum(samples_C) - samples_C
        rows_SX = torch.from_numpy(self._level_rows(level, kernel))
        return Level(_resident(rows_SX, device), samples_C, first_C, device)

    def _level_rows(self, level: int, kernel: int) -> NDArray[np.float32]:
        if level == 0:
            return self._rows_SX
        before, above_C = level - 1, _samples(self.frames_C, level - 1, kernel)
        below_C = _samples(self.frames_C, level, kernel)
        start_C, put_C = np.cumsum(above_C) - above_C, np.cumsum(below_C) - below_C

        def fill(rows_SX: NDArray[np.float32]) -> None:
            from_SX = self._level_rows(before, kernel)
            for clip in np.flatnonzero(below_C):
                clip_TX = from_SX[start_C[clip] : start_C[clip] + above_C[clip]]
                put = slice(put_C[clip], put_C[clip] + below_C[clip])
                real_rows = pyramid.length(ROWS_PER_FRAME * int(self.frames_C[clip]), before)
                rows_SX[put] = _down(clip_TX, real_rows, kernel)

        path = self._folder and self._folder / f"level{level}-kernel{kernel}.npy"
        return _array(path, (int(below_C.sum()), self._rows_SX.shape[1]), fill)


def pack_clips(clips: Sequence[Clip]) -> Pack:
    """Clips in memory, in their order."""
    frames_C = np.array([clip.frames for clip in clips], np.int64)
    low_CD, high_CD = _extents(len(clips))
    rows = [np.zeros((0, COORDINATES), np.float32)]
    for number, clip in enumerate(clips):
        low_CD[number], high_CD[number] = _extent(clip)
    if clips:
        rows = [_rows(clip.motion_TPD, clip.audio_AM) for clip in clips]
    return Pack(np.concatenate(rows), frames_C, low_CD, high_CD)


def open_pack(dataset: Dataset, split: str) -> Pack:
    """A split of a dataset, packed; it is made where it is not there yet.

    Args:
        dataset: A version.
        split: One of its splits.

    Raises:
        InputError: If a part of the dataset is gone or is another.
        OSError: If the pack cannot be written.
    """
    listed = [row for row in dataset.rows if row["split"] == split]
    frames_C = np.array([row["frames"] for row in listed], np.int64)
    if not listed:
        return pack_clips([])
    folder = pack_folder(dataset.folder, dataset.revision) / split
    if not (folder / _FACTS).exists():
        _make(dataset, split, [row["clip_id"] for row in listed], frames_C, folder)
    with np.load(folder / _FACTS) as facts:
        # `.npz` gives a number back as an array without axes
        found = {name: value if value.ndim else value.item() for name, value in facts.items()}
    low_CD, high_CD = found.pop("low_CD"), found.pop("high_CD")
    rows_SX = np.load(folder / "level0.npy", mmap_mode="c")
    known = Statistics(**found)
    return Pack(rows_SX, frames_C, low_CD, high_CD, folder=folder, known=known)


def _make(
    dataset: Dataset, split: str, ids: Sequence[str], frames_C: NDArray[np.int64], folder: Path
) -> None:
    logger.info("packing %d clips of %s into %s", len(ids), split, folder)
    first_C = np.cumsum(frames_C) - frames_C
    number_of = {clip_id: number for number, clip_id in enumerate(ids)}
    low_CD, high_CD = _extents(len(ids))
    clips = dataset.clips(split)
    first = next(clips)
    width = _rows(first.motion_TPD, first.audio_AM).shape[1]

    def fill(rows_SX: NDArray[np.float32]) -> None:
        for clip in (first, *clips):
            number = number_of[clip.clip_id]
            put = slice(first_C[number], first_C[number] + clip.frames)
            rows_SX[put] = _rows(clip.motion_TPD, clip.audio_AM)
            low_CD[number], high_CD[number] = _extent(clip)

    with _writing(folder) as writing:
        writing.mkdir(parents=True)
        rows_SX = _array(writing / "level0.npy", (int(frames_C.sum()), width), fill)
        known = statistics(rows_SX, frames_C)
        del rows_SX  # or NFS keeps the file
        np.savez(writing / _FACTS, low_CD=low_CD, high_CD=high_CD, **asdict(known))
        _give_name(writing, folder)


def _give_name(made: Path, folder: Path) -> None:
    """Make a pack the one of its name, unless there is a whole one, which others may be reading."""
    if not (folder / _FACTS).exists():
        with _writing(folder) as rest, suppress(FileNotFoundError):
            folder.rename(rest)  # what a deletion left that was cut short
    try:
        made.rename(folder)
    except OSError:
        if not (folder / _FACTS).exists():
            raise


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """A name of one's own beside a path; what is left under it in the end is deleted."""
    writing = path.with_name(f".{path.name}.{uuid4().hex}.writing")
    try:
        yield writing
    finally:
        if writing.is_dir():
            shutil.rmtree(writing, ignore_errors=True)
        else:
            writing.unlink(missing_ok=True)


def _array(
    path: Path | None, shape: tuple[int, int], fill: Callable[[NDArray[np.float32]], None]
) -> NDArray[np.float32]:
    """An array that is filled once; in a file, it is there whole or not at all."""
    if path is None:
        rows = np.empty(shape, np.float32)
        fill(rows)
        return rows
    if not path.exists():
        with _writing(path) as writing:
            made = np.lib.format.open_memmap(writing, mode="w+", dtype=np.float32, shape=shape)
            with writing.open("r+b") as file:
                # A full disk is an error here, and would be a fatal signal in mapped memory.
                os.posix_fallocate(file.fileno(), 0, made.offset + made.nbytes)
            fill(made)
            made.flush()
            del made
            try:
                os.link(writing, path)
            except FileExistsError:
                pass  # another process was first, and others may be reading its array
            except OSError:
                writing.rename(path)  # a file system without hard links
    # `c`: torch warns of arrays that it could not write to
    mapped: NDArray[np.float32] = np.load(path, mmap_mode="c")
    return mapped


def _rows(motion_TPD: NDArray[np.float32], audio_AM: NDArray[np.float32]) -> NDArray[np.float32]:
    """Motion (T, 68, 2) and audio of at most 4 T rows, reflected at the end: (T, X)."""
    samples = len(motion_TPD)
    missing = pyramid.ROWS_PER_SAMPLE * samples - len(audio_AM)
    whole_AM = np.pad(audio_AM, ((0, missing), (0, 0)), mode="reflect") if missing else audio_AM
    return np.concatenate([motion_TPD.reshape(samples, -1), whole_AM.reshape(samples, -1)], axis=1)


def _down(rows_TX: NDArray[np.float32], real_rows: int, kernel: int) -> NDArray[np.float32]:
    """One level down: (T, X) -> (ceil(T / 2), X); audio rows after `real_rows` are reflected."""
    audio_AM = rows_TX[:, COORDINATES:].reshape(len(rows_TX) * pyramid.ROWS_PER_SAMPLE, -1)
    return _rows(
        pyramid.array_at_level(rows_TX[:, :COORDINATES], 1, kernel=kernel),
        pyramid.array_at_level(audio_AM[:real_rows], 1, kernel=kernel),
    )


def _samples(frames_C: NDArray[np.int64], level: int, kernel: int) -> NDArray[np.int64]:
    """Length of each clip at a level; 0 where a `down` on the way has too few to reflect."""
    samples_C = frames_C
    for _ in range(level):
        samples_C = np.where(samples_C > kernel // 2, (samples_C + 1) // 2, 0)
    return samples_C


def _extents(clips: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.empty((clips, 2), np.float32), np.empty((clips, 2), np.float32)


def _extent(clip: Clip) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return clip.motion_TPD.min(axis=(0, 1)), clip.motion_TPD.max(axis=(0, 1))


def _resident(rows_SX: Tensor, device: torch.device) -> Tensor:
    """The rows on a GPU of which they take at most half of what is free; else as they are."""
    if device.type != "cuda":
        return rows_SX
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return rows_SX.to(device) if 2 * rows_SX.nbytes <= free_bytes else rows_SX
